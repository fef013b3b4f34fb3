//! Writing protocol 2 with no instruction but those that torch's `weights_only` machine knows
//! (`torch/_weights_only_unpickler.py`, 1.13 to 2.15).

use super::opcodes::*;
use modelferry_core::error::{Error, Result};
use std::collections::HashMap;

/// Items that are put into a list or dictionary at once, as CPython does it.
const BATCH: usize = 1000;

/// A pickle in the making. Values are written in the order in which the machine pushes them; nothing checks that the
/// calls make sense together.
///
/// Names of classes and texts are memoized: written once, then referred to.
#[derive(Clone, Debug)]
pub struct Emitter {
    out: Vec<u8>,
    n_memo: u32,
    texts: HashMap<Box<str>, u32>,
    globals: HashMap<Box<str>, HashMap<Box<str>, u32>>,
}

impl Default for Emitter {
    fn default() -> Emitter {
        Emitter { out: vec![PROTO, 2], n_memo: 0, texts: HashMap::new(), globals: HashMap::new() }
    }
}

/// How items come into what lies below them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Single values, into a list.
    Append,
    /// Key and value, into a dictionary.
    Set,
}

impl Emitter {
    /// Puts the value on top under the next number.
    ///
    /// Errors: of kind [`Target`](modelferry_core::error::ErrorKind::Target) when there are 2^32.
    pub fn put(&mut self) -> Result<u32> {
        let idx = self.n_memo;
        self.n_memo =
            idx.checked_add(1).ok_or_else(|| Error::target("a pickle cannot hold so many objects"))?;
        match u8::try_from(idx) {
            Ok(short) => self.out.extend([BINPUT, short]),
            Err(_) => self.with(LONG_BINPUT, &idx.to_le_bytes()),
        }
        Ok(idx)
    }

    /// What was [`put`](Emitter::put) under a number.
    pub fn get(&mut self, idx: u32) {
        match u8::try_from(idx) {
            Ok(short) => self.out.extend([BINGET, short]),
            Err(_) => self.with(LONG_BINGET, &idx.to_le_bytes()),
        }
    }

    /// A class or function by its name.
    ///
    /// Errors: of kind [`Target`](modelferry_core::error::ErrorKind::Target) for a name with a line feed in it.
    pub fn global(&mut self, module: &str, name: &str) -> Result<()> {
        if let Some(&idx) = self.globals.get(module).and_then(|names| names.get(name)) {
            self.get(idx);
            return Ok(());
        }
        if module.contains('\n') || name.contains('\n') {
            return Err(Error::target("a pickle cannot hold a class whose name has a line feed in it")
                .found(format_args!("{:?}", crate::shown(name))));
        }
        self.with(GLOBAL, module.as_bytes());
        self.with(b'\n', name.as_bytes());
        self.out.push(b'\n');
        let idx = self.put()?;
        self.globals.entry(module.into()).or_default().insert(name.into(), idx);
        Ok(())
    }

    /// A text that may come again, and is remembered therefore.
    ///
    /// Errors: of kind [`Target`](modelferry_core::error::ErrorKind::Target) beyond 4 GiB.
    pub fn text(&mut self, text: &str) -> Result<()> {
        if let Some(&idx) = self.texts.get(text) {
            self.get(idx);
            return Ok(());
        }
        self.text_once(text)?;
        let idx = self.put()?;
        self.texts.insert(text.into(), idx);
        Ok(())
    }

    /// A text that is not remembered, such as the key of a storage.
    ///
    /// Errors: of kind [`Target`](modelferry_core::error::ErrorKind::Target) beyond 4 GiB.
    pub fn text_once(&mut self, text: &str) -> Result<()> {
        self.loose_text(text.as_bytes())
    }

    /// Text in UTF-8 in which surrogates may stand alone.
    pub(super) fn loose_text(&mut self, text: &[u8]) -> Result<()> {
        let len = u32::try_from(text.len()).map_err(|_| {
            Error::target("a pickle cannot hold so long a text").found(format_args!("{} bytes", text.len()))
        })?;
        self.with(BINUNICODE, &len.to_le_bytes());
        self.out.extend_from_slice(text);
        Ok(())
    }

