//! Models on their way across: a reader's to the program, and back where one holds another.

use crate::author::host::Called;
use crate::calls::Call;
use crate::codes::*;
use crate::document::{
    self, Document, JsonBinding, JsonCheck, JsonCodes, JsonEntry, JsonGraph, JsonOrigin, JsonTree, JsonValue,
};
use crate::nodes::{self, Blobs, Decoder, Encoded};
use crate::raw::{self, zeroed};
use crate::report::{Told, caught, guard, report_of};
use crate::types::*;
use modelferry_core::codes::Codes;
use modelferry_core::expr::{Arena, Blob, NodeId, Op, Packing, SourceAccess};
use modelferry_core::graph::{Binding, Graph, Origin};
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::limits::Limits;
use modelferry_core::model::{Check, Claim, FileDigest, Model, PayloadSource, Stated};
use modelferry_core::tree::Part;
use modelferry_core::{DType, Error, Result};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

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

/// Which expressions are bytes of a file as they are, so that a tensor's data says all of them.
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
            _ => id,
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
unsafe fn filled(
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

/// The parts of a model that cross as JSON.
pub(crate) struct Described<'a> {
    pub(crate) ties: &'a [Vec<usize>],
    pub(crate) metadata: &'a [(String, modelferry_core::model::Value)],
    pub(crate) config: Option<&'a str>,
    pub(crate) tree: Option<&'a modelferry_core::tree::Tree>,
    pub(crate) graph: Option<&'a Graph>,
    pub(crate) entries: Option<&'a [Stated]>,
    pub(crate) codes: &'a [Codes],
    pub(crate) checks: &'a [Check],
    pub(crate) file_digests: &'a [FileDigest],
}

impl<'a> Described<'a> {
    fn of(model: &'a Model) -> Described<'a> {
        Described {
            ties: &model.ties,
            metadata: &model.metadata,
            config: model.config.as_deref(),
            tree: model.tree.as_ref(),
            graph: model.graph.as_ref(),
            entries: model.entries.as_deref(),
            codes: &model.codes,
            checks: &model.checks,
            file_digests: &model.file_digests,
        }
    }
}

impl<'a> Document<'a> {
    /// `binding` gives the node of a place in the graph, and whether its tensor is untouched.
    pub(crate) fn of(
        from: &Described<'a>,
        binding: &dyn Fn(&Binding) -> (Option<u64>, bool),
        blobs: &mut Blobs,
    ) -> Result<Document<'a>> {
        let mut document = Document {
            ties: from.ties.to_vec(),
            config: from.config.map(str::to_owned),
            tree: from.tree.map(|tree| JsonTree::of(tree, blobs)).transpose()?,
            ..Document::default()
        };
        for (key, value) in from.metadata {
            document.metadata.push((key.clone(), JsonValue::of(value, blobs)));
        }
        document.graph = from.graph.map(|graph| {
            let place = |place: &Binding| {
                let (node, is_untouched) = binding(place);
                let (name, dtype) = (place.name.to_string(), dtype_text(place.dtype));
                JsonBinding { at: place.at, tensor: place.tensor, name, dtype, node, is_untouched }
            };
            let origin = |origin: &Origin| JsonOrigin {
                tensor: origin.tensor,
                name: origin.name.to_string(),
                axes: origin.axes.to_vec(),
            };
            JsonGraph {
                dialect: graph.dialect.to_owned(),
                body: blobs.add(graph.body.clone()),
                bindings: graph.bindings.iter().map(place).collect(),
                parts: graph.parts.iter().map(|part| (part.path.clone(), part.what.clone())).collect(),
                origins: graph.origins.iter().map(origin).collect(),
                nameless: graph.nameless.clone(),
            }
        });
        document.entries = from.entries.map(|entries| entries.iter().map(JsonEntry::of).collect());
        document.codes = from.codes.iter().map(JsonCodes::of).collect();
        document.checks = from.checks.iter().map(JsonCheck::of).collect();
        let hex = |digest: &FileDigest| digest.sha1.iter().map(|byte| format!("{byte:02x}")).collect();
        document.file_digests = from.file_digests.iter().map(|digest| (digest.file.0, hex(digest))).collect();
        Ok(document)
    }

    /// Its text; empty if there is nothing to say.
    pub(crate) fn text(&self) -> Result<String> {
        let text = serde_json::to_string(self);
        let text = text.map_err(|error| Error::plugin("a document cannot be written").source(error))?;
        Ok(if text == "{}" { String::new() } else { text })
    }

