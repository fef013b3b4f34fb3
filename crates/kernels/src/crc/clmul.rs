//! CRC-32 by carry-less multiplication.
//!
//! "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Gopal et al., Intel, 2009: blocks of
//! the message that lie d bits apart are folded onto each other by multiplying with x^d modulo the polynomial. What
//! remains, 16 bytes that are congruent to the whole message, goes through the table.

use super::algebra::x_to_the;
use super::by_table;
use std::arch::x86_64::*;

/// The two factors that fold 128 bits over a distance of `bits`: for the low half, which lies 64 bits further from
/// the end, and for the high half. Reflected operands make a product one bit short, which the shift makes up for.
const fn fold_by(bits: u32) -> [i64; 2] {
    [(x_to_the(bits + 32) as i64) << 1, (x_to_the(bits - 32) as i64) << 1]
}

const BY_128: [i64; 2] = fold_by(128);
const BY_256: [i64; 2] = fold_by(256);
const BY_384: [i64; 2] = fold_by(384);
const BY_512: [i64; 2] = fold_by(512);
const BY_2048: [i64; 2] = fold_by(2048);

#[inline]
#[target_feature(enable = "pclmulqdq,sse4.1")]
fn factors(pair: [i64; 2]) -> __m128i {
    _mm_set_epi64x(pair[1], pair[0])
}

#[inline]
#[target_feature(enable = "pclmulqdq,sse4.1")]
fn load(block: &[u8; 16]) -> __m128i {
    // SAFETY: the reference is to 16 readable bytes; the load needs no alignment.
    unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "pclmulqdq,sse4.1")]
fn fold(sum: __m128i, factors: __m128i, next: __m128i) -> __m128i {
    let low = _mm_clmulepi64_si128::<0x00>(sum, factors);
    let high = _mm_clmulepi64_si128::<0x11>(sum, factors);
    _mm_xor_si128(_mm_xor_si128(low, high), next)
}

/// Folds the remaining blocks onto `sum` and finishes.
#[inline]
#[target_feature(enable = "pclmulqdq,sse4.1")]
fn finish(mut sum: __m128i, bytes: &[u8]) -> u32 {
    let (blocks, rest) = bytes.as_chunks::<16>();
    for block in blocks {
        sum = fold(sum, factors(BY_128), load(block));
    }
    let mut folded = [0u8; 16];
    // SAFETY: the array is 16 writable bytes; the store needs no alignment.
    unsafe { _mm_storeu_si128(folded.as_mut_ptr().cast(), sum) };
    by_table(by_table(0, &folded), rest)
}

/// Four 128-bit streams.
#[target_feature(enable = "pclmulqdq,sse4.1")]
pub(super) fn crc32_128(init: u32, bytes: &[u8]) -> u32 {
    let (blocks, rest) = bytes.as_chunks::<64>();
    let Some((first, blocks)) = blocks.split_first() else {
        return by_table(init, bytes);
    };
    let part = |block: &[u8; 64], index: usize| load(&block.as_chunks().0[index]);
    let mut sums = [part(first, 0), part(first, 1), part(first, 2), part(first, 3)];
    sums[0] = _mm_xor_si128(sums[0], _mm_cvtsi32_si128(init as i32));
    let by_512 = factors(BY_512);
    for block in blocks {
        for (index, sum) in sums.iter_mut().enumerate() {
            *sum = fold(*sum, by_512, part(block, index));
        }
    }
    let mut sum = fold(sums[2], factors(BY_128), sums[3]);
    sum = fold(sums[1], factors(BY_256), sum);
    sum = fold(sums[0], factors(BY_384), sum);
    finish(sum, rest)
}

#[inline]
#[target_feature(enable = "avx512f,vpclmulqdq")]
fn load_512(block: &[u8; 64]) -> __m512i {
    // SAFETY: the reference is to 64 readable bytes; the load needs no alignment.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,vpclmulqdq")]
fn fold_512(sum: __m512i, factors: __m512i, next: __m512i) -> __m512i {
    let low = _mm512_clmulepi64_epi128::<0x00>(sum, factors);
    let high = _mm512_clmulepi64_epi128::<0x11>(sum, factors);
    _mm512_ternarylogic_epi64::<0x96>(low, high, next)
}

/// Four 512-bit streams.
#[target_feature(enable = "avx512f,vpclmulqdq,pclmulqdq,sse4.1")]
pub(super) fn crc32_512(init: u32, bytes: &[u8]) -> u32 {
    let (blocks, rest) = bytes.as_chunks::<256>();
    let Some((first, blocks)) = blocks.split_first() else {
        return crc32_128(init, bytes);
    };
    let part = |block: &[u8; 256], index: usize| load_512(&block.as_chunks().0[index]);
    let mut sums = [part(first, 0), part(first, 1), part(first, 2), part(first, 3)];
    sums[0] = _mm512_xor_si512(sums[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128(init as i32)));
    let by_2048 = _mm512_broadcast_i32x4(factors(BY_2048));
    for block in blocks {
        for (index, sum) in sums.iter_mut().enumerate() {
            *sum = fold_512(*sum, by_2048, part(block, index));
        }
    }
    let by_512 = _mm512_broadcast_i32x4(factors(BY_512));
    let mut sum = sums[0];
    for next in &sums[1..] {
        sum = fold_512(sum, by_512, *next);
    }
    let mut one = _mm512_extracti32x4_epi32::<0>(sum);
    one = fold(one, factors(BY_128), _mm512_extracti32x4_epi32::<1>(sum));
    one = fold(one, factors(BY_128), _mm512_extracti32x4_epi32::<2>(sum));
    one = fold(one, factors(BY_128), _mm512_extracti32x4_epi32::<3>(sum));
    finish(one, rest)
}
