//! Elements in other files.

use crate::tensors::elements;
use modelferry_core::expr::{NodeId, volume};
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::model::{Check, FileDigest, Model, TensorIdx};
use modelferry_core::{DType, Error, Result};
use modelferry_wire::onnx::{External, Found};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Which bytes of which file, as what: two tensors that agree in this are two names for one.
type Range = (FileId, u64, DType, Vec<u64>);

/// The data files of one model.
pub(crate) struct Files<'a> {
    inputs: &'a dyn Inputs,
    /// The model's own folder, relative to the one that files are named from.
    folder: String,
    by_range: HashMap<Range, TensorIdx>,
    ties: BTreeMap<TensorIdx, Vec<TensorIdx>>,
    digests: BTreeSet<(FileId, [u8; 20])>,
    odd_checksums: BTreeSet<(FileId, String)>,
}

impl<'a> Files<'a> {
    pub(crate) fn new(inputs: &'a dyn Inputs) -> Files<'a> {
        let name = inputs.name(inputs.root());
        let folder = name.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
        Files {
            inputs,
            folder,
            by_range: HashMap::new(),
            ties: BTreeMap::new(),
            digests: BTreeSet::new(),
            odd_checksums: BTreeSet::new(),
        }
    }

    /// The elements of the tensor that is added next.
    ///
    /// Errors: a file that is not there or outside of the folder; a range past its end, or of another length than the
    /// shape says.
    pub(crate) fn data(&mut self, model: &mut Model, external: &External, found: &Found) -> Result<NodeId> {
        let file = self.inputs.open(&format!("{}{}", self.folder, external.location))?;
        let n = volume(&found.shape).unwrap_or(u64::MAX);
        let need = found.dtype.packed_len(n).unwrap_or(u64::MAX);
        let (offset, there) = (external.offset, self.inputs.len(file));
        let named = |error: Error| error.file(self.inputs.name(file)).offset(offset);
        if let Some(length) = external.length.filter(|&length| length != need) {
            let error = Error::malformed("external data is not as long as the shape says");
            return Err(named(
                error.expected(format_args!("{need} bytes")).found(format_args!("{length} bytes")),
            ));
        }
        if offset.checked_add(need).is_none_or(|end| end > there) {
            let error = Error::malformed("external data ends past its file");
            return Err(named(
                error
                    .expected(format_args!("{need} bytes"))
                    .found(format_args!("{} bytes", there.saturating_sub(offset))),
            ));
        }
        match (external.sha1(), &external.checksum) {
            (Some(sha1), _) => drop(self.digests.insert((file, sha1))),
            (None, Some(text)) => drop(self.odd_checksums.insert((file, text.clone()))),
            (None, None) => {}
        }
        let idx = model.tensors.len();
        let range = (file, offset, found.dtype, found.shape.clone());
        match self.by_range.get(&range).filter(|_| need > 0) {
            Some(&first) => {
                self.ties.entry(first).or_insert_with(|| vec![first]).push(idx);
                Ok(model.tensors[first].data)
            }
            None => {
                self.by_range.insert(range, idx);
                elements(&mut model.nodes, file, offset, need, found.dtype, n).map_err(named)
            }
        }
    }

    /// Adds what was learnt of the files to the model.
    pub(crate) fn finish(self, model: &mut Model) {
        model.ties.extend(self.ties.into_values());
        model.file_digests.extend(self.digests.into_iter().map(|(file, sha1)| FileDigest { file, sha1 }));
        model.checks.extend(self.odd_checksums.into_iter().map(|(file, text)| Check {
            file: self.inputs.name(file),
            fault: "the stated checksum is no SHA-1",
            expected: "40 hexadecimal digits".to_owned(),
            found: text.chars().take(60).collect(),
            holds: false,
        }));
    }
}
