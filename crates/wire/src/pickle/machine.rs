//! The machine: one stack, marks in it, a memo, and the arena that everything goes to.

use super::memo::Memo;
use super::opcodes::*;
use super::source::Source;
use super::text::{raw_unicode, str2, unicode, unquote};
use modelferry_core::error::{Error, Result};
use modelferry_core::limits::Limits;
use modelferry_core::tree::{Making, Object, ObjectId, Tree};
use std::borrow::Cow;

/// The newest protocol there is (Python 3.8 to 3.14).
const NEWEST_PROTOCOL: u8 = 5;
/// How many whole numbers are remembered, so that equal ones near each other are one object.
const N_RECENT: usize = 256;

pub(super) struct Machine<'m, 's> {
    pub(super) source: &'m mut Source<'s>,
    limits: &'m Limits,
    pub(super) tree: Tree,
    pub(super) stack: Vec<ObjectId>,
    /// Heights of the stack at the marks that are open.
    marks: Vec<usize>,
    /// The last of them, or 0: what lies below is out of reach.
    pub(super) fence: usize,
    memo: Memo,
    none: Option<ObjectId>,
    bools: [Option<ObjectId>; 2],
    empty_tuple: Option<ObjectId>,
    recent: Box<[Option<(i64, ObjectId)>]>,
    /// The instruction at work and where it begins, for messages.
    pub(super) opcode: u8,
    opcode_at: u64,
}

impl<'m, 's> Machine<'m, 's> {
    pub(super) fn new(source: &'m mut Source<'s>, limits: &'m Limits) -> Machine<'m, 's> {
        let opcode_at = source.position();
        Machine {
            source,
            limits,
            tree: Tree::default(),
            stack: vec![],
            marks: vec![],
            fence: 0,
            memo: Memo::default(),
            none: None,
            bools: [None; 2],
            empty_tuple: None,
            recent: vec![None; N_RECENT].into(),
            opcode: 0,
            opcode_at,
        }
    }

    pub(super) fn run(mut self) -> Result<Tree> {
        let mut n_opcodes = 0;
        loop {
            self.opcode_at = self.source.position();
            self.opcode = self.source.byte()?;
            n_opcodes += 1;
            if n_opcodes > self.limits.opcodes {
                let error = Error::limit("a pickle has too many instructions")
                    .expected(format_args!("at most {}", self.limits.opcodes));
                return Err(self.place(error));
            }
            if self.opcode == STOP {
                let root = self.pop()?;
                self.tree.set_root(root);
                return Ok(self.tree);
            }
            self.step()?;
        }
    }

