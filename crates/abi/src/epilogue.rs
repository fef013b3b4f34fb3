//! Files that report on a run, on their way across: promised, asked for with what the run has shown, made.

use crate::codes::*;
use crate::layout::{of_algo, position, to_algo, to_range};
use crate::model::Foreign;
use crate::nodes;
use crate::raw::{self, zeroed};
use crate::report::{loss_of, raw_loss};
use crate::types::*;
use modelferry_core::epilogue::{
    Digested, MAX_BYTES, MAX_FILES, Maker, Outcome, Promise, Quantized, SmallFile, TensorSeen, Written,
};
use modelferry_core::layout::Digest;
use modelferry_core::loss::{Loss, Phase};
use modelferry_core::{Error, Result};
use std::ffi::c_void;
use std::ops::Range;

/// A promise as it crosses: valid while the promise lives.
pub(crate) fn of_promise(promise: &Promise) -> MfPromise {
    let none = MfPromise { path: MfText::of(&promise.path), at_most: promise.at_most, ..zeroed() };
    let Some(Maker { format, files, digests }) = &promise.by else { return none };
    let len = |range: &Range<usize>| range.end.saturating_sub(range.start) as u64;
    MfPromise {
        format: MfText::of(format),
        first_file: files.start as u64,
        n_files: len(files),
        first_digest: digests.start as u64,
        n_digests: len(digests),
        ..none
    }
}

/// Takes the promises of a layout. Whether they can be kept is for the layout's own check.
///
/// # Safety
///
/// The array and its texts are what they say.
pub(crate) unsafe fn to_promises(slice: MfSlice) -> Result<Vec<Promise>> {
    few(slice.len, "a layout promises too many files")?;
    // SAFETY: promised by the caller.
    let promises = unsafe { raw::items::<MfPromise>(slice) }?;
    let range = |first: u64, n: u64| position(first)..position(first.saturating_add(n));
    let promise = |given: MfPromise| {
        // SAFETY: promised by the caller.
        let (path, format) = unsafe { (raw::text(given.path)?, raw::text(given.format)?) };
        let by = (!format.is_empty()).then(|| Maker {
            format: format.to_owned(),
            files: range(given.first_file, given.n_files),
            digests: range(given.first_digest, given.n_digests),
        });
        Ok(Promise { path: path.to_owned(), at_most: given.at_most, by })
    };
    promises.map(promise).collect()
}

fn few(n: u64, what: &'static str) -> Result<()> {
    if n <= MAX_FILES as u64 {
        return Ok(());
    }
    Err(Error::plugin(what).expected(format_args!("at most {MAX_FILES}")).found(n))
}

/// What a run has shown, described to the other side for the time of one call.
pub struct Shown<'a> {
    promises: Vec<MfPromise>,
    files: Vec<MfWritten>,
    digests: Vec<MfDigested>,
    tensors: Vec<MfSeen>,
    losses: Vec<MfLoss>,
    // What the texts borrow.
    _outcome: &'a Outcome,
}

