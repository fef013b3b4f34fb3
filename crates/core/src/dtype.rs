//! Element types: every type that any of the formats can hold, with its sizes.

use std::fmt;

/// How the values of one [`DType`] are made, enough to choose an arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Truth values, one byte each in memory, 0 or 1.
    Bool,
    /// Two's complement integers.
    Signed,
    /// Unsigned integers.
    Unsigned,
    /// Real floating-point numbers, scalar.
    Float,
    /// Pairs of floats, real part first.
    Complex,
    /// Groups of elements quantized together under shared scales.
    Block,
    /// Bytes whose meaning only their format knows.
    Opaque,
}

/// An element type.
///
/// Sizes come in two kinds. An *item* is what the evaluator moves as a whole: one element, or one whole block of a
/// block-quantized type. Sub-byte scalars (`u4`, `f6_e2m3`, …) take one byte per item in memory, value in the low
/// bits; how they are packed in a file belongs to [`Packing`](crate::expr::Packing) and
/// [`Encoding`](crate::layout::Encoding), because formats disagree about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are the types' own, and the table below says what they are")]
#[rustfmt::skip]
pub enum DType {
    Bool,
    I2, I4, I8, I16, I32, I64,
    U2, U4, U8, U16, U32, U64,
    F16, Bf16, F32, F64,
    F8E4M3, F8E5M2, F8E4M3Fnuz, F8E5M2Fnuz, F8E8M0, F8E3M4, F8E4M3Ieee, F8E4M3B11Fnuz,
    F6E2M3, F6E3M2, F4E2M1,
    C32, C64, C128,
    Q1_0, Q2_0, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q8_1,
    Q2K, Q3K, Q4K, Q5K, Q6K, Q8K,
    Iq1S, Iq1M, Iq2Xxs, Iq2Xs, Iq2S, Iq3Xxs, Iq3S, Iq4Nl, Iq4Xs,
    Tq1_0, Tq2_0, Mxfp4, Nvfp4,
    /// `elements` elements in `bytes` bytes, moved whole and never interpreted.
    Opaque { elements: u16, bytes: u16 },
}

