//! Arrays in parts: a dictionary of the parts and of the shape of the whole.

use super::super::CHUNKED;
use super::{Array, Parser};
use modelferry_core::error::{Error, Result};
use modelferry_core::expr::volume;
use modelferry_core::limits::Limits;
use modelferry_core::tree::{Object, ObjectId};

impl Parser<'_> {
    /// Whether flax takes a dictionary for an array in parts. It does not look at the value of the key.
    pub(super) fn is_chunked(&self, entries: &[(ObjectId, ObjectId)]) -> bool {
        entries.iter().any(|(key, _)| self.document.tree.text(*key) == Some(CHUNKED))
    }

    /// The array whose parts are those from `first` on.
    pub(super) fn joined(&self, entries: &[(ObjectId, ObjectId)], first: usize) -> Result<Array> {
        let tree = &self.document.tree;
        let (mut shape, mut chunks) = (None, None);
        for &(key, value) in entries {
            match tree.text(key) {
                Some(CHUNKED) if matches!(tree[value], Object::Bool(_) | Object::Int(_) | Object::None) => {}
                Some("shape") => shape = Some(value),
                Some("chunks") => chunks = Some(value),
                _ => {
                    return Err(Error::malformed("an array in parts holds something else")
                        .expected("shape and chunks")
                        .found(format_args!("{:?}", crate::shown(&tree.key_text(key)))));
                }
            }
        }
        let missing =
            |what: &'static str| Error::malformed("an array in parts lacks an entry").expected(what);
        let shape = self.extents(shape.ok_or_else(|| missing("shape"))?)?;
        let chunks = self.numbered(chunks.ok_or_else(|| missing("chunks"))?)?;
        let mut parts = vec![];
        for chunk in chunks {
            match tree[chunk] {
                Object::Tensor(idx) if idx >= first => parts.extend(self.document.arrays.get(idx)),
                _ => return Err(Error::malformed("a part of an array is no array")),
            }
        }
        let Some(dtype) = parts.first().map(|part| part.dtype) else {
            return Err(Error::malformed("an array in parts has none"));
        };
        if let Some(other) = parts.iter().find(|part| part.dtype != dtype) {
            return Err(Error::malformed("parts of an array have several types")
                .expected(dtype)
                .found(other.dtype));
        }
        if parts.iter().any(|part| part.is_joined) {
            return Err(Error::malformed("a part of an array is in parts itself"));
        }
        if parts.iter().any(|part| part.shape.is_empty()) {
            return Err(Error::malformed("a part of an array has no dimensions, and cannot be joined"));
        }
        let sum = |sum: u64, part: &&Array| {
            part.chunks.iter().try_fold(sum, |sum, chunk| sum.checked_add(chunk.end - chunk.start))
        };
        let found = parts.iter().try_fold(0, sum);
        let needed = volume(&shape).and_then(|n| dtype.packed_len(n));
        if needed.is_none() || needed != found {
            return Err(Error::malformed("parts of an array are not as many elements as its shape says")
                .expected(format_args!("{shape:?} of {dtype}"))
                .found(format_args!("{} bytes", found.unwrap_or(u64::MAX))));
        }
        let chunks = parts.iter().flat_map(|part| part.chunks.clone()).collect();
        Ok(Array { dtype, shape, chunks, is_joined: true })
    }

    /// The members of a dictionary whose keys are the numbers from zero on, by their keys.
    fn numbered(&self, id: ObjectId) -> Result<Vec<ObjectId>> {
        let tree = &self.document.tree;
        let wrong = || {
            Error::malformed("a list in an array in parts is wrong")
                .expected("a dictionary with keys 0, 1, …")
        };
        let Object::Dict(entries) = &tree[id] else { return Err(wrong()) };
        let mut members = vec![None; entries.len()];
        for &(key, value) in entries {
            let text = tree.text(key).ok_or_else(wrong)?;
            let idx = text.parse::<usize>().ok().filter(|idx| idx.to_string() == text);
            *idx.and_then(|idx| members.get_mut(idx)).ok_or_else(wrong)? = Some(value);
        }
        members.into_iter().map(|member| member.ok_or_else(wrong)).collect()
    }

    fn extents(&self, id: ObjectId) -> Result<Vec<u64>> {
        let members = self.numbered(id)?;
        Limits::check("too many dimensions", members.len() as u64, self.limits.rank as u64)?;
        let mut shape = Vec::with_capacity(members.len());
        for member in members {
            match self.document.tree[member] {
                Object::Int(extent) if extent >= 0 => shape.push(extent.unsigned_abs()),
                _ => return Err(Error::malformed("the shape of an array in parts holds what is no extent")),
            }
        }
        Ok(shape)
    }
}
