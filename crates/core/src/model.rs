//! The intermediate representation: what every reader makes and every writer takes.
//!
//! A [`Model`] is a description. Tensor bytes stay in their files: each [`Tensor`] points at an
//! [expression](crate::expr) that says where they are and what is to be done to them. Names are unique, shapes are
//! row-major, tied weights are recorded as ties rather than found by comparing bytes.

use crate::codes::Codes;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::expr::{Arena, Moved, NodeId, Op, volume};
use crate::graph::{Binding, Graph};
use crate::inputs::{FileId, Inputs};
use crate::limits::Limits;
use crate::loss::Loss;
use crate::tree::{Object, Tree};
pub use crate::value::{List, Value, ValueType};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// Index of a tensor in [`Model::tensors`].
pub type TensorIdx = usize;

/// A trained model, described.
#[derive(Clone, Default)]
pub struct Model {
    /// The expressions behind the tensors.
    pub nodes: Arena,
    /// Tensors in file order, names unique.
    pub tensors: Vec<Tensor>,
    /// Groups of tensors that share one storage. Each group has at least two members, in tensor order.
    pub ties: Vec<Vec<TensorIdx>>,
    /// Key and value, in file order, keys unique.
    pub metadata: Vec<(String, Value)>,
    /// How entries of the metadata stand in the root file, in its order, where each can be replaced by itself and all else
    /// left as it is.
    pub entries: Option<Vec<Stated>>,
    /// The text of `config.json`, where the model has one: as it was written, untouched.
    pub config: Option<Arc<str>>,
    /// The nested document that the tensors stand in, where the source is one (a pickle).
    pub tree: Option<Tree>,
    /// The program that the tensors stand in, where the source holds one.
    pub graph: Option<Graph>,
    /// Tensors whose numbers are codes, each once.
    pub codes: Vec<Codes>,
    /// Files that belong to the model and hold no weights, names unique.
    pub assets: Vec<Asset>,
    /// Digests that the source states about itself; the engine checks those whose bytes it reads.
    pub claims: Vec<Claim>,
    /// Digests that the source states about whole files; only `verify` reads them for that.
    pub file_digests: Vec<FileDigest>,
    /// What the reader has compared and does not insist on; `verify` does.
    pub checks: Vec<Check>,
    /// Sources behind [`Op::Plugin`].
    pub sources: Vec<Arc<dyn PayloadSource>>,
    /// What the reader saw and did not carry.
    pub losses: Vec<Loss>,
}

/// A named array.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Unique name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents in elements, row-major; empty for a scalar.
    pub shape: Vec<u64>,
    /// The items, `Π shape / dtype.item_elements()` of them.
    pub data: NodeId,
}

impl Tensor {
    /// Number of elements. [`Model::push`] proves that this fits.
    pub fn n_elements(&self) -> u64 {
        volume(&self.shape).unwrap_or(0)
    }

    /// Bytes of the elements densely packed.
    pub fn byte_len(&self) -> u64 {
        self.dtype.packed_len(self.n_elements()).unwrap_or(0)
    }
}

/// A file that belongs to a model and holds no weights: tokenizer, generation config, chat template.
#[derive(Clone, Debug)]
pub struct Asset {
    /// Path relative to the model's folder, `/` between folders. It comes from a stranger's folder; a layout's paths
    /// are checked.
    pub name: String,
    /// Its bytes: an [`Op::Region`] or an [`Op::Inline`].
    pub data: NodeId,
}

/// An entry of the metadata as it stands in the root file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// All of its bytes.
    pub bytes: Range<u64>,
}

/// A digest stated by the source about a byte sequence.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// A sequence of `u8`: a [`Op::Region`] or an [`Op::Inflate`].
    pub node: NodeId,
    /// Its CRC-32 (IEEE 802.3, as in zip).
    pub crc32: u32,
    /// Whether the description itself rests on these bytes: then every run checks them, whatever it writes.
    pub is_header: bool,
}

