//! Pickles, read as data and written in the small dialect that torch takes from strangers.
//!
//! A pickle is a program for a stack machine whose instructions import modules and call what is in them. [`read`] runs
//! it on a machine that knows no modules and calls nothing: names become [`Object::Global`], calls
//! [`Object::Instance`], persistent ids [`Object::External`], and nothing is ever looked up. So a pickle of classes that
//! exist nowhere is read as well as any other, and one that means harm is merely a strange document.
//!
//! The instructions are those of CPython's `pickletools` (Python 3.14): protocols 0 to 5.
//!
//! [`Object::Global`]: modelferry_core::tree::Object::Global
//! [`Object::Instance`]: modelferry_core::tree::Object::Instance
//! [`Object::External`]: modelferry_core::tree::Object::External

mod calls;
mod emit;
mod emit_tree;
mod machine;
mod memo;
mod opcodes;
mod source;
mod text;
mod values;

pub use emit::{Emitter, Fill};
pub use emit_tree::emit_tree;
pub use source::Source;

use modelferry_core::error::Result;
use modelferry_core::limits::Limits;
use modelferry_core::tree::Tree;

/// Reads one pickle, from where `source` stands to its STOP, behind which `source` then stands.
///
/// What was shared is shared in the tree, cycles included; equal small constants may be one object too. Keys that are
/// set twice stand twice. Time is linear in the pickle's length, memory about 32 bytes an object plus its text.
///
/// Errors: [`Malformed`](modelferry_core::error::ErrorKind::Malformed) for what CPython's machine would refuse
/// whatever the names meant;
/// [`Unsupported`](modelferry_core::error::ErrorKind::Unsupported) for other protocols and for buffers outside of the
/// pickle; [`Limit`](modelferry_core::error::ErrorKind::Limit) for its bytes ([`Limits::header_bytes`]), its
/// instructions ([`Limits::opcodes`]) and its objects ([`Limits::objects`]).
pub fn read(source: &mut Source<'_>, limits: &Limits) -> Result<Tree> {
    source.cap(limits.header_bytes);
    let tree = machine::Machine::new(source, limits).run();
    source.cap(u64::MAX);
    tree
}

#[cfg(test)]
mod tests;