    /// Bytes. Protocol 2 has none: Python 3 writes them as a call that makes them from text.
    ///
    /// Errors: of kind [`Target`](modelferry_core::error::ErrorKind::Target) where that text is too long.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.global("_codecs", "encode")?;
        let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        self.text_once(&text)?;
        self.text("latin1")?;
        self.close_tuple(2);
        self.reduce();
        Ok(())
    }

    /// A whole number.
    pub fn int(&mut self, value: i64) {
        if let Ok(byte) = u8::try_from(value) {
            self.out.extend([BININT1, byte]);
        } else if let Ok(short) = u16::try_from(value) {
            self.with(BININT2, &short.to_le_bytes());
        } else if let Ok(int) = i32::try_from(value) {
            self.with(BININT, &int.to_le_bytes());
        } else {
            let bytes = value.to_le_bytes();
            let bytes = super::text::shortest(&bytes);
            // Eight at most.
            self.out.extend([LONG1, bytes.len() as u8]);
            self.out.extend_from_slice(bytes);
        }
    }

    /// A whole number in two's complement, least significant byte first.
    ///
    /// Errors: of kind [`Target`](modelferry_core::error::ErrorKind::Target) beyond 255 bytes.
    pub fn big_int(&mut self, bytes: &[u8]) -> Result<()> {
        let len = u8::try_from(bytes.len()).map_err(|_| {
            Error::target("torch's pickles cannot hold so large a number")
                .found(format_args!("{} bytes", bytes.len()))
        })?;
        self.with(LONG1, &[len]);
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// A number.
    pub fn float(&mut self, value: f64) {
        self.with(BINFLOAT, &value.to_be_bytes());
    }

    /// `None`.
    pub fn none(&mut self) {
        self.out.push(NONE);
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) {
        self.out.push(if value { NEWTRUE } else { NEWFALSE });
    }

    /// Begins a tuple of `len` members.
    pub fn open_tuple(&mut self, len: usize) {
        if len > 3 {
            self.out.push(MARK);
        }
    }

    /// Makes a tuple of the `len` values that were written since it was opened.
    pub fn close_tuple(&mut self, len: usize) {
        self.out.push(match len {
            0 => EMPTY_TUPLE,
            1 => TUPLE1,
            2 => TUPLE2,
            3 => TUPLE3,
            _ => TUPLE,
        });
    }

    /// A tuple of whole numbers.
    pub fn ints(&mut self, values: impl ExactSizeIterator<Item = i64>) {
        let len = values.len();
        self.open_tuple(len);
        values.for_each(|value| self.int(value));
        self.close_tuple(len);
    }

    /// An empty list.
    pub fn empty_list(&mut self) {
        self.out.push(EMPTY_LIST);
    }

    /// An empty dictionary.
    pub fn empty_dict(&mut self) {
        self.out.push(EMPTY_DICT);
    }

    /// To be called before each of the `n` items, or pairs, of a list or dictionary.
    pub fn before_item(&mut self, idx: usize, n: usize) {
        if idx.is_multiple_of(BATCH) && n - idx > 1 {
            self.out.push(MARK);
        }
    }

    /// To be called after each of the `n` items, or pairs, of a list or dictionary.
    pub fn after_item(&mut self, idx: usize, n: usize, fill: Fill) {
        let is_alone = idx + 1 == n && idx.is_multiple_of(BATCH);
        if is_alone {
            self.out.push(if fill == Fill::Append { APPEND } else { SETITEM });
        } else if idx + 1 == n || (idx + 1).is_multiple_of(BATCH) {
            self.out.push(if fill == Fill::Append { APPENDS } else { SETITEMS });
        }
    }

    /// Calls a function with a tuple of arguments, both on the stack.
    pub fn reduce(&mut self) {
        self.out.push(REDUCE);
    }

    /// Makes an object of a class with a tuple of arguments, both on the stack, without its initializer.
    pub fn new_object(&mut self) {
        self.out.push(NEWOBJ);
    }

    /// Gives the object below the state on top of it.
    pub fn build(&mut self) {
        self.out.push(BUILD);
    }

    /// What the reader knows by the persistent id on top.
    pub fn persistent(&mut self) {
        self.out.push(BINPERSID);
    }

    /// The bytes, complete.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.push(STOP);
        self.out
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written yet but the protocol.
    pub fn is_empty(&self) -> bool {
        self.out.len() == 2
    }

    fn with(&mut self, opcode: u8, argument: &[u8]) {
        self.out.push(opcode);
        self.out.extend_from_slice(argument);
    }
}
