//! Places where a value is named, rewritten.

use super::plan::{Cast, Renames};
use modelferry_core::Result;
use modelferry_wire::onnx::{Field, Fields, Message};

/// The name that a value has now.
pub(super) fn name<'a>(names: &'a Renames, old: &'a str) -> &'a str {
    names.get(old).map_or(old, String::as_str)
}

/// A field that is a name.
pub(super) fn put(out: &mut Message, field: &Field<'_>, names: &Renames) {
    match field.text().and_then(|old| names.get(old)) {
        Some(new) => out.bytes(field.number, new.as_bytes()),
        None => out.raw(field.whole),
    }
}

/// A message in which a name stands at the end of a way of fields.
pub(super) fn along(bytes: &[u8], way: &[u32], names: &Renames) -> Result<Message> {
    let mut out = Message::default();
    for field in Fields::of(bytes) {
        let field = field?;
        match way {
            [last] if field.number == *last => put(&mut out, &field, names),
            [first, rest @ ..] if field.number == *first => {
                out.message(field.number, along(field.value, rest, names)?)
            }
            _ => out.raw(field.whole),
        }
    }
    Ok(out)
}

/// The input that an initializer was the default of, of which now another, of another type, is.
pub(super) fn recast_input(bytes: &[u8], cast: &Cast) -> Result<Message> {
    /// `ValueInfoProto.type`, `TypeProto.tensor_type`, `TypeProto.Tensor.elem_type`.
    const ELEM_TYPE: [u32; 3] = [2, 1, 1];
    let mut out = Message::default();
    for field in Fields::of(bytes) {
        let field = field?;
        match field.number {
            1 => out.bytes(1, cast.from.as_bytes()),
            2 => out.message(2, typed(field.value, &ELEM_TYPE[1..], cast.own_type)?),
            _ => out.raw(field.whole),
        }
    }
    Ok(out)
}

fn typed(bytes: &[u8], way: &[u32], data_type: i32) -> Result<Message> {
    let mut out = Message::default();
    for field in Fields::of(bytes) {
        let field = field?;
        match way {
            [last] if field.number == *last => out.int(field.number, data_type.into()),
            [first, rest @ ..] if field.number == *first => {
                out.message(field.number, typed(field.value, rest, data_type)?)
            }
            _ => out.raw(field.whole),
        }
    }
    Ok(out)
}
