//! A tensor as torch describes it -> expressions over its storage.

use modelferry_core::expr::{BitOrder, ByteOrder, Codec, Dim, NodeId, Packing, ScalarFn};
use modelferry_core::limits::Limits;
use modelferry_core::model::{Claim, Model, TensorIdx};
use modelferry_core::{DType, Error, Result};
use modelferry_wire::npy::MemoryOrder;
use modelferry_wire::torch::{Checkpoint, Data, Inline, Packed, Quantizer, Record, Strided, TensorSpec};
use modelferry_wire::zip::Method;
use std::collections::{BTreeMap, HashMap};

/// Makes tensors of one checkpoint, each storage once.
pub(crate) struct Tensors {
    /// The bytes of a storage, by its position.
    bytes: HashMap<usize, NodeId>,
    /// The same as elements of a type.
    elements: HashMap<(usize, DType), NodeId>,
    /// Bytes of tensors that are many times larger than their storages.
    repeated_bytes: u64,
    /// Bytes of arrays in the pickle itself.
    inline_bytes: u64,
    /// Which elements of which storage a tensor is, for those that others may be too.
    known: HashMap<Place, TensorIdx>,
    /// For each tensor that is another name of one, that one.
    ties: BTreeMap<TensorIdx, TensorIdx>,
}

/// Which elements of which storage: what two names for one tensor agree in.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    storage: usize,
    dtype: DType,
    offset: u64,
    size: Box<[u64]>,
    stride: Box<[u64]>,
    bits: [bool; 2],
}

