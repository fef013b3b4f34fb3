//! Where every output byte comes from: what a writer gives and the engine executes.

use crate::epilogue::Promise;
use crate::error::{Error, Result};
use crate::expr::{Blob, Packing};
use crate::inputs::FileId;
use crate::model::{ModelView, TensorIdx};
use std::collections::HashSet;
use std::ops::Range;

/// The files of one output, byte by byte.
///
/// Lengths, names and offsets never depend on payload. Bytes that do (a zip CRC) are zeros in their piece and are
/// filled at the end by a [`Patch`].
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// The files; paths are relative to the output's folder.
    pub files: Vec<OutFile>,
    /// Checksums of parts of the output.
    pub digests: Vec<Digest>,
    /// Holes that digests fill.
    pub patches: Vec<Patch>,
    /// The file that stands for the whole: published last, named in the report.
    pub root: usize,
    /// Names of files that would be taken for this model in place of ours, or as parts of it, if they stayed beside
    /// the output: they and all of their set are replaced as if they were files of the layout. A program that finds
    /// two sets of weights in a folder loads the one it likes better.
    pub supersedes: Vec<String>,
    /// Files that are there already and that the output points into: part of it, and not written.
    pub links: Vec<Link>,
    /// What a person should know about the output although nothing of the model is lost: that no program will run it.
    pub notes: Vec<String>,
    /// Files that report on the run, of which the plan knows the names and the most that they can hold. They are
    /// published with the others.
    pub promises: Vec<Promise>,
}

/// A file of the source that is part of the output where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its path relative to the output's folder, as [`Host::link`](crate::plugin::Host::link) gave it.
    pub path: String,
    /// The file.
    pub file: FileId,
    /// Tensors that lie in it.
    pub n_tensors: u64,
}

/// One output file: its pieces in order, without gap or overlap.
#[derive(Clone, Debug)]
pub struct OutFile {
    /// Relative path, `/` between folders.
    pub path: String,
    /// Length in bytes: the sum of the pieces.
    pub len: u64,
    /// The bytes, in order.
    pub pieces: Vec<Piece>,
}

/// A run of output bytes.
#[derive(Clone, Debug)]
pub enum Piece {
    /// These bytes.
    Bytes(Blob),
    /// A range of a tensor's packed bytes.
    Tensor {
        /// Position in the model.
        idx: TensorIdx,
        /// Which of its bytes.
        bytes: Range<u64>,
        /// How its items are packed.
        packing: Packing,
    },
    /// A range of an asset's bytes.
    Asset {
        /// Position in the model.
        idx: usize,
        /// Which of its bytes.
        bytes: Range<u64>,
    },
    /// This many zero bytes.
    Zero(u64),
}

impl Piece {
    /// The whole of a tensor, little-endian.
    pub fn tensor(view: &ModelView<'_>, idx: TensorIdx) -> Piece {
        Piece::Tensor { idx, bytes: 0..view.tensor(idx).byte_len(), packing: Packing::default() }
    }

    /// Length in bytes.
    pub fn byte_len(&self) -> u64 {
        match self {
            Piece::Bytes(blob) => blob.len() as u64,
            Piece::Tensor { bytes, .. } | Piece::Asset { bytes, .. } => bytes.end.saturating_sub(bytes.start),
            Piece::Zero(len) => *len,
        }
    }
}

/// A range of an output file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// Position in [`Layout::files`].
    pub file: usize,
    /// Bytes.
    pub bytes: Range<u64>,
}

/// A checksum over output bytes.
///
/// CRC-32s are taken while every hole is still zero; SHA-256s once the holes of all CRC-32s are filled and before
/// their own are, so that they can cover a finished archive. Digests that fill no hole are for the
/// [epilogue](crate::plugin::Writer::epilogue), and are those of the finished bytes.
#[derive(Clone, Debug)]
pub struct Digest {
    /// Which function.
    pub algo: DigestAlgo,
    /// Over what.
    pub over: FileRange,
}

/// Checksum functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DigestAlgo {
    /// CRC-32 (IEEE 802.3), made from parts in any order.
    Crc32,
    /// SHA-256: sequential, a second pass over the output.
    Sha256,
}

