//! Names that are part of documents: of element types, and those that outlive them.

use modelferry_core::{DType, Error, Result};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

pub(crate) fn dtype_text(dtype: DType) -> String {
    match dtype {
        DType::Opaque { elements, bytes } => format!("opaque:{elements}:{bytes}"),
        named => named.to_string(),
    }
}

pub(crate) fn dtype_of_text(text: &str) -> Result<DType> {
    let opaque = text
        .strip_prefix("opaque:")
        .and_then(|sizes| sizes.split_once(':'))
        .and_then(|(n, bytes)| Some(DType::Opaque { elements: n.parse().ok()?, bytes: bytes.parse().ok()? }));
    opaque
        .or_else(|| DType::from_name(text))
        .ok_or_else(|| Error::unsupported("an element type that is not known here").found(text))
}

/// The same text for as long as the process lives: names of formats and kinds of faults, of which a program meets few.
pub(crate) fn lasting(text: &str) -> &'static str {
    static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    match kept.get(text) {
        Some(found) => found,
        None => {
            let new: &'static str = Box::leak(text.to_owned().into_boxed_str());
            kept.insert(new);
            new
        }
    }
}
