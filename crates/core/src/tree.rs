//! The part of a checkpoint that is not tensors: nested dictionaries, lists, numbers, and objects of programs that are
//! not here.
//!
//! A [`Tree`] holds what a pickle or a msgpack document says, as data. Objects sit in an arena and refer to each other
//! by number, so that sharing is kept, cycles do no harm, and nothing recurses to drop it. A class or function that the
//! source names is a [`Object::Global`]: two texts, never looked up. What calling it would have given is an
//! [`Object::Instance`]: the call, recorded.

mod parts;

pub use parts::{Part, beside_tensors, describe, join};

use crate::expr::Blob;
use crate::model::TensorIdx;

/// Index of an [`Object`] in its [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(u32);

impl ObjectId {
    /// Position in the tree.
    pub fn idx(self) -> usize {
        self.0 as usize
    }
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Object {
    /// `None`, `null`.
    None,
    /// A truth value.
    Bool(bool),
    /// A whole number of up to 64 bits.
    Int(i64),
    /// A whole number beyond 64 bits: two's complement, least significant byte first, as short as it can be.
    BigInt(Box<[u8]>),
    /// A number.
    Float(f64),
    /// Text.
    Text(Box<str>),
    /// Text with lone surrogates in it, which Python can hold and UTF-8 cannot: WTF-8.
    LooseText(Box<[u8]>),
    /// Bytes.
    Bytes(Blob),
    /// A list.
    List(Vec<ObjectId>),
    /// A tuple.
    Tuple(Box<[ObjectId]>),
    /// A set.
    Set(Vec<ObjectId>),
    /// A frozen set.
    FrozenSet(Box<[ObjectId]>),
    /// Keys and values in the order they were set; a key that is set twice stands twice.
    Dict(Vec<(ObjectId, ObjectId)>),
    /// Something that a program would have looked up by name: a class or a function. Never resolved.
    Global(Box<Global>),
    /// What a class or function would have made of its arguments. Never made.
    Instance(Box<Instance>),
    /// Something outside of the document, by the source's own description of it: a persistent id of a pickle.
    External(ObjectId),
    /// A tensor of the model, by its position in [`Model::tensors`](crate::model::Model::tensors).
    Tensor(TensorIdx),
}

/// The name of a class or function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Global {
    /// Its module, dotted.
    pub module: Box<str>,
    /// Its name within the module, possibly dotted.
    pub name: Box<str>,
}

/// How an [`Instance`] would have been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Making {
    /// By a call: `callable(*args)`.
    Call,
    /// As an object of a class whose initializer is not run: `callable.__new__(callable, *args)`.
    New,
}

/// A call that was recorded instead of made, and what was done to its result.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// What kind of call it is.
    pub making: Making,
    /// What would have been called: most often an [`Object::Global`].
    pub callable: ObjectId,
    /// Its arguments: most often an [`Object::Tuple`].
    pub args: ObjectId,
    /// Its keyword arguments, an [`Object::Dict`], where the source has any.
    pub kwargs: Option<ObjectId>,
    /// The states that it was given afterwards (`__setstate__`); one at most in any file seen.
    pub states: Vec<ObjectId>,
    /// What was appended to it.
    pub items: Vec<ObjectId>,
    /// What was set in it by key.
    pub entries: Vec<(ObjectId, ObjectId)>,
}

impl Instance {
    /// A call without anything done to its result.
    pub fn new(callable: ObjectId, args: ObjectId) -> Instance {
        Instance {
            making: Making::Call,
            callable,
            args,
            kwargs: None,
            states: vec![],
            items: vec![],
            entries: vec![],
        }
    }
}

/// The values of one document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    objects: Vec<Object>,
    root: Option<ObjectId>,
}

impl std::ops::Index<ObjectId> for Tree {
    type Output = Object;
    fn index(&self, id: ObjectId) -> &Object {
        &self.objects[id.idx()]
    }
}

impl Tree {
    /// As many objects, all of them [`Object::None`]; `None` when there would be more than 2^32.
    pub fn of_nones(n: usize) -> Option<Tree> {
        u32::try_from(n).ok()?;
        Some(Tree { objects: std::iter::repeat_with(|| Object::None).take(n).collect(), root: None })
    }

    /// The object at a position, if there is one.
    pub fn id(&self, idx: usize) -> Option<ObjectId> {
        (idx < self.len()).then_some(ObjectId(idx as u32))
    }

    /// Adds an object; `None` when there are more than 2^32.
    pub fn push(&mut self, object: Object) -> Option<ObjectId> {
        let id = ObjectId(u32::try_from(self.objects.len()).ok()?);
        self.objects.push(object);
        Some(id)
    }

    /// The object of this number, to be changed in place.
    pub fn get_mut(&mut self, id: ObjectId) -> &mut Object {
        &mut self.objects[id.idx()]
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Every object with its number.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ObjectId, &Object)> {
        self.objects.iter().enumerate().map(|(idx, object)| (ObjectId(idx as u32), object))
    }

    /// The value that the document is.
    pub fn root(&self) -> Option<ObjectId> {
        self.root
    }

