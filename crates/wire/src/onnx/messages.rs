//! Small messages, decoded and encoded whole by prost.

use prost::Message;

/// `StringStringEntryProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// Key.
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    /// Value.
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// `OperatorSetIdProto`.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    /// Domain; empty for onnx's own operators.
    #[prost(string, optional, tag = "1")]
    pub domain: Option<String>,
    /// Version.
    #[prost(int64, optional, tag = "2")]
    pub version: Option<i64>,
}

/// `TensorProto` without its elements.
#[derive(Clone, PartialEq, Message)]
pub struct TensorShell {
    /// Extents, row-major.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// Number of the element type.
    #[prost(int32, optional, tag = "2")]
    pub data_type: Option<i32>,
    /// Name.
    #[prost(string, optional, tag = "8")]
    pub name: Option<String>,
    /// Where the elements lie, if elsewhere.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<Entry>,
    /// 0: here; 1: elsewhere.
    #[prost(int32, optional, tag = "14")]
    pub data_location: Option<i32>,
    /// What programs note about it.
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<Entry>,
}

/// `NodeProto`, for nodes of ours.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Names of the values it takes.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of the values it makes.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Name.
    #[prost(string, optional, tag = "3")]
    pub name: Option<String>,
    /// Operator.
    #[prost(string, optional, tag = "4")]
    pub op_type: Option<String>,
    /// Attributes.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<IntAttribute>,
}

/// `AttributeProto` of a whole number.
#[derive(Clone, PartialEq, Message)]
pub struct IntAttribute {
    /// Name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Value.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// Which field is in use: 2 for a whole number.
    #[prost(int32, optional, tag = "20")]
    pub r#type: Option<i32>,
}
