//! A writer's files: which tensors go where, what they are called, and the index over them.

use crate::index::{self, TOTAL_SIZE};
use crate::shards::{Item, index_name, plan_shards, shard_name};
use modelferry_core::error::Result;
use modelferry_core::layout::{Layout, Piece};
use modelferry_core::model::{ModelView, TensorIdx};
use modelferry_core::plugin::Shards;
use std::collections::BTreeMap;

/// Distributes tensors, in the order given, over files. Those that share a storage share a file. Without any tensor
/// there is one empty file.
pub fn distribute(view: &ModelView<'_>, shards: Shards, order: Vec<TensorIdx>) -> Vec<Vec<TensorIdx>> {
    match shards {
        Shards::One => vec![order],
        Shards::Max(max_bytes) => {
            let storages = if view.ties().is_empty() { vec![] } else { view.storages() };
            let mut group_of: BTreeMap<TensorIdx, u32> = BTreeMap::new();
            for (group, tied) in (0..).zip(view.ties()) {
                group_of.extend(tied.first().map(|&first| (first, group)));
            }
            let item = |&id: &TensorIdx| Item {
                id,
                bytes: view.tensor(id).byte_len(),
                tie_group: storages.get(id).and_then(|first| group_of.get(first).copied()),
            };
            plan_shards(order.iter().map(item), max_bytes)
        }
        Shards::Keep => by_source(view, order),
    }
}

/// Tensors grouped by the file they come from, files in the order of their first tensor; one empty group of none.
fn by_source(view: &ModelView<'_>, order: Vec<TensorIdx>) -> Vec<Vec<TensorIdx>> {
    if order.is_empty() {
        return vec![order];
    }
    let storages = view.storages();
    let mut shards: Vec<Vec<TensorIdx>> = vec![];
    let mut shard_of = BTreeMap::new();
    for idx in order {
        let shard = *shard_of.entry(view.source_file(storages[idx])).or_insert(shards.len());
        if shard == shards.len() {
            shards.push(vec![]);
        }
        shards[shard].push(idx);
    }
    shards
}

/// The name of one file of `n_shards` that stand for `file_name`: `model-00001-of-00002.safetensors` for
/// `model.safetensors`, or itself where there is only one.
pub fn path(file_name: &str, shard_idx: usize, n_shards: usize) -> String {
    let (stem, suffix) = parts(file_name);
    shard_name(stem, suffix, shard_idx, n_shards)
}

fn parts(file_name: &str) -> (&str, &str) {
    file_name.rfind('.').map_or((file_name, ""), |dot| file_name.split_at(dot))
}

/// Adds the index of several files and makes it the layout's root. `file_of` is the position of each tensor's file,
/// `total_size` the bytes of all tensors as they are stored.
pub fn push_index(
    layout: &mut Layout,
    view: &ModelView<'_>,
    file_name: &str,
    file_of: &[usize],
    total_size: u64,
) -> Result<()> {
    let total_size = total_size.to_string();
    let weights = view.tensors().zip(file_of);
    let weights = weights.map(|(tensor, &file)| (tensor.name(), layout.files[file].path.as_str()));
    let index = index::write([(TOTAL_SIZE, total_size.as_str())], weights)?;
    let (stem, suffix) = parts(file_name);
    layout.root = layout.push_file(index_name(stem, suffix), vec![Piece::Bytes(index.into())]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelferry_core::DType;
    use modelferry_core::expr::Packing;
    use modelferry_core::inputs::FileId;
    use modelferry_core::limits::Limits;
    use modelferry_core::model::Model;

    /// Four tensors of four bytes, from files 0, 1, 1, 0; the first and third share a storage.
    fn model() -> Model {
        let mut model = Model::default();
        for (name, file) in [("a", 0), ("b", 1), ("c", 1), ("d", 0)] {
            let region = model.nodes.region(FileId(file), 0, 4).unwrap();
            let data = model.nodes.decode(region, DType::F32, 1, Packing::default()).unwrap();
            model.push(name, DType::F32, vec![1], data).unwrap();
        }
        model.ties = vec![vec![0, 2]];
        model
    }

    #[test]
    fn what_is_tied_stays_together() {
        let model = model();
        let view = ModelView::new(&model, &Limits::default()).unwrap();
        let order = || (0..4).collect::<Vec<TensorIdx>>();
        assert_eq!(distribute(&view, Shards::One, order()), [vec![0, 1, 2, 3]]);
        assert_eq!(distribute(&view, Shards::Max(8), order()), [vec![0, 1, 2], vec![3]]);
        assert_eq!(distribute(&view, Shards::Keep, order()), [vec![0, 2, 3], vec![1]]);
        assert_eq!(distribute(&view, Shards::Keep, vec![]), [Vec::<TensorIdx>::new()]);
    }

    #[test]
    fn names_and_index() {
        let model = model();
        let view = ModelView::new(&model, &Limits::default()).unwrap();
        let mut layout = Layout::default();
        for idx in 0..2 {
            layout.push_file(path("my.model.bin", idx, 2), vec![]);
        }
        push_index(&mut layout, &view, "my.model.bin", &[0, 1, 0, 0], 12).unwrap();
        let names: Vec<&str> = layout.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            names,
            ["my.model-00001-of-00002.bin", "my.model-00002-of-00002.bin", "my.model.bin.index.json"]
        );
        assert_eq!(layout.root, 2);
        assert_eq!(
            (path("plain", 0, 1), path("plain", 0, 2)),
            ("plain".into(), "plain-00001-of-00002".into())
        );
    }
}
