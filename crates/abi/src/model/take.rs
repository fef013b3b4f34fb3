//! A model taken over: checked, and made ours.

use super::foreign::{Foreign, ForeignSource, blobs};
use crate::codes::*;
use crate::document::Document;
use crate::nodes::{self, Decoder};
use crate::raw;
use crate::types::*;
use modelferry_core::expr::{NodeId, SourceAccess};
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::limits::Limits;
use modelferry_core::model::{Claim, Model, PayloadSource};
use modelferry_core::{DType, Error, Result};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// Takes a model that the other side has filled, and checks all that can be checked. It is released when nothing of
/// it is needed any more: at once, unless it makes bytes.
///
/// # Safety
///
/// All that it points at is what it says, until it is released.
pub unsafe fn take(given: MfModel, inputs: &dyn Inputs, limits: &Limits) -> Result<Model> {
    // SAFETY: promised by the caller.
    Ok(unsafe { taken(given, inputs, limits) }?.0)
}

/// # Safety
///
/// As for [`take`].
unsafe fn taken(given: MfModel, inputs: &dyn Inputs, limits: &Limits) -> Result<(Model, Vec<NodeId>)> {
    let foreign = Arc::new(Foreign(given));
    // Before any of them is looked at.
    Limits::check("too many tensors", given.tensors.len, limits.tensors)?;
    Limits::check("too many expression nodes", given.nodes.len, limits.nodes)?;
    let known: RefCell<HashMap<FileId, Option<u64>>> = RefCell::default();
    let file_len = |file: FileId| {
        let look = || {
            let is_there = file != FileId::FOLDER && !inputs.name(file).is_empty();
            is_there.then(|| inputs.len(file))
        };
        *known.borrow_mut().entry(file).or_insert_with(look)
    };
    let raw = &foreign.0;
    let mut model = Model::default();
    // SAFETY: promised by the caller.
    let blobs = unsafe { blobs(raw.blobs) }?;
    let mut numbers: HashMap<u64, u32> = HashMap::new();
    let mut sources: Vec<Arc<dyn PayloadSource>> = vec![];
    let mut source = |source: u64| {
        let new = numbers.len() as u32;
        Ok(*numbers.entry(source).or_insert_with(|| {
            sources.push(Arc::new(ForeignSource { foreign: Arc::clone(&foreign), source }));
            new
        }))
    };
    let mut decoder = Decoder { model: &mut model, file_len: &file_len, blobs: &blobs, source: &mut source };
    // SAFETY: promised by the caller.
    let ids = unsafe { decoder.nodes(raw.nodes) }?;
    // SAFETY: promised by the caller.
    let tensors = unsafe { raw::items::<MfTensor>(raw.tensors) }?;
    decoder.model.tensors.reserve(tensors.len());
    // Bytes of a file, and items of them.
    decoder.model.nodes.reserve(2 * tensors.len());
    for tensor in tensors {
        // SAFETY: promised by the caller.
        unsafe { decoder.tensor(&tensor, &ids, limits) }?;
    }
    // SAFETY: promised by the caller.
    for asset in unsafe { raw::items::<MfAsset>(raw.assets) }? {
        // SAFETY: promised by the caller.
        let name = unsafe { raw::text(asset.name) }?;
        let data = decoder.bytes(&asset.data, asset.len, &ids).map_err(|error| error.file(name))?;
        let len = decoder.model.nodes[data].n;
        if len != asset.len {
            let error = Error::plugin("an asset is of another length than its bytes").file(name);
            return Err(error.expected(len).found(asset.len));
        }
        decoder.model.push_asset(name, data)?;
    }
    // SAFETY: promised by the caller.
    for claim in unsafe { raw::items::<MfClaim>(raw.claims) }? {
        let (crc32, is_header) = (claim.crc32, claim.is_header != 0);
        let node = node(&ids, claim.node)?;
        if model.nodes[node].dtype != DType::U8 {
            return Err(Error::plugin("a claim about what is no sequence of bytes").found(claim.node));
        }
        model.claims.push(Claim { node, crc32, is_header });
    }
    // SAFETY: promised by the caller.
    let document = unsafe { Document::read(raw.document) }?;
    document.apply(&mut model, &blobs, &mut |place, _| node(&ids, place.node.unwrap_or(MF_NONE)))?;
    for origin in model.graph.iter().flat_map(|graph| &graph.origins) {
        let rank = model.tensors.get(origin.tensor).map_or(0, |tensor| tensor.shape.len());
        let is_order = (0..rank).all(|axis| origin.axes.contains(&(axis as u8))) && origin.axes.len() == rank;
        if !origin.axes.is_empty() && !is_order {
            return Err(
                Error::plugin("the axes of an origin are no order of its tensor's").found(&origin.name)
            );
        }
    }
    model.sources = sources;
    Ok((model, ids))
}