    /// Says which value the document is.
    pub fn set_root(&mut self, root: ObjectId) {
        self.root = Some(root);
    }

    /// The module and name of a [`Object::Global`].
    pub fn global(&self, id: ObjectId) -> Option<(&str, &str)> {
        match &self[id] {
            Object::Global(global) => Some((&global.module, &global.name)),
            _ => None,
        }
    }

    /// The text of a [`Object::Text`].
    pub fn text(&self, id: ObjectId) -> Option<&str> {
        match &self[id] {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The members of a list or tuple.
    pub fn sequence(&self, id: ObjectId) -> Option<&[ObjectId]> {
        match &self[id] {
            Object::List(members) => Some(members),
            Object::Tuple(members) => Some(members),
            _ => None,
        }
    }

    /// The call behind an [`Object::Instance`].
    pub fn instance(&self, id: ObjectId) -> Option<&Instance> {
        match &self[id] {
            Object::Instance(instance) => Some(instance),
            _ => None,
        }
    }

    /// The entries of a dictionary, or of an instance of a class that is one: `collections.OrderedDict`,
    /// `collections.defaultdict`, `collections.Counter`. A class of which nothing is known is none, whatever was set
    /// in it.
    pub fn mapping(&self, id: ObjectId) -> Option<&[(ObjectId, ObjectId)]> {
        match &self[id] {
            Object::Dict(entries) => Some(entries),
            Object::Instance(instance) => match self.global(instance.callable)? {
                ("collections", "OrderedDict" | "defaultdict" | "Counter") => Some(&instance.entries),
                _ => None,
            },
            _ => None,
        }
    }

    /// The tensor that an object is, or that it is a `torch.nn.Parameter` around.
    pub fn tensor(&self, id: ObjectId) -> Option<TensorIdx> {
        match &self[id] {
            Object::Tensor(idx) => Some(*idx),
            Object::Instance(instance) => match self.global(instance.callable)? {
                ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                    match self[*self.sequence(instance.args)?.first()?] {
                        Object::Tensor(idx) => Some(idx),
                        _ => None,
                    }
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The members of a mapping, list or tuple with their keys as parts of a path: what tensors' names are made of.
    /// Nothing for any other object.
    pub fn members(&self, id: ObjectId) -> Vec<(String, ObjectId)> {
        if let Some(entries) = self.mapping(id) {
            return entries.iter().map(|&(key, value)| (self.key_text(key), value)).collect();
        }
        let members = self.sequence(id).unwrap_or_default();
        members.iter().enumerate().map(|(idx, &member)| (idx.to_string(), member)).collect()
    }

    /// The [`members`](Tree::members) without their keys.
    pub fn values(&self, id: ObjectId) -> impl Iterator<Item = ObjectId> {
        let entries = self.mapping(id).unwrap_or_default();
        let members = self.sequence(id).unwrap_or_default();
        entries.iter().map(|(_, value)| *value).chain(members.iter().copied())
    }

    /// A key as a part of a path: a text as it is, a number in decimal, anything else as Python would nearly print it.
    pub fn key_text(&self, id: ObjectId) -> String {
        match &self[id] {
            Object::None => "None".to_owned(),
            Object::Bool(value) => (if *value { "True" } else { "False" }).to_owned(),
            Object::Int(value) => value.to_string(),
            Object::Float(value) => value.to_string(),
            Object::Text(text) => text.to_string(),
            Object::LooseText(bytes) => loose(bytes),
            Object::Bytes(bytes) => bytes.escape_ascii().to_string(),
            // One level is enough for the keys that are met: (layer, name).
            Object::Tuple(members) => {
                let part = |&member: &ObjectId| match &self[member] {
                    Object::Tuple(_) => "(…)".to_owned(),
                    _ => self.key_text(member),
                };
                format!("({})", members.iter().map(part).collect::<Vec<_>>().join(", "))
            }
            Object::Global(global) => format!("{}.{}", global.module, global.name),
            Object::Instance(instance) => match self.encoded(instance) {
                Some(bytes) => bytes.escape_ascii().to_string(),
                None => format!("object {}", id.idx()),
            },
            _ => format!("object {}", id.idx()),
        }
    }

    /// Bytes in a pickle that has no opcode for them: `_codecs.encode(text, "latin1")`.
    fn encoded(&self, instance: &Instance) -> Option<Vec<u8>> {
        let Object::Global(global) = &self[instance.callable] else { return None };
        let is_encode = &*global.module == "_codecs" && &*global.name == "encode";
        match self[*self.sequence(instance.args)?.first()?] {
            Object::Text(ref text) if is_encode => text.chars().map(|c| u8::try_from(c).ok()).collect(),
            _ => None,
        }
    }

    /// Per object, whether it is a tensor or holds some, by [`members`](Tree::members) alone, of what the root holds.
    pub fn holding_tensors(&self) -> Vec<bool> {
        let mut holds = vec![false; self.len()];
        let Some(root) = self.root() else { return holds };
        // Each object is met twice: going down, and coming back with all below it known.
        let mut waiting = vec![(root, false)];
        let mut seen = vec![false; self.len()];
        while let Some((id, is_back)) = waiting.pop() {
            if is_back {
                holds[id.idx()] = self.values(id).any(|member| holds[member.idx()]);
            } else if self.tensor(id).is_some() {
                holds[id.idx()] = true;
            } else if !std::mem::replace(&mut seen[id.idx()], true) {
                waiting.push((id, true));
                waiting.extend(self.values(id).map(|member| (member, false)));
            }
        }
        holds
    }

    /// Frees everything that the root does not lead to. Numbers stay what they are; what is freed is
    /// [`Object::None`] from now on.
    pub fn free_unreachable(&mut self) {
        let mut reached = vec![false; self.len()];
        let mut waiting: Vec<ObjectId> = self.root.into_iter().collect();
        while let Some(id) = waiting.pop() {
            if !std::mem::replace(&mut reached[id.idx()], true) {
                waiting.extend(self.children(id));
            }
        }
        for (object, _) in self.objects.iter_mut().zip(reached).filter(|(_, reached)| !reached) {
            *object = Object::None;
        }
    }

    /// Every object that `id` refers to directly, in order.
    pub fn children(&self, id: ObjectId) -> impl Iterator<Item = ObjectId> {
        type Parts<'a> = ([Option<ObjectId>; 3], [&'a [ObjectId]; 2], &'a [(ObjectId, ObjectId)]);
        let (single, several, pairs): Parts<'_> = match &self[id] {
            Object::List(members) | Object::Set(members) => ([None; 3], [members, &[]], &[]),
            Object::Tuple(members) | Object::FrozenSet(members) => ([None; 3], [members, &[]], &[]),
            Object::Dict(entries) => ([None; 3], [&[]; 2], entries),
            Object::External(of) => ([Some(*of), None, None], [&[]; 2], &[]),
            Object::Instance(instance) => (
                [Some(instance.callable), Some(instance.args), instance.kwargs],
                [&instance.states, &instance.items],
                &instance.entries,
            ),
            _ => ([None; 3], [&[]; 2], &[]),
        };
        let pairs = pairs.iter().flat_map(|&(key, value)| [key, value]);
        single.into_iter().flatten().chain(several.into_iter().flatten().copied()).chain(pairs)
    }
}

/// WTF-8 as text, each lone surrogate written as Python shows it: `\udc80`.
fn loose(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(chunk) = rest.utf8_chunks().next() {
        text.push_str(chunk.valid());
        rest = &rest[chunk.valid().len()..];
        match rest {
            [0xed, second @ 0xa0..=0xbf, third @ 0x80..=0xbf, ..] => {
                let code = 0xd000 | u32::from(second & 0x3f) << 6 | u32::from(third & 0x3f);
                text.push_str(&format!("\\u{code:04x}"));
                rest = &rest[3..];
            }
            [_, ..] => {
                text.push(char::REPLACEMENT_CHARACTER);
                rest = &rest[1..];
            }
            [] => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_small() {
        // A checkpoint of a million tensors has some twenty million objects.
        assert!(size_of::<Object>() <= 32, "{}", size_of::<Object>());
    }

    #[test]
    fn lone_surrogates_are_shown() {
        assert_eq!(loose(b"a\xed\xb2\x80b\xc3\xa9"), "a\\udc80b\u{e9}");
        assert_eq!(loose(b"\xed\xa0\xbd"), "\\ud83d");
    }

    #[test]
    fn bytes_of_old_pickles_are_keys() {
        let mut tree = Tree::default();
        let global = Global { module: "_codecs".into(), name: "encode".into() };
        let callable = tree.push(Object::Global(Box::new(global))).unwrap();
        let text = tree.push(Object::Text("w\u{e9}".into())).unwrap();
        let codec = tree.push(Object::Text("latin1".into())).unwrap();
        let args = tree.push(Object::Tuple([text, codec].into())).unwrap();
        let bytes = tree.push(Object::Instance(Box::new(Instance::new(callable, args)))).unwrap();
        assert_eq!(tree.key_text(bytes), "w\\xe9");
        let stranger = tree.push(Object::Instance(Box::new(Instance::new(text, args)))).unwrap();
        assert_eq!(tree.key_text(stranger), format!("object {}", stranger.idx()));
    }

    #[test]
    fn ordered_dictionaries_are_mappings_and_strangers_are_not() {
        let mut tree = Tree::default();
        let key = tree.push(Object::Text("a".into())).unwrap();
        let value = tree.push(Object::Int(1)).unwrap();
        let args = tree.push(Object::Tuple([].into())).unwrap();
        let mut of = |module: &str, name: &str| {
            let global = Object::Global(Box::new(Global { module: module.into(), name: name.into() }));
            let callable = tree.push(global).unwrap();
            let instance = Instance { entries: vec![(key, value)], ..Instance::new(callable, args) };
            tree.push(Object::Instance(Box::new(instance))).unwrap()
        };
        let (known, stranger) = (of("collections", "OrderedDict"), of("os", "system"));
        assert_eq!(tree.mapping(known), Some(&[(key, value)][..]));
        assert_eq!(tree.mapping(stranger), None);
        assert_eq!(tree.global(tree.children(stranger).next().unwrap()), Some(("os", "system")));
    }
}