/// A digest stated by the source about a file that it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileDigest {
    /// The file.
    pub file: FileId,
    /// The SHA-1 of all of its bytes.
    pub sha1: [u8; 20],
}

/// A rule of the format, or a statement of the source about itself, that does not decide how the source is read: a
/// reader looks whether it holds and goes on if it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The file that it is about.
    pub file: String,
    /// What is to hold, as a fault: `"total_size is not the sum of the tensors' bytes"`.
    pub fault: &'static str,
    /// What is stated or demanded.
    pub expected: String,
    /// What there is.
    pub found: String,
    /// Whether it holds.
    pub holds: bool,
}

/// Bytes that only a plugin can make.
pub trait PayloadSource: Send + Sync {
    /// Fills `out` with the bytes of sequence `token` from `offset` on, out of the files that the model was read from.
    /// Positioned and pure: the engine calls it from several threads, and twice for the same range.
    fn read_at(&self, inputs: &dyn Inputs, token: u64, offset: u64, out: &mut [u8]) -> Result<()>;
}

impl Model {
    /// Adds a tensor, checking its data against dtype and shape. Names are checked by [`Model::validate`].
    pub fn push(
        &mut self,
        name: impl Into<String>,
        dtype: DType,
        shape: Vec<u64>,
        data: NodeId,
    ) -> Result<TensorIdx> {
        let name = name.into();
        let node = &self.nodes[data];
        let n_items = volume(&shape).and_then(|n| dtype.items(n));
        if node.dtype != dtype || n_items != Some(node.n) {
            return Err(Error::malformed("data does not fit dtype and shape")
                .tensor(name)
                .expected(format_args!("{shape:?} of {dtype}"))
                .found(format_args!("{} items of {}", node.n, node.dtype)));
        }
        self.tensors.push(Tensor { name, dtype, shape, data });
        Ok(self.tensors.len() - 1)
    }

    /// Adds an asset.
    ///
    /// Errors: its data is neither a part of a file nor bytes of the description, and so not cheap to read anywhere.
    pub fn push_asset(&mut self, name: impl Into<String>, data: NodeId) -> Result<()> {
        let name = name.into();
        if !matches!(self.nodes[data].op, Op::Region { .. } | Op::Inline(_)) {
            return Err(Error::malformed("an asset is neither a part of a file nor text of ours").file(name));
        }
        self.assets.push(Asset { name, data });
        Ok(())
    }

    /// Takes over what the tensors of another model are made of, whose files are numbered from `files` on here: its
    /// expressions, their sources, and what it claims about their bytes. Its tensors stay behind.
    ///
    /// Errors: more of them than can be numbered.
    pub fn absorb(
        &mut self,
        nodes: Arena,
        sources: Vec<Arc<dyn PayloadSource>>,
        claims: Vec<Claim>,
        files: u32,
    ) -> Result<Moved> {
        let n_sources = u32::try_from(self.sources.len()).map_err(|_| Error::limit("too many sources"))?;
        let moved = self.nodes.append(nodes, files, n_sources)?;
        self.sources.extend(sources);
        self.claims.extend(claims.into_iter().map(|claim| Claim { node: moved.id(claim.node), ..claim }));
        Ok(moved)
    }

