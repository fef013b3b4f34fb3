//! Prints how fast the hot kernels are on this machine, in GB/s of input, at every level it has.
//!
//! `cargo run --release -p modelferry-kernels --example speed`
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for developers")]

use modelferry_core::dtype::DType;
use modelferry_core::expr::{BitOrder, ReduceFn, ScalarFn};
use modelferry_kernels::block::BlockCodec;
use modelferry_kernels::cast::{CastStats, Caster};
use modelferry_kernels::cpu::{Dispatch, best, set_dispatch};
use modelferry_kernels::map::{Affine, Mapper};
use modelferry_kernels::reduce::{Folder, KthAbs, all_zero, count_nonfinite};
use modelferry_kernels::strided::{StrideDim, copy_strided};
use modelferry_kernels::{crc, pack, swap};
use std::hint::black_box;
use std::time::Instant;

/// Bytes of input per call: the engine's largest tile.
const TILE: usize = 1 << 20;

fn main() {
    for level in Dispatch::ALL.into_iter().filter(|level| *level <= best()) {
        set_dispatch(level);
        println!("{}", level.name());
        all();
    }
}

fn measure(name: &str, n_bytes: usize, mut run: impl FnMut()) {
    run();
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let start = Instant::now();
        for _ in 0..8 {
            run();
        }
        best = best.min(start.elapsed().as_secs_f64() / 8.0);
    }
    println!("  {name:<28} {:7.2} GB/s", n_bytes as f64 / best / 1e9);
}

fn all() {
    // Floats around 1, as weights are.
    let floats: Vec<u8> =
        (0..TILE / 4).flat_map(|k| (((k * 7919) % 2001) as f32 / 1000.0 - 1.0).to_le_bytes()).collect();
    let mut out = vec![0u8; TILE * 8];
    measure("memcpy", TILE, || out[..TILE].copy_from_slice(black_box(&floats)));
    let pairs = [
        (DType::F32, DType::Bf16),
        (DType::F32, DType::F16),
        (DType::F32, DType::F8E4M3),
        (DType::F32, DType::F8E8M0),
        (DType::Bf16, DType::F32),
        (DType::F16, DType::F32),
        (DType::Bf16, DType::F16),
        (DType::F16, DType::Bf16),
        (DType::Bf16, DType::F8E4M3),
        (DType::F8E4M3, DType::Bf16),
        (DType::F8E4M3, DType::F32),
        (DType::F64, DType::F32),
        (DType::F64, DType::Bf16),
        (DType::F32, DType::F64),
        (DType::I64, DType::F32),
        (DType::F32, DType::I8),
    ];
    for (from, to) in pairs {
        let caster = Caster::new(from, to).unwrap();
        let n_bytes = TILE / from.item_bytes() as usize * to.item_bytes() as usize;
        let mut stats = CastStats::default();
        measure(&format!("cast {from} to {to}"), TILE, || {
            caster.run(black_box(&floats), &mut out[..n_bytes], &mut stats);
        });
        black_box(stats);
    }
    measure("crc32", TILE, || {
        black_box(crc::crc32(black_box(&floats)));
    });
    measure("crc32 of 4 KiB", 4096, || {
        black_box(crc::crc32(black_box(&floats[..4096])));
    });
    for bits in [4, 6] {
        let n_items = TILE * 8 / bits as usize;
        measure(&format!("unpack {bits} bits"), TILE, || {
            pack::unpack(bits, BitOrder::Low, black_box(&floats), 0, &mut out[..n_items]);
        });
        measure(&format!("pack {bits} bits"), TILE, || {
            pack::pack(bits, BitOrder::Low, black_box(&floats), &mut out);
        });
    }
    for width in [2, 4, 8] {
        measure(&format!("swap {width}"), TILE, || swap::swap(width, black_box(&mut out[..TILE])));
    }
    for (item, side) in [(1, 1024), (2, 1024), (4, 1024), (4, 1000), (8, 1024), (16, 512)] {
        let plane = vec![7u8; item * side * side];
        let row = (item * side) as isize;
        let dims = [
            StrideDim { count: side, src: item as isize, dst: row },
            StrideDim { count: side, src: row, dst: item as isize },
        ];
        let mut turned = vec![0; plane.len()];
        measure(&format!("transpose {side}^2 of {item} B"), plane.len(), || {
            copy_strided(item, &dims, black_box(&plane), 0, &mut turned, 0).unwrap();
        });
    }
    let dims = [StrideDim { count: TILE / 8, src: 8, dst: 4 }];
    measure("every second f32", TILE, || {
        copy_strided(4, &dims, black_box(&floats), 0, &mut out, 0).unwrap();
    });
    // Any bits are blocks.
    let noise: Vec<u8> =
        (0..TILE as u64).map(|k| (k.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    for codec in DType::all().filter_map(BlockCodec::new) {
        let dtype = codec.dtype();
        let n_blocks = TILE / 4 / dtype.item_elements() as usize;
        let mut blocks = noise[..n_blocks * dtype.item_bytes() as usize].to_vec();
        measure(&format!("dequantize {dtype}, of f32"), TILE, || {
            codec.dequantize(black_box(&blocks), &mut out[..TILE]);
        });
        if codec.can_quantize() {
            measure(&format!("quantize {dtype}"), TILE, || codec.quantize(black_box(&floats), &mut blocks));
        }
    }
    let affine = Affine::new(ScalarFn::SubMul, DType::U8, DType::U8, DType::F32).unwrap();
    let bytes = &floats[..TILE / 4];
    measure("(u8 - u8) * f32", TILE, || affine.run(bytes, bytes, black_box(&floats), &mut out[..TILE]));
    let neg_exp = Mapper::new(ScalarFn::NegExp, DType::F32).unwrap();
    let mut small = floats.clone();
    measure("-exp(f32)", TILE, || neg_exp.run(black_box(&mut small)));
    for f in [ReduceFn::AbsMax, ReduceFn::Min, ReduceFn::Sum] {
        for dtype in [DType::F32, DType::Bf16] {
            measure(&format!("{f:?} of {dtype}"), TILE, || {
                let mut folder = Folder::new(f, dtype).unwrap();
                folder.feed(black_box(&floats));
                folder.finish(&mut out);
            });
        }
    }
    let mut kth = KthAbs::new(DType::F32, 1000).unwrap();
    measure("k-th largest, one pass", TILE, || kth.feed(black_box(&floats)));
    measure("count_nonfinite of f32", TILE, || {
        black_box(count_nonfinite(DType::F32, black_box(&floats)));
    });
    let zeros = vec![0; TILE];
    measure("all_zero", TILE, || {
        black_box(all_zero(black_box(&zeros)));
    });
}
