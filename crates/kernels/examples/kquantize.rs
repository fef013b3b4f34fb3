//! Quantizes a file of f32 to a searched type, and says how fast, at every level of instructions if they agree.
//!
//! `cargo run --release -p modelferry-kernels --example kquantize -- TYPE ROW INPUT OUTPUT [WEIGHTS]`
//!
//! ROW is the number of elements in a row, WEIGHTS a file of so many f32.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for developers")]

use modelferry_core::dtype::DType;
use modelferry_kernels::block::{quantizer, weighted_quantizer};
use modelferry_kernels::cpu::{Dispatch, best, set_dispatch};
use std::time::Instant;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, row, input, output, weights @ ..] = &args[..] else {
        println!("usage: kquantize TYPE ROW INPUT OUTPUT [WEIGHTS]");
        std::process::exit(2);
    };
    let dtype = DType::from_name(name).unwrap();
    let row: usize = row.parse().unwrap();
    let floats = std::fs::read(input).unwrap();
    let weights = weights.first().map(|path| std::fs::read(path).unwrap());
    let mut blocks = vec![0; dtype.packed_len(floats.len() as u64 / 4).unwrap() as usize];
    let mut last: Option<Vec<u8>> = None;
    for level in Dispatch::ALL.into_iter().filter(|level| *level <= best()) {
        set_dispatch(level);
        let mut fastest = f64::INFINITY;
        for _ in 0..5 {
            blocks.fill(0xaa);
            let start = Instant::now();
            match &weights {
                Some(weights) => weighted_quantizer(dtype).unwrap()(&floats, row, weights, &mut blocks),
                None => quantizer(dtype).unwrap()(&floats, &mut blocks),
            }
            fastest = fastest.min(start.elapsed().as_secs_f64());
        }
        println!("{dtype} {} {:.1} M values/s", level.name(), floats.len() as f64 / 4e6 / fastest);
        assert!(last.is_none_or(|last| last == blocks), "{} gives other bytes", level.name());
        last = Some(blocks.clone());
    }
    std::fs::write(output, &blocks).unwrap();
}
