//! A graph with its weights put back: everything else stays as it is, but for names that follow the tensors' and casts
//! to the types that the graph wants.

mod binding;
mod plan;
mod planning;
mod values;
mod write;

use modelferry_core::graph::Binding;
use modelferry_core::model::{ModelView, TensorIdx};
use modelferry_core::{Error, Result};
use modelferry_wire::onnx::{Field, Fields, Wire};
use std::ops::RangeInclusive;

pub(crate) use plan::Plan;
pub(crate) use write::message;

/// A part of the body, and where in it that is.
#[derive(Clone, Copy)]
struct Part<'a> {
    bytes: &'a [u8],
    at: u64,
}

impl<'a> Part<'a> {
    /// The message that a field holds.
    fn inside(self, field: &Field<'a>) -> Part<'a> {
        Part { bytes: field.value, at: self.at + field.at as u64 }
    }

    fn fields(self) -> Fields<'a> {
        Fields::of(self.bytes)
    }

    /// Where places in it may be: the last may be at its end, for what follows begins with a tag.
    fn places(self) -> RangeInclusive<u64> {
        self.at..=self.at + self.bytes.len() as u64
    }
}

/// The places of tensors, in the order of the document.
#[derive(Clone)]
struct Places<'a> {
    bindings: &'a [Binding],
    next: usize,
}

impl<'a> Places<'a> {
    fn new(bindings: &'a [Binding]) -> Places<'a> {
        Places { bindings, next: 0 }
    }

    /// Whether the next place is in this part.
    fn has_any(&self, part: Part<'_>) -> bool {
        self.bindings.get(self.next).is_some_and(|binding| part.places().contains(&binding.at))
    }

    /// The next place and its number, if it is in this part.
    fn take(&mut self, part: Part<'_>) -> Option<(usize, &'a Binding)> {
        let binding = self.bindings.get(self.next).filter(|binding| part.places().contains(&binding.at))?;
        self.next += 1;
        Some((self.next - 1, binding))
    }
}

/// What keeps a tensor from being put back, by its name.
fn refused(view: &ModelView<'_>, idx: TensorIdx, what: &'static str) -> Error {
    Error::target(what).tensor(view.tensor(idx).name())
}

/// The reader made the body: a place that is not where it says is a mistake of ours.
fn misplaced() -> Error {
    Error::plugin("the graph's document has no such place")
}

/// The domains of onnx's own operators.
fn is_onnx(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// The text of the last field of this number; empty without one.
fn text_of<'a>(part: Part<'a>, number: u32) -> Result<&'a str> {
    let mut found = "";
    for field in part.fields() {
        let field = field?;
        if (field.number, field.wire) == (number, Wire::Bytes) {
            found = field.text().unwrap_or_default();
        }
    }
    Ok(found)
}
