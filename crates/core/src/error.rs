//! Errors, sorted by whose fault they are.

use crate::one_line::{OneLine, shown};
use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::{self, Write};

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose fault an error is, and so what a program can do about it. Each has one exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Two models that were compared are different (exit 1).
    Difference,
    /// The caller asked for something that makes no sense (exit 2).
    Usage,
    /// The output is already there, and `--force` was not given (exit 3).
    Exists,
    /// The input can be taken in several ways and nothing says which (exit 4).
    Ambiguous,
    /// The input breaks its format's rules (exit 10).
    Malformed,
    /// The input is right but uses something we do not read (exit 11).
    Unsupported,
    /// The target format cannot represent it, and the loss was not allowed (exit 12).
    Target,
    /// A limit was reached (exit 13).
    Limit,
    /// Reading or writing failed, or an input changed during the run (exit 14).
    Io,
    /// A plugin misbehaved or could not be loaded (exit 15).
    Plugin,
    /// The run was interrupted (exit 130; 143 for SIGTERM).
    Interrupted,
}

impl ErrorKind {
    /// The process exit code of this kind.
    pub fn exit_code(self) -> i32 {
        match self {
            ErrorKind::Difference => 1,
            ErrorKind::Usage => 2,
            ErrorKind::Exists => 3,
            ErrorKind::Ambiguous => 4,
            ErrorKind::Malformed => 10,
            ErrorKind::Unsupported => 11,
            ErrorKind::Target => 12,
            ErrorKind::Limit => 13,
            ErrorKind::Io => 14,
            ErrorKind::Plugin => 15,
            ErrorKind::Interrupted => 130,
        }
    }

    /// The kind's stable name in `--json`.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Difference => "difference",
            ErrorKind::Usage => "usage",
            ErrorKind::Exists => "exists",
            ErrorKind::Ambiguous => "ambiguous",
            ErrorKind::Malformed => "malformed",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Target => "target",
            ErrorKind::Limit => "limit",
            ErrorKind::Io => "io",
            ErrorKind::Plugin => "plugin",
            ErrorKind::Interrupted => "interrupted",
        }
    }
}

/// An error with its place, and what was expected and found there.
///
/// It renders in one line as `FORMAT: FILE: tensor "NAME": byte N: WHAT, expected E, found F`, leaving out what is
/// not known. Built by a constructor named after the kind, then given context from the inside out:
///
/// ```
/// use modelferry_core::error::Error;
/// let error = Error::malformed("data ends past the file").tensor("lm_head.weight").expected(4194816).found(4194304);
/// let error = error.format("safetensors").file("m.safetensors");
/// assert_eq!(
///     error.to_string(),
///     "safetensors: m.safetensors: tensor \"lm_head.weight\": data ends past the file, expected 4194816, found 4194304"
/// );
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    what: Cow<'static, str>,
    format: Option<Cow<'static, str>>,
    file: Option<String>,
    offset: Option<u64>,
    tensor: Option<String>,
    expected: Option<String>,
    found: Option<String>,
    hint: Option<Cow<'static, str>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

macro_rules! constructors {
    ($($name:ident => $kind:ident),* $(,)?) => {$(
        #[doc = concat!("A new error of kind [`ErrorKind::", stringify!($kind), "`].")]
        pub fn $name(what: impl Into<Cow<'static, str>>) -> Error {
            Error::new(ErrorKind::$kind, what)
        }
    )*};
}

impl Error {
    /// A new error: `what` has no capital, no full stop, and does not name its place.
    pub fn new(kind: ErrorKind, what: impl Into<Cow<'static, str>>) -> Error {
        Error(Box::new(Inner {
            kind,
            what: what.into(),
            format: None,
            file: None,
            offset: None,
            tensor: None,
            expected: None,
            found: None,
            hint: None,
            source: None,
        }))
    }

    constructors! {
        difference => Difference, usage => Usage, exists => Exists, ambiguous => Ambiguous, malformed => Malformed,
        unsupported => Unsupported, target => Target, limit => Limit, plugin => Plugin, interrupted => Interrupted,
    }

