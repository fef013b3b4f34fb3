//! `config.json`: what conversion must know of it, and the few edits it makes, on the text itself.
//!
//! The text is never parsed into a tree and written again: that would lose its formatting, and numbers that Python
//! writes and others do not (`NaN`). Facts about keys are those of transformers 5.23.

use crate::json;
use modelferry_core::dtype::DType;
use modelferry_core::error::{Error, Result};
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::limits::Limits;
use std::collections::BTreeMap;
use std::ops::Range;

/// The file's name in a model's folder.
pub const FILE_NAME: &str = "config.json";

/// Most bytes of a config that are read. Twenty thousand labels take half a megabyte.
pub const MAX_BYTES: u64 = 8 << 20;

/// The keys that mean something here.
const KEYS: [&str; 7] = [
    "dtype",
    "torch_dtype",
    "tie_word_embeddings",
    "quant_method",
    "transformers_weights",
    "model_type",
    "architectures",
];

/// The key below which a checkpoint says that it is quantized in its own way, and how.
const QUANTIZATION: &str = "quantization_config";

/// Where the fields that matter lie in a config's text.
#[derive(Clone, Debug)]
pub struct Config<'a> {
    text: &'a str,
    /// Where each known key's value lies, by the names of the configs around it: of the config itself, and of configs
    /// within (`text_config`). Of a key that is set twice the last counts, as in Python.
    fields: BTreeMap<(Vec<String>, &'static str), Range<usize>>,
    is_quantized: bool,
}

/// Reads a config file.
///
/// Errors: [`Malformed`](modelferry_core::error::ErrorKind::Malformed) for what is no UTF-8 or what [`Config::parse`]
/// refuses; [`Limit`](modelferry_core::error::ErrorKind::Limit) above [`MAX_BYTES`].
pub fn read(inputs: &dyn Inputs, file: FileId, limits: &Limits) -> Result<String> {
    let named = |error: Error| error.file(inputs.name(file));
    let len = inputs.len(file);
    Limits::check("the config is too long", len, MAX_BYTES.min(limits.header_bytes)).map_err(named)?;
    let bytes = inputs.read_vec(file, 0, len, MAX_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        named(Error::malformed("the config is not UTF-8").offset(error.utf8_error().valid_up_to() as u64))
    })?;
    Config::parse(&text, limits).map_err(named)?;
    Ok(text)
}

