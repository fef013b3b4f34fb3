//! Tensors whose numbers are codes: what they stand for is computed from them, scales and zero points.
//!
//! A type of blocks brings its scales along; these are tensors of their own, and what joins them is said elsewhere: by
//! the operators of a [graph](crate::graph). A cast of either side alone would leave numbers that mean nothing.

use crate::model::TensorIdx;

/// A tensor of codes, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codes {
    /// The codes.
    pub tensor: TensorIdx,
    /// What takes them for such: the operator of a graph.
    pub operator: &'static str,
    /// What codes are multiplied by, where it is a tensor.
    pub scale: Option<TensorIdx>,
    /// What is taken from codes before they are, where it is a tensor.
    pub zero_point: Option<TensorIdx>,
    /// Which codes share a scale.
    pub groups: Groups,
}

/// Which codes share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups {
    /// All of them.
    Tensor,
    /// Those at one place of an axis.
    Axis(usize),
    /// So many neighbours along an axis, of which there may be fewer at the end.
    Blocks {
        /// The axis.
        axis: usize,
        /// How many.
        size: u64,
    },
    /// So many neighbours in the rows of a matrix. Its codes are packed in bytes, the first in the low bits; each row
    /// begins a byte and is filled up to a whole block.
    Packed {
        /// Bits of a code.
        bits: u64,
        /// Rows of the matrix.
        rows: u64,
        /// Codes in a row.
        columns: u64,
        /// How many share a scale.
        size: u64,
    },
    /// What is at hand does not say.
    Unknown,
}

impl Groups {
    /// In words, as in `blocks of 32 along axis 1`.
    pub fn text(self) -> String {
        match self {
            Groups::Tensor => "one scale".to_owned(),
            Groups::Axis(axis) => format!("a scale for each of axis {axis}"),
            Groups::Blocks { axis, size } => format!("blocks of {size} along axis {axis}"),
            Groups::Packed { bits, rows, columns, size } => {
                format!("{bits} bits, [{rows}, {columns}] in blocks of {size}")
            }
            Groups::Unknown => "scales computed elsewhere".to_owned(),
        }
    }
}
