//! Which versions a file must state to hold what it holds.

use modelferry_core::model::ModelView;
use modelferry_wire::onnx::element;

/// The first IR version in which initializers need not be inputs.
const LEAST: i64 = 4;

/// The newest set of operators that programs of each IR version know (`VERSION_TABLE` in `onnx/helper.py`).
const OPSETS: [(i64, i64); 10] =
    [(4, 9), (5, 10), (6, 11), (7, 14), (8, 18), (9, 20), (10, 22), (11, 23), (12, 24), (13, 25)];

/// IR version and set of operators for a file that holds a model's tensors and nothing else.
pub(crate) fn for_tensors(view: &ModelView<'_>) -> (i64, i64) {
    let of_type =
        view.tensors().filter_map(|tensor| element(tensor.dtype())).map(|element| element.ir_version);
    let ir_version = of_type.max().unwrap_or(LEAST).max(LEAST);
    let opset = OPSETS.iter().find(|(version, _)| *version == ir_version).map_or(9, |(_, opset)| *opset);
    (ir_version, opset)
}