impl<'a> Shown<'a> {
    /// Describes an outcome.
    pub fn new(outcome: &'a Outcome) -> Result<Shown<'a>> {
        let file = |file: &Written| MfWritten { path: MfText::of(&file.path), len: file.len };
        Ok(Shown {
            promises: outcome.promises.iter().map(of_promise).collect(),
            files: outcome.files.iter().map(file).collect(),
            digests: outcome.digests.iter().map(of_digested).collect::<Result<_>>()?,
            tensors: outcome.tensors.iter().map(of_seen).collect(),
            losses: outcome.losses.iter().map(raw_loss).collect(),
            _outcome: outcome,
        })
    }

    /// As it crosses: valid while this lives.
    pub fn raw(&self) -> MfOutcome {
        MfOutcome {
            struct_size: size_of::<MfOutcome>() as u64,
            promises: MfSlice::of(&self.promises),
            files: MfSlice::of(&self.files),
            digests: MfSlice::of(&self.digests),
            tensors: MfSlice::of(&self.tensors),
            losses: MfSlice::of(&self.losses),
        }
    }
}

fn of_digested(digested: &Digested) -> Result<MfDigested> {
    let over = &digested.digest.over;
    Ok(MfDigested {
        algo: of_algo(digested.digest.algo)?,
        file: over.file as u64,
        start: over.bytes.start,
        len: over.bytes.end.saturating_sub(over.bytes.start),
        value: MfText::of(&digested.value),
        ..zeroed()
    })
}

fn of_seen(seen: &TensorSeen) -> MfSeen {
    let (dtype, block_elements, block_bytes) = of_dtype(seen.dtype);
    let seen_in_cast = MfSeen {
        tensor: seen.idx as u64,
        name: MfText::of(&seen.name),
        dtype,
        block_elements,
        block_bytes,
        overflow: seen.overflow,
        underflow: seen.underflow,
        ..zeroed()
    };
    match seen.quantized {
        None => seen_in_cast,
        Some(Quantized { n, non_finite, overflow, rms, largest }) => MfSeen {
            n_quantized: n,
            n_non_finite: non_finite,
            n_beyond_scale: overflow,
            rms,
            largest,
            ..seen_in_cast
        },
    }
}

/// What the other side has shown.
///
/// # Safety
///
/// All that it points at is what it says.
pub unsafe fn seen(given: &MfOutcome) -> Result<Outcome> {
    // SAFETY: promised by the caller.
    let (promises, files) = unsafe { (to_promises(given.promises)?, raw::items::<MfWritten>(given.files)?) };
    // SAFETY: promised by the caller.
    let (digests, tensors, losses) = unsafe {
        (
            raw::items::<MfDigested>(given.digests)?,
            raw::items::<MfSeen>(given.tensors)?,
            raw::items::<MfLoss>(given.losses)?,
        )
    };
    let file = |file: MfWritten| {
        // SAFETY: promised by the caller.
        Ok(Written { path: unsafe { raw::text(file.path) }?.to_owned(), len: file.len })
    };
    let digested = |digested: MfDigested| {
        let over = to_range(digested.file, digested.start, digested.len);
        let digest = Digest { algo: to_algo(digested.algo)?, over };
        // SAFETY: promised by the caller.
        Ok(Digested { digest, value: unsafe { raw::bytes(digested.value) }?.to_vec() })
    };
    let loss = |loss: MfLoss| {
        // SAFETY: promised by the caller; an element is as long as ours.
        let loss = unsafe { loss_of(&loss) }?;
        Ok(Loss { phase: Phase::Observed, ..loss })
    };
    Ok(Outcome {
        promises,
        files: files.map(file).collect::<Result<_>>()?,
        digests: digests.map(digested).collect::<Result<_>>()?,
        // SAFETY: promised by the caller.
        tensors: tensors.map(|seen| unsafe { to_seen(&seen) }).collect::<Result<_>>()?,
        losses: losses.map(loss).collect::<Result<_>>()?,
    })
}

/// # Safety
///
/// Its name is what it says.
unsafe fn to_seen(given: &MfSeen) -> Result<TensorSeen> {
    Ok(TensorSeen {
        idx: position(given.tensor),
        // SAFETY: promised by the caller.
        name: unsafe { raw::text(given.name) }?.to_owned(),
        dtype: nodes::dtype(given.dtype, given.block_elements, given.block_bytes)?,
        overflow: given.overflow,
        underflow: given.underflow,
        quantized: (given.n_quantized > 0).then_some(Quantized {
            n: given.n_quantized,
            non_finite: given.n_non_finite,
            overflow: given.n_beyond_scale,
            rms: given.rms,
            largest: given.largest,
        }),
    })
}

/// Files with the array that describes them to the other side.
struct Held {
    // What the array borrows.
    _files: Vec<SmallFile>,
    raw: Vec<MfSmallFile>,
}

/// Gives files away: they are kept until the other side releases them.
pub fn give(files: Vec<SmallFile>) -> MfEpilogue {
    let file = |file: &SmallFile| MfSmallFile { path: MfText::of(&file.path), text: MfText::of(&file.text) };
    let held = Box::new(Held { raw: files.iter().map(file).collect(), _files: files });
    MfEpilogue {
        struct_size: size_of::<MfEpilogue>() as u64,
        files: MfSlice::of(&held.raw),
        release: Some(release),
        owner: Box::into_raw(held).cast(),
    }
}

unsafe extern "C" fn release(owner: *mut c_void) {
    // SAFETY: it comes from `give`, and is released once.
    drop(unsafe { Box::from_raw(owner.cast::<Held>()) });
}

/// Takes files that the other side has made, copies and releases them. What was promised of them is for
/// [`Outcome::keep`] to check: here is seen only that no layout could have promised more of them, or longer ones.
///
/// # Safety
///
/// All that it points at is what it says, until it is released.
pub unsafe fn take(given: MfEpilogue) -> Result<Vec<SmallFile>> {
    // Released at the end, however it ends.
    let owner = Foreign(MfModel { owner: given.owner, release: given.release, ..zeroed() });
    // SAFETY: promised by the caller.
    let files = unsafe { copied(given.files) };
    drop(owner);
    files
}

/// # Safety
///
/// As for [`take`].
unsafe fn copied(slice: MfSlice) -> Result<Vec<SmallFile>> {
    few(slice.len, "a writer made more files than a layout can promise")?;
    // SAFETY: promised by the caller.
    let files = unsafe { raw::items::<MfSmallFile>(slice) }?;
    let file = |file: MfSmallFile| {
        // SAFETY: promised by the caller.
        let path = unsafe { raw::text(file.path) }?.to_owned();
        if file.text.len > MAX_BYTES {
            let error = Error::plugin("a file is longer than a layout can promise").file(path);
            return Err(error.expected(format_args!("at most {MAX_BYTES}")).found(file.text.len));
        }
        // SAFETY: promised by the caller.
        let text = unsafe { raw::text(file.text) }.map_err(|error| error.file(&path))?.to_owned();
        Ok(SmallFile { path, text })
    };
    files.map(file).collect()
}
