//! What a writer sees of a model, on its way across: no expressions, but where untouched bytes lie.

use crate::codes::*;
use crate::described::Described;
use crate::document::Document;
use crate::model::blobs;
use crate::nodes::{self, Blobs};
use crate::raw::{self, zeroed};
use crate::types::*;
use modelferry_core::expr::{Arena, NodeId, SourceAccess};
use modelferry_core::graph::Binding;
use modelferry_core::inputs::FileId;
use modelferry_core::model::{Model, ModelView};
use modelferry_core::{DType, Error, Result};

/// A view, described to the other side for the time of one call.
pub struct Shown<'a> {
    tensors: Vec<MfTensor>,
    assets: Vec<MfAsset>,
    texts: Vec<MfText>,
    // What the texts borrow.
    _blobs: Blobs,
    document: String,
    view: ModelView<'a>,
}

impl<'a> Shown<'a> {
    /// Describes a view.
    pub fn new(view: ModelView<'a>) -> Result<Shown<'a>> {
        let mut blobs = Blobs::default();
        let data = |idx: usize| match view.verbatim(idx) {
            Some((file, at)) => MfData { kind: MF_DATA_FILE, file: file.0, at },
            None => {
                let file = view.source_file(idx).map_or(MF_NO_FILE, |file| file.0);
                MfData { kind: MF_DATA_UNSEEN, file, at: MF_NONE }
            }
        };
        let tensors = view.tensors().enumerate().map(|(idx, tensor)| {
            let (dtype, block_elements, block_bytes) = of_dtype(tensor.dtype());
            MfTensor {
                name: MfText::of(tensor.name()),
                dtype,
                block_elements,
                block_bytes,
                shape: tensor.shape().as_ptr(),
                rank: tensor.shape().len() as u64,
                byte_len: tensor.byte_len(),
                data: data(idx),
            }
        });
        let unseen = MfData { kind: MF_DATA_UNSEEN, file: MF_NO_FILE, at: MF_NONE };
        let asset = |(name, len)| MfAsset { name: MfText::of(name), len, data: unseen };
        let described = Described {
            ties: view.ties(),
            metadata: view.metadata(),
            config: view.config(),
            tree: view.tree(),
            graph: view.graph(),
            entries: view.entries(),
            codes: view.codes(),
            checks: &[],
            file_digests: &[],
        };
        let binding = |place: &Binding| (None, view.is_untouched(place));
        let document = Document::of(&described, &binding, &mut blobs)?.text()?;
        Ok(Shown {
            tensors: tensors.collect(),
            assets: view.assets().map(asset).collect(),
            texts: blobs.texts(),
            _blobs: blobs,
            document,
            view,
        })
    }

    /// The view itself.
    pub fn view(&self) -> ModelView<'a> {
        self.view
    }

    /// As it crosses: valid while this lives.
    pub fn model(&self) -> MfModel {
        MfModel {
            struct_size: size_of::<MfModel>() as u64,
            tensors: MfSlice::of(&self.tensors),
            blobs: MfSlice::of(&self.texts),
            assets: MfSlice::of(&self.assets),
            document: MfText::of(&self.document),
            ..zeroed()
        }
    }
}

/// A model that looks to a writer as the one that was shown: its expressions stand for those that stayed behind, and
/// nobody can evaluate them.
///
/// # Safety
///
/// All that it points at is what it says.
pub unsafe fn seen(given: &MfModel) -> Result<Model> {
    let mut model = Model::default();
    // SAFETY: promised by the caller.
    let blobs = unsafe { blobs(given.blobs) }?;
    // SAFETY: promised by the caller.
    let tensors = unsafe { raw::items::<MfTensor>(given.tensors) }?;
    model.tensors.reserve(tensors.len());
    // Bytes, staged or not, and items of them.
    model.nodes.reserve(2 * tensors.len());
    for tensor in tensors {
        // SAFETY: promised by the caller.
        let (name, shape) =
            unsafe { (raw::text(tensor.name)?.to_owned(), raw::numbers(tensor.shape, tensor.rank)?) };
        let dtype = nodes::dtype(tensor.dtype, tensor.block_elements, tensor.block_bytes)?;
        let data = stand_in(&mut model.nodes, &tensor.data, dtype, &shape)?;
        model.push(name, dtype, shape, data)?;
    }
    // SAFETY: promised by the caller.
    for asset in unsafe { raw::items::<MfAsset>(given.assets) }? {
        // SAFETY: promised by the caller.
        let name = unsafe { raw::text(asset.name) }?;
        let data = model.nodes.region(FileId(MF_NO_FILE), 0, asset.len)?;
        model.push_asset(name, data)?;
    }
    // A place whose tensor has been touched has another expression than the tensor.
    let touched = model.nodes.inline(vec![])?;
    // SAFETY: promised by the caller.
    let document = unsafe { Document::read(given.document) }?;
    document.apply(&mut model, &blobs, &mut |place, model| {
        let tensor = model.tensors.get(place.tensor);
        let tensor =
            tensor.ok_or_else(|| Error::plugin("a graph has a place for a tensor that is not there"))?;
        Ok(if place.is_untouched { tensor.data } else { touched })
    })?;
    Ok(model)
}

/// An expression of the right type and length that shows where its bytes come from, as far as the other side said.
fn stand_in(arena: &mut Arena, data: &MfData, dtype: DType, shape: &[u64]) -> Result<NodeId> {
    let n = modelferry_core::expr::volume(shape);
    let sizes = n.and_then(|n| Some((dtype.items(n)?, dtype.packed_len(n)?)));
    let (n_items, len) = sizes.ok_or_else(|| Error::plugin("a shape does not fit its type").found(dtype))?;
    let bytes = match (data.kind, data.file) {
        (MF_DATA_FILE, file) => arena.region(FileId(file), data.at, len)?,
        (_, MF_NO_FILE) => arena.plugin(0, 0, SourceAccess::Sequential, len)?,
        (_, file) => {
            // Staged bytes are no part of a file.
            let region = arena.region(FileId(file), 0, len)?;
            arena.stage(region)?
        }
    };
    arena.decode(bytes, dtype, n_items, Default::default())
}
