//! Names as exporters make them.

/// What optimum puts behind the names of tensors that the two graphs of a merged decoder share, before a number.
const MERGED: &str = "_merged";

/// What the exporters of PyTorch begin the names of values with that they made themselves, before a number:
/// `torch.onnx.export(dynamo=True)` those of its intermediate values, and of views that it folded.
const STEMS: [&str; 5] = ["val", "_val", "t", "transpose", "permute"];

/// A name without what a merge has put behind it.
pub(super) fn unmerged(name: &str) -> &str {
    unnumbered(name).and_then(|stem| stem.strip_suffix(MERGED)).unwrap_or(name)
}

/// What stands before `_N`.
pub(super) fn unnumbered(name: &str) -> Option<&str> {
    let (stem, number) = name.rsplit_once('_')?;
    is_number(number).then_some(stem)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether an exporter made this name, so that it says nothing of the model: `onnx::MatMul_636`, `val_47`, `1024`,
/// `/model/Constant_output_0`.
pub(super) fn is_made(name: &str) -> bool {
    let name = unmerged(name);
    name.starts_with("onnx::")
        || name.starts_with('/')
        || is_number(name)
        || matches!(name, "t" | "transpose" | "permute")
        || unnumbered(name).is_some_and(|stem| STEMS.contains(&stem))
}

/// Whether a name says that it was made for a `MatMul`: the exporter (`dynamo=False`) names what it folded after the
/// operator that takes it, and what it folds there is the transpose of a linear layer's weight.
pub(super) fn is_for_matmul(name: &str) -> bool {
    name.starts_with("onnx::MatMul_")
}

/// The module that a parameter's name says it belongs to: `a.b` of `a.b.weight`.
pub(super) fn owner(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(owner, _)| owner)
}

/// A module's weight.
pub(super) fn weight_of(module: &str) -> String {
    parameter_of(module, "weight")
}

/// A parameter of a module, which may be the outermost.
pub(super) fn parameter_of(module: &str, attribute: &str) -> String {
    if module.is_empty() { attribute.to_owned() } else { format!("{module}.{attribute}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exporters_names_are_known() {
        for name in ["onnx::MatMul_636", "onnx::MatMul_7_merged_0", "val_47", "_val_3", "1024", "t", "t_5"] {
            assert!(is_made(name), "{name}");
        }
        assert!(is_made("/model/Constant_output_0") && is_made("permute_12"));
        for name in ["", "weight", "w_1", "h.0.attn.bias", "ours/onnx::MatMul_2", "val", "val_", "t_x", "a/b"]
        {
            assert!(!is_made(name), "{name}");
        }
        assert_eq!(unmerged("h.0.weight_merged_12"), "h.0.weight");
        assert_eq!(unmerged("h.0.weight_12"), "h.0.weight_12");
        assert_eq!(unmerged("_merged_0"), "");
        assert_eq!((owner("a.b.weight"), owner("weight")), (Some("a.b"), None));
        assert_eq!((weight_of("a.b"), weight_of("")), ("a.b.weight".to_owned(), "weight".to_owned()));
    }
}
