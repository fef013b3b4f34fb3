//! The bytes of the file: values of ours, and tensors between them.

use modelferry_core::Result;
use modelferry_core::expr::Packing;
use modelferry_core::layout::Piece;
use modelferry_core::limits::Limits;
use modelferry_core::model::{ModelView, TensorIdx};
use modelferry_wire::msgpack::{CHUNKED, Emitter, MAX_CHUNK};
use std::ops::Range;

/// A file in the making.
pub(crate) struct Output<'a> {
    view: &'a ModelView<'a>,
    /// Values since the last tensor.
    pub(crate) values: Emitter,
    pieces: Vec<Piece>,
}

/// Parts of one array: 128 TiB. Without a bound the extents of a tensor that nobody can hold decide how long a layout is.
const MAX_PARTS: u64 = 1 << 17;

impl<'a> Output<'a> {
    /// An empty file.
    pub(crate) fn new(view: &'a ModelView<'a>) -> Output<'a> {
        Output { view, values: Emitter::default(), pieces: vec![] }
    }

    /// Its bytes.
    pub(crate) fn finish(mut self) -> Vec<Piece> {
        self.end_values();
        self.pieces
    }

    /// Writes a tensor. It is split where flax splits it and joins it again, which is not in lists.
    ///
    /// Errors: a type that numpy lacks; in a list, 4 GiB and more.
    pub(crate) fn tensor(&mut self, idx: TensorIdx, may_split: bool) -> Result<()> {
        let tensor = self.view.tensor(idx);
        let (n_bytes, item) = (tensor.byte_len(), tensor.dtype().item_bytes());
        let write = match may_split && n_bytes > MAX_CHUNK {
            true => self.chunks(idx, item, n_bytes),
            false => self.array(idx, tensor.shape(), 0..n_bytes),
        };
        write.map_err(|error| error.tensor(tensor.name()))
    }

    /// An array in parts: `_chunk` in `flax/serialization.py`.
    fn chunks(&mut self, idx: TensorIdx, item: u64, n_bytes: u64) -> Result<()> {
        let step = (MAX_CHUNK / item).max(1) * item;
        self.values.map(3)?;
        self.values.text(CHUNKED)?;
        self.values.bool(true);
        self.values.text("shape")?;
        let tensor = self.view.tensor(idx);
        self.values.map(tensor.shape().len() as u64)?;
        for (axis, &extent) in tensor.shape().iter().enumerate() {
            self.values.text(&axis.to_string())?;
            self.values.uint(extent);
        }
        self.values.text("chunks")?;
        let n_chunks = n_bytes.div_ceil(step);
        Limits::check("parts of one array", n_chunks, MAX_PARTS)?;
        self.values.map(n_chunks)?;
        for number in 0..n_chunks {
            let start = number * step;
            let bytes = start..n_bytes.min(start.saturating_add(step));
            self.values.text(&number.to_string())?;
            self.array(idx, &[(bytes.end - bytes.start) / item], bytes)?;
        }
        Ok(())
    }

    fn array(&mut self, idx: TensorIdx, shape: &[u64], bytes: Range<u64>) -> Result<()> {
        self.values.array(self.view.tensor(idx).dtype(), shape, bytes.end - bytes.start)?;
        self.end_values();
        self.pieces.push(Piece::Tensor { idx, bytes, packing: Packing::default() });
        Ok(())
    }

    fn end_values(&mut self) {
        let values = self.values.take();
        if !values.is_empty() {
            self.pieces.push(Piece::Bytes(values.into()));
        }
    }
}
