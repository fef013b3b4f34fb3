//! Files beside the model: which tensors lie where in them.

use crate::links::Links;
use modelferry_core::layout::{Layout, Piece};
use modelferry_core::model::{ModelView, TensorIdx};

/// Where in a file tensors of some size begin: at a page, so that runtimes can map them.
const PAGE: u64 = 4096;
/// Smaller ones begin where a vector instruction may read them.
const VECTOR: u64 = 64;
/// From this size on it is a page.
const LARGE: u64 = 1 << 16;

/// Where a tensor lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Position among the data files.
    pub(crate) file: usize,
    /// First byte.
    pub(crate) offset: u64,
}

/// The files of data of one output.
#[derive(Debug, Default)]
pub(crate) struct Data {
    /// Of each tensor that lies in one.
    places: Vec<Option<Place>>,
    /// What they are called; those that are there already come first.
    names: Vec<String>,
    /// The contents of the others.
    contents: Vec<Vec<Piece>>,
}

impl Data {
    /// Everything in the model's own file.
    pub(crate) fn inside() -> Data {
        Data::default()
    }

    /// The same, but for tensors that lie in files which are there already.
    pub(crate) fn linked(links: &Links) -> Data {
        let names = links.files.iter().map(|link| link.path.clone()).collect();
        Data { places: links.places.clone(), names, contents: vec![] }
    }

    /// Adds one file for each of `groups`, with those of its tensors that `is_wanted` takes. Names for one storage share its
    /// bytes, in the file of the first.
    pub(crate) fn beside(
        self,
        view: &ModelView<'_>,
        file_name: &str,
        groups: &[Vec<TensorIdx>],
        is_wanted: &dyn Fn(TensorIdx) -> bool,
    ) -> Data {
        let first_of = view.storages();
        let mut data = self;
        data.places.resize(first_of.len(), None);
        for group in groups {
            let (mut pieces, mut at) = (vec![], 0u64);
            for &idx in group.iter().filter(|&&idx| is_wanted(idx)) {
                if data.places[idx].is_some() {
                    continue;
                }
                let len = view.tensor(idx).byte_len();
                if data.places[first_of[idx]].is_some() {
                    data.places[idx] = data.places[first_of[idx]];
                    continue;
                }
                let align = if len >= LARGE { PAGE } else { VECTOR };
                let offset = at.next_multiple_of(align);
                if offset > at {
                    pieces.push(Piece::Zero(offset - at));
                }
                pieces.push(Piece::tensor(view, idx));
                let place = Some(Place { file: data.names.len(), offset });
                data.places[idx] = place;
                at = offset.saturating_add(len);
            }
            if !pieces.is_empty() {
                data.names.push(data_name(file_name, data.contents.len()));
                data.contents.push(pieces);
            }
        }
        data
    }

    /// Where a tensor lies, and the file's name; nothing for one in the model's own file.
    pub(crate) fn place(&self, idx: TensorIdx) -> Option<(&str, Place)> {
        let place = self.places.get(idx).copied().flatten()?;
        Some((self.names.get(place.file)?, place))
    }

    /// Adds the files that are to be written.
    pub(crate) fn push(self, layout: &mut Layout) {
        let n_linked = self.names.len() - self.contents.len();
        for (name, pieces) in self.names.into_iter().skip(n_linked).zip(self.contents) {
            layout.push_file(name, pieces);
        }
    }
}

/// `model.onnx_data`, `model.onnx_data_1`: the names that transformers.js looks for (`getExternalDataChunkNames`).
fn data_name(file_name: &str, idx: usize) -> String {
    match idx {
        0 => format!("{file_name}_data"),
        _ => format!("{file_name}_data_{idx}"),
    }
}
