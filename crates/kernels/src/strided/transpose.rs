//! Transposes of a plane, in tiles.

/// Items along one side of a tile: few enough that source and destination lines of a tile stay in the first-level
/// cache, enough that whole lines are read and written.
const fn tile(item_bytes: usize) -> usize {
    match item_bytes {
        1 => 64,
        2 => 64,
        4 => 32,
        _ => 16,
    }
}

/// Copies `n_across * n_along` items of `N` bytes; item (a, b) lies at `a * N + b * src_stride` in the source and
/// at `a * dst_stride + b * N` in the destination.
///
/// # Safety
///
/// All of those items are readable in the source and writable in the destination, and the two do not overlap.
pub(super) unsafe fn transpose<const N: usize>(
    src: *const u8,
    dst: *mut u8,
    n_across: usize,
    dst_stride: usize,
    n_along: usize,
    src_stride: isize,
) {
    let square = 16 / N;
    let side = tile(N);
    let mut b0 = 0;
    while b0 < n_along {
        let b1 = (b0 + side).min(n_along);
        let mut a0 = 0;
        while a0 < n_across {
            let a1 = (a0 + side).min(n_across);
            let (a_squares, b_squares) = (a0 + (a1 - a0) / square * square, b0 + (b1 - b0) / square * square);
            // SAFETY: every item named here has indices below `n_across` and `n_along`; the caller answers for
            // those. A square of `square` times `square` items is made of such items only.
            unsafe {
                for a in (a0..a_squares).step_by(square) {
                    for b in (b0..b_squares).step_by(square) {
                        let from = src.add(a * N).offset(b as isize * src_stride);
                        let to = dst.add(a * dst_stride + b * N);
                        transpose_square::<N>(from, src_stride, to, dst_stride);
                    }
                    for b in b_squares..b1 {
                        for a in a..a + square {
                            let from = src.add(a * N).offset(b as isize * src_stride);
                            copy_item::<N>(from, dst.add(a * dst_stride + b * N));
                        }
                    }
                }
                for a in a_squares..a1 {
                    for b in b0..b1 {
                        let from = src.add(a * N).offset(b as isize * src_stride);
                        copy_item::<N>(from, dst.add(a * dst_stride + b * N));
                    }
                }
            }
            a0 = a1;
        }
        b0 = b1;
    }
}

/// # Safety
///
/// `N` bytes are readable at `from` and writable at `to`.
#[inline(always)]
unsafe fn copy_item<const N: usize>(from: *const u8, to: *mut u8) {
    // SAFETY: the caller's; arrays of bytes need no alignment.
    unsafe { to.cast::<[u8; N]>().write(from.cast::<[u8; N]>().read()) }
}

/// Transposes 16 / N rows of 16 bytes.
///
/// # Safety
///
/// 16 bytes are readable at each of the 16 / N places from `from` on in steps of `src_stride`, and writable likewise
/// at `to`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn transpose_square<const N: usize>(
    from: *const u8,
    src_stride: isize,
    to: *mut u8,
    dst_stride: usize,
) {
    use std::arch::x86_64::*;
    let square = 16 / N;
    // SAFETY: the caller's for loads and stores, which need no alignment; SSE2 is part of x86-64.
    unsafe {
        let mut rows = [_mm_setzero_si128(); 16];
        for (b, row) in rows[..square].iter_mut().enumerate() {
            *row = _mm_loadu_si128(from.offset(b as isize * src_stride).cast());
        }
        // Interleaving the upper half of the rows with the lower moves one bit of the row number to the item number;
        // after as many rounds as either has bits, they have changed places.
        for _ in 0..square.ilog2() {
            let before = rows;
            for k in 0..square / 2 {
                let (low, high) = (before[k], before[k + square / 2]);
                (rows[2 * k], rows[2 * k + 1]) = match N {
                    1 => (_mm_unpacklo_epi8(low, high), _mm_unpackhi_epi8(low, high)),
                    2 => (_mm_unpacklo_epi16(low, high), _mm_unpackhi_epi16(low, high)),
                    4 => (_mm_unpacklo_epi32(low, high), _mm_unpackhi_epi32(low, high)),
                    _ => (_mm_unpacklo_epi64(low, high), _mm_unpackhi_epi64(low, high)),
                };
            }
        }
        for (a, row) in rows[..square].iter().enumerate() {
            _mm_storeu_si128(to.add(a * dst_stride).cast(), *row);
        }
    }
}

/// As above, item by item.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn transpose_square<const N: usize>(
    from: *const u8,
    src_stride: isize,
    to: *mut u8,
    dst_stride: usize,
) {
    for b in 0..16 / N {
        for a in 0..16 / N {
            // SAFETY: the caller's.
            unsafe {
                copy_item::<N>(
                    from.offset(b as isize * src_stride).add(a * N),
                    to.add(a * dst_stride + b * N),
                )
            };
        }
    }
}