/// A hole and what fills it.
#[derive(Clone, Debug)]
pub struct Patch {
    /// Position in [`Layout::files`].
    pub file: usize,
    /// First byte of the hole; zeros until then.
    pub at: u64,
    /// How the value is written.
    pub form: PatchForm,
    /// Position in [`Layout::digests`].
    pub digest: usize,
}

/// How a digest is written into its hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchForm {
    /// The digest's bytes as a little-endian number, or in their own order for cryptographic ones.
    Raw,
    /// Lower-case hexadecimal.
    Hex,
}

impl DigestAlgo {
    /// Bytes of the digest.
    pub fn byte_len(self) -> u64 {
        match self {
            DigestAlgo::Crc32 => 4,
            DigestAlgo::Sha256 => 32,
        }
    }
}

impl Patch {
    /// Bytes of the hole.
    pub fn byte_len(&self, digests: &[Digest]) -> u64 {
        let len = digests.get(self.digest).map_or(0, |digest| digest.algo.byte_len());
        match self.form {
            PatchForm::Raw => len,
            PatchForm::Hex => 2 * len,
        }
    }
}

impl Layout {
    /// Adds a file made of `pieces` and returns its position.
    pub fn push_file(&mut self, path: impl Into<String>, pieces: Vec<Piece>) -> usize {
        let len = pieces.iter().map(Piece::byte_len).fold(0, u64::saturating_add);
        self.files.push(OutFile { path: path.into(), len, pieces });
        self.files.len() - 1
    }

