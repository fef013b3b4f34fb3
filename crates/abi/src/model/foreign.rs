//! What stays on the other side of a model that was taken: its release, and the bytes that it makes.

use crate::calls::Call;
use crate::raw;
use crate::report::Told;
use crate::types::*;
use modelferry_core::expr::Blob;
use modelferry_core::inputs::Inputs;
use modelferry_core::model::PayloadSource;
use modelferry_core::{Error, Result};
use std::sync::Arc;

/// A model of the other side's, released when it is needed no more.
pub(crate) struct Foreign(pub(crate) MfModel);

// SAFETY: the other side promises that `read_at` may be called from several threads, and `release` from any.
unsafe impl Send for Foreign {}
// SAFETY: as above.
unsafe impl Sync for Foreign {}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Some(release) = self.0.release.take() {
            // SAFETY: its own owner, once.
            unsafe { release(self.0.owner) };
        }
    }
}

/// Bytes that the other side makes.
pub(super) struct ForeignSource {
    pub(super) foreign: Arc<Foreign>,
    pub(super) source: u64,
}

impl PayloadSource for ForeignSource {
    fn read_at(&self, inputs: &dyn Inputs, token: u64, offset: u64, out: &mut [u8]) -> Result<()> {
        let model = &self.foreign.0;
        let read =
            model.read_at.ok_or_else(|| Error::plugin("a model has no function for the bytes it makes"))?;
        let _ = Call::make(inputs, None, None, |call| {
            let (out, len) = (out.as_mut_ptr(), out.len() as u64);
            // SAFETY: its own owner, which is not released yet, and as much room as is said.
            Told::by(|report| unsafe {
                read(model.owner, &call(report), self.source, token, offset, out, len)
            })
        })?;
        Ok(())
    }
}

/// The bytes of the blobs of a model or a layout.
///
/// # Safety
///
/// The array and its texts are what they say.
pub(crate) unsafe fn blobs(slice: MfSlice) -> Result<Vec<Blob>> {
    // SAFETY: promised by the caller.
    unsafe { raw::items::<MfText>(slice)?.map(|text| raw::bytes(text).map(Blob::from)).collect() }
}
