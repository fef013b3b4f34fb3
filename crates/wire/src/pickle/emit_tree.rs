//! Writing a whole tree.

use super::emit::{Emitter, Fill};
use modelferry_core::error::{Error, Result};
use modelferry_core::model::TensorIdx;
use modelferry_core::tree::{Instance, Making, Object, ObjectId, Tree};

/// Writes the value `root` of `tree`, without recursion. `tensor` writes the tensors in it; it is called once for each
/// object that is one.
///
/// What is shared stays shared, and lists, dictionaries and states may refer to what holds them. Sets become calls of
/// Python's own, as protocol 2 has it.
///
/// Errors: [`Unsupported`](modelferry_core::error::ErrorKind::Unsupported) for a cycle through a tuple, a set or the
/// arguments of a call; [`Target`](modelferry_core::error::ErrorKind::Target) for what [`Emitter`] cannot write, and
/// for calls with keywords, which torch does not take; those of `tensor`.
pub fn emit_tree(
    tree: &Tree,
    root: ObjectId,
    emitter: &mut Emitter,
    tensor: &mut dyn FnMut(TensorIdx, &mut Emitter) -> Result<()>,
) -> Result<()> {
    let mut walk = Walk { tree, emitter, seen: vec![Seen::No; tree.len()], open: vec![] };
    let mut next = Some(root);
    loop {
        if let Some(id) = next.take() {
            walk.enter(id, tensor)?;
        }
        let Some(mut frame) = walk.open.pop() else { return Ok(()) };
        next = walk.advance(&mut frame)?;
        if next.is_some() {
            walk.open.push(frame);
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Seen {
    No,
    /// Begun, and there is nothing yet to refer to.
    Open,
    /// In the memo.
    At(u32),
}

/// An object whose parts are being written.
struct Frame {
    id: ObjectId,
    /// Parts begun so far.
    n_begun: usize,
}

struct Walk<'a> {
    tree: &'a Tree,
    emitter: &'a mut Emitter,
    seen: Vec<Seen>,
    open: Vec<Frame>,
}

impl<'a> Walk<'a> {
    /// Writes an object, or as much of it as comes before its parts.
    fn enter(
        &mut self,
        id: ObjectId,
        tensor: &mut dyn FnMut(TensorIdx, &mut Emitter) -> Result<()>,
    ) -> Result<()> {
        match self.seen[id.idx()] {
            Seen::At(idx) => {
                self.emitter.get(idx);
                return Ok(());
            }
            Seen::Open => {
                return Err(Error::unsupported(
                    "a value holds itself through a tuple, a set or the arguments of a call",
                ));
            }
            Seen::No => {}
        }
        let tree = self.tree;
        match &tree[id] {
            Object::None => self.emitter.none(),
            Object::Bool(value) => self.emitter.bool(*value),
            Object::Int(value) => self.emitter.int(*value),
            Object::BigInt(bytes) => self.emitter.big_int(bytes)?,
            Object::Float(value) => self.emitter.float(*value),
            Object::Text(text) => self.emitter.text(text)?,
            Object::LooseText(text) => {
                self.emitter.loose_text(text)?;
                self.put(id)?;
            }
            Object::Global(global) => self.emitter.global(&global.module, &global.name)?,
            Object::Bytes(bytes) => {
                self.emitter.bytes(bytes)?;
                self.put(id)?;
            }
            Object::Tensor(idx) => {
                tensor(*idx, self.emitter)?;
                self.put(id)?;
            }
            Object::Tuple(members) => {
                self.emitter.open_tuple(members.len());
                self.begin(id, Seen::Open);
            }
            Object::List(_) => {
                self.emitter.empty_list();
                self.put(id)?;
                self.begin(id, self.seen[id.idx()]);
            }
            Object::Dict(_) => {
                self.emitter.empty_dict();
                self.put(id)?;
                self.begin(id, self.seen[id.idx()]);
            }
            Object::Set(_) => {
                self.emitter.global("__builtin__", "set")?;
                self.emitter.empty_list();
                self.begin(id, Seen::Open);
            }
            Object::FrozenSet(_) => {
                self.emitter.global("__builtin__", "frozenset")?;
                self.emitter.empty_list();
                self.begin(id, Seen::Open);
            }
            Object::Instance(instance) => {
                if instance.kwargs.is_some() {
                    return Err(Error::target("torch's pickles cannot hold a call with keyword arguments"));
                }
                self.begin(id, Seen::Open);
            }
            Object::External(_) => self.begin(id, Seen::Open),
            other => {
                return Err(Error::unsupported("a value of a kind that pickles are not written with")
                    .found(format_args!("{other:?}")));
            }
        }
        Ok(())
    }

    fn begin(&mut self, id: ObjectId, seen: Seen) {
        self.seen[id.idx()] = seen;
        self.open.push(Frame { id, n_begun: 0 });
    }

    /// The value on top is this object.
    fn put(&mut self, id: ObjectId) -> Result<()> {
        self.seen[id.idx()] = Seen::At(self.emitter.put()?);
        Ok(())
    }

    /// Writes what follows the part begun last, then what precedes the next one, and gives that. `None` at the end.
    fn advance(&mut self, frame: &mut Frame) -> Result<Option<ObjectId>> {
        let (id, at) = (frame.id, frame.n_begun);
        frame.n_begun += 1;
        let tree = self.tree;
        let next = match &tree[id] {
            Object::Tuple(members) => {
                if at == members.len() {
                    self.emitter.close_tuple(at);
                    match at {
                        // It is shorter than a reference to it.
                        0 => self.seen[id.idx()] = Seen::No,
                        _ => self.put(id)?,
                    }
                }
                members.get(at).copied()
            }
            Object::List(members) => self.append(members, at),
            Object::Set(members) => self.append_and_call(id, members, at)?,
            Object::FrozenSet(members) => self.append_and_call(id, members, at)?,
            Object::Dict(entries) => self.set(entries, at),
            Object::External(of) => match at {
                0 => Some(*of),
                _ => {
                    self.emitter.persistent();
                    self.put(id)?;
                    None
                }
            },
            Object::Instance(instance) => self.instance(id, instance, at)?,
            _ => None,
        };
        Ok(next)
    }

    fn append_and_call(&mut self, id: ObjectId, members: &[ObjectId], at: usize) -> Result<Option<ObjectId>> {
        let next = self.append(members, at);
        if next.is_none() {
            self.emitter.close_tuple(1);
            self.emitter.reduce();
            self.put(id)?;
        }
        Ok(next)
    }

    fn append(&mut self, members: &[ObjectId], at: usize) -> Option<ObjectId> {
        if let Some(before) = at.checked_sub(1) {
            self.emitter.after_item(before, members.len(), Fill::Append);
        }
        let next = members.get(at)?;
        self.emitter.before_item(at, members.len());
        Some(*next)
    }

    fn set(&mut self, entries: &[(ObjectId, ObjectId)], at: usize) -> Option<ObjectId> {
        let is_value = at % 2 == 1;
        if let Some(before) = at.checked_sub(1)
            && !is_value
        {
            self.emitter.after_item(before / 2, entries.len(), Fill::Set);
        }
        let (key, value) = entries.get(at / 2)?;
        if is_value {
            return Some(*value);
        }
        self.emitter.before_item(at / 2, entries.len());
        Some(*key)
    }

    /// Callable, arguments, then what was done to the result, in CPython's order: items, entries, state.
    fn instance(&mut self, id: ObjectId, instance: &Instance, at: usize) -> Result<Option<ObjectId>> {
        let Some(mut at) = at.checked_sub(2) else {
            return Ok(Some(if at == 0 { instance.callable } else { instance.args }));
        };
        if at == 0 {
            match instance.making {
                Making::Call => self.emitter.reduce(),
                Making::New => self.emitter.new_object(),
            }
            self.put(id)?;
        }
        if at <= instance.items.len() {
            let next = self.append(&instance.items, at);
            if next.is_some() {
                return Ok(next);
            }
        }
        at -= instance.items.len();
        if at <= 2 * instance.entries.len() {
            let next = self.set(&instance.entries, at);
            if next.is_some() {
                return Ok(next);
            }
        }
        at -= 2 * instance.entries.len();
        if at > 0 {
            self.emitter.build();
        }
        Ok(instance.states.get(at).copied())
    }
}
