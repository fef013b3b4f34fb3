//! Checkpoints that are quantized in their own way must not be cast as if they were plain.

use modelferry_core::codes::Codes;
use modelferry_core::limits::Limits;
use modelferry_core::model::Model;
use modelferry_core::{DType, Error, Result};
use modelferry_hf::config::Config;
use std::collections::HashMap;

/// Endings that stand beside the codes of a scheme, as (ending of the codes, ending of the companion, scheme).
/// A cast that touches either side would leave numbers that no loader understands.
///
/// fp8: transformers' finegrained_fp8 and DeepSeek (`weight_scale_inv`), compressed-tensors and ModelOpt
/// (`weight_scale`), TransformerEngine and quanto (`_scale`); GPTQ and AWQ: `qweight` with `scales`; bitsandbytes:
/// `weight` with `weight.absmax`, or `weight` with `SCB`.
const SCHEMES: &[(&str, &str, &str)] = &[
    ("weight", "weight_scale_inv", "fp8 with scales"),
    ("weight", "weight_scale", "quantized with scales"),
    ("weight", "weight._scale", "quanto"),
    ("weight", "scale_weight", "fp8 with scales"),
    ("weight", "weight.absmax", "bitsandbytes"),
    ("weight", "SCB", "bitsandbytes int8"),
    ("qweight", "scales", "GPTQ or AWQ"),
    ("weight_packed", "weight_scale", "compressed-tensors"),
    ("blocks", "scales", "MXFP4"),
];

/// What shows that a checkpoint is quantized in its own way.
pub(crate) struct Found {
    /// A tensor of the scheme that would be taken for plain numbers.
    pub(crate) tensor: String,
    /// The scheme, and by what it is known.
    pub(crate) scheme: String,
    /// What `--dtype` can do about it.
    hint: &'static str,
}

/// Refuses a cast of the tensors that are `touched`, if one of them belongs to such a scheme.
pub(crate) fn refuse(model: &Model, touched: &[bool], limits: &Limits) -> Result<()> {
    match find(model, touched, limits) {
        None => Ok(()),
        Some(found) => {
            Err(Error::unsupported("--dtype: a quantized checkpoint cannot be cast as if it were plain")
                .tensor(found.tensor)
                .found(found.scheme)
                .hint(found.hint))
        }
    }
}

/// A tensor of such a scheme among those that are `touched`, or any of them at all where the config says that the
/// checkpoint is of one: which tensors it means only the scheme knows.
pub(crate) fn find(model: &Model, touched: &[bool], limits: &Limits) -> Option<Found> {
    let first = touched.iter().position(|&touched| touched).and_then(|idx| model.tensors.get(idx))?;
    let config = model.config.as_deref().and_then(|text| Config::parse(text, limits).ok());
    if let Some(method) = config.and_then(|config| config.quantization()) {
        return Some(Found {
            tensor: first.name.clone(),
            scheme: format!("quantization_config in config.json, {method}"),
            hint: "leave out --dtype: it is carried as it is",
        });
    }
    let of_codes = |codes: &&Codes| {
        let tensors = [Some(codes.tensor), codes.scale, codes.zero_point];
        tensors.into_iter().flatten().any(|idx| touched.get(idx) == Some(&true))
    };
    if let Some(codes) = model.codes.iter().find(of_codes) {
        let scale = codes.scale.map_or(String::new(), |idx| format!(", with {:?}", model.tensors[idx].name));
        return Some(Found {
            tensor: model.tensors[codes.tensor].name.clone(),
            scheme: format!("codes of {}{scale}", codes.operator),
            hint: "leave out --dtype, or name scales in --keep-dtype: the graph computes with them",
        });
    }
    // Nothing is hashed unless a companion's ending is there at all.
    let suspicious = |name: &str| SCHEMES.iter().any(|(_, companion, _)| ends_with_part(name, companion));
    if !model.tensors.iter().any(|tensor| suspicious(&tensor.name)) {
        return None;
    }
    let by_name: HashMap<&str, (DType, bool)> = (model.tensors.iter().zip(touched))
        .map(|(tensor, touched)| (tensor.name.as_str(), (tensor.dtype, *touched)))
        .collect();
    for (tensor, is_touched) in model.tensors.iter().zip(touched) {
        for (codes, companion, scheme) in SCHEMES {
            if !ends_with_part(&tensor.name, companion) {
                continue;
            }
            let base = &tensor.name[..tensor.name.len() - companion.len()];
            let codes = format!("{base}{codes}");
            // Codes in a wide type are plain numbers that happen to have a scale beside them.
            let is_codes = |dtype: DType| dtype.bits().is_none_or(|bits| bits <= 8) || !dtype.is_float();
            let Some((_, codes_touched)) =
                by_name.get(codes.as_str()).copied().filter(|(dtype, _)| is_codes(*dtype))
            else {
                continue;
            };
            if codes_touched || *is_touched {
                return Some(Found {
                    tensor: codes,
                    scheme: format!("{scheme}, with {:?}", tensor.name),
                    hint: "leave out --dtype, or name both in --keep-dtype",
                });
            }
        }
    }
    None
}

/// Whether `name` ends with `ending`, and that at the start of a component.
fn ends_with_part(name: &str, ending: &str) -> bool {
    name.strip_suffix(ending).is_some_and(|base| base.is_empty() || base.ends_with(['.', '_']))
}
