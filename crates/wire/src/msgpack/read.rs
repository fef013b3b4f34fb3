//! A file -> its document, with arrays left where they are.

mod array;
mod chunked;

use super::cursor::{Cursor, Token};
use super::{ARRAY, COMPLEX, COMPLEX_CLASS, EXTENSION_CLASS, SCALAR};
use modelferry_core::DType;
use modelferry_core::error::{Error, Result};
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::limits::Limits;
use modelferry_core::tree::{Global, Instance, Object, ObjectId, Tree};
use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

/// A document.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// Its values. An [`Object::Tensor`] is the position of an array below.
    pub tree: Tree,
    /// Its arrays, in file order.
    pub arrays: Vec<Array>,
}

/// An array: row-major, little-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    /// Element type.
    pub dtype: DType,
    /// Extents in elements, outermost first; their product times the size of an element is the bytes of all chunks.
    pub shape: Vec<u64>,
    /// Bytes of the file that hold its elements, in order; whole elements each, one chunk unless it was split.
    pub chunks: Vec<Range<u64>>,
    /// Whether it was split, be it into one part.
    pub is_joined: bool,
}

/// Reads a document: everything but the elements of its arrays.
///
/// A dictionary that flax would join to one array is one. Numbers of numpy are arrays without dimensions.
///
/// Errors: [`Malformed`](modelferry_core::ErrorKind::Malformed) with the byte, for what neither MessagePack nor flax
/// allows, and for a key that a dictionary holds twice; [`Unsupported`](modelferry_core::ErrorKind::Unsupported) for
/// element types that are ours not to read and for keys that are no plain values;
/// [`Limit`](modelferry_core::ErrorKind::Limit).
pub fn parse(inputs: &dyn Inputs, file: FileId, limits: &Limits) -> Result<Document> {
    let mut parser = Parser {
        cursor: Cursor::new(inputs, file),
        limits,
        document: Document::default(),
        held: 0,
        extension_class: None,
        complex_class: None,
    };
    let result = parser.run();
    result.map_err(|error| error.file(inputs.name(file)))?;
    Ok(parser.document)
}

/// A list or dictionary that is being read.
struct Frame {
    is_map: bool,
    /// Values still to come, keys among them.
    left: u64,
    members: Vec<ObjectId>,
    /// Where it begins.
    at: u64,
    /// Arrays that were there before it.
    first_array: usize,
    /// Whether it is in dictionaries alone, as flax looks for arrays in parts.
    is_in_maps: bool,
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    limits: &'a Limits,
    document: Document,
    /// Bytes of text and of bytes that are held in memory.
    held: u64,
    extension_class: Option<ObjectId>,
    complex_class: Option<ObjectId>,
}

