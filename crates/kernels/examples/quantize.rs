//! Quantizes and dequantizes raw files, for comparison with other programs.
//!
//! `cargo run --release -p modelferry-kernels --example quantize -- quantize TYPE FLOATS BLOCKS [WEIGHTS]`
//! `cargo run --release -p modelferry-kernels --example quantize -- dequantize TYPE BLOCKS FLOATS`
//!
//! FLOATS is f32, little-endian, whole blocks; WEIGHTS too, one for each element of a row, whose length it tells.
//! `MODELFERRY_CPU` chooses the instruction set. Prints how many millions of elements a second were done, in the best of
//! several runs.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a program for developers"
)]

use modelferry_core::dtype::DType;
use modelferry_kernels::block::BlockCodec;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(millions) => {
            println!("{millions:.0}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<f64, String> {
    let (action, dtype, input, output, weights) = match args {
        [action, dtype, input, output] => (action, dtype, input, output, None),
        [action, dtype, input, output, weights] => (action, dtype, input, output, Some(weights)),
        _ => return Err("usage: quantize|dequantize TYPE INPUT OUTPUT [WEIGHTS]".into()),
    };
    let read = |path: &String| std::fs::read(path).map_err(|error| format!("{path}: {error}"));
    let codec = DType::from_name(dtype).and_then(BlockCodec::new).ok_or("not a block type")?;
    let src = read(input)?;
    let block = codec.dtype().item_bytes() as usize;
    let floats = codec.dtype().item_elements() as usize * 4;
    let whole =
        |item: usize| src.len().is_multiple_of(item).then_some(src.len() / item).ok_or("not whole blocks");
    let (dst, millions) = match (&**action, weights) {
        ("quantize", None) if codec.can_quantize() => {
            best(whole(floats)? * block, whole(floats)? * floats, |dst| codec.quantize(&src, dst))
        }
        ("quantize", Some(weights)) if codec.can_quantize_weighted() => {
            let weights = read(weights)?;
            whole(weights.len())?;
            best(whole(floats)? * block, whole(floats)? * floats, |dst| {
                codec.quantize_weighted(&src, weights.len() / 4, &weights, dst);
            })
        }
        ("dequantize", None) => {
            best(whole(block)? * floats, whole(block)? * floats, |dst| codec.dequantize(&src, dst))
        }
        _ => return Err(format!("{action}: there is no such thing for {dtype}")),
    };
    std::fs::write(output, dst).map_err(|error| format!("{output}: {error}"))?;
    Ok(millions)
}

/// The bytes that `run` makes, and the best rate of three.
fn best(n_bytes: usize, float_bytes: usize, mut run: impl FnMut(&mut [u8])) -> (Vec<u8>, f64) {
    let mut dst = vec![0; n_bytes];
    let mut seconds = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        run(&mut dst);
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    (dst, float_bytes as f64 / 4e6 / seconds)
}
