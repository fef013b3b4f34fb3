//! A document of nested objects as JSON for people and programs: what `training_args.bin` becomes.
//!
//! Dictionaries become objects, sequences and sets arrays; a class or function is its dotted name; an object of a class
//! is its state, where that is a dictionary, and a call of a class with one plain value, as an enumeration's member is
//! stored, is that value. Nothing is looked up or run. The text is laid out as `json.dumps(…, indent=2)` does it,
//! non-finite numbers included.

use crate::json::{put_char, put_string, put_unit};
use modelferry_core::error::Result;
use modelferry_core::limits::Limits;
use modelferry_core::tree::{Instance, Object, ObjectId, Tree};
use std::collections::HashMap;

/// Most bytes of text: what is shared a million times is written a million times.
const MAX_BYTES: u64 = 1 << 20;

/// Most bytes of a byte string that are shown.
const MAX_SHOWN: usize = 256;

/// The text of a document, with a newline at its end.
///
/// An object that contains itself is `"…"` there. Errors: [`Limit`](modelferry_core::error::ErrorKind::Limit) for
/// nesting beyond [`Limits::depth`] and for text beyond 1 MiB.
pub fn render(tree: &Tree, limits: &Limits) -> Result<String> {
    let mut renderer = Renderer { tree, limits, out: String::new(), path: vec![] };
    match tree.root() {
        Some(root) => renderer.value(root)?,
        None => renderer.out.push_str("null"),
    }
    renderer.out.push('\n');
    Ok(renderer.out)
}

struct Renderer<'a> {
    tree: &'a Tree,
    limits: &'a Limits,
    out: String,
    /// The objects around the one at hand.
    path: Vec<ObjectId>,
}

/// A member of an object that is written.
enum Key {
    Of(ObjectId),
    Named(&'static str),
}

impl Renderer<'_> {
    /// Recursion is bounded by the limit on depth.
    fn value(&mut self, id: ObjectId) -> Result<()> {
        Limits::check("the document is nested too deeply", self.path.len() as u64, self.limits.depth as u64)?;
        Limits::check("the document is too large as text", self.out.len() as u64, MAX_BYTES)?;
        if self.path.contains(&id) {
            put_string(&mut self.out, "…");
            return Ok(());
        }
        self.path.push(id);
        let tree = self.tree;
        match &tree[id] {
            Object::None => self.out.push_str("null"),
            Object::Bool(value) => self.out.push_str(if *value { "true" } else { "false" }),
            Object::Int(value) => self.out.push_str(&value.to_string()),
            Object::BigInt(bytes) => self.big_int(bytes),
            Object::Float(value) => self.out.push_str(&float_text(*value)),
            Object::Text(text) => put_string(&mut self.out, text),
            Object::LooseText(bytes) => put_loose(&mut self.out, bytes),
            Object::Bytes(bytes) => {
                let shown = bytes.get(..MAX_SHOWN).unwrap_or(bytes);
                let rest = if shown.len() < bytes.len() { "…" } else { "" };
                put_string(&mut self.out, &format!("b'{}{rest}'", shown.escape_ascii()));
            }
            Object::List(members) | Object::Set(members) => self.array(members)?,
            Object::Tuple(members) | Object::FrozenSet(members) => self.array(members)?,
            Object::Dict(entries) => self.dict(entries)?,
            Object::Global(_) => put_string(&mut self.out, &tree.key_text(id)),
            Object::Instance(instance) => self.instance(id, instance)?,
            Object::External(of) => self.object(&[(Key::Named("external"), *of)])?,
            Object::Tensor(idx) => put_string(&mut self.out, &format!("tensor {idx}")),
            _ => put_string(&mut self.out, &tree.key_text(id)),
        }
        self.path.pop();
        Ok(())
    }

    fn array(&mut self, members: &[ObjectId]) -> Result<()> {
        if members.is_empty() {
            self.out.push_str("[]");
            return Ok(());
        }
        self.out.push('[');
        for (idx, &member) in members.iter().enumerate() {
            self.line(idx);
            self.value(member)?;
        }
        self.end_line();
        self.out.push(']');
        Ok(())
    }

    /// A dictionary. Of a key that is set twice the last value counts, in the first's place, as in Python.
    fn dict(&mut self, entries: &[(ObjectId, ObjectId)]) -> Result<()> {
        let mut members: Vec<(Key, ObjectId)> = Vec::with_capacity(entries.len());
        let mut place: HashMap<String, usize> = HashMap::with_capacity(entries.len());
        for &(key, value) in entries {
            let at = *place.entry(self.key_text(key)).or_insert(members.len());
            match members.get_mut(at) {
                Some((_, last)) => *last = value,
                None => members.push((Key::Of(key), value)),
            }
        }
        self.object(&members)
    }

    fn object(&mut self, members: &[(Key, ObjectId)]) -> Result<()> {
        if members.is_empty() {
            self.out.push_str("{}");
            return Ok(());
        }
        self.out.push('{');
        for (idx, (key, value)) in members.iter().enumerate() {
            self.line(idx);
            match key {
                Key::Of(key) => match &self.tree[*key] {
                    Object::LooseText(bytes) => put_loose(&mut self.out, bytes),
                    _ => {
                        let text = self.key_text(*key);
                        put_string(&mut self.out, &text);
                    }
                },
                Key::Named(name) => put_string(&mut self.out, name),
            }
            self.out.push_str(": ");
            self.value(*value)?;
        }
        self.end_line();
        self.out.push('}');
        Ok(())
    }

