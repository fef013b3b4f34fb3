//! Which tensor goes into which file: the rule of huggingface_hub 2.4.0
//! (`split_state_dict_into_shards_factory` in serialization/_base.py), so that our shards are the ones that
//! `save_pretrained` makes.

use modelferry_core::error::{Error, Result};
use std::collections::HashMap;

/// One tensor to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// The caller's number for it.
    pub id: usize,
    /// Bytes it takes in the file.
    pub bytes: u64,
    /// Tensors with the same group share one storage.
    pub tie_group: Option<u32>,
}

/// Distributes tensors, in the order given, over files of at most `max_bytes` each.
///
/// A file is closed when the next tensor would not fit, never reopened for a smaller one. A tensor larger than
/// `max_bytes` gets a file of its own, which comes *before* the file that was being filled when it was met. Tensors
/// of one tie group share the file of the first, are listed at that file's end, and are counted once. Without any
/// tensor there is one empty file.
pub fn plan_shards(items: impl IntoIterator<Item = Item>, max_bytes: u64) -> Vec<Vec<usize>> {
    let mut shards: Vec<Vec<usize>> = Vec::new();
    let mut current: Vec<usize> = Vec::new();
    let mut current_bytes = 0u64;
    // Group: (the first member's id, the others) in order of appearance.
    let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut group_of: HashMap<u32, usize> = HashMap::new();
    for Item { id, bytes, tie_group } in items {
        if let Some(tie_group) = tie_group {
            if let Some(&group_idx) = group_of.get(&tie_group) {
                groups[group_idx].1.push(id);
                continue;
            }
            group_of.insert(tie_group, groups.len());
            groups.push((id, Vec::new()));
        }
        if bytes > max_bytes {
            shards.push(vec![id]);
            continue;
        }
        if current_bytes.checked_add(bytes).is_none_or(|total| total > max_bytes) {
            shards.push(std::mem::take(&mut current));
            current_bytes = 0;
        }
        current.push(id);
        // At most `max_bytes`, as was just compared.
        current_bytes += bytes;
    }
    if !current.is_empty() || shards.is_empty() {
        shards.push(current);
    }
    groups.retain(|(_, others)| !others.is_empty());
    if !groups.is_empty() {
        let place =
            |(shard_idx, shard): (usize, &Vec<usize>)| shard.iter().map(move |&id| (id, shard_idx)).collect();
        let shard_of: HashMap<usize, usize> =
            shards.iter().enumerate().flat_map(|s| -> Vec<_> { place(s) }).collect();
        for (first, others) in groups {
            // Every first member was placed above.
            if let Some(&shard_idx) = shard_of.get(&first) {
                shards[shard_idx].extend(others);
            }
        }
    }
    shards
}

/// The name of file `shard_idx` (from 0) of `n_shards`: `model-00001-of-00002.safetensors` for stem `model` and suffix
/// `.safetensors`, or `model.safetensors` where there is only one.
pub fn shard_name(stem: &str, suffix: &str, shard_idx: usize, n_shards: usize) -> String {
    if n_shards == 1 {
        return format!("{stem}{suffix}");
    }
    format!("{stem}-{:05}-of-{n_shards:05}{suffix}", shard_idx + 1)
}

/// The name of the index of sharded files: `model.safetensors.index.json`.
pub fn index_name(stem: &str, suffix: &str) -> String {
    format!("{stem}{suffix}.index.json")
}

