//! A record of the header -> a tensor over its part of the file.

use modelferry_core::dtype::Class;
use modelferry_core::expr::{ByteOrder, Dim, NodeId, Packing, Part};
use modelferry_core::inputs::FileId;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::Model;
use modelferry_core::{Error, Result};
use modelferry_wire::gguf::{Entry, Field, Header, fields};

/// Adds the tensor that `entry` of the file's header describes.
pub(crate) fn add(model: &mut Model, file: FileId, header: &Header, entry: &Entry) -> Result<()> {
    let bytes = model.nodes.region(file, header.data_at + entry.begin, entry.len)?;
    let n_items = entry.len / entry.dtype.item_bytes();
    let is_big = header.order == ByteOrder::Big;
    let (bytes, packing, is_swapped) = match entry.dtype.class() {
        Class::Block if is_big => {
            let fields = fields(entry.dtype).ok_or_else(|| {
                Error::unsupported("ggml gives blocks of this type no meaning in a big-endian file")
                    .found(entry.dtype)
            })?;
            let swapped = swapped(model, bytes, n_items, entry.dtype.item_bytes(), fields)?;
            (swapped, Packing::default(), !fields.is_empty())
        }
        _ if is_big => (bytes, Packing::BIG, entry.dtype.swap_width() > 1),
        _ => (bytes, Packing::default(), false),
    };
    let data = model.nodes.decode(bytes, entry.dtype, n_items, packing)?;
    model.push(&*entry.name, entry.dtype, entry.shape.to_vec(), data)?;
    if is_swapped && n_items > 0 {
        let detail = "big-endian in the source, described as little-endian";
        model.losses.push(Loss::declared(LossKind::Layout, &*entry.name, detail));
    }
    Ok(())
}

/// The bytes of `n` blocks with those of each number in them reversed.
fn swapped(model: &mut Model, bytes: NodeId, n: u64, block: u64, fields: &[Field]) -> Result<NodeId> {
    if n == 0 || fields.is_empty() {
        return Ok(bytes);
    }
    let stride = block as i64;
    let mut pieces = vec![];
    let mut at = 0;
    for field in fields.iter().chain([&Field { at: block, width: 0, count: 0 }]) {
        if field.at > at {
            let dims = [Dim { count: n, stride }, Dim { count: field.at - at, stride: 1 }];
            let node = model.nodes.view(bytes, at, &dims)?;
            pieces.push(Part { lo: [0, at].into(), extent: [n, field.at - at].into(), node });
        }
        let len = field.width * field.count;
        if len > 0 {
            let dims = [
                Dim { count: n, stride },
                Dim { count: field.count, stride: field.width as i64 },
                Dim { count: field.width, stride: -1 },
            ];
            let node = model.nodes.view(bytes, field.at + field.width - 1, &dims)?;
            pieces.push(Part { lo: [0, field.at].into(), extent: [n, len].into(), node });
        }
        at = field.at + len;
    }
    model.nodes.assemble(&[n, block], pieces)
}
