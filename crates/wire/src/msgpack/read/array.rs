//! One array: its shape and type, and where its elements are.

use super::super::cursor::Token;
use super::super::dtype_of;
use super::{Array, Parser};
use modelferry_core::error::{Error, Result};
use modelferry_core::expr::volume;
use modelferry_core::limits::Limits;

/// Bytes of the longest name of a type, and more.
const MAX_TYPE_NAME: u64 = 64;

impl Parser<'_> {
    /// The array in an extension of `len` bytes.
    pub(super) fn array(&mut self, len: u64) -> Result<Array> {
        let at = self.cursor.at();
        self.array_at(len).map_err(|error| error.offset(at))
    }

    fn array_at(&mut self, len: u64) -> Result<Array> {
        let end = self.cursor.enter(len);
        match self.cursor.token()? {
            Token::List(3) => {}
            other => {
                return Err(Error::malformed("an array is not what flax writes")
                    .expected("a list of 3: shape, type and elements")
                    .found(other.what()));
            }
        }
        let shape = self.shape()?;
        let dtype = match self.cursor.token()? {
            Token::Text(len) | Token::Bytes(len) if len <= MAX_TYPE_NAME => {
                let name = self.cursor.bytes(len)?;
                dtype_of(&name).ok_or_else(|| {
                    Error::unsupported("arrays of this type are not read")
                        .found(format_args!("{:?}", String::from_utf8_lossy(&name)))
                })?
            }
            other => return Err(Error::malformed("an array's type is not a short text").found(other.what())),
        };
        let bytes = match self.cursor.token()? {
            Token::Text(len) | Token::Bytes(len) => len,
            other => return Err(Error::malformed("an array's elements are not bytes").found(other.what())),
        };
        let data = self.cursor.at()..self.cursor.at() + bytes;
        self.cursor.skip(bytes);
        self.cursor.leave(end)?;
        let needed = volume(&shape).and_then(|n| dtype.packed_len(n));
        if needed != Some(bytes) {
            let error = Error::malformed("an array's elements are not as many as its shape says");
            let needed = needed.map_or_else(|| "fewer than 2^64 bytes".to_owned(), |n| format!("{n} bytes"));
            return Err(error
                .expected(format_args!("{needed} for {shape:?} of {dtype}"))
                .found(format_args!("{bytes} bytes")));
        }
        Ok(Array { dtype, shape, chunks: vec![data], is_joined: false })
    }

    fn shape(&mut self) -> Result<Vec<u64>> {
        let rank = match self.cursor.token()? {
            Token::List(rank) => rank,
            other => return Err(Error::malformed("an array's shape is not a list").found(other.what())),
        };
        Limits::check("too many dimensions", rank, self.limits.rank as u64)?;
        let mut shape = Vec::with_capacity(rank as usize);
        for _ in 0..rank {
            match self.cursor.token()? {
                Token::Uint(extent) => shape.push(extent),
                Token::Int(extent) => {
                    let extent = u64::try_from(extent).map_err(|_| {
                        Error::malformed("an array's shape holds a negative number").found(extent)
                    })?;
                    shape.push(extent);
                }
                other => {
                    return Err(Error::malformed("an array's shape holds what is no whole number")
                        .found(other.what()));
                }
            }
        }
        Ok(shape)
    }
}