/// (type, name, class, bits of one element as packed, elements per item, bytes per item in memory).
///
/// float8 names follow ml_dtypes and ONNX: `f8_e4m3` is the finite-only E4M3FN that torch, safetensors and GPUs mean;
/// `f8_e4m3ieee` is ml_dtypes' `float8_e4m3`. Block sizes are those of ggml (ggml-common.h, llama.cpp, 2026-11).
#[rustfmt::skip]
const TABLE: &[(DType, &str, Class, u32, u32, u32)] = &[
    (DType::Bool, "bool", Class::Bool, 8, 1, 1),
    (DType::I2, "i2", Class::Signed, 2, 1, 1),
    (DType::I4, "i4", Class::Signed, 4, 1, 1),
    (DType::I8, "i8", Class::Signed, 8, 1, 1),
    (DType::I16, "i16", Class::Signed, 16, 1, 2),
    (DType::I32, "i32", Class::Signed, 32, 1, 4),
    (DType::I64, "i64", Class::Signed, 64, 1, 8),
    (DType::U2, "u2", Class::Unsigned, 2, 1, 1),
    (DType::U4, "u4", Class::Unsigned, 4, 1, 1),
    (DType::U8, "u8", Class::Unsigned, 8, 1, 1),
    (DType::U16, "u16", Class::Unsigned, 16, 1, 2),
    (DType::U32, "u32", Class::Unsigned, 32, 1, 4),
    (DType::U64, "u64", Class::Unsigned, 64, 1, 8),
    (DType::F16, "f16", Class::Float, 16, 1, 2),
    (DType::Bf16, "bf16", Class::Float, 16, 1, 2),
    (DType::F32, "f32", Class::Float, 32, 1, 4),
    (DType::F64, "f64", Class::Float, 64, 1, 8),
    (DType::F8E4M3, "f8_e4m3", Class::Float, 8, 1, 1),
    (DType::F8E5M2, "f8_e5m2", Class::Float, 8, 1, 1),
    (DType::F8E4M3Fnuz, "f8_e4m3fnuz", Class::Float, 8, 1, 1),
    (DType::F8E5M2Fnuz, "f8_e5m2fnuz", Class::Float, 8, 1, 1),
    (DType::F8E8M0, "f8_e8m0", Class::Float, 8, 1, 1),
    (DType::F8E3M4, "f8_e3m4", Class::Float, 8, 1, 1),
    (DType::F8E4M3Ieee, "f8_e4m3ieee", Class::Float, 8, 1, 1),
    (DType::F8E4M3B11Fnuz, "f8_e4m3b11fnuz", Class::Float, 8, 1, 1),
    (DType::F6E2M3, "f6_e2m3", Class::Float, 6, 1, 1),
    (DType::F6E3M2, "f6_e3m2", Class::Float, 6, 1, 1),
    (DType::F4E2M1, "f4_e2m1", Class::Float, 4, 1, 1),
    (DType::C32, "c32", Class::Complex, 32, 1, 4),
    (DType::C64, "c64", Class::Complex, 64, 1, 8),
    (DType::C128, "c128", Class::Complex, 128, 1, 16),
    (DType::Q1_0, "q1_0", Class::Block, 0, 128, 18),
    (DType::Q2_0, "q2_0", Class::Block, 0, 64, 18),
    (DType::Q4_0, "q4_0", Class::Block, 0, 32, 18),
    (DType::Q4_1, "q4_1", Class::Block, 0, 32, 20),
    (DType::Q5_0, "q5_0", Class::Block, 0, 32, 22),
    (DType::Q5_1, "q5_1", Class::Block, 0, 32, 24),
    (DType::Q8_0, "q8_0", Class::Block, 0, 32, 34),
    (DType::Q8_1, "q8_1", Class::Block, 0, 32, 36),
    (DType::Q2K, "q2_k", Class::Block, 0, 256, 84),
    (DType::Q3K, "q3_k", Class::Block, 0, 256, 110),
    (DType::Q4K, "q4_k", Class::Block, 0, 256, 144),
    (DType::Q5K, "q5_k", Class::Block, 0, 256, 176),
    (DType::Q6K, "q6_k", Class::Block, 0, 256, 210),
    (DType::Q8K, "q8_k", Class::Block, 0, 256, 292),
    (DType::Iq1S, "iq1_s", Class::Block, 0, 256, 50),
    (DType::Iq1M, "iq1_m", Class::Block, 0, 256, 56),
    (DType::Iq2Xxs, "iq2_xxs", Class::Block, 0, 256, 66),
    (DType::Iq2Xs, "iq2_xs", Class::Block, 0, 256, 74),
    (DType::Iq2S, "iq2_s", Class::Block, 0, 256, 82),
    (DType::Iq3Xxs, "iq3_xxs", Class::Block, 0, 256, 98),
    (DType::Iq3S, "iq3_s", Class::Block, 0, 256, 110),
    (DType::Iq4Nl, "iq4_nl", Class::Block, 0, 32, 18),
    (DType::Iq4Xs, "iq4_xs", Class::Block, 0, 256, 136),
    (DType::Tq1_0, "tq1_0", Class::Block, 0, 256, 54),
    (DType::Tq2_0, "tq2_0", Class::Block, 0, 256, 66),
    (DType::Mxfp4, "mxfp4", Class::Block, 0, 32, 17),
    (DType::Nvfp4, "nvfp4", Class::Block, 0, 64, 36),
];

