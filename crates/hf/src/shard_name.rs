//! Names of the files of a sharded set.

use crate::shards::{index_name, shard_name};

/// The name of one file of a set, taken apart: `model-00002-of-00003.safetensors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardName<'a> {
    /// What stands before the numbers: `model`.
    pub stem: &'a str,
    /// What stands after them: `.safetensors`.
    pub suffix: &'a str,
    /// Which file this is, counted from 0.
    pub shard_idx: usize,
    /// How many there are.
    pub n_shards: usize,
}

impl<'a> ShardName<'a> {
    /// Takes a name apart; `None` for one that is no shard's.
    pub fn parse(name: &'a str) -> Option<ShardName<'a>> {
        // The last `-00001-of-00002` counts: a stem may contain another.
        let at = name.rfind("-of-")?;
        let (before, after) = (&name[..at], &name[at + 4..]);
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let (count, suffix) = after.split_at(digits);
        let (stem, number) = before.rsplit_once('-')?;
        let five = |text: &str| text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        if !five(number) || !five(count) || !suffix.starts_with('.') {
            return None;
        }
        let (number, n_shards): (usize, usize) = (number.parse().ok()?, count.parse().ok()?);
        (1..=n_shards).contains(&number).then(|| ShardName { stem, suffix, shard_idx: number - 1, n_shards })
    }

    /// The names of all files of the set, this one included.
    pub fn siblings(&self) -> impl Iterator<Item = String> + '_ {
        (0..self.n_shards).map(|idx| shard_name(self.stem, self.suffix, idx, self.n_shards))
    }

    /// The name of the set's index.
    pub fn index_name(&self) -> String {
        index_name(self.stem, self.suffix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart() {
        let name = ShardName::parse("my-model-00002-of-00003.safetensors").unwrap();
        assert_eq!(
            (name.stem, name.suffix, name.shard_idx, name.n_shards),
            ("my-model", ".safetensors", 1, 3)
        );
        assert_eq!(name.index_name(), "my-model.safetensors.index.json");
        assert_eq!(name.siblings().nth(2).as_deref(), Some("my-model-00003-of-00003.safetensors"));
    }

    #[test]
    fn other_names_do_not() {
        for name in
            ["model.safetensors", "a-00000-of-00003.x", "a-00004-of-00003.x", "a-1-of-3.x", "best-of-00003.x"]
        {
            assert_eq!(ShardName::parse(name), None, "{name}");
        }
    }
}