    fn step(&mut self) -> Result<()> {
        match self.opcode {
            PROTO => {
                let version = self.source.byte()?;
                if version > NEWEST_PROTOCOL {
                    let error = Error::unsupported("the pickle is of a protocol that we do not know")
                        .expected(format_args!("at most {NEWEST_PROTOCOL}"))
                        .found(version);
                    return Err(self.place(error));
                }
                Ok(())
            }
            FRAME => {
                // A promise about the bytes that follow, of use to who reads ahead.
                let len = u64::from_le_bytes(self.source.array()?);
                self.source.check(len)
            }

            MARK => {
                self.fence = self.stack.len();
                self.marks.push(self.fence);
                Ok(())
            }
            POP if self.stack.len() == self.fence => self.pop_mark().map(|_| ()),
            POP => self.pop().map(|_| ()),
            POP_MARK => {
                let start = self.pop_mark()?;
                self.stack.truncate(start);
                Ok(())
            }
            DUP => {
                let top = self.top()?;
                self.stack.push(top);
                Ok(())
            }

            NONE => {
                let id = self.none.map_or_else(|| self.add(Object::None), Ok)?;
                self.none = Some(id);
                self.stack.push(id);
                Ok(())
            }
            NEWTRUE => self.bool(true),
            NEWFALSE => self.bool(false),
            BININT => {
                let value = i32::from_le_bytes(self.source.array()?);
                self.int(value.into())
            }
            BININT1 => {
                let value = self.source.byte()?;
                self.int(value.into())
            }
            BININT2 => {
                let value = u16::from_le_bytes(self.source.array()?);
                self.int(value.into())
            }
            LONG1 => {
                let len = self.source.byte()?;
                self.long(len.into())
            }
            LONG4 => {
                let len = self.signed_len()?;
                self.long(len)
            }
            INT | LONG => self.decimal(),
            BINFLOAT => {
                let value = f64::from_be_bytes(self.source.array()?);
                self.push(Object::Float(value))
            }
            FLOAT => {
                let line = self.source.line()?;
                let value = std::str::from_utf8(line).ok().and_then(|text| text.trim().parse().ok());
                let value = value.ok_or_else(|| self.fault("a number in a pickle is none"))?;
                self.push(Object::Float(value))
            }

            BINUNICODE => {
                let len = u32::from_le_bytes(self.source.array()?);
                self.text(len.into(), unicode)
            }
            SHORT_BINUNICODE => {
                let len = self.source.byte()?;
                self.text(len.into(), unicode)
            }
            BINUNICODE8 => {
                let len = u64::from_le_bytes(self.source.array()?);
                self.text(len, unicode)
            }
            UNICODE => {
                let text = raw_unicode(self.source.line()?);
                let text = text.and_then(|text| unicode(Cow::Owned(text)));
                let text = text.ok_or_else(|| self.fault("text in a pickle has a bad escape"))?;
                self.push(text)
            }
            STRING => {
                let text = unquote(self.source.line()?).map(str2);
                let text = text.ok_or_else(|| self.fault("a quoted string in a pickle is malformed"))?;
                self.push(text)
            }
            BINSTRING => {
                let len = self.signed_len()?;
                self.text(len, |bytes| Some(str2(bytes)))
            }
            SHORT_BINSTRING => {
                let len = self.source.byte()?;
                self.text(len.into(), |bytes| Some(str2(bytes)))
            }
            BINBYTES => {
                let len = u32::from_le_bytes(self.source.array()?);
                let bytes = self.bytes(len.into())?;
                self.push(bytes)
            }
            SHORT_BINBYTES => {
                let len = self.source.byte()?;
                let bytes = self.bytes(len.into())?;
                self.push(bytes)
            }
            BINBYTES8 => {
                let len = u64::from_le_bytes(self.source.array()?);
                let bytes = self.bytes(len)?;
                self.push(bytes)
            }
            BYTEARRAY8 => {
                let len = u64::from_le_bytes(self.source.array()?);
                let bytes = self.bytes(len)?;
                let bytes = self.add(bytes)?;
                let callable = self.global("builtins".into(), "bytearray".into())?;
                let args = self.add(Object::Tuple([bytes].into()))?;
                self.make(Making::Call, callable, args)
            }
            NEXT_BUFFER | READONLY_BUFFER => {
                Err(self.place(Error::unsupported("the pickle refers to buffers kept outside of it")))
            }

            EMPTY_TUPLE => {
                let id = self.empty_tuple()?;
                self.stack.push(id);
                Ok(())
            }
            TUPLE1 => {
                let start = self.reach(1)?;
                self.tuple(start)
            }
            TUPLE2 => {
                let start = self.reach(2)?;
                self.tuple(start)
            }
            TUPLE3 => {
                let start = self.reach(3)?;
                self.tuple(start)
            }
            TUPLE => {
                let start = self.pop_mark()?;
                self.tuple(start)
            }
            EMPTY_LIST => self.push(Object::List(vec![])),
            LIST => {
                let members = self.since_mark()?;
                self.push(Object::List(members))
            }
            EMPTY_SET => self.push(Object::Set(vec![])),
            FROZENSET => {
                let members = self.since_mark()?;
                self.push(Object::FrozenSet(members.into()))
            }
            EMPTY_DICT => self.push(Object::Dict(vec![])),
            DICT => {
                let start = self.pop_mark()?;
                let entries = self.pairs(start)?;
                self.push(Object::Dict(entries))
            }
            APPEND => {
                let start = self.reach(1)?;
                self.append(start)
            }
            APPENDS | ADDITEMS => {
                let start = self.pop_mark()?;
                self.append(start)
            }
            SETITEM => {
                let start = self.reach(2)?;
                self.set_items(start)
            }
            SETITEMS => {
                let start = self.pop_mark()?;
                self.set_items(start)
            }

            GET => {
                let idx = self.memo_idx()?;
                self.get(idx)
            }
            BINGET => {
                let idx = self.source.byte()?;
                self.get(idx.into())
            }
            LONG_BINGET => {
                let idx = u32::from_le_bytes(self.source.array()?);
                self.get(idx)
            }
            PUT => {
                let idx = self.memo_idx()?;
                self.put(idx)
            }
            BINPUT => {
                let idx = self.source.byte()?;
                self.put(idx.into())
            }
            LONG_BINPUT => {
                let idx = u32::from_le_bytes(self.source.array()?);
                self.put(idx)
            }
            MEMOIZE => self.put(self.memo.len()),

            GLOBAL => {
                let id = self.global_lines()?;
                self.stack.push(id);
                Ok(())
            }
            STACK_GLOBAL => self.stack_global(),
            EXT1 => {
                let code = self.source.byte()?;
                self.extension(code.into())
            }
            EXT2 => {
                let code = u16::from_le_bytes(self.source.array()?);
                self.extension(code.into())
            }
            EXT4 => {
                let code = i32::from_le_bytes(self.source.array()?);
                self.extension(code)
            }
            REDUCE => self.call(Making::Call),
            NEWOBJ => self.call(Making::New),
            NEWOBJ_EX => self.call_with_keywords(),
            OBJ => self.obj(),
            INST => self.inst(),
            BUILD => self.build(),
            PERSID => {
                let line = self.source.line()?.to_vec();
                let text = unicode(Cow::Owned(line)).ok_or_else(|| self.not_utf8())?;
                let of = self.add(text)?;
                self.push(Object::External(of))
            }
            BINPERSID => {
                let of = self.pop()?;
                self.push(Object::External(of))
            }

            _ => {
                let error = Error::malformed("the pickle has an instruction that does not exist")
                    .found(format_args!("{:#04x}", self.opcode));
                Err(self.place(error))
            }
        }
    }

