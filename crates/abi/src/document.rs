//! What of a model crosses as JSON: everything but tensors, nodes and bytes.
//!
//! Positions (of tensors, nodes, blobs, objects) are JSON numbers. Whole numbers of 64 bits are decimal text, for many
//! a JSON parser rounds beyond 2^53; floats are the text of their bits (`"0x7ff8000000000000"`), so NaN and -0 arrive.
//! What is not UTF-8 is in a blob. Unknown fields are passed over: there are none that this version needs.

mod tree;

pub(crate) use tree::JsonTree;

use crate::model::lasting;
use crate::nodes::Blobs;
use modelferry_core::codes::{Codes, Groups};
use modelferry_core::expr::Blob;
use modelferry_core::model::{List, Stated, Value, ValueType};
use modelferry_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The document of a model.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Document<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ties: Vec<Vec<usize>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) metadata: Vec<(String, JsonValue)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", borrow)]
    pub(crate) tree: Option<JsonTree<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<JsonGraph>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entries: Option<Vec<JsonEntry>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) codes: Vec<JsonCodes>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) checks: Vec<JsonCheck>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) file_digests: Vec<(u32, String)>,
}

/// An entry of the metadata as it stands in the root file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JsonEntry {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// A tensor of codes, and what belongs to it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JsonCodes {
    pub(crate) tensor: usize,
    pub(crate) operator: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scale: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) zero_point: Option<usize>,
    pub(crate) groups: JsonGroups,
}

/// Which codes share a scale.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JsonGroups {
    Tensor,
    Axis(usize),
    Blocks { axis: usize, size: u64 },
    Packed { bits: u64, rows: u64, columns: u64, size: u64 },
    Unknown,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JsonCheck {
    pub(crate) file: String,
    pub(crate) fault: String,
    pub(crate) expected: String,
    pub(crate) found: String,
    pub(crate) holds: bool,
}

/// A program around the tensors.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JsonGraph {
    pub(crate) dialect: String,
    pub(crate) body: u64,
    pub(crate) bindings: Vec<JsonBinding>,
    #[serde(default)]
    pub(crate) parts: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) origins: Vec<JsonOrigin>,
    #[serde(default)]
    pub(crate) nameless: Vec<usize>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JsonBinding {
    pub(crate) at: u64,
    pub(crate) tensor: usize,
    pub(crate) name: String,
    pub(crate) dtype: String,
    /// From a reader: the expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<u64>,
    /// To a writer: whether the tensor still has the values and the type that the graph came with.
    #[serde(default)]
    pub(crate) is_untouched: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JsonOrigin {
    pub(crate) tensor: usize,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) axes: Vec<u8>,
}

/// A value of metadata, tagged by its type.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JsonValue {
    Text(String),
    /// A blob: text that is not UTF-8.
    Bytes(u64),
    Bool(bool),
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(String),
    I64(String),
    F32(String),
    F64(String),
    /// Items packed in a blob: numbers little-endian, truth values as bytes, texts as their length in a little-endian
    /// u64 and their bytes.
    List {
        of: String,
        len: u64,
        blob: u64,
    },
}

fn wrong(what: &'static str, found: impl std::fmt::Display) -> Error {
    Error::plugin(what).found(found)
}

fn bits32(value: f32) -> String {
    format!("{:#010x}", value.to_bits())
}

fn bits64(value: f64) -> String {
    format!("{:#018x}", value.to_bits())
}

fn of_bits(text: &str) -> Result<u64> {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    u64::from_str_radix(digits, 16).map_err(|_| wrong("a float is not the text of its bits", text))
}

fn of_bits64(text: &str) -> Result<f64> {
    of_bits(text).map(f64::from_bits)
}

fn whole<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| wrong("a whole number is not its digits", text))
}

/// A blob by its position.
pub(crate) fn blob(blobs: &[Blob], idx: u64) -> Result<Blob> {
    let found = usize::try_from(idx).ok().and_then(|idx| blobs.get(idx));
    found.cloned().ok_or_else(|| wrong("a blob that is not there", idx))
}