    /// An I/O error: what was being done, and the system's own error as its source.
    pub fn io(what: impl Into<Cow<'static, str>>, source: std::io::Error) -> Error {
        let mut error = Error::new(ErrorKind::Io, what);
        error.0.source = Some(Box::new(source));
        error
    }

    /// Sets the format whose reader or writer found it, unless an inner place has.
    pub fn format(mut self, format: impl Into<Cow<'static, str>>) -> Error {
        self.0.format.get_or_insert(format.into());
        self
    }

    /// Sets the file, unless an inner place has.
    pub fn file(mut self, file: impl fmt::Display) -> Error {
        self.0.file.get_or_insert_with(|| file.to_string());
        self
    }

    /// Sets the byte offset in the file, unless an inner place has.
    pub fn offset(mut self, offset: u64) -> Error {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Sets the tensor, unless an inner place has.
    pub fn tensor(mut self, tensor: impl Into<String>) -> Error {
        let tensor = tensor.into();
        self.0.tensor.get_or_insert(tensor);
        self
    }

    /// Sets what should have been there.
    pub fn expected(mut self, expected: impl fmt::Display) -> Error {
        self.0.expected = Some(expected.to_string());
        self
    }

    /// Sets what was there.
    pub fn found(mut self, found: impl fmt::Display) -> Error {
        self.0.found = Some(found.to_string());
        self
    }

    /// Sets what the user can do about it: a clause such as `pass --force to replace it`.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Error {
        self.0.hint.get_or_insert(hint.into());
        self
    }

    /// Sets the cause.
    pub fn source(mut self, source: impl StdError + Send + Sync + 'static) -> Error {
        self.0.source = Some(Box::new(source));
        self
    }

    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What is wrong, without its place.
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// The fields by their names in `--json`, absent ones left out.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let inner = &*self.0;
        let mut fields = vec![("kind", inner.kind.name().to_owned()), ("message", self.to_string())];
        let mut push = |name, value: Option<String>| fields.extend(value.map(|value| (name, value)));
        push("format", inner.format.as_ref().map(ToString::to_string));
        push("file", inner.file.clone());
        push("tensor", inner.tensor.clone());
        push("expected", inner.expected.clone());
        push("found", inner.found.clone());
        push("hint", inner.hint.as_ref().map(ToString::to_string));
        fields
    }

    /// The byte offset in the file, if one is known.
    pub fn byte_offset(&self) -> Option<u64> {
        self.0.offset
    }
}

/// Several things that one error is about, in words: the first ones, and how many more. Names are cut.
///
/// ```
/// let names = ["a".to_owned(), "b".to_owned()];
/// assert_eq!(modelferry_core::error::listed(names.into_iter()), "a, b");
/// ```
pub fn listed(things: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 8;
    const CHARS: usize = 80;
    let (mut text, mut n) = (String::new(), 0);
    for thing in things {
        n += 1;
        if n > SHOWN {
            continue;
        }
        let comma = if n > 1 { ", " } else { "" };
        match thing.char_indices().nth(CHARS) {
            Some((end, _)) => text.extend([comma, &thing[..end], "…"]),
            None => text.extend([comma, &thing]),
        }
    }
    match n {
        0..=SHOWN => text,
        _ => format!("{text} and {} more", n - SHOWN),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        let f = &mut OneLine(f);
        if let Some(format) = &inner.format {
            write!(f, "{format}: ")?;
        }
        if let Some(file) = &inner.file {
            write!(f, "{}: ", file.escape_debug())?;
        }
        if let Some(tensor) = &inner.tensor {
            write!(f, "tensor {:?}: ", shown(tensor))?;
        }
        if let Some(offset) = inner.offset {
            write!(f, "byte {offset}: ")?;
        }
        f.write_str(&inner.what)?;
        if let Some(expected) = &inner.expected {
            write!(f, ", expected {expected}")?;
        }
        if let Some(found) = &inner.found {
            write!(f, ", found {found}")?;
        }
        if let Some(source) = &inner.source {
            write!(f, ": {source}")?;
        }
        if let Some(hint) = &inner.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
