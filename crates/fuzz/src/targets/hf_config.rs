//! A config's text, and the same with another type in it.

use super::Reached;
use crate::check;
use crate::corpus::File;
use modelferry_core::DType;
use modelferry_core::inputs::{FileId, MemInputs};
use modelferry_core::limits::Limits;
use modelferry_hf::config::{Config, read};

pub(super) fn check(text: &[u8]) -> Result<Reached, String> {
    let inputs = MemInputs::new("config.json", text);
    let limits = Limits::default();
    let text = match read(&inputs, FileId(0), &limits) {
        Ok(text) => text,
        Err(error) => return check::refusal(&error),
    };
    let config = Config::parse(&text, &limits).map_err(|error| format!("read, then refused: {error}"))?;
    let before =
        (config.model_type(), config.architectures(), config.ties_embeddings(), config.quantization());
    for dtype in [DType::F32, DType::Bf16, DType::F8E4M3] {
        let Some(changed) = config.with_dtype(dtype) else { continue };
        let other =
            Config::parse(&changed, &limits).map_err(|error| format!("changed to {dtype}: {error}"))?;
        let after =
            (other.model_type(), other.architectures(), other.ties_embeddings(), other.quantization());
        if after != before {
            return Err(format!("changed to {dtype} it says {after:?} instead of {before:?}"));
        }
        if config.dtype().is_some() && other.dtype() != Some(dtype) {
            return Err(format!("changed to {dtype} it says {:?}", other.dtype()));
        }
        if other.with_dtype(dtype).is_some() {
            return Err(format!("changed to {dtype} it is to be changed again"));
        }
    }
    if let Some(changed) = config.without_explicit_weights() {
        let other = Config::parse(&changed, &limits).map_err(|error| format!("without weights: {error}"))?;
        if other.explicit_weights().is_some() {
            return Err("it names a file of weights still".to_owned());
        }
    }
    Ok(Reached::Read)
}

pub(super) fn seed(file: &File) -> Option<Vec<u8>> {
    file.name.ends_with("config.json").then(|| file.bytes.clone())
}

pub(super) fn beginnings() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 3] = [
        br#"{"model_type": "llama", "architectures": ["A"], "torch_dtype": "float32", "eps": NaN}"#,
        br#"{"dtype":"auto","text_config":{"dtype":"float16","tie_word_embeddings":true},"transformers_weights":"a.bin"}"#,
        br#"{"quantization_config": {"quant_method": "fp8", "dtype": "bfloat16"}, "dtype": "bfloat16", "dtype": "float16"}"#,
    ];
    texts.map(<[u8]>::to_vec).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_read() {
        for text in beginnings() {
            assert_eq!(check(&text), Ok(Reached::Read), "{}", text.escape_ascii());
        }
        assert_eq!(check(b"[]"), Ok(Reached::Refused));
    }
}
