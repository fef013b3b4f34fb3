//! Layouts on their way across.

use crate::codes::*;
use crate::epilogue::{of_promise, to_promises};
use crate::model::{Foreign, blobs};
use crate::names::lasting;
use crate::nodes::{of_packing, to_packing};
use crate::raw::{self, zeroed};
use crate::types::*;
use modelferry_core::expr::Blob;
use modelferry_core::inputs::FileId;
use modelferry_core::layout::{Digest, DigestAlgo, FileRange, Layout, Link, Patch, PatchForm, Piece};
use modelferry_core::options::Options;
use modelferry_core::plugin::{LayoutRequest, Shards};
use modelferry_core::{Error, Result};
use std::ffi::c_void;

/// A layout with the arrays that describe it to the other side.
struct Held {
    layout: Layout,
    blobs: Vec<Blob>,
    files: Vec<MfOutFile>,
    pieces: Vec<MfPiece>,
    texts: Vec<MfText>,
    digests: Vec<MfDigest>,
    patches: Vec<MfPatch>,
    supersedes: Vec<MfText>,
    notes: Vec<MfText>,
    links: Vec<MfLink>,
    promises: Vec<MfPromise>,
}

/// Gives a layout away: it is kept until the other side releases it.
pub fn give(layout: Layout) -> Result<MfLayout> {
    let n_pieces = layout.files.iter().map(|file| file.pieces.len()).sum();
    let (mut files, mut pieces, mut blobs) = (vec![], Vec::with_capacity(n_pieces), vec![]);
    for file in &layout.files {
        let (first_piece, n_pieces) = (pieces.len() as u64, file.pieces.len() as u64);
        files.push(MfOutFile { path: MfText::of(&file.path), first_piece, n_pieces });
        for piece in &file.pieces {
            pieces.push(of_piece(piece, &mut blobs));
        }
    }
    let digest = |digest: &Digest| {
        let algo = of_algo(digest.algo)?;
        let (file, start) = (digest.over.file as u64, digest.over.bytes.start);
        Ok(MfDigest { algo, file, start, len: digest.over.bytes.end.saturating_sub(start), ..zeroed() })
    };
    let patch = |patch: &Patch| {
        let form = if patch.form == PatchForm::Hex { MF_FORM_HEX } else { MF_FORM_RAW };
        MfPatch { form, file: patch.file as u64, at: patch.at, digest: patch.digest as u64, ..zeroed() }
    };
    let digests = layout.digests.iter().map(digest).collect::<Result<_>>()?;
    let patches = layout.patches.iter().map(patch).collect();
    let texts = blobs.iter().map(MfText::of).collect();
    let supersedes = layout.supersedes.iter().map(MfText::of).collect();
    let notes = layout.notes.iter().map(MfText::of).collect();
    let link = |link: &Link| MfLink {
        path: MfText::of(&link.path),
        file: link.file.0,
        n_tensors: link.n_tensors,
        ..zeroed()
    };
    let links = layout.links.iter().map(link).collect();
    let promises = layout.promises.iter().map(of_promise).collect();
    let held =
        Held { layout, blobs, files, pieces, texts, digests, patches, supersedes, notes, links, promises };
    let held = Box::new(held);
    Ok(MfLayout {
        struct_size: size_of::<MfLayout>() as u64,
        files: MfSlice::of(&held.files),
        pieces: MfSlice::of(&held.pieces),
        blobs: MfSlice::of(&held.texts),
        digests: MfSlice::of(&held.digests),
        patches: MfSlice::of(&held.patches),
        root: held.layout.root as u64,
        supersedes: MfSlice::of(&held.supersedes),
        notes: MfSlice::of(&held.notes),
        links: MfSlice::of(&held.links),
        promises: MfSlice::of(&held.promises),
        release: Some(release),
        owner: Box::into_raw(held).cast(),
    })
}

unsafe extern "C" fn release(owner: *mut c_void) {
    // SAFETY: it comes from `give`, and is released once.
    let held = unsafe { Box::from_raw(owner.cast::<Held>()) };
    drop(held.blobs);
}