    /// A fault of the instruction at work.
    pub(super) fn fault(&self, what: &'static str) -> Error {
        self.place(Error::malformed(what).found(name(self.opcode).unwrap_or_default()))
    }

    pub(super) fn not_utf8(&self) -> Error {
        self.fault("text in a pickle is not UTF-8")
    }

    pub(super) fn place(&self, error: Error) -> Error {
        self.source.place(self.opcode_at, error)
    }

    /// Adds an object to the arena.
    pub(super) fn add(&mut self, object: Object) -> Result<ObjectId> {
        let is_full = self.tree.len() as u64 >= self.limits.objects;
        let id = if is_full { None } else { self.tree.push(object) };
        id.ok_or_else(|| {
            let error = Error::limit("a pickle holds too many objects");
            self.place(error.expected(format_args!("at most {}", self.limits.objects)))
        })
    }

    /// Adds an object and puts it on the stack.
    pub(super) fn push(&mut self, object: Object) -> Result<()> {
        let id = self.add(object)?;
        self.stack.push(id);
        Ok(())
    }

    pub(super) fn bool(&mut self, value: bool) -> Result<()> {
        let id = match self.bools[usize::from(value)] {
            Some(id) => id,
            None => self.add(Object::Bool(value))?,
        };
        self.bools[usize::from(value)] = Some(id);
        self.stack.push(id);
        Ok(())
    }

    pub(super) fn int(&mut self, value: i64) -> Result<()> {
        let slot = value as usize % N_RECENT;
        let id = match self.recent[slot] {
            Some((recent, id)) if recent == value => id,
            _ => self.add(Object::Int(value))?,
        };
        self.recent[slot] = Some((value, id));
        self.stack.push(id);
        Ok(())
    }

    pub(super) fn empty_tuple(&mut self) -> Result<ObjectId> {
        let id = match self.empty_tuple {
            Some(id) => id,
            None => self.add(Object::Tuple([].into()))?,
        };
        self.empty_tuple = Some(id);
        Ok(id)
    }

    /// The height below the topmost `n` values.
    pub(super) fn reach(&self, n: usize) -> Result<usize> {
        match self.stack.len().checked_sub(n) {
            Some(start) if start >= self.fence => Ok(start),
            _ => Err(self.fault("the pickle's stack holds too little")),
        }
    }

    pub(super) fn pop(&mut self) -> Result<ObjectId> {
        self.reach(1)?;
        self.stack.pop().ok_or_else(|| self.fault("the pickle's stack holds too little"))
    }

    pub(super) fn top(&self) -> Result<ObjectId> {
        let start = self.reach(1)?;
        Ok(self.stack[start])
    }

    /// Takes the last mark away: the height at which it was set.
    pub(super) fn pop_mark(&mut self) -> Result<usize> {
        let start = self.marks.pop().ok_or_else(|| self.fault("the pickle's stack has no mark"))?;
        self.fence = self.marks.last().copied().unwrap_or(0);
        Ok(start)
    }

    /// Takes the last mark away, and all above it.
    pub(super) fn since_mark(&mut self) -> Result<Vec<ObjectId>> {
        let start = self.pop_mark()?;
        Ok(self.stack.drain(start..).collect())
    }

    fn get(&mut self, idx: u32) -> Result<()> {
        let id = self.memo.get(idx).ok_or_else(|| {
            self.place(Error::malformed("the pickle's memo has nothing under a number").found(idx))
        })?;
        self.stack.push(id);
        Ok(())
    }

    fn put(&mut self, idx: u32) -> Result<()> {
        let id = self.top()?;
        self.memo.put(idx, id);
        Ok(())
    }

    /// A number of the memo in decimal.
    fn memo_idx(&mut self) -> Result<u32> {
        let line = self.source.line()?.trim_ascii();
        let idx = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok());
        idx.ok_or_else(|| self.fault("a number of the pickle's memo is none"))
    }
}