/// The nodes of a question, in a model of their own, in their order. They stay the asker's.
///
/// # Safety
///
/// All that it points at is what it says, for as long as the result lives.
pub unsafe fn borrow(given: MfModel, inputs: &dyn Inputs, limits: &Limits) -> Result<(Model, Vec<NodeId>)> {
    // SAFETY: promised by the caller.
    unsafe { taken(MfModel { release: None, ..given }, inputs, limits) }
}

fn node(ids: &[NodeId], idx: u64) -> Result<NodeId> {
    let found = usize::try_from(idx).ok().and_then(|idx| ids.get(idx).copied());
    found.ok_or_else(|| Error::plugin("a node that is not there").found(idx))
}

impl Decoder<'_> {
    /// # Safety
    ///
    /// Its name and its shape are what they say.
    unsafe fn tensor(&mut self, tensor: &MfTensor, ids: &[NodeId], limits: &Limits) -> Result<()> {
        // Whether it is too long is said later, with its name. This only keeps us from looking for what cannot be there.
        Limits::check("a tensor's name is too long", tensor.name.len, limits.header_bytes)?;
        // SAFETY: promised by the caller.
        let name = unsafe { raw::text(tensor.name) }?.to_owned();
        let named = |error: Error| error.tensor(name.chars().take(80).collect::<String>());
        Limits::check("too many dimensions", tensor.rank, limits.rank as u64).map_err(named)?;
        // SAFETY: promised by the caller.
        let shape = unsafe { raw::numbers(tensor.shape, tensor.rank) }.map_err(named)?;
        let dtype = nodes::dtype(tensor.dtype, tensor.block_elements, tensor.block_bytes).map_err(named)?;
        let data = match tensor.data.kind {
            MF_DATA_NODE => node(ids, tensor.data.at),
            _ => self.packed(&tensor.data, dtype, &shape, ids),
        };
        let data = data.map_err(named)?;
        self.model.push(name, dtype, shape, data).map(drop)
    }

    /// Elements that lie in bytes as they are.
    fn packed(&mut self, data: &MfData, dtype: DType, shape: &[u64], ids: &[NodeId]) -> Result<NodeId> {
        let n = modelferry_core::expr::volume(shape);
        let sizes = n.and_then(|n| Some((dtype.items(n)?, dtype.packed_len(n)?)));
        let (n_items, len) = sizes.ok_or_else(|| {
            Error::plugin("a shape does not fit its type").found(format_args!("{shape:?} of {dtype}"))
        })?;
        let bytes = self.bytes(data, len, ids)?;
        self.model.nodes.decode(bytes, dtype, n_items, Default::default())
    }

    fn bytes(&mut self, data: &MfData, len: u64, ids: &[NodeId]) -> Result<NodeId> {
        match data.kind {
            MF_DATA_FILE => self.region(data.file, data.at, len),
            MF_DATA_NODE => node(ids, data.at),
            MF_DATA_MADE => {
                let source = (self.source)(0)?;
                self.model.nodes.plugin(source, data.at, SourceAccess::Random { grain: 1 }, len)
            }
            other => Err(Error::plugin("data of an unknown kind").found(other)),
        }
    }
}