fn of_piece(piece: &Piece, blobs: &mut Vec<Blob>) -> MfPiece {
    let range = |kind: u32, idx: u64, bytes: &std::ops::Range<u64>| MfPiece {
        kind,
        idx,
        start: bytes.start,
        len: bytes.end.saturating_sub(bytes.start),
        flags: 0,
    };
    match piece {
        Piece::Bytes(blob) => {
            blobs.push(blob.clone());
            range(MF_PIECE_BLOB, blobs.len() as u64 - 1, &(0..blob.len() as u64))
        }
        Piece::Tensor { idx, bytes, packing } => {
            MfPiece { flags: of_packing(*packing), ..range(MF_PIECE_TENSOR, *idx as u64, bytes) }
        }
        Piece::Asset { idx, bytes } => range(MF_PIECE_ASSET, *idx as u64, bytes),
        Piece::Zero(len) => range(MF_PIECE_ZERO, 0, &(0..*len)),
    }
}

pub(crate) fn position(idx: u64) -> usize {
    usize::try_from(idx).unwrap_or(usize::MAX)
}

pub(crate) fn of_algo(algo: DigestAlgo) -> Result<u32> {
    match algo {
        DigestAlgo::Crc32 => Ok(MF_DIGEST_CRC32),
        DigestAlgo::Sha256 => Ok(MF_DIGEST_SHA256),
        _ => Err(Error::unsupported("a digest that this version of plugins cannot state")),
    }
}

pub(crate) fn to_algo(algo: u32) -> Result<DigestAlgo> {
    match algo {
        MF_DIGEST_CRC32 => Ok(DigestAlgo::Crc32),
        MF_DIGEST_SHA256 => Ok(DigestAlgo::Sha256),
        other => Err(Error::unsupported("a digest that is not known here").found(other)),
    }
}

pub(crate) fn to_range(file: u64, start: u64, len: u64) -> FileRange {
    FileRange { file: position(file), bytes: start..start.saturating_add(len) }
}

/// Takes a layout that the other side has filled, copies it and releases it. What it means is for
/// [`Layout::validate`] to check.
///
/// # Safety
///
/// All that it points at is what it says, until it is released.
pub unsafe fn take(given: MfLayout) -> Result<Layout> {
    // Released at the end, however it ends.
    let owner = Foreign(MfModel { owner: given.owner, release: given.release, ..zeroed() });
    // SAFETY: promised by the caller.
    let layout = unsafe { copied(&given) };
    drop(owner);
    layout
}

/// # Safety
///
/// As for [`take`].
unsafe fn copied(given: &MfLayout) -> Result<Layout> {
    // SAFETY: promised by the caller.
    let blobs = unsafe { blobs(given.blobs) }?;
    let mut layout = Layout { root: position(given.root), ..Layout::default() };
    // SAFETY: promised by the caller.
    for file in unsafe { raw::items::<MfOutFile>(given.files) }? {
        // SAFETY: promised by the caller.
        let path = unsafe { raw::text(file.path) }?;
        let own = raw::part(given.pieces, file.first_piece, file.n_pieces);
        let own = own.ok_or_else(|| Error::plugin("a file has pieces that are not there").file(path))?;
        // SAFETY: promised by the caller.
        let own = unsafe { raw::items::<MfPiece>(own) }?;
        let mut pieces = Vec::with_capacity(own.len());
        for piece in own {
            pieces.push(to_piece(&piece, &blobs).map_err(|error| error.file(path))?);
        }
        layout.push_file(path, pieces);
    }
    // SAFETY: promised by the caller.
    for digest in unsafe { raw::items::<MfDigest>(given.digests) }? {
        layout.digests.push(Digest {
            algo: to_algo(digest.algo)?,
            over: to_range(digest.file, digest.start, digest.len),
        });
    }
    // SAFETY: promised by the caller.
    for patch in unsafe { raw::items::<MfPatch>(given.patches) }? {
        let form = match patch.form {
            MF_FORM_RAW => PatchForm::Raw,
            MF_FORM_HEX => PatchForm::Hex,
            other => return Err(Error::unsupported("a form of a digest that is not known here").found(other)),
        };
        let (file, digest) = (position(patch.file), position(patch.digest));
        layout.patches.push(Patch { file, at: patch.at, form, digest });
    }
    for (slice, texts) in [(given.supersedes, &mut layout.supersedes), (given.notes, &mut layout.notes)] {
        // SAFETY: promised by the caller.
        for text in unsafe { raw::items::<MfText>(slice) }? {
            // SAFETY: promised by the caller.
            texts.push(unsafe { raw::text(text) }?.to_owned());
        }
    }
    // SAFETY: promised by the caller.
    for link in unsafe { raw::items::<MfLink>(given.links) }? {
        // SAFETY: promised by the caller.
        let path = unsafe { raw::text(link.path) }?.to_owned();
        layout.links.push(Link { path, file: FileId(link.file), n_tensors: link.n_tensors });
    }
    // SAFETY: promised by the caller.
    layout.promises = unsafe { to_promises(given.promises) }?;
    Ok(layout)
}

