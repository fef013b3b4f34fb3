//! The parts of a split set: named `PREFIX-00001-of-00003.gguf`, each saying in its metadata which it is.

use modelferry_core::inputs::Inputs;
use modelferry_core::model::Value;
use modelferry_core::{Error, Result};
use modelferry_hf::shard_name::ShardName;
use modelferry_wire::gguf::{Header, SPLIT_COUNT, SPLIT_NO, SPLIT_TENSORS};

/// What the user can do who has one part only.
const ALONE: &str = "pass --shards alone to take this file for itself";

/// What every part says of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    n_parts: u16,
    n_tensors: i32,
}

impl Set {
    /// The set that a file is part of; `None` for one that stands for itself. Errors carry no file.
    pub(crate) fn of(header: &Header) -> Result<Option<Set>> {
        let n_parts = match header.get(SPLIT_COUNT) {
            None => return Ok(None),
            Some(Value::U16(n_parts)) => *n_parts,
            Some(other) => return Err(wrong_type(SPLIT_COUNT, "u16", other)),
        };
        // A set that was merged says 0 of itself.
        if n_parts < 2 {
            return Ok(None);
        }
        match header.get(SPLIT_TENSORS) {
            Some(Value::I32(n_tensors)) => Ok(Some(Set { n_parts, n_tensors: *n_tensors })),
            Some(other) => Err(wrong_type(SPLIT_TENSORS, "i32", other)),
            None => Err(missing(SPLIT_TENSORS)),
        }
    }

    /// The names of all parts, the file `name` among them.
    pub(crate) fn names(self, name: &str, header: &Header, inputs: &dyn Inputs) -> Result<Vec<String>> {
        let no = part_no(header)?;
        let shard = ShardName::parse(name);
        let shard =
            shard.filter(|shard| (shard.shard_idx, shard.n_shards) == (no.into(), self.n_parts.into()));
        let Some(shard) = shard else {
            return Err(Error::malformed("a part of a set is not named as one")
                .expected(format_args!(
                    "a name that ends in -{:05}-of-{:05}.gguf",
                    u32::from(no) + 1,
                    self.n_parts
                ))
                .hint(ALONE));
        };
        let names: Vec<String> = shard.siblings().collect();
        let there = inputs.list("")?;
        match names.iter().find(|name| !there.contains(name)) {
            Some(missing) => Err(Error::malformed("this is one part of a set that is not complete")
                .expected(format_args!("{} beside it", missing.escape_debug()))
                .hint(ALONE)),
            None => Ok(names),
        }
    }

    /// Fails unless the header is that of part `idx` of this set.
    pub(crate) fn check_part(self, header: &Header, idx: usize) -> Result<()> {
        let found = Set::of(header)?;
        if found != Some(self) {
            let text = |set: Option<Set>| match set {
                Some(set) => format!("one of {} parts with {} tensors", set.n_parts, set.n_tensors),
                None => "no part of a set".to_owned(),
            };
            return Err(Error::malformed("the file is a part of another set")
                .expected(text(Some(self)))
                .found(text(found)));
        }
        let no = part_no(header)?;
        if usize::from(no) != idx {
            return Err(Error::malformed("the file is another part than its name says")
                .expected(format_args!("{SPLIT_NO} {idx}"))
                .found(no));
        }
        Ok(())
    }

    /// Fails unless the set has as many tensors as it says.
    pub(crate) fn check_tensors(self, n_tensors: usize) -> Result<()> {
        if usize::try_from(self.n_tensors) == Ok(n_tensors) {
            return Ok(());
        }
        Err(Error::malformed("the parts of the set do not have as many tensors as they say")
            .expected(self.n_tensors)
            .found(n_tensors))
    }
}

fn part_no(header: &Header) -> Result<u16> {
    match header.get(SPLIT_NO) {
        Some(Value::U16(no)) => Ok(*no),
        Some(other) => Err(wrong_type(SPLIT_NO, "u16", other)),
        None => Err(missing(SPLIT_NO)),
    }
}

fn missing(key: &'static str) -> Error {
    Error::malformed("a part of a set does not say all that parts say").expected(key)
}

fn wrong_type(key: &'static str, expected: &str, found: &Value) -> Error {
    Error::malformed(format!("{key} has another type")).expected(expected).found(found.type_name())
}