    /// A key as Python's `json` makes a string of it.
    fn key_text(&self, id: ObjectId) -> String {
        match &self.tree[id] {
            Object::None => "null".to_owned(),
            Object::Bool(value) => value.to_string(),
            Object::Float(value) => float_text(*value),
            _ => self.tree.key_text(id),
        }
    }

    fn instance(&mut self, id: ObjectId, instance: &Instance) -> Result<()> {
        let tree = self.tree;
        if let Some(entries) = tree.mapping(id) {
            return self.dict(entries);
        }
        let args = tree.sequence(instance.args).unwrap_or_default();
        let is_bare = instance.states.is_empty()
            && instance.items.is_empty()
            && instance.entries.is_empty()
            && instance.kwargs.is_none();
        if is_bare
            && let [value] = args
            && is_plain(&tree[*value])
        {
            return self.value(*value);
        }
        // The state of an object with slots is a pair: attributes, and those in slots.
        let dicts = |state: ObjectId| -> Option<Vec<(ObjectId, ObjectId)>> {
            match &tree[state] {
                Object::Dict(entries) => Some(entries.clone()),
                Object::Tuple(parts) if parts.len() == 2 => {
                    let mut all = vec![];
                    for part in parts.iter() {
                        match &tree[*part] {
                            Object::None => {}
                            Object::Dict(entries) => all.extend(entries),
                            _ => return None,
                        }
                    }
                    Some(all)
                }
                _ => None,
            }
        };
        if let [state] = instance.states[..]
            && args.is_empty()
            && instance.items.is_empty()
            && instance.entries.is_empty()
            && let Some(entries) = dicts(state)
        {
            return self.dict(&entries);
        }
        let mut members = vec![(Key::Named("class"), instance.callable)];
        if !args.is_empty() {
            members.push((Key::Named("args"), instance.args));
        }
        members.extend(instance.kwargs.map(|kwargs| (Key::Named("kwargs"), kwargs)));
        members.extend(instance.states.iter().map(|&state| (Key::Named("state"), state)));
        members.extend(instance.items.iter().map(|&item| (Key::Named("item"), item)));
        members.extend(instance.entries.iter().map(|&(key, value)| (Key::Of(key), value)));
        self.object(&members)
    }

    fn big_int(&mut self, bytes: &[u8]) {
        if bytes.len() > MAX_SHOWN {
            return put_string(&mut self.out, &format!("a number of {} bytes", bytes.len()));
        }
        self.out.push_str(&decimal(bytes));
    }

    fn line(&mut self, idx: usize) {
        self.out.push_str(if idx == 0 { "\n" } else { ",\n" });
        self.out.extend(std::iter::repeat_n("  ", self.path.len()));
    }

    fn end_line(&mut self) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n("  ", self.path.len().saturating_sub(1)));
    }
}

fn is_plain(object: &Object) -> bool {
    matches!(object, Object::None | Object::Bool(_) | Object::Int(_) | Object::Float(_) | Object::Text(_))
}

/// Two's complement, least significant byte first, in decimal.
fn decimal(bytes: &[u8]) -> String {
    let is_negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut carry = u16::from(is_negative);
    let magnitude = bytes.iter().map(|&byte| {
        let part =
            if is_negative { u16::from(!byte) } else { u16::from(byte) } + carry * u16::from(is_negative);
        carry = part >> 8;
        part as u8
    });
    // Digits of base 10^9, least significant first.
    let mut digits: Vec<u64> = vec![0];
    for byte in magnitude.collect::<Vec<u8>>().into_iter().rev() {
        let mut carry = u64::from(byte);
        for digit in &mut digits {
            let value = *digit * 256 + carry;
            *digit = value % 1_000_000_000;
            carry = value / 1_000_000_000;
        }
        if carry > 0 {
            digits.push(carry);
        }
    }
    let mut text = if is_negative { "-".to_owned() } else { String::new() };
    for (idx, digit) in digits.iter().rev().enumerate() {
        text.push_str(&if idx == 0 { digit.to_string() } else { format!("{digit:09}") });
    }
    text
}

/// A number as Python prints it.
fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return (if value > 0.0 { "Infinity" } else { "-Infinity" }).to_owned();
    }
    // The digits are the same, the shortest that mean this number; where an exponent begins is not.
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        return format!("{value:?}");
    }
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs())
}

/// WTF-8, lone surrogates as escapes.
fn put_loose(out: &mut String, bytes: &[u8]) {
    out.push('"');
    let mut rest = bytes;
    while !rest.is_empty() {
        let valid = match std::str::from_utf8(rest) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&rest[..error.valid_up_to()]).unwrap_or_default(),
        };
        valid.chars().for_each(|c| put_char(out, c));
        rest = &rest[valid.len()..];
        match rest {
            // A surrogate is three bytes: ed, then six bits twice, the first of which begin with 1.
            [0xed, high @ 0xa0..=0xbf, low @ 0x80..=0xbf, more @ ..] => {
                put_unit(out, 0xd000 | u16::from(high & 0x3f) << 6 | u16::from(low & 0x3f));
                rest = more;
            }
            [_, more @ ..] => {
                put_char(out, char::REPLACEMENT_CHARACTER);
                rest = more;
            }
            [] => {}
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests;