    /// Checks what holds for every model, whoever read it: limits, unique names, ties that fit.
    pub fn validate(&self, limits: &Limits) -> Result<()> {
        Limits::check("too many tensors", self.tensors.len() as u64, limits.tensors)?;
        Limits::check("too many expression nodes", self.nodes.len() as u64, limits.nodes)?;
        let mut names = HashSet::with_capacity(self.tensors.len());
        for tensor in &self.tensors {
            let named = |error: Error| error.tensor(tensor.name.chars().take(80).collect::<String>());
            Limits::check("a tensor's name is too long", tensor.name.len() as u64, limits.name_bytes as u64)
                .map_err(named)?;
            Limits::check("too many dimensions", tensor.shape.len() as u64, limits.rank as u64)
                .map_err(named)?;
            if !names.insert(tensor.name.as_str()) {
                return Err(Error::malformed("a name is used twice").tensor(&tensor.name));
            }
        }
        let mut names = HashSet::with_capacity(self.assets.len());
        for asset in &self.assets {
            if !names.insert(asset.name.as_str()) {
                return Err(Error::malformed("two assets have this name").file(&asset.name));
            }
        }
        for (_, object) in self.tree.iter().flat_map(Tree::iter) {
            if let Object::Tensor(idx) = object
                && *idx >= self.tensors.len()
            {
                return Err(Error::malformed("the tree names a tensor that is not there").found(idx));
            }
        }
        if let Some(graph) = &self.graph {
            let fits = |binding: &Binding| {
                binding.tensor < self.tensors.len()
                    && binding.data.idx() < self.nodes.len()
                    && binding.at <= graph.body.len() as u64
            };
            if !graph.bindings.iter().all(fits) || !graph.bindings.is_sorted_by_key(|binding| binding.at) {
                return Err(Error::malformed("the graph has places for tensors that are not there"));
            }
            let mut named =
                graph.origins.iter().map(|origin| origin.tensor).chain(graph.nameless.iter().copied());
            if let Some(idx) = named.find(|idx| *idx >= self.tensors.len()) {
                return Err(Error::malformed("the graph speaks of a tensor that is not there").found(idx));
            }
        }
        let known = |idx: TensorIdx| idx < self.tensors.len();
        let fits = |codes: &Codes| {
            known(codes.tensor) && codes.scale.is_none_or(known) && codes.zero_point.is_none_or(known)
        };
        if !self.codes.iter().all(fits) {
            return Err(Error::malformed("codes have scales that are not there"));
        }
        for group in &self.ties {
            let first = group.first().and_then(|&idx| self.tensors.get(idx));
            let fits = group.len() > 1
                && group.windows(2).all(|pair| pair[0] < pair[1])
                && group.iter().all(|&idx| {
                    let tensor = self.tensors.get(idx);
                    tensor.zip(first).is_some_and(|(a, b)| a.dtype == b.dtype && a.shape == b.shape)
                });
            if !fits {
                return Err(
                    Error::malformed("a tie joins tensors that differ").found(format_args!("{group:?}"))
                );
            }
        }
        Ok(())
    }

    /// The part of a file that a tensor's bytes are, if its expression is just that: nothing computed, nothing moved.
    pub fn verbatim(&self, idx: TensorIdx) -> Option<(FileId, u64)> {
        let tensor = self.tensors.get(idx)?;
        let (mut id, mut skipped) = (tensor.data, 0u64);
        // Bits behind the last element of a byte are not part of the tensor: a copy would carry them along.
        if tensor.dtype.bits().is_some_and(|bits| u128::from(tensor.n_elements()) * u128::from(bits) % 8 != 0)
        {
            return None;
        }
        loop {
            match &self.nodes[id].op {
                Op::Region { file, at } => return Some((*file, at + skipped)),
                Op::Decode { of, packing } if *packing == Default::default() => {
                    // An offset taken above this node was in items.
                    skipped = skipped.checked_mul(self.nodes[id].dtype.item_bytes())?;
                    if self.nodes[id].dtype.is_sub_byte() && skipped != 0 {
                        return None;
                    }
                    id = *of;
                }
                Op::View { of, offset, dims }
                    if matches!(**dims, [] | [crate::expr::Dim { stride: 1, .. }]) =>
                {
                    skipped = skipped.checked_add(*offset)?;
                    id = *of;
                }
                _ => return None,
            }
        }
    }
}

/// What a writer sees of a [`Model`]: names, types, shapes and where untouched bytes lie, but no expressions.
#[derive(Clone, Copy)]
pub struct ModelView<'a> {
    model: &'a Model,
    is_weights: bool,
}

