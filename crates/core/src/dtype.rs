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

macro_rules! dtypes {
    ($($variant:ident $name:literal $class:ident $bits:literal $elements:literal $bytes:literal;)*) => {
        /// An element type.
        ///
        /// Sizes come in two kinds. An *item* is what the evaluator moves as a whole: one element, or one whole block
        /// of a block-quantized type. Sub-byte scalars (`u4`, `f6_e2m3`, …) take one byte per item in memory, value in
        /// the low bits; how they are packed in a file belongs to [`Packing`](crate::expr::Packing), because formats
        /// disagree about it.
        ///
        /// float8 names follow ml_dtypes and ONNX: `f8_e4m3` is the finite-only E4M3FN that torch, safetensors and
        /// GPUs mean; `f8_e4m3ieee` is ml_dtypes' `float8_e4m3`. Block sizes are those of ggml (ggml-common.h,
        /// llama.cpp, 2026-11).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "the variants are the types' own names, and the table below says what they are")]
        pub enum DType {
            $($variant,)*
            /// `elements` elements in `bytes` bytes, moved whole and never interpreted.
            Opaque { elements: u16, bytes: u16 },
        }

        /// Every named type, in the order of the enum.
        const ALL: &[DType] = &[$(DType::$variant,)*];

        impl DType {
            const fn row(self) -> Row {
                match self {
                    $(DType::$variant => Row {
                        name: $name, class: Class::$class, bits: $bits, elements: $elements, bytes: $bytes,
                    },)*
                    DType::Opaque { elements, bytes } => {
                        Row { name: "opaque", class: Class::Opaque, bits: 0, elements, bytes }
                    }
                }
            }
        }
    };
}

struct Row {
    name: &'static str,
    class: Class,
    /// Bits of one element as packed; 0 for blocks.
    bits: u32,
    /// Elements per item.
    elements: u16,
    /// Bytes per item in memory.
    bytes: u16,
}

// Variant, name, class, bits of one element as packed, elements per item, bytes per item in memory.
#[rustfmt::skip]
dtypes! {
    Bool "bool" Bool 8 1 1;
    I2 "i2" Signed 2 1 1;
    I4 "i4" Signed 4 1 1;
    I8 "i8" Signed 8 1 1;
    I16 "i16" Signed 16 1 2;
    I32 "i32" Signed 32 1 4;
    I64 "i64" Signed 64 1 8;
    U2 "u2" Unsigned 2 1 1;
    U4 "u4" Unsigned 4 1 1;
    U8 "u8" Unsigned 8 1 1;
    U16 "u16" Unsigned 16 1 2;
    U32 "u32" Unsigned 32 1 4;
    U64 "u64" Unsigned 64 1 8;
    F16 "f16" Float 16 1 2;
    Bf16 "bf16" Float 16 1 2;
    F32 "f32" Float 32 1 4;
    F64 "f64" Float 64 1 8;
    F8E4M3 "f8_e4m3" Float 8 1 1;
    F8E5M2 "f8_e5m2" Float 8 1 1;
    F8E4M3Fnuz "f8_e4m3fnuz" Float 8 1 1;
    F8E5M2Fnuz "f8_e5m2fnuz" Float 8 1 1;
    F8E8M0 "f8_e8m0" Float 8 1 1;
    F8E3M4 "f8_e3m4" Float 8 1 1;
    F8E4M3Ieee "f8_e4m3ieee" Float 8 1 1;
    F8E4M3B11Fnuz "f8_e4m3b11fnuz" Float 8 1 1;
    F6E2M3 "f6_e2m3" Float 6 1 1;
    F6E3M2 "f6_e3m2" Float 6 1 1;
    F4E2M1 "f4_e2m1" Float 4 1 1;
    C32 "c32" Complex 32 1 4;
    C64 "c64" Complex 64 1 8;
    C128 "c128" Complex 128 1 16;
    Q1_0 "q1_0" Block 0 128 18;
    Q2_0 "q2_0" Block 0 64 18;
    Q4_0 "q4_0" Block 0 32 18;
    Q4_1 "q4_1" Block 0 32 20;
    Q5_0 "q5_0" Block 0 32 22;
    Q5_1 "q5_1" Block 0 32 24;
    Q8_0 "q8_0" Block 0 32 34;
    Q8_1 "q8_1" Block 0 32 36;
    Q2K "q2_k" Block 0 256 84;
    Q3K "q3_k" Block 0 256 110;
    Q4K "q4_k" Block 0 256 144;
    Q5K "q5_k" Block 0 256 176;
    Q6K "q6_k" Block 0 256 210;
    Q8K "q8_k" Block 0 256 292;
    Iq1S "iq1_s" Block 0 256 50;
    Iq1M "iq1_m" Block 0 256 56;
    Iq2Xxs "iq2_xxs" Block 0 256 66;
    Iq2Xs "iq2_xs" Block 0 256 74;
    Iq2S "iq2_s" Block 0 256 82;
    Iq3Xxs "iq3_xxs" Block 0 256 98;
    Iq3S "iq3_s" Block 0 256 110;
    Iq4Nl "iq4_nl" Block 0 32 18;
    Iq4Xs "iq4_xs" Block 0 256 136;
    Tq1_0 "tq1_0" Block 0 256 54;
    Tq2_0 "tq2_0" Block 0 256 66;
    Mxfp4 "mxfp4" Block 0 32 17;
    Nvfp4 "nvfp4" Block 0 64 36;
}

impl DType {
    /// Every named type, in the order of the enum; opaque types are not among them.
    pub fn all() -> impl Iterator<Item = DType> {
        ALL.iter().copied()
    }

    /// The type whose lower-case name is `name`, as in `--dtype` and `inspect --json`.
    pub fn from_name(name: &str) -> Option<DType> {
        DType::all().find(|dtype| dtype.row().name == name)
    }

    /// What the values are made of.
    pub const fn class(self) -> Class {
        self.row().class
    }

    /// Whether this is a real floating-point scalar: what `--dtype` touches.
    pub fn is_float(self) -> bool {
        self.class() == Class::Float
    }

    /// Bits of one element as packed in files; `None` for block and opaque types.
    pub const fn bits(self) -> Option<u32> {
        match self.row().bits {
            0 => None,
            bits => Some(bits),
        }
    }

    /// Whether several elements share a byte in files (4 and 2 bit integers, float6, float4).
    pub fn is_sub_byte(self) -> bool {
        self.bits().is_some_and(|bits| bits < 8)
    }

    /// Elements in one item: 1 for scalars, the block length for block-quantized types. Never 0.
    pub const fn item_elements(self) -> u64 {
        match self.row().elements {
            0 => 1,
            elements => elements as u64,
        }
    }

    /// Bytes of one item in memory: the scalar's size (1 for sub-byte scalars) or the block's size.
    pub const fn item_bytes(self) -> u64 {
        self.row().bytes as u64
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
            _ => self.items(n_elements)?.checked_mul(self.item_bytes()),
        }
    }

    /// Items that hold `n_elements` elements; `None` where they do not fill whole blocks.
    pub fn items(self, n_elements: u64) -> Option<u64> {
        match self.item_elements() {
            // Without a division, which takes longer than all the rest.
            1 => Some(n_elements),
            per_item => n_elements.is_multiple_of(per_item).then(|| n_elements / per_item),
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DType::Opaque { elements, bytes } => write!(f, "opaque{elements}x{bytes}"),
            _ => f.write_str(self.row().name),
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