impl JsonValue {
    pub(crate) fn of(value: &Value, blobs: &mut Blobs) -> JsonValue {
        match value {
            Value::Text(text) => JsonValue::Text(text.clone()),
            Value::Bytes(bytes) => JsonValue::Bytes(blobs.add(bytes.clone())),
            Value::Bool(value) => JsonValue::Bool(*value),
            Value::U8(n) => JsonValue::U8(*n),
            Value::I8(n) => JsonValue::I8(*n),
            Value::U16(n) => JsonValue::U16(*n),
            Value::I16(n) => JsonValue::I16(*n),
            Value::U32(n) => JsonValue::U32(*n),
            Value::I32(n) => JsonValue::I32(*n),
            Value::U64(n) => JsonValue::U64(n.to_string()),
            Value::I64(n) => JsonValue::I64(n.to_string()),
            Value::F32(n) => JsonValue::F32(bits32(*n)),
            Value::F64(n) => JsonValue::F64(bits64(*n)),
            Value::List(list) => JsonValue::List {
                of: list.item_type().name().to_owned(),
                len: list.len(),
                blob: blobs.add(list.bytes().clone()),
            },
        }
    }

    pub(crate) fn value(self, blobs: &[Blob]) -> Result<Value> {
        Ok(match self {
            JsonValue::Text(text) => Value::Text(text),
            JsonValue::Bytes(idx) => Value::Bytes(blob(blobs, idx)?),
            JsonValue::Bool(value) => Value::Bool(value),
            JsonValue::U8(n) => Value::U8(n),
            JsonValue::I8(n) => Value::I8(n),
            JsonValue::U16(n) => Value::U16(n),
            JsonValue::I16(n) => Value::I16(n),
            JsonValue::U32(n) => Value::U32(n),
            JsonValue::I32(n) => Value::I32(n),
            JsonValue::U64(text) => Value::U64(whole(&text)?),
            JsonValue::I64(text) => Value::I64(whole(&text)?),
            JsonValue::F32(text) => {
                let bits = u32::try_from(of_bits(&text)?);
                Value::F32(f32::from_bits(bits.map_err(|_| wrong("a float has too many bits", &text))?))
            }
            JsonValue::F64(text) => Value::F64(of_bits64(&text)?),
            JsonValue::List { of, len, blob: idx } => {
                let item_type =
                    ValueType::from_name(&of).ok_or_else(|| wrong("a list of an unknown type", &of))?;
                let list = List::new(item_type, len, blob(blobs, idx)?);
                Value::List(list.ok_or_else(|| wrong("a list is not as long as it says", len))?)
            }
        })
    }
}

impl JsonEntry {
    pub(crate) fn of(entry: &Stated) -> JsonEntry {
        let Stated { key, value, bytes } = entry.clone();
        JsonEntry { key, value, start: bytes.start, end: bytes.end }
    }

    pub(crate) fn stated(self) -> Stated {
        Stated { key: self.key, value: self.value, bytes: self.start..self.end }
    }
}

impl JsonCodes {
    pub(crate) fn of(codes: &Codes) -> JsonCodes {
        JsonCodes {
            tensor: codes.tensor,
            operator: codes.operator.to_owned(),
            scale: codes.scale,
            zero_point: codes.zero_point,
            groups: match codes.groups {
                Groups::Tensor => JsonGroups::Tensor,
                Groups::Axis(axis) => JsonGroups::Axis(axis),
                Groups::Blocks { axis, size } => JsonGroups::Blocks { axis, size },
                Groups::Packed { bits, rows, columns, size } => {
                    JsonGroups::Packed { bits, rows, columns, size }
                }
                Groups::Unknown => JsonGroups::Unknown,
            },
        }
    }

    pub(crate) fn codes(self) -> Codes {
        Codes {
            tensor: self.tensor,
            operator: lasting(&self.operator),
            scale: self.scale,
            zero_point: self.zero_point,
            groups: match self.groups {
                JsonGroups::Tensor => Groups::Tensor,
                JsonGroups::Axis(axis) => Groups::Axis(axis),
                JsonGroups::Blocks { axis, size } => Groups::Blocks { axis, size },
                JsonGroups::Packed { bits, rows, columns, size } => {
                    Groups::Packed { bits, rows, columns, size }
                }
                JsonGroups::Unknown => Groups::Unknown,
            },
        }
    }
}
