//! One block, as `quantize_row_*_ref` of ggml-quants.c makes it on x86-64.

use modelferry_core::dtype::DType;

fn half(scale: f32) -> [u8; 2] {
    if scale.is_nan() { [0x00, 0x7e] } else { half::f16::from_f32(scale).to_le_bytes() }
}

/// A cast of C to a type of at most 32 bits.
fn int(x: f32) -> i32 {
    if x.abs() < 2f32.powi(31) { x as i32 } else { i32::MIN }
}

/// `lroundf`, a `long`.
fn lround(x: f32) -> i64 {
    let x = x.round();
    if x.abs() < 2f32.powi(63) { x as i64 } else { i64::MIN }
}

fn inverse(d: f32) -> f32 {
    if d != 0.0 { 1.0 / d } else { 0.0 }
}

/// `if (amax < fabsf(v)) { amax = fabsf(v); max = v; }`
fn largest(floats: &[f32]) -> f32 {
    let (mut amax, mut max) = (0.0, 0.0);
    for &v in floats {
        if amax < v.abs() {
            (amax, max) = (v.abs(), v);
        }
    }
    max
}

/// `amax = MAX(amax, fabsf(v))`
fn macro_max(floats: &[f32]) -> f32 {
    let mut amax = 0.0f32;
    for &v in floats {
        amax = if amax > v.abs() { amax } else { v.abs() };
    }
    amax
}

fn extent(floats: &[f32]) -> (f32, f32) {
    let (mut min, mut max) = (f32::MAX, -f32::MAX);
    for &v in floats {
        if v < min {
            min = v;
        }
        if v > max {
            max = v;
        }
    }
    (min, max)
}

/// `MIN(15, (int8_t)x)` as a byte.
fn clipped(x: f32, most: i32) -> u8 {
    most.min(i32::from(int(x) as i8)) as u8
}

/// Codes of 5 bits.
fn fives(codes: &[u8]) -> Vec<u8> {
    let mut qh = 0u32;
    let mut qs = [0u8; 16];
    for j in 0..16 {
        qs[j] = codes[j] & 0xf | (codes[j + 16] & 0xf) << 4;
        qh |= (u32::from(codes[j]) & 0x10) >> 4 << j;
        qh |= (u32::from(codes[j + 16]) & 0x10) >> 4 << (j + 16);
    }
    [&qh.to_le_bytes()[..], &qs].concat()
}

/// `best_index_mxfp4`
fn nearest(x: f32, e: f32) -> u8 {
    let levels = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0f32];
    let mut best = 0;
    for (idx, level) in levels.iter().enumerate() {
        if (level * e - x).abs() < (levels[best] * e - x).abs() {
            best = idx;
        }
    }
    best as u8
}

/// `ggml_fp32_to_ue4m3`, from its definition: halves go up, but for a half between the last code and the end.
fn ue4m3(x: f32) -> u8 {
    let x = f64::from(x.min(448.0));
    if x < 2f64.powi(-6) {
        return ((x * 512.0 + 0.5) as u8).min(7);
    }
    let exponent = x.log2().floor();
    let mantissa = (x / exponent.exp2() * 8.0 + 0.5).floor();
    let code = (exponent as i32 + 6) * 8 + mantissa as i32;
    if code >= 15 * 8 { 0x7e } else { code as u8 }
}

fn half_ue4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code) >> 3, f32::from(code & 7));
    if exponent == 0 { mantissa / 1024.0 } else { (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 8) }
}