    /// The paths of all files that are published, those that are promised last.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let promised = self.promises.iter().map(|promise| promise.path.as_str());
        self.files.iter().map(|file| file.path.as_str()).chain(promised)
    }

    /// Takes in another layout behind what is there, and returns the place of its root. Positions that it speaks of
    /// become those that its files and digests have here.
    pub fn append(&mut self, added: Layout) -> usize {
        let (n_files, n_digests) = (self.files.len(), self.digests.len());
        self.files.extend(added.files);
        self.supersedes.extend(added.supersedes);
        self.notes.extend(added.notes);
        self.links.extend(added.links);
        self.digests.extend(added.digests.into_iter().map(|mut digest| {
            digest.over.file = digest.over.file.saturating_add(n_files);
            digest
        }));
        self.patches.extend(added.patches.into_iter().map(|mut patch| {
            patch.file = patch.file.saturating_add(n_files);
            patch.digest = patch.digest.saturating_add(n_digests);
            patch
        }));
        self.promises.extend(added.promises.into_iter().map(|promise| promise.moved(n_files, n_digests)));
        added.root.saturating_add(n_files)
    }

    /// Checks everything the engine relies on, whoever made the layout: sizes add up, tensor ranges exist and split
    /// no element, paths stay inside the output, digests and patches lie within their files, no digest covers a hole
    /// it fills, promises are small. Errors are of kind [`Plugin`](crate::error::ErrorKind::Plugin): a writer broke its
    /// contract.
    pub fn validate(&self, view: &ModelView<'_>) -> Result<()> {
        let n_tensors = view.tensors().len();
        let asset_len: Vec<u64> = view.assets().map(|(_, len)| len).collect();
        let mut paths = HashSet::new();
        if self.root >= self.files.len() {
            return Err(Error::plugin("a layout has no root file"));
        }
        paths.extend(self.paths());
        let is_folder = |path: &str| {
            let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
            parents.into_iter().any(|parent| paths.contains(parent))
        };
        if let Some(path) = self.paths().find(|path| is_folder(path)) {
            return Err(Error::plugin("a layout's path leads through another file").file(path));
        }
        paths.clear();
        if let Some(link) =
            self.links.iter().find(|link| !is_plain(&link.path) || !paths.insert(link.path.as_str()))
        {
            let error = Error::plugin("a layout's link is not a plain unique relative path");
            return Err(error.file(&link.path));
        }
        if let Some(path) = self.paths().find(|path| !is_plain(path) || !paths.insert(path)) {
            let error = Error::plugin("a layout's path is not a plain unique relative path");
            return Err(error.file(path));
        }
        self.validate_promises()?;
        for file in &self.files {
            let at_fault = |error: Error| error.file(&file.path);
            let mut len = 0u64;
            for piece in &file.pieces {
                if let Piece::Tensor { idx, bytes, .. } = piece {
                    let known = *idx < n_tensors && bytes.start <= bytes.end;
                    if !known || bytes.end > view.tensor(*idx).byte_len() {
                        return Err(at_fault(Error::plugin("a layout uses tensor bytes that do not exist")));
                    }
                    let item = view.tensor(*idx).dtype().item_bytes().max(1);
                    if bytes.start % item != 0 || bytes.end % item != 0 {
                        return Err(at_fault(Error::plugin("a layout splits an element")));
                    }
                }
                if let Piece::Asset { idx, bytes } = piece
                    && (bytes.start > bytes.end || asset_len.get(*idx).is_none_or(|&len| bytes.end > len))
                {
                    return Err(at_fault(Error::plugin("a layout uses asset bytes that do not exist")));
                }
                len = len
                    .checked_add(piece.byte_len())
                    .ok_or_else(|| at_fault(Error::plugin("a layout's length overflows")))?;
            }
            if len != file.len || len > i64::MAX as u64 {
                return Err(at_fault(
                    Error::plugin("a layout's pieces do not add up").expected(file.len).found(len),
                ));
            }
        }
        let inside = |file: usize, bytes: &Range<u64>| {
            bytes.start <= bytes.end && self.files.get(file).is_some_and(|file| bytes.end <= file.len)
        };
        if !self.digests.iter().all(|digest| inside(digest.over.file, &digest.over.bytes)) {
            return Err(Error::plugin("a layout's digest covers bytes that do not exist"));
        }
        let mut holes = Vec::with_capacity(self.patches.len());
        for patch in &self.patches {
            let hole = patch.at..patch.at.saturating_add(patch.byte_len(&self.digests));
            let over = self.digests.get(patch.digest).map(|digest| &digest.over);
            let own = over.is_some_and(|over| {
                over.file == patch.file && over.bytes.start < hole.end && hole.start < over.bytes.end
            });
            if !inside(patch.file, &hole) || over.is_none() || own {
                return Err(Error::plugin("a layout's patch has no place or no value").offset(patch.at));
            }
            holes.push((patch.file, hole));
        }
        self.validate_holes(holes)
    }

    /// Holes are zeros that the layout gives, and no byte belongs to two.
    fn validate_holes(&self, mut holes: Vec<(usize, Range<u64>)>) -> Result<()> {
        holes.sort_unstable_by_key(|(file, hole)| (*file, hole.start));
        let overlap = holes.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[0].1.end > pair[1].1.start);
        if let Some([_, (file, hole)]) = overlap {
            let error = Error::plugin("two patches of a layout share bytes").offset(hole.start);
            return Err(error.file(&self.files[*file].path));
        }
        let mut holes = holes.into_iter().peekable();
        for (idx, file) in self.files.iter().enumerate() {
            let mut start = 0;
            for piece in &file.pieces {
                let end = start + piece.byte_len();
                while let Some((_, hole)) = holes.next_if(|(file, hole)| *file == idx && hole.start < end) {
                    let is_zero = hole.end <= end
                        && match piece {
                            Piece::Zero(_) => true,
                            Piece::Bytes(blob) => blob
                                [(hole.start - start) as usize..(hole.end - start) as usize]
                                .iter()
                                .all(|&byte| byte == 0),
                            Piece::Tensor { .. } | Piece::Asset { .. } => false,
                        };
                    if !is_zero {
                        let error =
                            Error::plugin("a layout's patch covers bytes that are not given as zeros");
                        return Err(error.file(&file.path).offset(hole.start));
                    }
                }
                start = end;
            }
        }
        Ok(())
    }
}

/// Whether a path is relative, without `.` and `..`, and stays below the folder that it is relative to.
fn is_plain(path: &str) -> bool {
    !path.is_empty() && !path.contains('\0') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
