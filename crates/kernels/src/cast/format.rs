//! Floating-point formats as data: everything that one rounding needs to know.

use crate::lanes::Item;
use modelferry_core::dtype::DType;

/// What a NaN becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Nan {
    /// IEEE: sign, quiet bit, and the top bits of the payload.
    Payload,
    /// This code, with the sign of the NaN.
    Signed(u64),
    /// This code, without a sign.
    Single(u64),
    /// There is no NaN: a zero of the opposite sign, as ml_dtypes 0.6 has it.
    OppositeZero,
}

/// One binary floating-point format of at most 32 bits with a sign bit above exponent and mantissa.
///
/// Codes are magnitudes: the item without its sign bit.
#[derive(Clone, Copy)]
pub(super) struct Format {
    pub(super) exponent_bits: u32,
    pub(super) mantissa_bits: u32,
    pub(super) bias: u32,
    /// The largest finite value.
    pub(super) max: u64,
    /// What a finite value beyond `max` becomes, after rounding, and infinity too.
    pub(super) over: u64,
    /// Whether `over` is infinity, so that infinity is carried and not lost.
    pub(super) has_infinity: bool,
    pub(super) nan: Nan,
    /// Whether zero has a sign.
    pub(super) has_negative_zero: bool,
}

impl Format {
    const fn ieee(exponent_bits: u32, mantissa_bits: u32, nan: Nan) -> Format {
        let infinity = ((1 << exponent_bits) - 1) << mantissa_bits;
        Format {
            exponent_bits,
            mantissa_bits,
            bias: (1 << (exponent_bits - 1)) - 1,
            max: infinity - 1,
            over: infinity,
            has_infinity: true,
            nan,
            has_negative_zero: true,
        }
    }

    /// No infinity, no negative zero, and its code is the only NaN; overflow becomes NaN.
    const fn fnuz(exponent_bits: u32, mantissa_bits: u32, bias: u32) -> Format {
        Format {
            exponent_bits,
            mantissa_bits,
            bias,
            max: (1 << (exponent_bits + mantissa_bits)) - 1,
            over: 0x80,
            has_infinity: false,
            nan: Nan::Single(0x80),
            has_negative_zero: false,
        }
    }

    /// No infinity; values out of range become the largest.
    const fn saturating(exponent_bits: u32, mantissa_bits: u32, bias: u32, max: u64, nan: Nan) -> Format {
        Format {
            exponent_bits,
            mantissa_bits,
            bias,
            max,
            over: max,
            has_infinity: false,
            nan,
            has_negative_zero: true,
        }
    }

    /// The position of the sign.
    pub(super) const fn sign_bit(self) -> u32 {
        self.exponent_bits + self.mantissa_bits
    }

    /// The value of an 8-bit or shorter item, as f64 bits. NaN keeps its sign where the format has one.
    pub(super) fn decode(self, item: u8) -> u64 {
        let sign = u64::from(item) >> self.sign_bit() & 1;
        let magnitude = u64::from(item) & ((1 << self.sign_bit()) - 1);
        let is_nan = match self.nan {
            Nan::Single(code) => u64::from(item) == code,
            Nan::OppositeZero => false,
            Nan::Payload | Nan::Signed(_) => {
                magnitude > self.max && !(self.has_infinity && magnitude == self.over)
            }
        };
        let value = if is_nan {
            f64::from_bits(0x7ff8_0000_0000_0000)
        } else if magnitude > self.max {
            f64::INFINITY
        } else {
            let fraction = magnitude & ((1 << self.mantissa_bits) - 1);
            let exponent = magnitude >> self.mantissa_bits;
            let (significand, exponent) =
                if exponent == 0 { (fraction, 1) } else { (fraction | 1 << self.mantissa_bits, exponent) };
            // 2^(exponent - bias - mantissa_bits) is a normal f64, and the product is exact.
            let scale = f64::from_bits((1023 + exponent - u64::from(self.bias + self.mantissa_bits)) << 52);
            significand as f64 * scale
        };
        value.to_bits() | sign << 63
    }
}

/// A format known at compile time, so that its loop is compiled for it.
pub(super) trait Float {
    /// The format.
    const FORMAT: Format;
    /// What an item is in memory.
    type Item: Item;
}

macro_rules! formats {
    ($($name:ident $item:literal $format:expr;)*) => {$(
        pub(super) struct $name;
        impl Float for $name {
            const FORMAT: Format = $format;
            type Item = [u8; $item];
        }
    )*};
}

// Overflow and NaN as torch 2.15 has them for the types it casts to, else as ml_dtypes 0.6. (Earlier
// releases of torch sent what is out of range of float8_e4m3fn to NaN; it is the largest value now.)
formats! {
    F32 4 Format::ieee(8, 23, Nan::Payload);
    F16 2 Format::ieee(5, 10, Nan::Payload);
    Bf16 2 Format::ieee(8, 7, Nan::Payload);
    E5M2 1 Format::ieee(5, 2, Nan::Signed(0x7f));
    E4M3Ieee 1 Format::ieee(4, 3, Nan::Signed(0x7c));
    E3M4 1 Format::ieee(3, 4, Nan::Signed(0x78));
    E4M3 1 Format::saturating(4, 3, 7, 0x7e, Nan::Signed(0x7f));
    E4M3Fnuz 1 Format::fnuz(4, 3, 8);
    E5M2Fnuz 1 Format::fnuz(5, 2, 16);
    E4M3B11Fnuz 1 Format::fnuz(4, 3, 11);
    E2M3 1 Format::saturating(2, 3, 1, 0x1f, Nan::OppositeZero);
    E3M2 1 Format::saturating(3, 2, 3, 0x1f, Nan::OppositeZero);
    E2M1 1 Format::saturating(2, 1, 1, 0x7, Nan::OppositeZero);
}

/// The value of any item of one byte, as f64 bits; `None` for types that are wider or have no value.
pub(super) fn decode_byte(dtype: DType, item: u8) -> Option<u64> {
    let format = match dtype {
        DType::F8E4M3 => E4M3::FORMAT,
        DType::F8E5M2 => E5M2::FORMAT,
        DType::F8E4M3Fnuz => E4M3Fnuz::FORMAT,
        DType::F8E5M2Fnuz => E5M2Fnuz::FORMAT,
        DType::F8E3M4 => E3M4::FORMAT,
        DType::F8E4M3Ieee => E4M3Ieee::FORMAT,
        DType::F8E4M3B11Fnuz => E4M3B11Fnuz::FORMAT,
        DType::F6E2M3 => E2M3::FORMAT,
        DType::F6E3M2 => E3M2::FORMAT,
        DType::F4E2M1 => E2M1::FORMAT,
        DType::F8E8M0 if item == 0xff => return Some(0x7ff8_0000_0000_0000),
        DType::F8E8M0 => return Some((1023 - 127 + u64::from(item)) << 52),
        DType::Bool => return Some(f64::from(u8::from(item != 0)).to_bits()),
        DType::U8 => return Some(f64::from(item).to_bits()),
        DType::I8 => return Some(f64::from(item as i8).to_bits()),
        DType::U4 => return Some(f64::from(item & 15).to_bits()),
        DType::U2 => return Some(f64::from(item & 3).to_bits()),
        DType::I4 => return Some(f64::from((item << 4) as i8 >> 4).to_bits()),
        DType::I2 => return Some(f64::from((item << 6) as i8 >> 6).to_bits()),
        _ => return None,
    };
    Some(format.decode(item))
}