fn to_piece(piece: &MfPiece, blobs: &[Blob]) -> Result<Piece> {
    let end = piece.start.checked_add(piece.len).ok_or_else(|| Error::plugin("a piece is too long"))?;
    let bytes = piece.start..end;
    Ok(match piece.kind {
        MF_PIECE_BLOB => {
            let blob =
                blobs.get(position(piece.idx)).ok_or_else(|| Error::plugin("a blob that is not there"))?;
            match bytes == (0..blob.len() as u64) {
                true => Piece::Bytes(blob.clone()),
                false => {
                    let part = blob.get(position(bytes.start)..position(bytes.end));
                    Piece::Bytes(part.ok_or_else(|| Error::plugin("a piece beyond its blob"))?.into())
                }
            }
        }
        MF_PIECE_TENSOR => {
            Piece::Tensor { idx: position(piece.idx), bytes, packing: to_packing(piece.flags)? }
        }
        MF_PIECE_ASSET => Piece::Asset { idx: position(piece.idx), bytes },
        MF_PIECE_ZERO => Piece::Zero(piece.len),
        other => return Err(Error::unsupported("a piece that is not known here").found(other)),
    })
}

/// A request, described to the other side for the time of one call.
pub struct Wanted<'a> {
    options: Vec<MfOption>,
    request: LayoutRequest<'a>,
}

impl<'a> Wanted<'a> {
    /// Describes a request.
    pub fn new(request: &LayoutRequest<'a>) -> Wanted<'a> {
        Wanted { options: of_options(request.options), request: request.clone() }
    }

    /// As it crosses: valid while this lives.
    pub fn raw(&self) -> MfRequest {
        let (shards, shard_bytes) = match self.request.shards {
            Shards::One => (MF_SHARDS_ONE, 0),
            Shards::Max(most) => (MF_SHARDS_MAX, most),
            Shards::Keep => (MF_SHARDS_KEEP, 0),
        };
        MfRequest {
            struct_size: size_of::<MfRequest>() as u64,
            file_name: MfText::of(self.request.file_name),
            weights: MfText::of(self.request.weights),
            options: MfSlice::of(&self.options),
            shards,
            shard_bytes,
            ..zeroed()
        }
    }
}

/// Options that have a value, as they cross: valid while the options live.
pub fn of_options(options: &Options) -> Vec<MfOption> {
    let option =
        |(name, value): (&'static str, &str)| MfOption { name: MfText::of(name), value: MfText::of(value) };
    options.iter().map(option).collect()
}

/// A request as it came.
pub struct Asked {
    file_name: String,
    weights: &'static str,
    options: Options,
    shards: Shards,
}

impl Asked {
    /// # Safety
    ///
    /// The request is what it says.
    pub unsafe fn new(given: *const MfRequest) -> Result<Asked> {
        // SAFETY: promised by the caller.
        let given = unsafe { raw::sized(given) }?;
        let shards = match given.shards {
            MF_SHARDS_ONE => Shards::One,
            MF_SHARDS_MAX => Shards::Max(given.shard_bytes),
            MF_SHARDS_KEEP => Shards::Keep,
            other => return Err(Error::unsupported("a way to shard that is not known here").found(other)),
        };
        // SAFETY: promised by the caller.
        let (file_name, weights, options) =
            unsafe { (raw::text(given.file_name)?, raw::text(given.weights)?, to_options(given.options)?) };
        Ok(Asked { file_name: file_name.to_owned(), weights: lasting(weights), options, shards })
    }

    /// The request.
    pub fn request(&self) -> LayoutRequest<'_> {
        let Asked { file_name, weights, options, shards } = self;
        LayoutRequest { file_name, weights, options, shards: *shards }
    }
}

/// Options as they came. They were checked against their declarations by the program.
///
/// # Safety
///
/// The array is what it says.
pub unsafe fn to_options(slice: MfSlice) -> Result<Options> {
    let mut found = Options::default();
    // SAFETY: promised by the caller.
    for option in unsafe { raw::items::<MfOption>(slice) }? {
        // SAFETY: promised by the caller.
        let (name, value) = unsafe { (raw::text(option.name)?, raw::text(option.value)?) };
        found.set(lasting(name), value);
    }
    Ok(found)
}
