//! A model's file with other metadata, and nothing else changed.

use crate::tensor::entry;
use modelferry_core::layout::{Layout, Piece};
use modelferry_core::model::{ModelView, Value};
use modelferry_core::{Error, Result};
use modelferry_wire::onnx::{MAX_MESSAGE_BYTES, Message, Part, model};
use std::collections::HashMap;
use std::ops::Range;

/// Lays out the bytes of the file with entries replaced where they stand, new ones behind everything: fields of a message
/// may come in any order.
pub(crate) fn relayout(view: &ModelView<'_>, file_name: &str) -> Result<Layout> {
    let absent = || Error::plugin("the file to be edited is not at hand");
    let entries = view.entries().ok_or_else(absent)?;
    let (idx, (_, len)) = view.assets().enumerate().last().ok_or_else(absent)?;
    let mut pieces = vec![];
    let keep = |pieces: &mut Vec<Piece>, bytes: Range<u64>| {
        pieces.extend((!bytes.is_empty()).then_some(Piece::Asset { idx, bytes }));
    };
    let mut now: HashMap<&str, &str> = HashMap::with_capacity(view.metadata().len());
    for (key, value) in view.metadata() {
        let Value::Text(text) = value else {
            return Err(Error::target("ONNX holds text only").found(format_args!("{key:?}")));
        };
        now.insert(key, text);
    }
    let mut at = 0;
    for stated in entries {
        match now.remove(stated.key.as_str()) {
            Some(text) if text == stated.value => continue,
            new => {
                keep(&mut pieces, at..stated.bytes.start);
                at = stated.bytes.end;
                pieces.extend(new.map(|text| piece(&stated.key, text)));
            }
        }
    }
    keep(&mut pieces, at..len);
    let added = view.metadata().iter().filter_map(|(key, _)| now.get_key_value(key.as_str()));
    pieces.extend(added.map(|(key, text)| piece(key, text)));
    let mut layout = Layout::default();
    let root = layout.push_file(file_name, pieces);
    let len = layout.files[root].len;
    if len > MAX_MESSAGE_BYTES {
        return Err(Error::target("a model's own file cannot be so large")
            .expected(format_args!("at most {MAX_MESSAGE_BYTES} bytes"))
            .found(format_args!("{len} bytes")));
    }
    Ok(layout)
}

/// One entry as a field of the whole model.
fn piece(key: &str, text: &str) -> Piece {
    let mut message = Message::default();
    message.small(model::METADATA_PROPS, &entry(key, text));
    let bytes = |part| match part {
        Part::Bytes(bytes) => bytes,
        Part::Tensor { .. } => vec![],
    };
    Piece::Bytes(message.into_parts().into_iter().flat_map(bytes).collect::<Vec<u8>>().into())
}
