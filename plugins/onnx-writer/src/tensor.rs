//! One tensor as a message, or the parts of it that a graph's place lacks.

use crate::data::Data;
use modelferry_core::model::{ModelView, TensorIdx};
use modelferry_core::{Error, Result};
use modelferry_wire::onnx::messages::Entry;
use modelferry_wire::onnx::{Message, data_type, tensor_proto as field};

/// A whole `TensorProto`, with a name where it needs one.
pub(crate) fn whole(
    view: &ModelView<'_>,
    idx: TensorIdx,
    name: Option<&str>,
    data: &Data,
) -> Result<Message> {
    let tensor = view.tensor(idx);
    let mut message = Message::default();
    for &extent in tensor.shape() {
        let extent = i64::try_from(extent)
            .map_err(|_| Error::target("a dimension is too large").tensor(tensor.name()).found(extent))?;
        message.int(field::DIMS, extent);
    }
    message.int(field::DATA_TYPE, number(view, idx)?);
    if let Some(name) = name {
        message.bytes(field::NAME, name.as_bytes());
    }
    elements(&mut message, view, idx, data);
    Ok(message)
}

/// The number of a tensor's type.
pub(crate) fn number(view: &ModelView<'_>, idx: TensorIdx) -> Result<i64> {
    let tensor = view.tensor(idx);
    let lacks =
        || Error::target("the format cannot store this type").tensor(tensor.name()).found(tensor.dtype());
    data_type(tensor.dtype()).map(i64::from).ok_or_else(lacks)
}

/// The elements, or where they lie. A tensor without any has neither.
pub(crate) fn elements(message: &mut Message, view: &ModelView<'_>, idx: TensorIdx, data: &Data) {
    let len = view.tensor(idx).byte_len();
    match data.place(idx) {
        _ if len == 0 => {}
        None => message.tensor(field::RAW_DATA, idx, len),
        Some((location, place)) => {
            let entries = [
                ("location", location.to_owned()),
                ("offset", place.offset.to_string()),
                ("length", len.to_string()),
            ];
            for (key, value) in entries {
                message.small(field::EXTERNAL_DATA, &entry(key, value));
            }
            message.int(field::DATA_LOCATION, 1);
        }
    }
}

/// A key and its value.
pub(crate) fn entry(key: &str, value: impl Into<String>) -> Entry {
    Entry { key: Some(key.to_owned()), value: Some(value.into()) }
}
