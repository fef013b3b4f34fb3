//! Texts, bytes, numbers and what holds other values.

use super::machine::Machine;
use super::opcodes::{ADDITEMS, INT};
use super::text::{int_from_decimal, int_from_le};
use modelferry_core::error::Result;
use modelferry_core::expr::Blob;
use modelferry_core::tree::{Object, ObjectId};
use std::borrow::Cow;

/// What is longer than this is read into its own memory at once instead of through the source's buffer.
const LONG_BYTES: u64 = 16 << 10;

impl Machine<'_, '_> {
    pub(super) fn text(&mut self, len: u64, decode: fn(Cow<'_, [u8]>) -> Option<Object>) -> Result<()> {
        let text = match len <= LONG_BYTES {
            true => decode(Cow::Borrowed(self.source.take(len as usize)?)),
            false => decode(Cow::Owned(self.source.vec(len)?)),
        };
        let text = text.ok_or_else(|| self.not_utf8())?;
        self.push(text)
    }

    pub(super) fn bytes(&mut self, len: u64) -> Result<Object> {
        Ok(Object::Bytes(match len <= LONG_BYTES {
            true => Blob::from(self.source.take(len as usize)?),
            false => Blob::from(self.source.vec(len)?),
        }))
    }

    /// A length that is written with a sign.
    pub(super) fn signed_len(&mut self) -> Result<u64> {
        let len = i32::from_le_bytes(self.source.array()?);
        u64::try_from(len).map_err(|_| self.fault("a length in a pickle is negative"))
    }

    /// A whole number in `len` bytes.
    pub(super) fn long(&mut self, len: u64) -> Result<()> {
        let number = match len <= LONG_BYTES {
            true => int_from_le(self.source.take(len as usize)?),
            false => int_from_le(&self.source.vec(len)?),
        };
        self.number(number)
    }

    /// A whole number in decimal, or one of the two ways in which protocols 0 and 1 write a truth value.
    pub(super) fn decimal(&mut self) -> Result<()> {
        let may_be_bool = self.opcode == INT;
        let line = self.source.line()?.trim_ascii();
        let number = match (may_be_bool, line) {
            (true, b"00") => Some(Object::Bool(false)),
            (true, b"01") => Some(Object::Bool(true)),
            (true, digits) => int_from_decimal(digits),
            (false, digits) => int_from_decimal(digits.strip_suffix(b"L").unwrap_or(digits)),
        };
        let number = number.ok_or_else(|| self.fault("a number in a pickle is none, or too long"))?;
        self.number(number)
    }

    fn number(&mut self, number: Object) -> Result<()> {
        match number {
            Object::Int(value) => self.int(value),
            Object::Bool(value) => self.bool(value),
            other => self.push(other),
        }
    }

    /// A tuple of what lies above `start`.
    pub(super) fn tuple(&mut self, start: usize) -> Result<()> {
        let id = match self.stack.get(start..) {
            Some(members) if !members.is_empty() => {
                let members = Object::Tuple(members.into());
                self.add(members)?
            }
            _ => self.empty_tuple()?,
        };
        self.stack.truncate(start);
        self.stack.push(id);
        Ok(())
    }

    /// Keys and values of what lies above `start`, which is taken away.
    pub(super) fn pairs(&mut self, start: usize) -> Result<Vec<(ObjectId, ObjectId)>> {
        let values = self.stack.get(start..).unwrap_or_default();
        let (pairs, rest) = values.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.fault("a key in a pickle has no value"));
        }
        let pairs = pairs.iter().map(|&[key, value]| (key, value)).collect();
        self.stack.truncate(start);
        Ok(pairs)
    }

    /// Puts what lies above `start` into what lies directly below.
    pub(super) fn append(&mut self, start: usize) -> Result<()> {
        if start == self.stack.len() {
            return Ok(());
        }
        let target = self.target(start)?;
        let members = &self.stack[start..];
        match (self.tree.get_mut(target), self.opcode) {
            (Object::List(list), code) if code != ADDITEMS => list.extend_from_slice(members),
            (Object::Set(set), ADDITEMS) => set.extend_from_slice(members),
            (Object::Instance(instance), _) => instance.items.extend_from_slice(members),
            _ => return Err(self.fault("a pickle appends to what holds no items")),
        }
        self.stack.truncate(start);
        Ok(())
    }

    /// Sets what lies above `start`, in pairs, in what lies directly below.
    pub(super) fn set_items(&mut self, start: usize) -> Result<()> {
        if start == self.stack.len() {
            return Ok(());
        }
        let target = self.target(start)?;
        let pairs = self.pairs(start)?;
        match self.tree.get_mut(target) {
            Object::Dict(entries) => entries.extend(pairs),
            Object::Instance(instance) => instance.entries.extend(pairs),
            _ => return Err(self.fault("a pickle sets a key in what has no keys")),
        }
        Ok(())
    }

    /// What lies directly below `start`.
    fn target(&self, start: usize) -> Result<ObjectId> {
        match start.checked_sub(1) {
            Some(below) if below >= self.fence => Ok(self.stack[below]),
            _ => Err(self.fault("the pickle's stack holds too little")),
        }
    }
}
