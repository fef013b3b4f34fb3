//! From the calls that torch has its tensors rebuilt by to what they describe.

use super::persistent::storage_ref;
use super::tensor::{Data, Layout, Quantizer, Strided, TensorSpec};
use super::types::{ElementType, Packed, StorageType};
use super::{Checkpoint, Record, count, distributed, numpy};
use crate::shown;
use modelferry_core::error::{Error, Result};
use modelferry_core::limits::Limits;
use modelferry_core::tree::{Instance, Object, ObjectId, Tree};

/// How many calls may stand around a tensor. Three are the most that torch writes: a parameter of a subclass's
/// wrapper.
const MAX_DEPTH: usize = 16;

/// How much deeper a description may go.
#[derive(Clone, Copy)]
pub(super) struct Depth {
    calls: usize,
    /// Whether it may branch: scales and indices are tensors that have no parts themselves, or a few objects that
    /// refer to each other would be read exponentially often.
    parts: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    checkpoint: &'a Checkpoint,
    pub(super) tree: &'a Tree,
}

pub(super) fn fault(what: &'static str) -> Error {
    Error::malformed(what)
}

impl<'a> Reader<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint) -> Reader<'a> {
        Reader { checkpoint, tree: &checkpoint.tree }
    }

    /// What tensor an object is, if it is one.
    pub(super) fn root(self, id: ObjectId) -> Result<Option<TensorSpec>> {
        self.object(id, Depth { calls: MAX_DEPTH, parts: true })
    }

    /// A tensor where there must be one.
    pub(super) fn must(self, id: ObjectId, depth: Depth) -> Result<TensorSpec> {
        self.object(id, depth)?.ok_or_else(|| fault("what should be a tensor is none"))
    }

    /// A tensor that is a part of another.
    fn part(self, id: ObjectId, depth: Depth) -> Result<TensorSpec> {
        if !depth.parts {
            return Err(fault("a part of a tensor has parts itself"));
        }
        self.must(id, Depth { parts: false, ..depth })
    }

    fn object(self, id: ObjectId, depth: Depth) -> Result<Option<TensorSpec>> {
        let Object::Instance(instance) = &self.tree[id] else { return Ok(None) };
        let Some((module, name)) = self.tree.global(instance.callable) else { return Ok(None) };
        let Some(calls) = depth.calls.checked_sub(1) else {
            return Err(Error::limit("too many calls stand around a tensor")
                .expected(format_args!("at most {MAX_DEPTH}")));
        };
        let depth = Depth { calls, ..depth };
        let args = self.tree.sequence(instance.args);
        let spec = match (module, args) {
            ("torch._utils" | "torch._tensor" | "torch.tensor", Some(args)) => {
                return self.call(name, args, depth);
            }
            ("torch.nn.parameter" | "torch.nn", Some(args)) if matches!(name, "Parameter" | "Buffer") => {
                self.old_parameter(instance, args, depth)?
            }
            ("torch.autograd.variable", Some(args)) if name == "Variable" => {
                self.old_parameter(instance, args, depth)?
            }
            ("copyreg" | "copy_reg", Some([class, args @ ..])) if name == "__newobj__" => {
                match self.tree.global(*class) {
                    Some(("torch.nn.parameter", "Parameter") | ("torch.autograd.variable", "Variable")) => {
                        self.old_parameter(instance, args, depth)?
                    }
                    _ => return Ok(None),
                }
            }
            ("torch" | "torch.cuda", Some([])) => match self.old_tensor(instance, name)? {
                Some(spec) => spec,
                None => return Ok(None),
            },
            _ => {
                return Ok(numpy::array(self, instance)?.map(|inline| TensorSpec::new(Data::Inline(inline))));
            }
        };
        Ok(Some(spec))
    }

    /// The functions that torch has its tensors rebuilt by.
    fn call(self, name: &str, args: &[ObjectId], depth: Depth) -> Result<Option<TensorSpec>> {
        let wrong = || {
            fault("a call that makes a tensor has the wrong number of arguments").found(format_args!(
                "{} of {:?}",
                args.len(),
                shown(name)
            ))
        };
        let spec = match name {
            "_rebuild_tensor" => {
                let &[storage, offset, size, stride] = args else { return Err(wrong()) };
                let strided = self.strided([storage, offset, size, stride], None)?;
                TensorSpec::new(Data::Strided(strided))
            }
            "_rebuild_tensor_v2" | "_rebuild_tensor_v3" => {
                let (&[storage, offset, size, stride, requires_grad, _hooks], rest) =
                    args.split_first_chunk().ok_or_else(wrong)?;
                let (element, metadata) = match (name, rest) {
                    ("_rebuild_tensor_v2", []) => (None, None),
                    ("_rebuild_tensor_v2", &[metadata]) => (None, Some(metadata)),
                    ("_rebuild_tensor_v3", &[dtype]) => (Some(self.dtype(dtype)?), None),
                    ("_rebuild_tensor_v3", &[dtype, metadata]) => (Some(self.dtype(dtype)?), Some(metadata)),
                    _ => return Err(wrong()),
                };
                let mut strided = self.strided([storage, offset, size, stride], element)?;
                if let Some(metadata) = metadata {
                    self.bits(&mut strided, metadata)?;
                }
                let requires_grad = self.bool(requires_grad);
                TensorSpec { requires_grad, ..TensorSpec::new(Data::Strided(strided)) }
            }
            "_rebuild_parameter" | "_rebuild_parameter_with_state" => {
                let (&[of, requires_grad, _hooks], rest) = args.split_first_chunk().ok_or_else(wrong)?;
                if rest.len() != usize::from(name == "_rebuild_parameter_with_state") {
                    return Err(wrong());
                }
                let inner = self.must(of, depth)?;
                let requires_grad = self.bool(requires_grad);
                let state = rest.first().copied().or(inner.state);
                TensorSpec { is_parameter: true, requires_grad, state, ..inner }
            }
            "_rebuild_from_type" | "_rebuild_from_type_v2" => {
                let &[function, class, args, state] = args else { return Err(wrong()) };
                let function = self.tree.global(function).filter(|function| function.0 == "torch._utils");
                let args = self.tree.sequence(args);
                let (Some((_, function)), Some(args)) = (function, args) else {
                    // A class that is made by a function of its own.
                    return Ok(Some(TensorSpec {
                        class: Some(class),
                        state: Some(state),
                        ..TensorSpec::new(Data::Opaque)
                    }));
                };
                let mut inner = match function {
                    "_rebuild_wrapper_subclass" => {
                        TensorSpec::new(distributed::wrapper(self, class, args, state, depth)?)
                    }
                    function => match self.call(function, args, depth)? {
                        Some(inner) => inner,
                        None => return Ok(None),
                    },
                };
                // Parameters of torch 1.8 to 1.10 with attributes came this way.
                match self.tree.global(class) {
                    Some(("torch" | "torch._tensor" | "torch.tensor", "Tensor")) => {}
                    Some(("torch.nn.parameter", "Parameter")) => inner.is_parameter = true,
                    _ => inner.class = Some(class),
                }
                if self.tree[state] != Object::None {
                    inner.state = Some(state);
                }
                inner
            }
            "_rebuild_qtensor" => {
                let &[storage, offset, size, stride, params, requires_grad, _hooks] = args else {
                    return Err(wrong());
                };
                let codes = self.strided([storage, offset, size, stride], None)?;
                let quantizer = self.quantizer(params, &codes, depth)?;
                let requires_grad = self.bool(requires_grad);
                TensorSpec { requires_grad, ..TensorSpec::new(Data::Quantized { codes, quantizer }) }
            }
            "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor" => {
                let &[layout, parts] = args else { return Err(wrong()) };
                TensorSpec::new(self.sparse(layout, parts, depth)?)
            }
            "_rebuild_meta_tensor_no_storage" => {
                let &[dtype, size, _stride, requires_grad] = args else { return Err(wrong()) };
                let data = Data::Meta { element: self.dtype(dtype)?, size: self.extents(size)? };
                TensorSpec { requires_grad: self.bool(requires_grad), ..TensorSpec::new(data) }
            }
            "_rebuild_device_tensor_from_numpy"
            | "_rebuild_device_tensor_from_cpu_tensor"
            | "_rebuild_xla_tensor" => {
                let &[of, dtype, _device, requires_grad] = args else { return Err(wrong()) };
                let (inner, dtype) = (self.must(of, depth)?, self.dtype(dtype)?);
                TensorSpec { cast: Some(dtype), requires_grad: self.bool(requires_grad), ..inner }
            }
            "_rebuild_nested_tensor" | "_rebuild_wrapper_subclass" => TensorSpec::new(Data::Opaque),
            _ => return Ok(None),
        };
        Ok(Some(spec))
    }

    /// A parameter as torch 0.1 to 0.3 wrote it: made of a tensor, its flags in its state.
    fn old_parameter(self, instance: &Instance, args: &[ObjectId], depth: Depth) -> Result<TensorSpec> {
        let Some(&of) = args.first() else {
            return Err(Error::unsupported("a parameter is written in a way that we do not know"));
        };
        let inner = self.must(of, depth)?;
        let flags = args.get(1).copied().or_else(|| {
            let state = instance.states.first()?;
            self.tree.sequence(*state)?.first().copied()
        });
        let requires_grad = flags.is_some_and(|flag| self.bool(flag));
        Ok(TensorSpec { is_parameter: true, requires_grad, ..inner })
    }

    /// A tensor whose class says its type, and whose state says the rest (torch before 0.2, and `torch.Tensor`).
    fn old_tensor(self, instance: &Instance, name: &str) -> Result<Option<TensorSpec>> {
        let Some(prefix) = name.strip_suffix("Tensor") else { return Ok(None) };
        let element = ElementType::from_class(prefix);
        if element.is_none() && !prefix.is_empty() {
            return Ok(None);
        }
        let state = instance.states.first().and_then(|&state| self.tree.sequence(state));
        let Some(&[storage, offset, size, stride]) = state else {
            return Err(Error::unsupported("a tensor is written in a way that we do not know"));
        };
        let strided = self.strided([storage, offset, size, stride], None)?;
        if element.is_some_and(|element| element != strided.element) {
            return Err(fault("a tensor's class and its storage's do not fit")
                .expected(element.map_or("", |element| element.name))
                .found(strided.element.name));
        }
        Ok(Some(TensorSpec::new(Data::Strided(strided))))
    }

    /// The first four arguments of every call that makes a tensor of a storage.
    fn strided(
        self,
        [storage, offset, size, stride]: [ObjectId; 4],
        element: Option<&'static ElementType>,
    ) -> Result<Strided> {
        let reference = storage_ref(self.tree, storage)?;
        let reference = reference.ok_or_else(|| fault("a tensor's storage is none"))?;
        let idx = self.checkpoint.storage_idx(&reference.key).ok_or_else(|| {
            fault("a tensor's storage is not there").found(format_args!("{:?}", shown(&reference.key)))
        })?;
        let record = &self.checkpoint.storages[idx].1;
        let stated = u128::from(reference.n_elements) * u128::from(reference.storage_type.bytes());
        if stated != u128::from(record.len) {
            return Err(about_record(record, "a storage is not as long as it says")
                .expected(format_args!("{stated} bytes"))
                .found(format_args!("{} bytes", record.len)));
        }
        let element = match (element, reference.storage_type) {
            (Some(element), _) | (None, StorageType::Typed(element)) => element,
            // What torch takes it for.
            (None, StorageType::Untyped) => ElementType::from_name("uint8")
                .ok_or_else(|| Error::unsupported("a tensor's type is not known"))?,
        };
        let offset = count(self.tree, offset)
            .ok_or_else(|| fault("the offset of a tensor in its storage is no whole number"))?;
        let (size, stride) = (self.extents(size)?, self.extents(stride)?);
        if size.len() != stride.len() {
            return Err(fault("a tensor has as many strides as extents")
                .expected(size.len())
                .found(stride.len()));
        }
        let range = reference.range();
        let of_storage = u128::from(reference.storage_type.bytes());
        let available = u128::from(range.len) * of_storage;
        let needed = needed(element, offset, &size, &stride)?;
        if needed > available {
            return Err(about_record(record, "a tensor reaches beyond its storage")
                .expected(format_args!("at most {available} bytes"))
                .found(format_args!("{needed} bytes")));
        }
        // A part begins at a whole element of the storage's own type.
        let part_at = u128::from(range.offset) * of_storage;
        let start = part_at / u128::from(element.bytes) + u128::from(offset);
        let is_whole = part_at.is_multiple_of(element.bytes.into());
        let start = u64::try_from(start).ok().filter(|_| is_whole);
        let offset = start.ok_or_else(|| fault("a part of a storage begins within an element"))?;
        // A tensor without elements may begin anywhere.
        let offset = if size.contains(&0) { 0 } else { offset };
        Ok(Strided { storage: idx, element, offset, size, stride, conj: false, neg: false })
    }

    /// `{'conj': True, 'neg': True}`, each only where it is so.
    fn bits(self, strided: &mut Strided, metadata: ObjectId) -> Result<()> {
        let entries = match &self.tree[metadata] {
            Object::None => return Ok(()),
            _ => self.tree.mapping(metadata),
        };
        let entries = entries.filter(|entries| entries.len() <= 2);
        let entries =
            entries.ok_or_else(|| fault("the metadata of a tensor is no dictionary of two flags"))?;
        for &(key, value) in entries {
            match self.tree.text(key) {
                Some("conj") => strided.conj = self.bool(value),
                Some("neg") => strided.neg = self.bool(value),
                other => {
                    return Err(Error::unsupported("a tensor has metadata that we do not know")
                        .found(format_args!("{:?}", shown(other.unwrap_or_default()))));
                }
            }
        }
        Ok(())
    }

    fn quantizer(self, params: ObjectId, codes: &Strided, depth: Depth) -> Result<Quantizer> {
        let wrong = || fault("the quantizer of a tensor is malformed");
        let (&scheme, params) =
            self.tree.sequence(params).and_then(|params| params.split_first()).ok_or_else(wrong)?;
        match (self.tree.global(scheme), params) {
            (Some(("torch", "per_tensor_affine")), &[scale, zero_point]) => {
                let scale = match self.tree[scale] {
                    Object::Float(scale) => scale,
                    Object::Int(scale) => scale as f64,
                    _ => return Err(wrong()),
                };
                let Object::Int(zero_point) = self.tree[zero_point] else { return Err(wrong()) };
                Ok(Quantizer::PerTensor { scale, zero_point })
            }
            (
                Some(("torch", "per_channel_affine" | "per_channel_affine_float_qparams")),
                &[scales, zero_points, axis],
            ) => {
                let (scales, zero_points) = (self.part(scales, depth)?, self.part(zero_points, depth)?);
                let axis =
                    count(self.tree, axis).and_then(|axis| usize::try_from(axis).ok()).ok_or_else(wrong)?;
                let extent = codes.size.get(axis).ok_or_else(wrong)?;
                let fits = |of: &TensorSpec| of.size() == Some(&[*extent][..]);
                if !fits(&scales) || !fits(&zero_points) {
                    return Err(
                        fault("a tensor has a scale and a zero point for each channel").expected(extent)
                    );
                }
                let (scales, zero_points) = (Box::new(scales), Box::new(zero_points));
                Ok(Quantizer::PerChannel { scales, zero_points, axis })
            }
            (Some((_, name)), _) => {
                Err(Error::unsupported("a tensor is quantized in a way that we do not know")
                    .found(format_args!("{:?}", shown(name))))
            }
            _ => Err(wrong()),
        }
    }

    fn sparse(self, layout: ObjectId, parts: ObjectId, depth: Depth) -> Result<Data> {
        let wrong = || fault("a sparse tensor is malformed");
        // `torch.serialization._get_layout('torch.sparse_coo')`
        let name = match &self.tree[layout] {
            Object::Instance(instance) => {
                self.tree.sequence(instance.args).and_then(|args| self.tree.text(*args.first()?))
            }
            _ => None,
        };
        let layout = match name.ok_or_else(wrong)? {
            "torch.sparse_coo" => Layout::Coo,
            "torch.sparse_csr" => Layout::Csr,
            "torch.sparse_csc" => Layout::Csc,
            "torch.sparse_bsr" => Layout::Bsr,
            "torch.sparse_bsc" => Layout::Bsc,
            other => {
                return Err(Error::unsupported("a tensor is sparse in a way that we do not know")
                    .found(format_args!("{:?}", shown(other))));
            }
        };
        let parts = self.tree.sequence(parts).ok_or_else(wrong)?;
        let (tensors, size) = match (layout, parts) {
            (Layout::Coo, [indices, values, size] | [indices, values, size, _]) => {
                (vec![*indices, *values], *size)
            }
            (Layout::Coo, _) => return Err(wrong()),
            (_, [compressed, plain, values, size]) => (vec![*compressed, *plain, *values], *size),
            _ => return Err(wrong()),
        };
        let parts: Result<Vec<TensorSpec>> = tensors.into_iter().map(|id| self.part(id, depth)).collect();
        Ok(Data::Sparse { layout, size: self.extents(size)?, parts: parts? })
    }

    /// `torch float32`.
    pub(super) fn dtype(self, id: ObjectId) -> Result<&'static ElementType> {
        match self.tree.global(id) {
            Some(("torch", name)) => ElementType::from_name(name).ok_or_else(|| {
                Error::unsupported("a tensor is of a type that we do not know")
                    .found(format_args!("{:?}", shown(name)))
            }),
            _ => Err(fault("the type of a tensor is none")),
        }
    }

    /// A tuple of whole numbers, none negative, or the `torch.Size` of one.
    pub(super) fn extents(self, id: ObjectId) -> Result<Box<[u64]>> {
        let wrong = || fault("the extents of a tensor are no whole numbers");
        let id = match &self.tree[id] {
            Object::Instance(instance) if self.tree.global(instance.callable) == Some(("torch", "Size")) => {
                *self.tree.sequence(instance.args).and_then(|args| args.first()).ok_or_else(wrong)?
            }
            _ => id,
        };
        let numbers = self.tree.sequence(id).ok_or_else(wrong)?;
        let most = self.checkpoint.max_rank;
        Limits::check("a tensor has too many dimensions", numbers.len() as u64, most as u64)?;
        numbers.iter().map(|&number| count(self.tree, number).ok_or_else(wrong)).collect()
    }

    fn bool(self, id: ObjectId) -> bool {
        self.tree[id] == Object::Bool(true)
    }
}

