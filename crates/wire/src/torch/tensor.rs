//! Which objects are tensors, and of which bytes.

use super::Checkpoint;
use super::distributed::Distributed;
use super::numpy::Inline;
use super::rebuild::Reader;
use super::types::ElementType;
use modelferry_core::error::Result;
use modelferry_core::tree::ObjectId;

/// A tensor, as the calls that would have made it describe it.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// Where its elements are.
    pub data: Data,
    /// Whether it is a parameter.
    pub is_parameter: bool,
    /// Whether it wants a gradient.
    pub requires_grad: bool,
    /// The class that it is an object of, where that is not torch's own.
    pub class: Option<ObjectId>,
    /// What Python attributes it had.
    pub state: Option<ObjectId>,
    /// The type that its elements were to be cast to on loading: devices that numpy does not know are saved so.
    pub cast: Option<&'static ElementType>,
}

/// Where the elements of a tensor are.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Data {
    /// In a storage.
    Strided(Strided),
    /// In a storage, as codes.
    Quantized {
        /// The codes.
        codes: Strided,
        /// What they stand for.
        quantizer: Quantizer,
    },
    /// In several tensors.
    Sparse {
        /// How they lie there.
        layout: Layout,
        /// Extents of the whole.
        size: Box<[u64]>,
        /// Indices, or both kinds of them, and the values last.
        parts: Vec<TensorSpec>,
    },
    /// Nowhere: it was saved from the device that holds none.
    Meta {
        /// Type of its elements.
        element: &'static ElementType,
        /// Its extents.
        size: Box<[u64]>,
    },
    /// In the pickle itself: a numpy array.
    Inline(Inline),
    /// On several ranks, of which this is one.
    Distributed(Box<Distributed>),
    /// In parts that only a class of another program knows how to put together.
    Opaque,
}

/// A strided selection of a storage's elements. It lies within the storage, and the storage is as long as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strided {
    /// Position in [`Checkpoint::storages`].
    pub storage: usize,
    /// Type of the elements.
    pub element: &'static ElementType,
    /// First element, counted from the start of the storage.
    pub offset: u64,
    /// Extents.
    pub size: Box<[u64]>,
    /// Elements between neighbours along each axis.
    pub stride: Box<[u64]>,
    /// Whether the elements are the conjugates of the values.
    pub conj: bool,
    /// Whether the elements are the negatives of the values.
    pub neg: bool,
}

/// What the codes of a quantized tensor stand for: `(code - zero_point) * scale`.
#[derive(Clone, Debug, PartialEq)]
pub enum Quantizer {
    /// One scale.
    PerTensor {
        /// The scale.
        scale: f64,
        /// The zero point.
        zero_point: i64,
    },
    /// A scale for each index of one axis. torch says the same of tensors whose zero points are not whole.
    PerChannel {
        /// The scales.
        scales: Box<TensorSpec>,
        /// The zero points.
        zero_points: Box<TensorSpec>,
        /// The axis.
        axis: usize,
    },
}

/// How a sparse tensor is put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Indices, one column a value, and values.
    Coo,
    /// Offsets of rows, indices of columns, values.
    Csr,
    /// Offsets of columns, indices of rows, values.
    Csc,
    /// As [`Csr`](Layout::Csr), by blocks.
    Bsr,
    /// As [`Csc`](Layout::Csc), by blocks.
    Bsc,
}

/// What tensor an object is, if it is one.
///
/// Numpy's arrays and scalars of numbers count as tensors, so that the caller can decide about them. Time and memory
/// are those of the tensor's rank and of a few objects around it.
///
/// Errors name the checkpoint's file; the caller knows the tensor's name:
/// [`Malformed`](modelferry_core::error::ErrorKind::Malformed) for a call with the wrong arguments, a storage that is not
/// there or is not as long as it says, and elements beyond it;
/// [`Unsupported`](modelferry_core::error::ErrorKind::Unsupported) for types that we do not know.
pub fn tensor(checkpoint: &Checkpoint, id: ObjectId) -> Result<Option<TensorSpec>> {
    Reader::new(checkpoint).root(id).map_err(|error| error.file(&checkpoint.file_name))
}

impl TensorSpec {
    pub(super) fn new(data: Data) -> TensorSpec {
        TensorSpec { data, is_parameter: false, requires_grad: false, class: None, state: None, cast: None }
    }

    /// Its extents, where they are known.
    pub fn size(&self) -> Option<&[u64]> {
        match &self.data {
            Data::Strided(strided) | Data::Quantized { codes: strided, .. } => Some(&strided.size),
            Data::Sparse { size, .. } | Data::Meta { size, .. } => Some(size),
            Data::Inline(inline) => Some(&inline.size),
            Data::Distributed(distributed) => Some(&distributed.size),
            Data::Opaque => None,
        }
    }
}

impl Strided {
    /// Its first byte, counted from the start of the storage.
    pub fn byte_offset(&self) -> u64 {
        // Proved to lie within the storage.
        self.offset * self.element.bytes
    }
}
