//! Numeric inner loops: casts, checksums, packing, strided copies, maps, block codecs and reductions.
//!
//! # The bargain
//!
//! - No I/O, no threads, no allocation in a loop: a caller owns buffers and parallelism.
//! - The same bytes on every machine. Loops are written once in plain Rust and compiled for several instruction
//!   sets ([`cpu`]); the best one the machine has is chosen at run time. A kernel uses only integer arithmetic and
//!   IEEE 754 operations whose result is fixed (`+ - * /`, conversions); never a fused multiply-add, never `libm`.
//! - Items lie little-endian and densely packed, in byte slices of any alignment. Sub-byte scalars (`u2`, `i4`,
//!   `f6_e2m3`, …) take one byte per item, value in the low bits, upper bits zero.
//! - Lengths are the caller's contract: a kernel handles as many whole items as both slices hold, so a wrong length
//!   is a wrong answer (and a failed debug assertion), never undefined behaviour or a panic.
//!
//! `unsafe` is used for three things: to call a function compiled for an instruction set that was found to be there,
//! to load and store vectors, and to skip bounds checks in strided copies whose bounds were proved before the loop.

#[macro_use]
pub mod cpu;

pub mod block;
pub mod cast;
pub mod crc;
pub mod map;
pub mod pack;
pub mod reduce;
pub mod strided;
pub mod swap;

mod lanes;