impl Parser<'_> {
    fn run(&mut self) -> Result<()> {
        let mut frames: Vec<Frame> = vec![];
        loop {
            let mut done = self.value(&mut frames)?;
            // A value may be the last of what holds it, and that of what holds that.
            while let Some(id) = done {
                let Some(frame) = frames.last_mut() else { return self.finish(id) };
                frame.members.push(id);
                frame.left -= 1;
                done = match frame.left {
                    0 => frames.pop().map(|frame| self.close(frame)).transpose()?,
                    _ => None,
                };
            }
        }
    }

    fn finish(&mut self, root: ObjectId) -> Result<()> {
        if self.cursor.remaining() > 0 {
            return Err(Error::malformed("there is more behind the document")
                .offset(self.cursor.at())
                .found(format_args!("{} bytes", self.cursor.remaining())));
        }
        self.document.tree.set_root(root);
        Ok(())
    }

    fn push(&mut self, object: Object) -> Result<ObjectId> {
        Limits::check("too many objects", self.document.tree.len() as u64 + 1, self.limits.objects)?;
        self.document.tree.push(object).ok_or_else(|| Error::limit("too many objects"))
    }

    /// Bytes into memory.
    fn hold(&mut self, len: u64) -> Result<Vec<u8>> {
        let at = self.cursor.at();
        self.held = self.held.saturating_add(len);
        Limits::check("text and bytes of a document are too long", self.held, self.limits.inline_bytes)
            .map_err(|error| error.offset(at))?;
        self.cursor.bytes(len)
    }

    /// The next value, or nothing yet where it is the start of several.
    fn value(&mut self, frames: &mut Vec<Frame>) -> Result<Option<ObjectId>> {
        let at = self.cursor.at();
        let object = match self.cursor.token()? {
            Token::Nil => Object::None,
            Token::Bool(value) => Object::Bool(value),
            Token::Int(value) => Object::Int(value),
            Token::Uint(value) => match i64::try_from(value) {
                Ok(value) => Object::Int(value),
                // The ninth byte is the sign.
                Err(_) => Object::BigInt([&value.to_le_bytes()[..], &[0]].concat().into()),
            },
            Token::Float(value) => Object::Float(value),
            Token::Text(len) => Object::Text(self.text(len)?.into()),
            Token::Bytes(len) => Object::Bytes(self.hold(len)?.into()),
            Token::List(0) => Object::List(vec![]),
            Token::Map(0) => Object::Dict(vec![]),
            token @ (Token::List(n) | Token::Map(n)) => {
                let is_map = matches!(token, Token::Map(_));
                let depth = frames.len() as u64 + 1;
                Limits::check("the document is nested too deep", depth, self.limits.depth as u64)
                    .map_err(|error| error.offset(at))?;
                frames.push(Frame {
                    is_map,
                    left: if is_map { 2 * n } else { n },
                    members: vec![],
                    at,
                    first_array: self.document.arrays.len(),
                    is_in_maps: frames.last().is_none_or(|above| above.is_map && above.is_in_maps),
                });
                return Ok(None);
            }
            Token::Extension(ARRAY | SCALAR, len) => {
                let array = self.array(len)?;
                return self.push_array(array).map(Some);
            }
            Token::Extension(COMPLEX, len) => return self.complex(len).map(Some),
            Token::Extension(code, len) => return self.extension(code, len).map(Some),
        };
        self.push(object).map(Some)
    }

    fn push_array(&mut self, array: Array) -> Result<ObjectId> {
        let idx = self.document.arrays.len();
        Limits::check("too many tensors", idx as u64 + 1, self.limits.tensors)?;
        self.document.arrays.push(array);
        self.push(Object::Tensor(idx))
    }

    fn text(&mut self, len: u64) -> Result<String> {
        let at = self.cursor.at();
        let bytes = self.hold(len)?;
        String::from_utf8(bytes).map_err(|error| {
            let place = error.utf8_error().valid_up_to();
            Error::malformed("text is not UTF-8").offset(at + place as u64).source(error)
        })
    }

    /// A list or dictionary whose members are there.
    fn close(&mut self, frame: Frame) -> Result<ObjectId> {
        if !frame.is_map {
            return self.push(Object::List(frame.members));
        }
        let entries: Vec<(ObjectId, ObjectId)> =
            frame.members.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        self.check_keys(&entries).map_err(|error| error.offset(frame.at))?;
        if frame.is_in_maps && self.is_chunked(&entries) {
            let array = self.joined(&entries, frame.first_array).map_err(|error| error.offset(frame.at))?;
            self.document.arrays.truncate(frame.first_array);
            frame.members.iter().for_each(|&id| self.forget(id));
            return self.push_array(array);
        }
        self.push(Object::Dict(entries))
    }

    /// Frees a part of an array in parts: it names arrays that are not there any more.
    fn forget(&mut self, id: ObjectId) {
        let object = std::mem::replace(self.document.tree.get_mut(id), Object::None);
        if let Object::Dict(entries) = object {
            for (key, value) in entries {
                *self.document.tree.get_mut(key) = Object::None;
                *self.document.tree.get_mut(value) = Object::None;
            }
        }
    }

    /// Keys are plain values, each of them once.
    fn check_keys(&self, entries: &[(ObjectId, ObjectId)]) -> Result<()> {
        let tree = &self.document.tree;
        let mut seen = HashSet::with_capacity(entries.len());
        for &(key, _) in entries {
            let own = own_bytes(&tree[key]).ok_or_else(|| {
                Error::unsupported("a key of a dictionary is neither text, bytes nor a plain number")
            })?;
            if !seen.insert(own) {
                return Err(Error::malformed("a dictionary holds a key twice")
                    .found(format_args!("{:?}", crate::shown(&tree.key_text(key)))));
            }
        }
        Ok(())
    }

    fn complex(&mut self, len: u64) -> Result<ObjectId> {
        let at = self.cursor.at();
        let end = self.cursor.enter(len);
        let wrong = |found: Token| {
            Error::malformed("a complex number is not two numbers").offset(at).found(found.what())
        };
        match self.cursor.token()? {
            Token::List(2) => {}
            other => return Err(wrong(other)),
        }
        let mut parts = vec![];
        for _ in 0..2 {
            let part = match self.cursor.token()? {
                Token::Float(value) => value,
                Token::Uint(value) => value as f64,
                Token::Int(value) => value as f64,
                other => return Err(wrong(other)),
            };
            parts.push(self.push(Object::Float(part))?);
        }
        self.cursor.leave(end)?;
        let class = match self.complex_class {
            Some(class) => class,
            None => self.class(COMPLEX_CLASS)?,
        };
        self.complex_class = Some(class);
        self.instance(class, parts)
    }

    /// An extension that flax leaves as it is.
    fn extension(&mut self, code: i8, len: u64) -> Result<ObjectId> {
        let bytes = self.hold(len)?;
        let args = vec![self.push(Object::Int(code.into()))?, self.push(Object::Bytes(bytes.into()))?];
        let class = match self.extension_class {
            Some(class) => class,
            None => self.class(EXTENSION_CLASS)?,
        };
        self.extension_class = Some(class);
        self.instance(class, args)
    }

    fn class(&mut self, (module, name): (&str, &str)) -> Result<ObjectId> {
        self.push(Object::Global(Box::new(Global { module: module.into(), name: name.into() })))
    }

    fn instance(&mut self, class: ObjectId, args: Vec<ObjectId>) -> Result<ObjectId> {
        let args = self.push(Object::Tuple(args.into()))?;
        self.push(Object::Instance(Box::new(Instance::new(class, args))))
    }
}

/// A key as bytes that no other key has; `None` for what is no key, or one that has no text for names of tensors.
fn own_bytes(object: &Object) -> Option<(u8, Cow<'_, [u8]>)> {
    Some(match object {
        Object::None => (0, vec![].into()),
        Object::Bool(value) => (1, vec![u8::from(*value)].into()),
        Object::Int(value) => (2, value.to_le_bytes().to_vec().into()),
        Object::Float(value) => (3, value.to_bits().to_le_bytes().to_vec().into()),
        Object::Text(text) => (4, text.as_bytes().into()),
        Object::Bytes(bytes) => (5, (&**bytes).into()),
        _ => return None,
    })
}
