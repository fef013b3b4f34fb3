//! Blocks of a big-endian file: which of their bytes are numbers of more than one.

use modelferry_core::dtype::DType;

/// Numbers inside a block that stand one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// First byte in the block.
    pub at: u64,
    /// Bytes of one number.
    pub width: u64,
    /// How many there are.
    pub count: u64,
}

const fn field(at: u64, width: u64, count: u64) -> Field {
    Field { at, width, count }
}

/// The numbers in a block whose bytes another byte order reverses, in order. `None` for a type that has no form of
/// another order, and for one that is no block type.
///
/// Structs of ggml-common.h; llama.cpp's own gguf_convert_endian.py knows eight of them and agrees. Bytes that ggml
/// copies into a number before it takes them apart (`qh` of q5_0 and q5_1, the scales of iq3_xxs and iq1_m) are such
/// numbers too. It takes those of iq2_xxs as a number when it writes and as bytes when it reads, so that on a
/// big-endian machine nothing has a meaning.
#[rustfmt::skip]
pub fn fields(dtype: DType) -> Option<&'static [Field]> {
    const HALF: &[Field] = &[field(0, 2, 1)];
    const TWO_HALVES: &[Field] = &[field(0, 2, 2)];
    Some(match dtype {
        DType::Q1_0 | DType::Q2_0 | DType::Q4_0 | DType::Q8_0 | DType::Iq4Nl | DType::Iq2S | DType::Iq3S => HALF,
        DType::Q4_1 | DType::Q8_1 | DType::Q4K | DType::Q5K | DType::Iq4Xs => TWO_HALVES,
        DType::Q5_0 => const { &[field(0, 2, 1), field(2, 4, 1)] },
        DType::Q5_1 => const { &[field(0, 2, 2), field(4, 4, 1)] },
        DType::Q2K => const { &[field(80, 2, 2)] },
        DType::Q3K => const { &[field(108, 2, 1)] },
        DType::Q6K => const { &[field(208, 2, 1)] },
        DType::Q8K => const { &[field(0, 4, 1), field(260, 2, 16)] },
        DType::Iq1S => const { &[field(0, 2, 1), field(34, 2, 8)] },
        DType::Iq1M => const { &[field(48, 2, 4)] },
        DType::Iq2Xs => const { &[field(0, 2, 33)] },
        DType::Iq3Xxs => const { &[field(0, 2, 1), field(66, 4, 8)] },
        DType::Tq1_0 => const { &[field(52, 2, 1)] },
        DType::Tq2_0 => const { &[field(64, 2, 1)] },
        DType::Mxfp4 | DType::Nvfp4 => &[],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::DTYPES;
    use modelferry_core::dtype::Class;

    #[test]
    fn fields_lie_in_their_blocks() {
        for dtype in DTYPES {
            let Some(fields) = fields(dtype) else {
                assert!(dtype.class() != Class::Block || dtype == DType::Iq2Xxs, "{dtype}");
                continue;
            };
            let mut end = 0;
            for field in fields {
                assert!(field.at >= end && field.count > 0, "{dtype}");
                end = field.at + field.width * field.count;
            }
            assert!(end <= dtype.item_bytes(), "{dtype}");
        }
    }
}
