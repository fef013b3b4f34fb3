//! Tensors as the pickle names them: each a view of the whole of its storage.

use crate::elements::{Element, element, per_element};
use modelferry_core::model::{ModelView, TensorIdx};
use modelferry_core::{Error, Result};
use modelferry_wire::pickle::{Emitter, Fill};

/// Gives storages their keys: numbers in the order of first use in a file. One that is used in a file is in no other.
pub(crate) struct Storages<'a> {
    view: &'a ModelView<'a>,
    /// The first tensor of each storage.
    first_of: &'a [TensorIdx],
    /// By first tensor, the number of the pickle's value that is the key.
    key_of: Vec<Option<u32>>,
    /// First tensors of the storages in the file being written, in the order of keys.
    in_use: Vec<TensorIdx>,
    /// Tensors, in the order in which they were written.
    written: Vec<TensorIdx>,
}

impl<'a> Storages<'a> {
    /// Of no tensor yet. `first_of` is [`ModelView::storages`].
    pub(crate) fn new(view: &'a ModelView<'a>, first_of: &'a [TensorIdx]) -> Storages<'a> {
        Storages { view, first_of, key_of: vec![None; first_of.len()], in_use: vec![], written: vec![] }
    }

    /// Ends a file: its storages, of each the first tensor, in the order of their keys. The next file's begin at 0.
    pub(crate) fn end_file(&mut self) -> Vec<TensorIdx> {
        std::mem::take(&mut self.in_use)
    }

    /// As if nothing had been written.
    pub(crate) fn clear(&mut self) {
        *self = Storages::new(self.view, self.first_of);
    }

    /// Tensors in the order in which they were written.
    pub(crate) fn written(&self) -> &[TensorIdx] {
        &self.written
    }

    /// Whether every tensor of the model was.
    pub(crate) fn has_written_all(&self) -> bool {
        let mut is_written = vec![false; self.first_of.len()];
        self.written.iter().for_each(|&idx| is_written[idx] = true);
        is_written.iter().all(|&is_written| is_written)
    }

    /// Writes the call that makes a tensor.
    pub(crate) fn tensor(&mut self, idx: TensorIdx, out: &mut Emitter) -> Result<()> {
        let tensor = self.view.tensor(idx);
        let named = |error: Error| error.tensor(tensor.name());
        let element = element(tensor.dtype())
            .ok_or_else(|| named(Error::target("torch has no such type").found(tensor.dtype())))?;
        let shape = shape(tensor.shape(), per_element(tensor.dtype())).map_err(named)?;
        let strides = strides(&shape).ok_or_else(|| {
            named(Error::target("torch cannot count a tensor's elements"))
                .found(format_args!("{:?}", tensor.shape()))
        })?;
        let (rebuild, storage_module, storage, n_arguments) = match element {
            Element::Storage(class) => ("_rebuild_tensor_v2", "torch", class, 6),
            Element::Untyped(_) => ("_rebuild_tensor_v3", "torch.storage", "UntypedStorage", 7),
        };
        // Of a typed storage elements are counted, of others bytes.
        let unit = if matches!(element, Element::Storage(_)) { tensor.dtype().item_bytes() } else { 1 };
        let storage_len = signed(tensor.byte_len() / unit.max(1)).map_err(named)?;

        out.global("torch._utils", rebuild)?;
        out.open_tuple(n_arguments);
        out.open_tuple(5);
        out.text("storage")?;
        out.global(storage_module, storage)?;
        self.key(idx, out)?;
        out.text("cpu")?;
        out.int(storage_len);
        out.close_tuple(5);
        out.put()?;
        out.persistent();
        // The offset.
        out.int(0);
        for extents in [shape, strides] {
            let is_empty = extents.is_empty();
            out.ints(extents.into_iter());
            if !is_empty {
                out.put()?;
            }
        }
        // No gradient, no hooks.
        out.bool(false);
        ordered_dict(out)?;
        if let Element::Untyped(dtype) = element {
            out.global("torch", dtype)?;
        }
        out.close_tuple(n_arguments);
        out.put()?;
        out.reduce();
        self.written.push(idx);
        Ok(())
    }

    /// Writes the key of a tensor's storage.
    fn key(&mut self, idx: TensorIdx, out: &mut Emitter) -> Result<()> {
        let first = self.first_of[idx];
        match self.key_of[first] {
            Some(value) => out.get(value),
            None => {
                // A name of the same digits is a text of its own, as it is in torch.
                out.text_once(&self.in_use.len().to_string())?;
                self.key_of[first] = Some(out.put()?);
                self.in_use.push(first);
            }
        }
        Ok(())
    }
}

/// The pickle of a dictionary from names to tensors, as `state_dict()` gives one.
pub(crate) fn pickle(tensors: &[TensorIdx], storages: &mut Storages<'_>) -> Result<Vec<u8>> {
    let mut out = Emitter::default();
    ordered_dict(&mut out)?;
    for (at, &idx) in tensors.iter().enumerate() {
        out.before_item(at, tensors.len());
        let tensor = storages.view.tensor(idx);
        out.text(tensor.name())?;
        storages.tensor(idx, &mut out)?;
        out.put()?;
        out.after_item(at, tensors.len(), Fill::Set);
    }
    Ok(out.finish())
}

fn ordered_dict(out: &mut Emitter) -> Result<()> {
    out.global("collections", "OrderedDict")?;
    out.open_tuple(0);
    out.close_tuple(0);
    out.reduce();
    out.put()?;
    Ok(())
}

/// Extents as torch counts them, `per_element` of ours in one of its along the last dimension.
fn shape(extents: &[u64], per_element: u64) -> Result<Vec<i64>> {
    let mut shape: Vec<i64> = extents.iter().map(|&extent| signed(extent)).collect::<Result<_>>()?;
    if per_element > 1 {
        let odd = || {
            Error::target("torch holds pairs along the last dimension")
                .expected("an even last dimension")
                .found(format_args!("{extents:?}"))
        };
        let last = extents.last().filter(|last| last.is_multiple_of(per_element)).ok_or_else(odd)?;
        if let Some(extent) = shape.last_mut() {
            *extent = signed(last / per_element)?;
        }
    }
    Ok(shape)
}

fn signed(value: u64) -> Result<i64> {
    i64::try_from(value)
        .map_err(|_| Error::target("torch counts up to 2^63 elements").expected("less").found(value))
}

/// The steps between neighbours along each dimension. An extent of zero counts as one, as it does in torch. `None` where
/// they are too large.
fn strides(shape: &[i64]) -> Option<Vec<i64>> {
    let mut strides = Vec::with_capacity(shape.len());
    let mut step = 1i64;
    for &extent in shape.iter().rev() {
        strides.push(step);
        step = step.checked_mul(extent.max(1))?;
    }
    strides.reverse();
    Some(strides)
}
