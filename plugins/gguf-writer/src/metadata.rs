//! The entries of a file: the model's, less what speaks of other files, and what the format demands.

use modelferry_core::dtype::Class;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{ModelView, Value};
use modelferry_wire::gguf::{
    ALIGNMENT, CURRENT_QUANTIZATION, DEFAULT_ALIGNMENT, QUANTIZATION_VERSION, SPLIT_COUNT, SPLIT_NO,
    SPLIT_TENSORS, alignment,
};

/// What is written beside the tensors.
pub(crate) struct Entries<'a> {
    /// Those of the model, in its order.
    pub(crate) of_model: Vec<(&'a str, &'a Value)>,
    /// The number of block types' meaning, where there are such and the model does not have it.
    pub(crate) added: Option<Value>,
    /// Multiple of which tensors begin at.
    pub(crate) alignment: u64,
    /// What of the model's is not written.
    pub(crate) losses: Vec<Loss>,
}

/// Multiple of which the model's tensors are to begin at.
pub(crate) fn alignment_of(view: &ModelView<'_>) -> u64 {
    let entry = view.metadata().iter().find(|(key, _)| key == ALIGNMENT);
    entry.and_then(|(_, value)| alignment(value)).unwrap_or(DEFAULT_ALIGNMENT)
}

impl<'a> Entries<'a> {
    /// The entries of a model. Unless it `is_one_file`, each file says of itself which it is.
    pub(crate) fn of(view: &ModelView<'a>, is_one_file: bool) -> Entries<'a> {
        let mut entries =
            Entries { of_model: vec![], added: None, alignment: alignment_of(view), losses: vec![] };
        // A file that says it is one of several is not loaded without the others.
        let is_part = |value: &Value| !matches!(value, Value::U16(0 | 1));
        let splits = |(key, value): &(String, Value)| key == SPLIT_COUNT && is_part(value);
        let drops_split = !is_one_file || view.metadata().iter().any(splits);
        for (key, value) in view.metadata() {
            let detail = match &**key {
                "" => "GGUF has no empty key",
                SPLIT_NO | SPLIT_COUNT | SPLIT_TENSORS if drops_split => {
                    "it speaks of the files of another set"
                }
                ALIGNMENT if alignment(value).is_none() => "GGUF has a u32 under this key, a power of two",
                _ => {
                    entries.of_model.push((key, value));
                    continue;
                }
            };
            entries.losses.push(Loss::declared(LossKind::Metadata, key, detail));
        }
        let has_blocks = view.tensors().any(|tensor| tensor.dtype().class() == Class::Block);
        if has_blocks && !entries.has(QUANTIZATION_VERSION) {
            entries.added = Some(Value::U32(CURRENT_QUANTIZATION));
        }
        entries
    }

    /// Whether a key is written for the model.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.of_model.iter().any(|(known, _)| *known == key)
    }

    /// All entries of a file that holds the model's metadata.
    pub(crate) fn all(&self) -> Vec<(&str, &Value)> {
        let added = self.added.as_ref().map(|value| (QUANTIZATION_VERSION, value));
        self.of_model.iter().copied().chain(added).collect()
    }
}
