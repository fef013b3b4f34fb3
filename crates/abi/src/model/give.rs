//! A model given away: kept here, described to the other side, until that releases it.

use crate::author::host::Called;
use crate::codes::*;
use crate::described::Described;
use crate::document::Document;
use crate::nodes::{self, Blobs, Encoded};
use crate::raw;
use crate::report::{caught, guard, report_of};
use crate::types::*;
use modelferry_core::expr::{Arena, NodeId, Op, Packing};
use modelferry_core::graph::Binding;
use modelferry_core::model::{Claim, Model, PayloadSource};
use modelferry_core::{Error, Result};
use std::ffi::c_void;
use std::sync::Arc;

/// A model with the arrays that describe it to the other side.
struct Held {
    model: Model,
    encoded: Encoded,
    tensors: Vec<MfTensor>,
    assets: Vec<MfAsset>,
    claims: Vec<MfClaim>,
    blobs: Blobs,
    texts: Vec<MfText>,
    document: String,
}

/// Gives a model away: it is kept until the other side releases it. Its losses are not part of it; they are told.
pub fn give(mut model: Model) -> Result<MfModel> {
    let mut blobs = Blobs::default();
    let plain = Plain::new(&model);
    let roots = model.tensors.iter().map(|tensor| tensor.data).filter(|id| plain.bytes(*id).is_none());
    let roots = roots.chain(model.assets.iter().map(|asset| asset.data));
    let roots = roots.chain(model.claims.iter().map(|claim| claim.node));
    let roots =
        roots.chain(model.graph.iter().flat_map(|graph| graph.bindings.iter().map(|place| place.data)));
    let encoded = nodes::encode(&model.nodes, roots, &mut blobs)?;
    let node = |id: NodeId| MfData { kind: MF_DATA_NODE, file: MF_NO_FILE, at: encoded.place(id) };
    let tensors = model.tensors.iter().map(|tensor| {
        let (dtype, block_elements, block_bytes) = of_dtype(tensor.dtype);
        MfTensor {
            name: MfText::of(&tensor.name),
            dtype,
            block_elements,
            block_bytes,
            shape: tensor.shape.as_ptr(),
            rank: tensor.shape.len() as u64,
            byte_len: tensor.byte_len(),
            data: plain.bytes(tensor.data).unwrap_or_else(|| node(tensor.data)),
        }
    });
    let assets = model.assets.iter().map(|asset| MfAsset {
        name: MfText::of(&asset.name),
        len: model.nodes[asset.data].n,
        data: node(asset.data),
    });
    let claim = |claim: &Claim| MfClaim {
        node: encoded.place(claim.node),
        crc32: claim.crc32,
        is_header: claim.is_header.into(),
    };
    let (tensors, assets) = (tensors.collect(), assets.collect());
    let claims = model.claims.iter().map(claim).collect();
    let binding = |place: &Binding| (Some(encoded.place(place.data)), false);
    let document = Document::of(&Described::of(&model), &binding, &mut blobs)?;
    let document = document.text()?;
    // The other side makes its own of the document; nothing points at this one.
    model.tree = None;
    let texts = blobs.texts();
    let held = Box::new(Held { model, encoded, tensors, assets, claims, blobs, texts, document });
    Ok(MfModel {
        struct_size: size_of::<MfModel>() as u64,
        tensors: MfSlice::of(&held.tensors),
        nodes: MfSlice::of(&held.encoded.nodes),
        blobs: MfSlice::of(&held.texts),
        assets: MfSlice::of(&held.assets),
        claims: MfSlice::of(&held.claims),
        document: MfText::of(&held.document),
        release: Some(release),
        read_at: Some(read_at),
        owner: Box::into_raw(held).cast(),
    })
}

/// Which expressions are bytes of a file as they are, so that a tensor's data says all of them and no node has to cross.
struct Plain<'a> {
    nodes: &'a Arena,
    /// How many refer to each node. What several speak of stays a node: that it is the same one means something.
    n_uses: Vec<u32>,
}

impl Plain<'_> {
    fn new(model: &Model) -> Plain<'_> {
        let nodes = &model.nodes;
        let mut n_uses = vec![0u32; nodes.len()];
        let mut used = |id: NodeId| n_uses[id.idx()] = n_uses[id.idx()].saturating_add(1);
        nodes.iter().for_each(|(id, _)| nodes.children(id).for_each(&mut used));
        model.tensors.iter().for_each(|tensor| used(tensor.data));
        model.assets.iter().for_each(|asset| used(asset.data));
        model.claims.iter().for_each(|claim| used(claim.node));
        let places = model.graph.iter().flat_map(|graph| &graph.bindings);
        places.for_each(|place| used(place.data));
        Plain { nodes, n_uses }
    }

    /// Where the bytes of a tensor's expression are, if it is nothing else.
    fn bytes(&self, id: NodeId) -> Option<MfData> {
        let bytes = match self.nodes[id].op {
            Op::Decode { of, packing } if packing == Packing::default() => of,
            _ => return None,
        };
        match self.nodes[bytes].op {
            Op::Region { file, at } if self.n_uses[id.idx()] == 1 && self.n_uses[bytes.idx()] == 1 => {
                Some(MfData { kind: MF_DATA_FILE, file: file.0, at })
            }
            _ => None,
        }
    }
}

unsafe extern "C" fn release(owner: *mut c_void) {
    // SAFETY: it comes from `give`, and is released once. Dropping runs no code of a plugin's but its sources', of
    // which a panic must not leave.
    let mut held = unsafe { Box::from_raw(owner.cast::<Held>()) };
    // Each by itself: a panic while another unwinds would be the end.
    for source in std::mem::take(&mut held.model.sources) {
        let _ = caught(|| drop(source));
    }
    // Named, so that it is plain what lives until here.
    drop(held.blobs);
}

unsafe extern "C" fn read_at(
    owner: *mut c_void,
    call: *const MfCall,
    source: u64,
    token: u64,
    offset: u64,
    out: *mut u8,
    len: u64,
) -> i32 {
    // SAFETY: it comes from `give`, and is not released yet. Nothing of it changes.
    let held = unsafe { &*owner.cast::<Held>() };
    // SAFETY: the call and the room are the caller's.
    unsafe { filled(call, &held.model.sources, source, token, offset, out, len) }
}

/// Fills the room that the other side has made.
///
/// # Safety
///
/// The call is null or the other side's, and under way; the room is what it says.
pub(super) unsafe fn filled(
    call: *const MfCall,
    sources: &[Arc<dyn PayloadSource>],
    source: u64,
    token: u64,
    offset: u64,
    out: *mut u8,
    len: u64,
) -> i32 {
    let work = || {
        // SAFETY: promised by the caller.
        let (called, out) = unsafe { (Called::new(call)?, raw::room(out, len)?) };
        let found = usize::try_from(source).ok().and_then(|idx| sources.get(idx));
        let found = found.ok_or_else(|| Error::plugin("a source that is not there").found(source))?;
        found.read_at(&called, token, offset, out)
    };
    // SAFETY: promised by the caller.
    unsafe { guard(report_of(call), work) }
}
