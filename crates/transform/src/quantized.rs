//! Checkpoints that are quantized in their own way must not be cast as if they were plain.

use modelferry_core::limits::Limits;
use modelferry_core::model::Model;
use modelferry_core::{DType, Error, Result};
use modelferry_hf::config::Config;
use std::collections::HashSet;

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

/// Refuses a cast that touches a tensor of such a scheme, or any at all where the config says that the checkpoint is of
/// one: which tensors it means only the scheme knows. `touched` says which tensors would be cast.
pub(crate) fn refuse(model: &Model, touched: &[bool], limits: &Limits) -> Result<()> {
    let config = model.config.as_deref().and_then(|text| Config::parse(text, limits).ok());
    let first = touched.iter().position(|&touched| touched).and_then(|idx| model.tensors.get(idx));
    if let (Some(method), Some(first)) = (config.and_then(|config| config.quantization()), first) {
        return Err(refusal()
            .tensor(&first.name)
            .found(format_args!("quantization_config in config.json, {method}"))
            .hint("leave out --dtype: it is carried as it is"));
    }
    // Nothing is hashed unless a companion's ending is there at all.
    let suspicious = |name: &str| SCHEMES.iter().any(|(_, companion, _)| ends_with_part(name, companion));
    if !model.tensors.iter().any(|tensor| suspicious(&tensor.name)) {
        return Ok(());
    }
    let touched_names: HashSet<&str> = model
        .tensors
        .iter()
        .zip(touched)
        .filter(|(_, touched)| **touched)
        .map(|(tensor, _)| tensor.name.as_str())
        .collect();
    let by_name: std::collections::HashMap<&str, DType> =
        model.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.dtype)).collect();
    for tensor in &model.tensors {
        for (codes, companion, scheme) in SCHEMES {
            if !ends_with_part(&tensor.name, companion) {
                continue;
            }
            let base = &tensor.name[..tensor.name.len() - companion.len()];
            let codes = format!("{base}{codes}");
            // Codes in a wide type are plain numbers that happen to have a scale beside them.
            let is_codes = |dtype: DType| dtype.bits().is_none_or(|bits| bits <= 8) || !dtype.is_float();
            if !by_name.get(codes.as_str()).is_some_and(|&dtype| is_codes(dtype)) {
                continue;
            }
            if touched_names.contains(codes.as_str()) || touched_names.contains(tensor.name.as_str()) {
                return Err(refusal()
                    .tensor(codes)
                    .found(format_args!("{scheme}, with {:?}", tensor.name))
                    .hint("leave out --dtype, or name both in --keep-dtype"));
            }
        }
    }
    Ok(())
}

fn refusal() -> Error {
    Error::unsupported("--dtype: a quantized checkpoint cannot be cast as if it were plain")
}

/// Whether `name` ends with `ending`, and that at the start of a component.
fn ends_with_part(name: &str, ending: &str) -> bool {
    name.strip_suffix(ending).is_some_and(|base| base.is_empty() || base.ends_with(['.', '_']))
}
