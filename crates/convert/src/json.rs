//! One JSON object, written as it is made: a list of a million losses or tensors is never held as a tree.

use modelferry_core::Error;
use modelferry_core::loss::{Loss, Phase};
use modelferry_core::model::Value as Metadata;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::borrow::Borrow;
use std::io::{self, Write};

/// Version of what `--json` prints. Only additions are made within one.
pub const SCHEMA: u64 = 1;

/// An object being written: one field a line, list items on lines of their own.
pub struct Object<'w> {
    out: &'w mut dyn Write,
    is_first: bool,
}

impl<'w> Object<'w> {
    /// Opens the object.
    pub fn begin(out: &'w mut dyn Write) -> io::Result<Object<'w>> {
        out.write_all(b"{")?;
        Ok(Object { out, is_first: true })
    }

    fn key(&mut self, key: &str) -> io::Result<()> {
        self.out.write_all(if self.is_first { b"\n  " } else { b",\n  " })?;
        self.is_first = false;
        serde_json::to_writer(&mut *self.out, key)?;
        self.out.write_all(b": ")
    }

    /// Adds a value, streamed.
    pub fn field(&mut self, key: &str, value: impl Serialize) -> io::Result<()> {
        self.key(key)?;
        serde_json::to_writer(&mut *self.out, &value)?;
        Ok(())
    }

    /// Adds a list of any length.
    pub fn list(&mut self, key: &str, items: impl Iterator<Item = Value>) -> io::Result<()> {
        self.rows(key, items)
    }

    /// Adds a list whose items are streamed too.
    pub fn rows(&mut self, key: &str, items: impl Iterator<Item = impl Serialize>) -> io::Result<()> {
        self.key(key)?;
        self.out.write_all(b"[")?;
        let mut any = false;
        for item in items {
            self.out.write_all(if any { b",\n    " } else { b"\n    " })?;
            any = true;
            serde_json::to_writer(&mut *self.out, &item)?;
        }
        self.out.write_all(if any { b"\n  ]" } else { b"]" })
    }

    /// Adds a list of objects, each filled by `fill`.
    pub fn objects<T>(
        &mut self,
        key: &str,
        items: impl Iterator<Item = T>,
        fill: &mut dyn FnMut(T, &mut Object<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.key(key)?;
        self.out.write_all(b"[")?;
        for (number, item) in items.enumerate() {
            self.out.write_all(if number > 0 { b",\n" } else { b"\n" })?;
            let mut object = Object::begin(&mut *self.out)?;
            fill(item, &mut object)?;
            object.out.write_all(b"\n  }")?;
        }
        self.out.write_all(b"]")
    }

    /// Closes the object.
    pub fn end(self) -> io::Result<()> {
        self.out.write_all(b"\n}\n")
    }
}

/// The error that ended a run, and the exit code it gives.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// What went wrong.
    pub error: &'a Error,
    /// The process's exit code: the kind's own, but for interruptions, which depend on the signal.
    pub code: i32,
}

/// Fields that every object of `--json` begins with: `schema`, `ok`, `error`, `command`.
pub fn head(object: &mut Object<'_>, command: &str, failure: Option<Failure<'_>>) -> io::Result<()> {
    object.field("schema", SCHEMA)?;
    object.field("ok", failure.is_none())?;
    object.field("error", failure.map_or(Value::Null, error))?;
    object.field("command", command)
}

/// A whole object that says nothing but that a command failed.
pub fn write_failure(command: &str, failure: Failure<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut object = Object::begin(out)?;
    head(&mut object, command, Some(failure))?;
    object.list("losses", std::iter::empty())?;
    object.end()
}

fn error(failure: Failure<'_>) -> Value {
    let mut object = serde_json::Map::new();
    for (name, value) in failure.error.fields() {
        object.insert(name.to_owned(), value.into());
    }
    object.insert("code".to_owned(), failure.code.into());
    object.insert("offset".to_owned(), failure.error.byte_offset().into());
    // Absent fields are there as null, so that a program need not ask twice.
    for name in ["format", "file", "tensor", "expected", "found"] {
        object.entry(name).or_insert(Value::Null);
    }
    Value::Object(object)
}

/// One loss.
pub fn loss(loss: &Loss) -> Value {
    json!({
        "kind": loss.kind.name(),
        "subject": loss.subject,
        "renamed": loss.renamed,
        "axes": loss.axes,
        "detail": loss.detail,
        "phase": match loss.phase { Phase::Declared => "declared", Phase::Observed => "observed" },
        "asked": loss.asked,
    })
}

/// Metadata as an object, in its order.
pub fn metadata(metadata: &[(String, Metadata)]) -> impl Serialize + '_ {
    struct Entries<'a>(&'a [(String, Metadata)]);
    impl Serialize for Entries<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().map(|(key, value)| (key, MetadataValue(value))))
        }
    }
    Entries(metadata)
}

/// The types of metadata values, by key.
pub fn metadata_types(metadata: &[(String, Metadata)]) -> Value {
    Value::Object(metadata.iter().map(|(key, value)| (key.clone(), value.type_name().into())).collect())
}

/// A metadata value. Lists are streamed: a tokenizer's are long.
pub struct MetadataValue<V>(pub V);

impl<V: Borrow<Metadata>> Serialize for MetadataValue<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.borrow() {
            Metadata::Text(text) => serializer.serialize_str(text),
            Metadata::Bytes(text) => serializer.serialize_str(&String::from_utf8_lossy(text)),
            Metadata::Bool(value) => serializer.serialize_bool(*value),
            Metadata::U8(value) => serializer.serialize_u8(*value),
            Metadata::I8(value) => serializer.serialize_i8(*value),
            Metadata::U16(value) => serializer.serialize_u16(*value),
            Metadata::I16(value) => serializer.serialize_i16(*value),
            Metadata::U32(value) => serializer.serialize_u32(*value),
            Metadata::I32(value) => serializer.serialize_i32(*value),
            Metadata::U64(value) => serializer.serialize_u64(*value),
            Metadata::I64(value) => serializer.serialize_i64(*value),
            // The shortest text that gives this f32 again.
            Metadata::F32(value) if value.is_finite() => serializer.serialize_f32(*value),
            Metadata::F32(value) => number((*value).into()).serialize(serializer),
            Metadata::F64(value) => number(*value).serialize(serializer),
            Metadata::List(list) => serializer.collect_seq(list.items().map(MetadataValue)),
        }
    }
}

/// A number as JSON, or the word for one that JSON does not have.
pub fn number(number: f64) -> Value {
    match number {
        _ if number.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        _ => number.into(),
    }
}