/// Reads a size in bytes: `5GB` and `1.5 GB` are decimal as in huggingface_hub (`KB MB GB TB`), `5GiB` is binary
/// (`KiB MiB GiB TiB`, ours), `5000000` and `5000000B` count bytes. Case does not matter; fractions of a byte are cut.
///
/// Error of kind [`Usage`](modelferry_core::error::ErrorKind::Usage): anything else, and less than one byte.
pub fn parse_size(text: &str) -> Result<u64> {
    let refuse = || {
        Error::usage("not a size")
            .expected("a number and KB, MB, GB, TB or KiB, MiB, GiB, TiB")
            .found(format_args!("{text:?}"))
    };
    let trimmed = text.trim();
    let unit_at = trimmed.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(unit_at);
    let unit_bytes: u64 = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "KB" => 1000,
        "MB" => 1000_u64.pow(2),
        "GB" => 1000_u64.pow(3),
        "TB" => 1000_u64.pow(4),
        "KIB" => 1 << 10,
        "MIB" => 1 << 20,
        "GIB" => 1 << 30,
        "TIB" => 1 << 40,
        _ => return Err(refuse()),
    };
    let number = number.trim();
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(refuse());
    }
    let bytes = match number.parse::<u64>() {
        Ok(number) => number.checked_mul(unit_bytes).ok_or_else(refuse)?,
        // Python multiplies in floating point and cuts, so that its rounding is part of the rule.
        Err(_) => {
            let bytes = number.parse::<f64>().map_err(|_| refuse())? * unit_bytes as f64;
            if bytes >= u64::MAX as f64 {
                return Err(refuse());
            }
            bytes as u64
        }
    };
    if bytes == 0 {
        return Err(refuse());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(sizes: &[u64], groups: &[Option<u32>], max_bytes: u64) -> Vec<Vec<usize>> {
        let item = |(id, &bytes)| Item { id, bytes, tie_group: groups.get(id).copied().flatten() };
        plan_shards(sizes.iter().enumerate().map(item), max_bytes)
    }

    #[test]
    fn the_example_of_huggingface_hub() {
        // Its doc comment shows [6+2+2GB] for the third file; its code gives this.
        assert_eq!(plan(&[6, 6, 2, 6, 2, 2], &[], 10), [vec![0], vec![1, 2], vec![3, 4, 5]]);
    }

    #[test]
    fn a_file_is_full_at_its_limit_and_not_before() {
        assert_eq!(plan(&[5, 5, 1], &[], 10), [vec![0, 1], vec![2]]);
        assert_eq!(plan(&[0, 0, 10, 0], &[], 10), [vec![0, 1, 2, 3]]);
        assert_eq!(plan(&[u64::MAX, u64::MAX - 1, 1], &[], u64::MAX), [vec![0], vec![1, 2]]);
    }

    #[test]
    fn an_oversized_tensor_comes_before_the_file_being_filled() {
        assert_eq!(plan(&[3, 20, 3], &[], 10), [vec![1], vec![0, 2]]);
        assert_eq!(plan(&[20], &[], 10), [vec![0]]);
    }

    #[test]
    fn ties_follow_the_first_and_count_once() {
        let groups = [Some(7), None, Some(7), Some(1), Some(7)];
        assert_eq!(plan(&[6, 3, 6, 6, 6], &groups, 10), [vec![0, 1, 2, 4], vec![3]]);
        assert_eq!(plan(&[20, 1, 20], &[Some(0), None, Some(0)], 10), [vec![0, 2], vec![1]]);
    }

    #[test]
    fn no_tensor_is_one_empty_file() {
        assert_eq!(plan(&[], &[], 10), [Vec::<usize>::new()]);
    }

    #[test]
    fn names() {
        assert_eq!(shard_name("model", ".safetensors", 0, 1), "model.safetensors");
        assert_eq!(shard_name("model", ".safetensors", 1, 12), "model-00002-of-00012.safetensors");
        assert_eq!(shard_name("pytorch_model", ".bin", 0, 100_000), "pytorch_model-00001-of-100000.bin");
        assert_eq!(index_name("model", ".safetensors"), "model.safetensors.index.json");
    }

    #[test]
    fn sizes() {
        let cases = [
            ("5GB", 5_000_000_000),
            (" 500 mb ", 500_000_000),
            ("1.5KB", 1500),
            ("2TB", 2_000_000_000_000),
            ("1GiB", 1 << 30),
            ("0.5kib", 512),
            ("1MiB", 1 << 20),
            ("1tib", 1 << 40),
            ("123", 123),
            ("123B", 123),
            // int(float("0.29") * 10**9) in Python.
            ("0.29GB", 290_000_000),
            ("1.1GB", 1_100_000_000),
            ("4.35GB", 4_350_000_000),
            ("9007199254740993", 9_007_199_254_740_993),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_size(text).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "GB",
            "-5GB",
            "5XB",
            "0",
            "0.1B",
            "5 G B",
            "1e3GB",
            "infGB",
            "nan",
            "99999999TB",
            "1.2.3GB",
            "5é",
        ] {
            assert_eq!(
                parse_size(text).unwrap_err().kind(),
                modelferry_core::error::ErrorKind::Usage,
                "{text}"
            );
        }
        assert_eq!(
            parse_size("5 parsecs").unwrap_err().to_string(),
            "not a size, expected a number and KB, MB, GB, TB or KiB, MiB, GiB, TiB, found \"5 parsecs\""
        );
    }
}