/// The block of these elements.
pub(super) fn reference(dtype: DType, x: &[f32]) -> Vec<u8> {
    let mut block = vec![];
    match dtype {
        DType::Q1_0 => {
            let sum = x.iter().fold(0.0, |sum, v| sum + v.abs());
            block.extend(half(sum / 128.0));
            for eight in x.chunks(8) {
                block.push((0..8).map(|k| u8::from(eight[k] >= 0.0) << k).sum());
            }
        }
        DType::Q2_0 => {
            let d = largest(x).abs();
            let id = if d > 0.0 { 1.0 / d } else { 0.0 };
            block.extend(half(d));
            for four in x.chunks(4) {
                block.push(
                    (0..4).map(|k| ((int((four[k] * id).round()) + 1).clamp(0, 3) as u8) << (2 * k)).sum(),
                );
            }
        }
        DType::Q4_0 => {
            let d = largest(x) / -8.0;
            block.extend(half(d));
            let code = |v: f32| clipped(v * inverse(d) + 8.5, 15);
            block.extend((0..16).map(|j| code(x[j]) | code(x[j + 16]) << 4));
        }
        DType::Q4_1 => {
            let (min, max) = extent(x);
            let d = (max - min) / 15.0;
            block.extend([half(d), half(min)].as_flattened());
            let code = |v: f32| clipped((v - min) * inverse(d) + 0.5, 15);
            block.extend((0..16).map(|j| code(x[j]) | code(x[j + 16]) << 4));
        }
        DType::Q5_0 => {
            let d = largest(x) / -16.0;
            block.extend(half(d));
            let codes: Vec<u8> = x.iter().map(|v| clipped(v * inverse(d) + 16.5, 31)).collect();
            block.extend(fives(&codes));
        }
        DType::Q5_1 => {
            let (min, max) = extent(x);
            let d = (max - min) / 31.0;
            block.extend([half(d), half(min)].as_flattened());
            let codes: Vec<u8> = x.iter().map(|v| int((v - min) * inverse(d) + 0.5) as u8).collect();
            block.extend(fives(&codes));
        }
        DType::Q8_0 => {
            let d = macro_max(x) / 127.0;
            block.extend(half(d));
            block.extend(x.iter().map(|v| int((v * inverse(d)).round()) as u8));
        }
        DType::Tq1_0 => {
            let d = macro_max(x);
            let trit = |v: f32| (lround(v * inverse(d)) + 1) as u8;
            let mut five = |at: usize, width: usize, n: usize| {
                for m in 0..width {
                    let mut q = 0u8;
                    for k in 0..5 {
                        let xi = if k < n { trit(x[at + m + k * width]) } else { 0 };
                        q = q.wrapping_mul(3).wrapping_add(xi);
                    }
                    block.push((u32::from(q) * 256).div_ceil(243) as u8);
                }
            };
            five(0, 32, 5);
            five(160, 16, 5);
            five(240, 4, 4);
            block.extend(half(d));
        }
        DType::Tq2_0 => {
            let d = macro_max(x);
            let trit = |v: f32| (lround(v * inverse(d)) + 1) as u8 & 3;
            for part in x.chunks(128) {
                block.extend((0..32).map(|m| (0..4).map(|n| trit(part[m + 32 * n]) << (2 * n)).sum::<u8>()));
            }
            block.extend(half(d));
        }
        DType::Mxfp4 => {
            let amax = largest(x).abs();
            let log2f = f64::from(amax).log2() as f32;
            let e = if amax > 0.0 { int(log2f.floor() - 2.0 + 127.0) as u8 } else { 0 };
            let d = (f64::from(e) - 128.0).exp2() as f32;
            block.push(e);
            block.extend((0..16).map(|j| nearest(x[j], d) | nearest(x[j + 16], d) << 4));
        }
        DType::Nvfp4 => {
            let scales: Vec<u8> = x.chunks(16).map(|part| ue4m3(largest(part).abs() / 6.0)).collect();
            block.extend(&scales);
            for (part, scale) in x.chunks(16).zip(scales) {
                let d = half_ue4m3(scale);
                block.extend((0..8).map(|j| nearest(part[j], d) | nearest(part[j + 8], d) << 4));
            }
        }
        _ => panic!("no reference for {dtype}"),
    }
    block
}