fn about_record(record: &Record, what: &'static str) -> Error {
    fault(what).offset(record.window.at)
}

/// Bytes of its storage that a tensor needs.
fn needed(element: &ElementType, offset: u64, size: &[u64], stride: &[u64]) -> Result<u128> {
    let huge = || fault("a tensor is too large");
    if size.contains(&0) {
        return Ok(0);
    }
    if let Packed::Items(per_byte) = element.packed {
        // Rows begin at whole bytes, and torch makes no views of such.
        let (&row, outer) = match size.split_last() {
            Some(split) => split,
            None => (&1, size),
        };
        let mut expected = 1;
        let is_plain = size.iter().zip(stride).rev().all(|(&extent, &step)| {
            let fits = step == expected || extent == 1;
            expected = expected.saturating_mul(extent);
            fits
        });
        if !is_plain || offset != 0 {
            return Err(Error::unsupported(
                "a view of a tensor whose elements are smaller than a byte is not read",
            ));
        }
        let n_rows = outer.iter().try_fold(1u128, |n, &extent| n.checked_mul(extent.into()));
        return n_rows.and_then(|n| n.checked_mul(row.div_ceil(per_byte).into())).ok_or_else(huge);
    }
    // Each product is below 2^128.
    let mut steps = size.iter().zip(stride).map(|(&extent, &step)| u128::from(extent - 1) * u128::from(step));
    let last = steps.try_fold(u128::from(offset), |sum, step| sum.checked_add(step));
    let end = last.and_then(|last| last.checked_add(1)?.checked_mul(element.bytes.into()));
    end.ok_or_else(huge)
}