impl DType {
    /// Every named type, in the order of the enum; opaque types are not among them.
    pub fn all() -> impl Iterator<Item = DType> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> &'static (DType, &'static str, Class, u32, u32, u32) {
        const OPAQUE: &(DType, &str, Class, u32, u32, u32) =
            &(DType::Opaque { elements: 1, bytes: 1 }, "opaque", Class::Opaque, 0, 1, 1);
        TABLE.iter().find(|row| row.0 == self).unwrap_or(OPAQUE)
    }

    /// The type whose lower-case name is `name`, as in `--dtype` and `inspect --json`.
    pub fn from_name(name: &str) -> Option<DType> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// What the values are made of.
    pub fn class(self) -> Class {
        self.row().2
    }

    /// Whether this is a real floating-point scalar: what `--dtype` touches.
    pub fn is_float(self) -> bool {
        self.class() == Class::Float
    }

    /// Bits of one element as packed in files; `None` for block and opaque types.
    pub fn bits(self) -> Option<u32> {
        match self.row().3 {
            0 => None,
            bits => Some(bits),
        }
    }

    /// Whether several elements share a byte in files (4 and 2 bit integers, float6, float4).
    pub fn is_sub_byte(self) -> bool {
        self.bits().is_some_and(|bits| bits < 8)
    }

    /// Elements in one item: 1 for scalars, the block length for block-quantized types.
    pub fn item_elements(self) -> u64 {
        match self {
            DType::Opaque { elements, .. } => u64::from(elements.max(1)),
            _ => u64::from(self.row().4),
        }
    }

    /// Bytes of one item in memory: the scalar's size (1 for sub-byte scalars) or the block's size.
    pub fn item_bytes(self) -> u64 {
        match self {
            DType::Opaque { bytes, .. } => u64::from(bytes),
            _ => u64::from(self.row().5),
        }
    }

    /// Width in bytes of the unit whose bytes are reversed between byte orders: half an item for complex types,
    /// 1 for everything that has no byte order of its own (blocks included; ggml reverses those by field).
    pub fn swap_width(self) -> usize {
        match self.class() {
            Class::Complex => self.item_bytes() as usize / 2,
            Class::Block | Class::Opaque => 1,
            _ => self.item_bytes() as usize,
        }
    }

    /// Bytes of `n_elements` elements densely packed, as a flat file stores them: the last byte padded for sub-byte
    /// types. `None` where a block type's elements do not fill whole blocks, or on overflow.
    pub fn packed_len(self, n_elements: u64) -> Option<u64> {
        match self.bits() {
            Some(bits) if bits < 8 => {
                let bits = u128::from(n_elements) * u128::from(bits);
                u64::try_from(bits.div_ceil(8)).ok()
            }
            _ => {
                let per_item = self.item_elements();
                if !n_elements.is_multiple_of(per_item) {
                    return None;
                }
                (n_elements / per_item).checked_mul(self.item_bytes())
            }
        }
    }

    /// Items that hold `n_elements` elements; `None` where they do not fill whole blocks.
    pub fn items(self, n_elements: u64) -> Option<u64> {
        let per_item = self.item_elements();
        n_elements.is_multiple_of(per_item).then(|| n_elements / per_item)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DType::Opaque { elements, bytes } => write!(f, "opaque{elements}x{bytes}"),
            _ => f.write_str(self.row().1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_come_back() {
        let names: std::collections::BTreeSet<_> = DType::all().map(|dtype| dtype.to_string()).collect();
        assert_eq!(names.len(), DType::all().count());
        for dtype in DType::all() {
            assert_eq!(DType::from_name(&dtype.to_string()), Some(dtype));
        }
    }

    #[test]
    fn packed_lengths() {
        assert_eq!(DType::F32.packed_len(3), Some(12));
        assert_eq!(DType::U4.packed_len(3), Some(2));
        assert_eq!(DType::F6E2M3.packed_len(4), Some(3));
        assert_eq!(DType::F6E2M3.packed_len(5), Some(4));
        assert_eq!(DType::Q8_0.packed_len(64), Some(68));
        assert_eq!(DType::Q8_0.packed_len(33), None);
        assert_eq!(DType::F64.packed_len(u64::MAX), None);
        assert_eq!(DType::C64.swap_width(), 4);
        assert_eq!(DType::Opaque { elements: 1, bytes: 3 }.packed_len(5), Some(15));
    }
}