impl<'a> ModelView<'a> {
    /// A writer's view of a validated model.
    pub fn new(model: &'a Model, limits: &Limits) -> Result<ModelView<'a>> {
        model.validate(limits)?;
        Ok(ModelView { model, is_weights: false })
    }

    /// The same of a model that was validated where it comes from: on the other side of the boundary of plugins.
    pub fn of_validated(model: &'a Model) -> ModelView<'a> {
        ModelView { model, is_weights: false }
    }

    /// The same as the writer of a folder's weights sees it: config and files are written beside them, by another.
    pub fn weights(self) -> ModelView<'a> {
        ModelView { is_weights: true, ..self }
    }

    /// Whether config and files are written by another.
    pub fn is_weights(&self) -> bool {
        self.is_weights
    }

    /// The tensors, in order. A layout names them by position.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'a>> + use<'a> {
        self.model.tensors.iter().map(|tensor| TensorView { tensor })
    }

    /// One tensor.
    pub fn tensor(&self, idx: TensorIdx) -> TensorView<'a> {
        TensorView { tensor: &self.model.tensors[idx] }
    }

    /// Groups of tensors that share one storage.
    pub fn ties(&self) -> &'a [Vec<TensorIdx>] {
        &self.model.ties
    }

    /// For each tensor the first of those that share its storage: itself, where it is not tied to one before it.
    pub fn storages(&self) -> Vec<TensorIdx> {
        let mut first_of: Vec<TensorIdx> = (0..self.model.tensors.len()).collect();
        for group in self.ties() {
            group.iter().for_each(|&idx| first_of[idx] = group[0]);
        }
        first_of
    }

    /// The text of `config.json`.
    pub fn config(&self) -> Option<&'a str> {
        self.model.config.as_deref().filter(|_| !self.is_weights)
    }

    /// The nested document that the tensors stand in.
    pub fn tree(&self) -> Option<&'a Tree> {
        self.model.tree.as_ref()
    }

    /// The program that the tensors stand in.
    pub fn graph(&self) -> Option<&'a Graph> {
        self.model.graph.as_ref()
    }

    /// How entries of the metadata stood in the root file, where each can be replaced by itself.
    pub fn entries(&self) -> Option<&'a [Stated]> {
        self.model.entries.as_deref()
    }

    /// Tensors whose numbers are codes.
    pub fn codes(&self) -> &'a [Codes] {
        &self.model.codes
    }

    /// Whether the tensor in a place of the graph still has the values and the type that the graph came with.
    pub fn is_untouched(&self, binding: &Binding) -> bool {
        let tensor = &self.model.tensors[binding.tensor];
        tensor.data == binding.data && tensor.dtype == binding.dtype
    }

    /// Name and length in bytes of every file that holds no weights, in order. A layout names them by position.
    pub fn assets(&self) -> impl ExactSizeIterator<Item = (&'a str, u64)> + use<'a> {
        self.model.assets.iter().map(|asset| (asset.name.as_str(), self.model.nodes[asset.data].n))
    }

    /// Key and value, in order.
    pub fn metadata(&self) -> &'a [(String, Value)] {
        &self.model.metadata
    }

    /// The input file and offset that hold a tensor's bytes untouched, if one does: what a writer can link to, and
    /// which source shard it came from.
    pub fn verbatim(&self, idx: TensorIdx) -> Option<(FileId, u64)> {
        self.model.verbatim(idx)
    }

    /// The first input file that a tensor's expression reads: its source shard.
    pub fn source_file(&self, idx: TensorIdx) -> Option<FileId> {
        let mut id = self.model.tensors.get(idx)?.data;
        loop {
            if let Op::Region { file, .. } = self.model.nodes[id].op {
                return Some(file);
            }
            id = self.model.nodes.children(id).next()?;
        }
    }
}

/// What a writer sees of one [`Tensor`].
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    tensor: &'a Tensor,
}

impl<'a> TensorView<'a> {
    /// Unique name.
    pub fn name(&self) -> &'a str {
        &self.tensor.name
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.tensor.dtype
    }

    /// Extents in elements, row-major.
    pub fn shape(&self) -> &'a [u64] {
        &self.tensor.shape
    }

    /// Bytes of the elements densely packed.
    pub fn byte_len(&self) -> u64 {
        self.tensor.byte_len()
    }
}
