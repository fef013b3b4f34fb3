//! Element types by their numbers.

use modelferry_core::DType;

/// Number of the type of texts, which are no weights.
pub(crate) const STRING: i32 = 8;

/// What is known of an element type (`TensorProto.DataType`).
#[derive(Clone, Copy, Debug)]
pub struct Element {
    /// Its number.
    pub data_type: i32,
    /// The type.
    pub dtype: DType,
    /// The field that holds its elements where they are not raw, by its number.
    pub field: u32,
    /// The IR version that first has it.
    pub ir_version: i64,
    /// The version of ai.onnx whose `Cast` first takes it.
    pub cast_opset: i64,
}

const fn row(data_type: i32, dtype: DType, field: u32, ir_version: i64, cast_opset: i64) -> Element {
    Element { data_type, dtype, field, ir_version, cast_opset }
}

/// Every element type of onnx 1.23 but texts. IR versions are those of onnx's releases that first had each
/// (`VERSION_TABLE` in `onnx/helper.py`); versions of `Cast` those of its schemas, of which the first takes its type as
/// text and none has complex numbers (0).
#[rustfmt::skip]
const ELEMENTS: [Element; 25] = [
    row(1, DType::F32, 4, 3, 6),
    row(2, DType::U8, 5, 3, 6),
    row(3, DType::I8, 5, 3, 6),
    row(4, DType::U16, 5, 3, 6),
    row(5, DType::I16, 5, 3, 6),
    row(6, DType::I32, 5, 3, 6),
    row(7, DType::I64, 7, 3, 6),
    row(9, DType::Bool, 5, 3, 6),
    row(10, DType::F16, 5, 3, 6),
    row(11, DType::F64, 10, 3, 6),
    row(12, DType::U32, 11, 3, 6),
    row(13, DType::U64, 11, 3, 6),
    row(14, DType::C64, 4, 3, 0),
    row(15, DType::C128, 10, 3, 0),
    row(16, DType::Bf16, 5, 4, 13),
    row(17, DType::F8E4M3, 5, 9, 19),
    row(18, DType::F8E4M3Fnuz, 5, 9, 19),
    row(19, DType::F8E5M2, 5, 9, 19),
    row(20, DType::F8E5M2Fnuz, 5, 9, 19),
    row(21, DType::U4, 5, 10, 21),
    row(22, DType::I4, 5, 10, 21),
    row(23, DType::F4E2M1, 5, 11, 23),
    row(24, DType::F8E8M0, 5, 12, 24),
    row(25, DType::U2, 5, 13, 25),
    row(26, DType::I2, 5, 13, 25),
];

/// The type of this number; `None` for texts and for numbers that onnx 1.23 does not have.
pub fn from_data_type(data_type: i32) -> Option<Element> {
    ELEMENTS.into_iter().find(|element| element.data_type == data_type)
}

/// What is known of a type; `None` for one that ONNX lacks.
pub fn element(dtype: DType) -> Option<Element> {
    ELEMENTS.into_iter().find(|element| element.dtype == dtype)
}

/// The number of a type; `None` for one that ONNX lacks.
pub fn data_type(dtype: DType) -> Option<i32> {
    element(dtype).map(|element| element.data_type)
}