impl<'a> Config<'a> {
    /// Finds the fields that matter.
    ///
    /// Errors: [`Malformed`](modelferry_core::error::ErrorKind::Malformed) with the byte for what Python's `json`
    /// refuses and for what is no object; [`Limit`](modelferry_core::error::ErrorKind::Limit) for nesting.
    pub fn parse(text: &'a str, limits: &Limits) -> Result<Config<'a>> {
        let mut fields = BTreeMap::new();
        let mut is_quantized = false;
        json::walk(text, limits, &mut |field| {
            let Some(key) = unquoted(field.key) else { return };
            let is_within = |parent: &str| unquoted(parent).is_some_and(|name| name.ends_with("_config"));
            if !field.parents.iter().all(|parent| is_within(parent)) {
                return;
            }
            is_quantized |= key == QUANTIZATION && &text[field.value.clone()] != "null";
            if let Some(known) = KEYS.into_iter().find(|known| **known == *key) {
                let parents = field.parents.iter().filter_map(|parent| unquoted(parent)).collect();
                fields.insert((parents, known), field.value);
            }
        })?;
        Ok(Config { text, fields, is_quantized })
    }

    /// The value of a field of the config itself, as text.
    fn own(&self, key: &'static str) -> Option<&'a str> {
        self.fields.get(&(vec![], key)).map(|span| &self.text[span.clone()])
    }

    /// A field of the config itself, where it is a string.
    fn own_string(&self, key: &'static str) -> Option<String> {
        self.own(key).and_then(unquoted)
    }

    /// The kind of model: `llama`.
    pub fn model_type(&self) -> Option<String> {
        self.own_string("model_type")
    }

    /// The classes that it is made for: `LlamaForCausalLM`.
    pub fn architectures(&self) -> Vec<String> {
        self.own("architectures").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// The file of weights that transformers loads instead of the usual ones.
    pub fn explicit_weights(&self) -> Option<String> {
        self.own_string("transformers_weights")
    }

    /// Whether the model's class ties its output head to its embedding when it is loaded. Nothing where the config
    /// does not say: classes have defaults of their own.
    pub fn ties_embeddings(&self) -> Option<bool> {
        let text_config = || {
            let span = self.fields.get(&(vec!["text_config".to_owned()], "tie_word_embeddings"))?;
            Some(&self.text[span.clone()])
        };
        // transformers asks the config itself; where only the text model's speaks, its class ties by that.
        match self.own("tie_word_embeddings").or_else(text_config)? {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The method by which the checkpoint is quantized, where it is: `fp8`, `gptq`, `bitsandbytes`.
    pub fn quantization(&self) -> Option<String> {
        let of = |(parents, key): &(Vec<String>, &str)| {
            *key == "quant_method" && parents.last().is_some_and(|parent| parent == QUANTIZATION)
        };
        let method =
            self.fields.iter().find(|(field, _)| of(field)).map(|(_, span)| &self.text[span.clone()]);
        let unnamed = || self.is_quantized.then(|| "a method without a name".to_owned());
        method.and_then(unquoted).or_else(unnamed)
    }

    /// The type that the model is loaded in.
    pub fn dtype(&self) -> Option<DType> {
        let named = |key| self.own_string(key).and_then(|name| from_torch_name(&name));
        named("dtype").or_else(|| named("torch_dtype"))
    }

    /// The text with another type wherever it names one: under `dtype` and `torch_dtype`, of the config and of configs
    /// within. Nothing where nothing changes.
    ///
    /// Where neither key is there none is added: transformers then takes the type of the weights. The same goes for
    /// values that name no type, `null` and `"auto"`.
    pub fn with_dtype(&self, dtype: DType) -> Option<String> {
        let quoted = format!("{:?}", torch_name(dtype)?);
        let names_one = |(key, span): &(&(Vec<String>, &'static str), &Range<usize>)| {
            let text = &self.text[(*span).clone()];
            let is_ours = !key.0.iter().any(|parent| parent == QUANTIZATION);
            is_ours
                && matches!(key.1, "dtype" | "torch_dtype")
                && text != quoted
                && unquoted(text).is_some_and(|name| from_torch_name(&name).is_some())
        };
        let spans: Vec<&Range<usize>> = self.fields.iter().filter(names_one).map(|(_, span)| span).collect();
        self.replaced(spans, &quoted)
    }

    /// The text without a word about a file of weights of another name than the usual. Nothing where it says none.
    pub fn without_explicit_weights(&self) -> Option<String> {
        self.explicit_weights()?;
        self.replaced(self.fields.get(&(vec![], "transformers_weights")).into_iter().collect(), "null")
    }

    fn replaced(&self, mut spans: Vec<&Range<usize>>, with: &str) -> Option<String> {
        if spans.is_empty() {
            return None;
        }
        spans.sort_by_key(|span| span.start);
        let mut out = String::with_capacity(self.text.len() + 16);
        let mut done = 0;
        for span in spans {
            out.push_str(&self.text[done..span.start]);
            out.push_str(with);
            done = span.end;
        }
        out.push_str(&self.text[done..]);
        Some(out)
    }
}

/// What a string says; nothing for another value, and for text that no Unicode text is.
fn unquoted(text: &str) -> Option<String> {
    serde_json::from_str(text).ok()
}

/// The types that a config names, as torch names them.
const TORCH_NAMES: [(DType, &str); 10] = [
    (DType::F64, "float64"),
    (DType::F32, "float32"),
    (DType::F16, "float16"),
    (DType::Bf16, "bfloat16"),
    (DType::F8E4M3, "float8_e4m3fn"),
    (DType::F8E5M2, "float8_e5m2"),
    (DType::F8E4M3Fnuz, "float8_e4m3fnuz"),
    (DType::F8E5M2Fnuz, "float8_e5m2fnuz"),
    (DType::F8E8M0, "float8_e8m0fnu"),
    (DType::F4E2M1, "float4_e2m1fn_x2"),
];

/// The name of a type as a config has it.
pub fn torch_name(dtype: DType) -> Option<&'static str> {
    TORCH_NAMES.iter().find(|(known, _)| *known == dtype).map(|(_, name)| *name)
}

fn from_torch_name(name: &str) -> Option<DType> {
    TORCH_NAMES.iter().find(|(_, known)| *known == name).map(|(dtype, _)| *dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config<'_> {
        Config::parse(text, &Limits::default()).unwrap()
    }

    #[test]
    fn a_type_is_replaced_and_nothing_else() {
        let text = "{ \"torch_dtype\" : \"float32\",\t\"eps\": 1e-05, \"nan\":NaN,\n \"text_config\": {\"dtype\":\
                    \"float32\", \"\\u0064type\": \"bfloat16\"}, \"rope\": {\"dtype\": \"float32\"},\
                    \"quantization_config\": {\"dtype\": \"float32\"}, \"é\": 1.10}\n";
        let found = config(text).with_dtype(DType::F16).unwrap();
        let expected = "{ \"torch_dtype\" : \"float16\",\t\"eps\": 1e-05, \"nan\":NaN,\n \"text_config\": {\"dtype\":\
                    \"float32\", \"\\u0064type\": \"float16\"}, \"rope\": {\"dtype\": \"float32\"},\
                    \"quantization_config\": {\"dtype\": \"float32\"}, \"é\": 1.10}\n";
        assert_eq!(found, expected);
        assert_eq!(config(&found).with_dtype(DType::F16), None);
        assert_eq!(config(&found).dtype(), Some(DType::F16));
        for text in [
            "{}",
            r#"{"dtype": null}"#,
            r#"{"torch_dtype": "auto"}"#,
            r#"{"dtype": 1}"#,
            r#"{"a":{"dtype":"float32"}}"#,
        ] {
            assert_eq!(config(text).with_dtype(DType::F16), None, "{text}");
        }
        assert_eq!(config(r#"{"dtype":"float16"}"#).with_dtype(DType::I8), None);
    }

    #[test]
    fn what_it_says() {
        let llama = config(
            r#"{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": true}"#,
        );
        assert_eq!(llama.model_type().as_deref(), Some("llama"));
        assert_eq!(llama.architectures(), ["LlamaForCausalLM"]);
        assert_eq!((llama.ties_embeddings(), llama.quantization(), llama.dtype()), (Some(true), None, None));
        let nested = config(
            r#"{"text_config": {"tie_word_embeddings": true, "quantization_config": {"quant_method": "fp8"}}}"#,
        );
        assert_eq!((nested.ties_embeddings(), nested.quantization().as_deref()), (Some(true), Some("fp8")));
        assert_eq!(
            config(r#"{"tie_word_embeddings": false, "tie_word_embeddings": true}"#).ties_embeddings(),
            Some(true)
        );
        assert_eq!(config("{}").ties_embeddings(), None);
        assert_eq!(config(r#"{"vision_config": {"tie_word_embeddings": true}}"#).ties_embeddings(), None);
        assert!(config(r#"{"quantization_config": {"bits": 4}}"#).quantization().is_some());
        assert_eq!(config(r#"{"quantization_config": null}"#).quantization(), None);
        let explicit = config(r#"{"transformers_weights": "model.fp16.safetensors", "a": 1}"#);
        assert_eq!(explicit.explicit_weights().as_deref(), Some("model.fp16.safetensors"));
        assert_eq!(
            explicit.without_explicit_weights().as_deref(),
            Some(r#"{"transformers_weights": null, "a": 1}"#)
        );
        assert_eq!(config("{}").without_explicit_weights(), None);
    }
}