/// A tensor, or several that stand for one.
pub(crate) enum Added {
    /// One.
    One(TensorIdx),
    /// Parts, by the name that each has below the tensor's own, and what they are.
    Parts(Vec<(&'static str, TensorIdx)>, String),
}

impl Tensors {
    pub(crate) fn new() -> Tensors {
        Tensors {
            bytes: HashMap::new(),
            elements: HashMap::new(),
            repeated_bytes: 0,
            inline_bytes: 0,
            known: HashMap::new(),
            ties: BTreeMap::new(),
        }
    }

    /// Ties in the order of their first tensors.
    pub(crate) fn finish(self, model: &mut Model) {
        let mut groups: BTreeMap<TensorIdx, Vec<TensorIdx>> = BTreeMap::new();
        for (other, first) in self.ties {
            groups.entry(first).or_insert_with(|| vec![first]).push(other);
        }
        model.ties.extend(groups.into_values());
    }

    /// Says that a tensor is another name of one that is there.
    pub(crate) fn tie(&mut self, first: TensorIdx, other: TensorIdx) {
        let first = self.ties.get(&first).copied().unwrap_or(first);
        self.ties.insert(other, first);
    }

    /// Adds a tensor under a name.
    ///
    /// Errors: [`Unsupported`](modelferry_core::ErrorKind::Unsupported) for one that is not all here.
    pub(crate) fn add(
        &mut self,
        model: &mut Model,
        checkpoint: &Checkpoint,
        name: &str,
        spec: &TensorSpec,
        limits: &Limits,
    ) -> Result<Added> {
        let mut add = |part: &str, spec: &TensorSpec| {
            self.add(model, checkpoint, &format!("{name}.{part}"), spec, limits)
        };
        let mut one = |part: &'static str, spec: &TensorSpec| match add(part, spec)? {
            Added::One(idx) => Ok((part, idx)),
            Added::Parts(..) => Err(Error::unsupported("parts of a tensor have parts of their own")),
        };
        match &spec.data {
            Data::Strided(strided) => {
                self.check_repeats(checkpoint, strided, limits)?;
                self.strided(model, checkpoint, name, strided, spec).map(Added::One)
            }
            Data::Inline(inline) => self.inline(model, checkpoint, name, inline, limits).map(Added::One),
            Data::Quantized { codes, quantizer } => {
                let plain = TensorSpec { data: Data::Strided(codes.clone()), ..spec.clone() };
                let mut parts = vec![one("int_repr", &plain)?];
                let what = match quantizer {
                    Quantizer::PerTensor { scale, zero_point } => {
                        let scale = model.nodes.inline(scale.to_le_bytes().to_vec())?;
                        parts.push(("scale", scalar(model, &format!("{name}.scale"), DType::F64, scale)?));
                        let zero_point = model.nodes.inline(zero_point.to_le_bytes().to_vec())?;
                        parts.push((
                            "zero_point",
                            scalar(model, &format!("{name}.zero_point"), DType::I64, zero_point)?,
                        ));
                        "one scale".to_owned()
                    }
                    Quantizer::PerChannel { scales, zero_points, axis } => {
                        parts.push(one("scales", scales)?);
                        parts.push(one("zero_points", zero_points)?);
                        format!("a scale for each index of axis {axis}")
                    }
                };
                Ok(Added::Parts(parts, format!("quantized with {what}, written as its parts")))
            }
            Data::Sparse { layout, size, parts } => {
                let names: &[&str] = match parts.len() {
                    2 => &["indices", "values"],
                    _ => &["compressed_indices", "plain_indices", "values"],
                };
                let parts: Result<Vec<_>> =
                    names.iter().zip(parts).map(|(name, part)| one(name, part)).collect();
                let what = format!("sparse, {layout:?} of extents {size:?}, written as its parts");
                Ok(Added::Parts(parts?, what))
            }
            Data::Distributed(distributed) if distributed.local.size() == Some(&distributed.size) => {
                self.add(model, checkpoint, name, &distributed.local, limits)
            }
            Data::Distributed(distributed) => Err(Error::unsupported(
                "only a part of this tensor is in the file, and putting parts together is not there yet",
            )
            .expected(format_args!("{:?}", distributed.size))
            .found(format_args!("{:?}", distributed.local.size().unwrap_or_default()))),
            Data::Meta { size, .. } => {
                let error =
                    Error::unsupported("this tensor was saved from the meta device, which holds no values");
                Err(error.expected(format_args!("values for {size:?}")))
            }
            _ => Err(Error::unsupported("a tensor that only a class of its own program knows how to make")),
        }
    }

    /// Refuses views that make terabytes of a few bytes.
    fn check_repeats(&mut self, checkpoint: &Checkpoint, strided: &Strided, limits: &Limits) -> Result<()> {
        let volume = |bytes: u64, &extent: &u64| bytes.saturating_mul(extent);
        let bytes = if strided.size.contains(&0) {
            0
        } else {
            strided.size.iter().fold(strided.element.bytes, volume)
        };
        let stored = checkpoint.storages().get(strided.storage).map_or(0, |(_, record)| record.len);
        if bytes > stored.saturating_mul(limits.inflate_ratio) {
            self.repeated_bytes = self.repeated_bytes.saturating_add(bytes);
        }
        let what = "views that repeat their storages' elements are too large together";
        Limits::check(what, self.repeated_bytes, limits.repeated_bytes)
    }

    fn strided(
        &mut self,
        model: &mut Model,
        checkpoint: &Checkpoint,
        name: &str,
        strided: &Strided,
        spec: &TensorSpec,
    ) -> Result<TensorIdx> {
        let element = strided.element;
        let n: u64 = strided.size.iter().try_fold(1u64, |n, &extent| n.checked_mul(extent)).unwrap_or(0);
        let mut shape = strided.size.to_vec();
        let mut data = match element.packed {
            Packed::No => {
                let of = self.elements(model, checkpoint, strided.storage, element.dtype)?;
                view(model, of, strided)?
            }
            Packed::Bytes(per_byte) => {
                let of = self.elements(model, checkpoint, strided.storage, DType::U8)?;
                let bytes = view(model, of, strided)?;
                // torch counts bytes along the last axis, we count what is in them.
                let last = shape.last_mut();
                let last =
                    last.ok_or_else(|| Error::unsupported("a scalar of a type whose elements share a byte"))?;
                *last =
                    last.checked_mul(per_byte).ok_or_else(|| Error::malformed("a tensor is too large"))?;
                let n = n.checked_mul(per_byte).ok_or_else(|| Error::malformed("a tensor is too large"))?;
                model.nodes.decode(bytes, element.dtype, n, Packing::default())?
            }
            Packed::Items(per_byte) => self.packed_rows(model, checkpoint, strided, per_byte)?,
        };
        if strided.conj {
            data = model.nodes.map(ScalarFn::Conj, &[data], element.dtype)?;
        }
        if strided.neg {
            data = model.nodes.map(ScalarFn::Neg, &[data], element.dtype)?;
        }
        let dtype = spec.cast.map_or(element.dtype, |cast| cast.dtype);
        data = model.nodes.cast(data, dtype)?;
        let idx = model.push(name, dtype, shape, data)?;
        if n > 0 {
            let place = Place {
                storage: strided.storage,
                dtype,
                offset: strided.byte_offset(),
                size: strided.size.clone(),
                stride: strided.stride.clone(),
                bits: [strided.conj, strided.neg],
            };
            match self.known.get(&place) {
                Some(&first) => self.tie(first, idx),
                None => drop(self.known.insert(place, idx)),
            }
        }
        Ok(idx)
    }

    /// Elements that share bytes, low bits first, each row beginning at a byte of its own: the order of bits is torch's
    /// (`aten/src/ATen/native/quantized`).
    fn packed_rows(
        &mut self,
        model: &mut Model,
        checkpoint: &Checkpoint,
        strided: &Strided,
        per_byte: u64,
    ) -> Result<NodeId> {
        let row = strided.size.last().copied().unwrap_or(1);
        let n_rows = strided.size.iter().rev().skip(1).product::<u64>();
        let row_bytes = row.div_ceil(per_byte);
        let bytes = self.elements(model, checkpoint, strided.storage, DType::U8)?;
        let bytes = model.nodes.slice(bytes, 0, n_rows * row_bytes)?;
        let packing = Packing { bits: BitOrder::Low, ..Packing::default() };
        let all = model.nodes.decode(bytes, strided.element.dtype, n_rows * row_bytes * per_byte, packing)?;
        let stride =
            i64::try_from(row_bytes * per_byte).map_err(|_| Error::malformed("a tensor is too large"))?;
        model.nodes.view(all, 0, &[Dim { count: n_rows, stride }, Dim { count: row, stride: 1 }])
    }

    /// A storage as whole elements of a type.
    fn elements(
        &mut self,
        model: &mut Model,
        checkpoint: &Checkpoint,
        storage: usize,
        dtype: DType,
    ) -> Result<NodeId> {
        if let Some(&known) = self.elements.get(&(storage, dtype)) {
            return Ok(known);
        }
        let bytes = self.bytes(model, checkpoint, storage)?;
        let n = model.nodes[bytes].n / dtype.item_bytes().max(1);
        // A storage of bytes may end in the middle of an element.
        let whole = model.nodes.slice(bytes, 0, n * dtype.item_bytes())?;
        let packing = Packing { bytes: checkpoint.byte_order, ..Packing::default() };
        let elements = model.nodes.decode(whole, dtype, n, packing)?;
        self.elements.insert((storage, dtype), elements);
        Ok(elements)
    }

    fn bytes(&mut self, model: &mut Model, checkpoint: &Checkpoint, storage: usize) -> Result<NodeId> {
        if let Some(&known) = self.bytes.get(&storage) {
            return Ok(known);
        }
        let unknown = || Error::malformed("a storage is not there");
        let (_, record) = checkpoint.storages().get(storage).ok_or_else(unknown)?;
        let bytes = record_bytes(model, record)?;
        add_claim(model, record, bytes, false);
        self.bytes.insert(storage, bytes);
        Ok(bytes)
    }

    fn inline(
        &mut self,
        model: &mut Model,
        checkpoint: &Checkpoint,
        name: &str,
        inline: &Inline,
        limits: &Limits,
    ) -> Result<TensorIdx> {
        let bytes = inline.bytes(&checkpoint.tree)?;
        self.inline_bytes = self.inline_bytes.saturating_add(bytes.len() as u64);
        Limits::check(
            "too many bytes of arrays are in the pickle itself",
            self.inline_bytes,
            limits.inline_bytes,
        )?;
        let n: u64 = if inline.size.contains(&0) { 0 } else { inline.size.iter().product() };
        let bytes = model.nodes.inline(bytes)?;
        let packing = Packing { bytes: inline.byte_order, ..Packing::default() };
        let mut data = model.nodes.decode(bytes, inline.dtype, n, packing)?;
        if inline.order == MemoryOrder::Fortran {
            data = model.nodes.from_column_major(data, &inline.size)?;
        }
        model.push(name, inline.dtype, inline.size.to_vec(), data)
    }
}

/// A record's bytes, inflated if need be.
fn record_bytes(model: &mut Model, record: &Record) -> Result<NodeId> {
    let region = model.nodes.region(record.window.file, record.window.at, record.window.len)?;
    match record.method {
        Method::Stored => Ok(region),
        Method::Deflated => model.nodes.inflate(region, Codec::Deflate, record.len),
    }
}

fn add_claim(model: &mut Model, record: &Record, node: NodeId, is_header: bool) {
    model.claims.extend(record.crc32.map(|crc32| Claim { node, crc32, is_header }));
}

/// Adds what the archive states about the records that are no storages; every run checks those that were read.
pub(crate) fn add_claims(model: &mut Model, checkpoint: &Checkpoint) -> Result<()> {
    for (name, record) in &checkpoint.other {
        if record.crc32.is_some() {
            let bytes = record_bytes(model, record)?;
            add_claim(model, record, bytes, matches!(&**name, "data.pkl" | "byteorder" | "version"));
        }
    }
    Ok(())
}

fn scalar(model: &mut Model, name: &str, dtype: DType, bytes: NodeId) -> Result<TensorIdx> {
    let data = model.nodes.decode(bytes, dtype, 1, Packing::default())?;
    model.push(name, dtype, vec![], data)
}

/// The selection that a tensor is of its storage's elements.
fn view(model: &mut Model, of: NodeId, strided: &Strided) -> Result<NodeId> {
    let dim = |(&count, &stride): (&u64, &u64)| {
        // Along an axis of one element the distance to the next is nothing, whatever is written.
        let stride = if count > 1 { i64::try_from(stride) } else { Ok(0) };
        stride.map(|stride| Dim { count, stride })
    };
    let dims: Result<Vec<Dim>, _> = strided.size.iter().zip(&strided.stride).map(dim).collect();
    let dims = dims.map_err(|_| Error::malformed("a stride is too large"))?;
    let bytes = model.nodes[of].dtype.item_bytes();
    model.nodes.view(of, strided.byte_offset() / bytes.max(1), &dims)
}

/// Why the bytes of a tensor are not where they are in the way they are written: what is said of it.
pub(crate) fn moved(checkpoint: &Checkpoint, spec: &TensorSpec) -> Option<String> {
    let mut moved = vec![];
    match &spec.data {
        Data::Strided(strided) | Data::Quantized { codes: strided, .. } => {
            if checkpoint.byte_order == ByteOrder::Big && strided.element.dtype.swap_width() > 1 {
                moved.push("big-endian");
            }
            if !is_contiguous(&strided.size, &strided.stride) {
                moved.push("strided");
            }
            if strided.conj {
                moved.push("conjugated");
            }
            if strided.neg {
                moved.push("negated");
            }
        }
        Data::Inline(inline) => {
            if inline.byte_order == ByteOrder::Big && inline.dtype.swap_width() > 1 {
                moved.push("big-endian");
            }
            if inline.order == MemoryOrder::Fortran
                && inline.size.iter().filter(|&&extent| extent != 1).count() > 1
            {
                moved.push("in Fortran order");
            }
        }
        _ => {}
    }
    let what = moved.join(" and ");
    (!moved.is_empty()).then(|| format!("{what} in the source, described as row-major and little-endian"))
}

fn is_contiguous(size: &[u64], stride: &[u64]) -> bool {
    if size.contains(&0) {
        return true;
    }
    let mut expected = 1u64;
    size.iter().zip(stride).rev().all(|(&extent, &step)| {
        let fits = extent == 1 || step == expected;
        expected = expected.saturating_mul(extent);
        fits
    })
}