    /// # Safety
    ///
    /// The text is what it says, for `'a`.
    pub(crate) unsafe fn read(text: MfText) -> Result<Document<'a>> {
        // SAFETY: promised by the caller.
        let bytes = unsafe { raw::bytes(text) }?;
        if bytes.is_empty() {
            return Ok(Document::default());
        }
        let wrong = || Error::plugin("a document that is not of the published schema");
        // Looked at once, so that serde_json need not do so for every text in it.
        let text = std::str::from_utf8(bytes).map_err(|error| wrong().source(error))?;
        if !text.trim_ascii_start().starts_with('{') {
            return Err(wrong().expected("an object"));
        }
        serde_json::from_str(text).map_err(|error| wrong().source(error))
    }

    /// Moves what it says into the model whose tensors are there. `data` gives the expression of a place in a graph.
    pub(crate) fn apply(
        self,
        model: &mut Model,
        blobs: &[Blob],
        data: &mut dyn FnMut(&JsonBinding, &mut Model) -> Result<NodeId>,
    ) -> Result<()> {
        model.ties = self.ties;
        model.config = self.config.map(Into::into);
        model.tree = self.tree.map(|tree| tree.tree(blobs)).transpose()?;
        for (key, value) in self.metadata {
            model.metadata.push((key, value.value(blobs)?));
        }
        if let Some(graph) = self.graph {
            let mut bindings = Vec::with_capacity(graph.bindings.len());
            for place in graph.bindings {
                let data = data(&place, model)?;
                let dtype = dtype_of_text(&place.dtype)?;
                bindings.push(Binding {
                    at: place.at,
                    tensor: place.tensor,
                    name: place.name.into(),
                    dtype,
                    data,
                });
            }
            let origin = |origin: JsonOrigin| Origin {
                tensor: origin.tensor,
                name: origin.name.into(),
                axes: origin.axes.into(),
            };
            model.graph = Some(Graph {
                dialect: lasting(&graph.dialect),
                body: document::blob(blobs, graph.body)?,
                bindings,
                parts: graph.parts.into_iter().map(|(path, what)| Part { path, what }).collect(),
                origins: graph.origins.into_iter().map(origin).collect(),
                nameless: graph.nameless,
            });
        }
        model.entries = self.entries.map(|entries| entries.into_iter().map(JsonEntry::stated).collect());
        model.codes = self.codes.into_iter().map(JsonCodes::codes).collect();
        model.checks = self.checks.into_iter().map(JsonCheck::check).collect();
        for (file, text) in self.file_digests {
            model.file_digests.push(FileDigest { file: FileId(file), sha1: sha1(&text)? });
        }
        Ok(())
    }
}

impl JsonCheck {
    fn of(check: &Check) -> JsonCheck {
        JsonCheck {
            file: check.file.clone(),
            fault: check.fault.to_owned(),
            expected: check.expected.clone(),
            found: check.found.clone(),
            holds: check.holds,
        }
    }

    fn check(self) -> Check {
        let JsonCheck { file, fault, expected, found, holds } = self;
        Check { file, fault: lasting(&fault), expected, found, holds }
    }
}

/// The digits of a SHA-1.
fn sha1(text: &str) -> Result<[u8; 20]> {
    let wrong = || Error::plugin("a SHA-1 is not forty hexadecimal digits").found(text);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digits: Option<Vec<u8>> =
        pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    let found = digits.filter(|_| rest.is_empty()).and_then(|digits| digits.try_into().ok());
    found.ok_or_else(wrong)
}

pub(crate) fn dtype_text(dtype: DType) -> String {
    match dtype {
        DType::Opaque { elements, bytes } => format!("opaque:{elements}:{bytes}"),
        named => named.to_string(),
    }
}

pub(crate) fn dtype_of_text(text: &str) -> Result<DType> {
    let opaque = text
        .strip_prefix("opaque:")
        .and_then(|sizes| sizes.split_once(':'))
        .and_then(|(n, bytes)| Some(DType::Opaque { elements: n.parse().ok()?, bytes: bytes.parse().ok()? }));
    opaque
        .or_else(|| DType::from_name(text))
        .ok_or_else(|| Error::unsupported("an element type that is not known here").found(text))
}

/// The same text for as long as the process lives: names of formats and kinds of faults, of which a program meets few.
pub fn lasting(text: &str) -> &'static str {
    static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    match kept.get(text) {
        Some(found) => found,
        None => {
            let new: &'static str = Box::leak(text.to_owned().into_boxed_str());
            kept.insert(new);
            new
        }
    }
}

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
struct ForeignSource {
    foreign: Arc<Foreign>,
    source: u64,
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
    let known: RefCell<BTreeMap<FileId, Option<u64>>> = RefCell::default();
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
