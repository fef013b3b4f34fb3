//! Expressions that a question is about.

use super::give::filled;
use crate::nodes::{self, Blobs, Encoded};
use crate::raw::zeroed;
use crate::types::*;
use modelferry_core::Result;
use modelferry_core::expr::NodeId;
use modelferry_core::model::{Model, PayloadSource};
use std::ffi::c_void;
use std::sync::Arc;

/// Expressions that a question is about, described to the other side for the time of one call.
pub struct Asked<'a> {
    encoded: Encoded,
    texts: Vec<MfText>,
    // What the texts borrow.
    _blobs: Blobs,
    sources: &'a [Arc<dyn PayloadSource>],
}

impl<'a> Asked<'a> {
    /// The nodes that these are made of.
    pub fn new(model: &'a Model, about: &[NodeId]) -> Result<Asked<'a>> {
        let mut blobs = Blobs::default();
        let encoded = nodes::encode(&model.nodes, about.iter().copied(), &mut blobs)?;
        let texts = blobs.texts();
        Ok(Asked { encoded, texts, _blobs: blobs, sources: &model.sources })
    }

    /// Where a node has gone.
    pub fn place(&self, id: NodeId) -> u64 {
        self.encoded.place(id)
    }

    /// As it crosses: valid while this lives.
    pub fn model(&self) -> MfModel {
        MfModel {
            struct_size: size_of::<MfModel>() as u64,
            owner: std::ptr::from_ref(self).cast_mut().cast(),
            read_at: Some(read_asked),
            nodes: MfSlice::of(&self.encoded.nodes),
            blobs: MfSlice::of(&self.texts),
            ..zeroed()
        }
    }
}

unsafe extern "C" fn read_asked(
    owner: *mut c_void,
    call: *const MfCall,
    source: u64,
    token: u64,
    offset: u64,
    out: *mut u8,
    len: u64,
) -> i32 {
    // SAFETY: it comes from `Asked::model`, and the question is not answered yet.
    let asked = unsafe { &*owner.cast::<Asked<'_>>() };
    // SAFETY: the call and the room are the caller's.
    unsafe { filled(call, asked.sources, source, token, offset, out, len) }
}
