//! ggml's quantizers block by block: what each does with the results of its searches.

use super::searches::{
    best_index, iq4_scale, make_q3_quants, make_qkx_quants, make_qp_quants, make_qx_quants, nearest_int,
};
use half::f16;
use modelferry_core::dtype::DType;

const WEIGHTED_STEPS: (f32, f32, i32) = (-0.9, 0.05, 36);

/// The quantizer of one type, one block at a time.
pub(super) struct Reference {
    dtype: DType,
    out: Vec<u8>,
}

fn to_f16(x: f32) -> [u8; 2] {
    let sign = (x.to_bits() >> 16) as u16 & 0x8000;
    if x.is_nan() { (sign | 0x7e00).to_le_bytes() } else { f16::from_f32(x).to_le_bytes() }
}

fn through_f16(x: f32) -> f32 {
    f16::from_le_bytes(to_f16(x)).to_f32()
}

fn sum_of_squares(x: &[f32]) -> f32 {
    let mut sum = 0.0;
    for x in x {
        sum += x * x;
    }
    sum
}

fn by_size(x: &[f32], importance: &[f32], variance: f32) -> Vec<f32> {
    x.iter().zip(importance).map(|(x, w)| w * (variance + x * x).sqrt()).collect()
}

fn sum(values: &[f32]) -> f32 {
    let mut sum = 0.0;
    for value in values {
        sum += value;
    }
    sum
}

fn largest_magnitude(values: &[f32]) -> f32 {
    let (mut max, mut magnitude) = (0.0, 0.0);
    for value in values {
        if value.abs() > magnitude {
            magnitude = value.abs();
            max = *value;
        }
    }
    max
}

fn largest(values: &[f32]) -> f32 {
    let mut max = 0.0;
    for value in values {
        if *value > max {
            max = *value;
        }
    }
    max
}

/// Groups with a scale and a minimum.
struct Affine {
    scales: Vec<f32>,
    mins: Vec<f32>,
    sum_w: Vec<f32>,
    codes: Vec<i32>,
}

impl Reference {
    pub(super) fn new(dtype: DType) -> Reference {
        Reference { dtype, out: vec![] }
    }

    pub(super) fn quantize(mut self, floats: &[f32]) -> Vec<u8> {
        for x in floats.chunks(self.dtype.item_elements() as usize) {
            self.block(x, None, 0.0);
        }
        self.out
    }

    pub(super) fn quantize_weighted(mut self, floats: &[f32], weights: &[f32]) -> Vec<u8> {
        let elements = self.dtype.item_elements() as usize;
        for row in floats.chunks(weights.len()) {
            let variance = sum_of_squares(row) / row.len() as f32;
            for (x, w) in row.chunks(elements).zip(weights.chunks(elements)) {
                self.block(x, Some(w), variance);
            }
        }
        self.out
    }

    fn block(&mut self, x: &[f32], importance: Option<&[f32]>, of_row: f32) {
        match self.dtype {
            DType::Q4_0 | DType::Q5_0 | DType::Q4_1 | DType::Q5_1 => {
                let w = by_size(x, importance.unwrap(), of_row);
                self.legacy(x, &w);
            }
            DType::Q2K => self.q2_k(x, importance),
            DType::Q3K => self.q3_k(x, importance),
            DType::Q4K => self.q45_k(x, importance, 15, (-1.0, 0.1, 20)),
            DType::Q5K => self.q45_k(x, importance, 31, (-0.5, 0.1, 15)),
            DType::Q6K => self.q6_k(x, importance),
            DType::Iq4Nl => {
                let d = iq4_scale(x, &self.iq4_weights(x, importance, sum_of_squares(x) * (2.0 / 32.0)));
                self.out.extend(to_f16(d));
                self.iq4_codes(x, if d != 0.0 { 1.0 / d } else { 0.0 });
            }
            DType::Iq4Xs => self.iq4_xs(x, importance),
            _ => panic!("{} has no reference", self.dtype),
        }
    }

    fn legacy(&mut self, x: &[f32], w: &[f32]) {
        let five_bits = matches!(self.dtype, DType::Q5_0 | DType::Q5_1);
        let codes = if matches!(self.dtype, DType::Q4_0 | DType::Q5_0) {
            let (d, codes) = make_qx_quants(if five_bits { 16 } else { 8 }, x, w);
            self.out.extend(to_f16(d));
            codes
        } else {
            let top = if five_bits { 31 } else { 15 };
            let (d, min, codes) = make_qkx_quants(top, x, w, WEIGHTED_STEPS, false, true);
            self.out.extend(to_f16(d));
            self.out.extend(to_f16(-min));
            codes
        };
        if five_bits {
            let mut high = 0u32;
            for (j, code) in codes.iter().enumerate() {
                high |= (*code as u32 >> 4 & 1) << j;
            }
            self.out.extend(high.to_le_bytes());
        }
        for j in 0..16 {
            self.out.push((codes[j] & 15 | (codes[j + 16] & 15) << 4) as u8);
        }
    }

    /// Weights as each type makes them, and the search in every group.
    fn affine(
        &self,
        x: &[f32],
        importance: Option<&[f32]>,
        group: usize,
        top: i32,
        steps: (f32, f32, i32),
    ) -> Affine {
        let mut found = Affine { scales: vec![], mins: vec![], sum_w: vec![], codes: vec![] };
        let sum_x2 = sum_of_squares(x);
        let variance = if self.dtype == DType::Q2K { sum_x2 / 256.0 } else { 2.0 * sum_x2 / 256.0 };
        for (j, x) in x.chunks(group).enumerate() {
            let average = (sum_of_squares(x) / 32.0).sqrt();
            let w: Vec<f32> = match importance {
                Some(w) => by_size(x, &w[group * j..], variance),
                None if self.dtype == DType::Q2K => x.iter().map(|x| x.abs()).collect(),
                None => x.iter().map(|x| average + x.abs()).collect(),
            };
            let steps = if importance.is_some() { WEIGHTED_STEPS } else { steps };
            let use_mad = importance.is_none() && self.dtype == DType::Q2K;
            let (scale, min, codes) = make_qkx_quants(top, x, &w, steps, use_mad, importance.is_some());
            found.scales.push(scale);
            found.mins.push(min);
            found.sum_w.push(sum(&w));
            found.codes.extend(codes);
        }
        found
    }

    fn requantize(x: &[f32], codes: &mut [i32], d: f32, min: f32, low: i32, high: i32) {
        if d == 0.0 {
            return;
        }
        for (x, code) in x.iter().zip(codes) {
            *code = nearest_int((x + min) / d).min(high).max(low) - low;
        }
    }

    fn q2_k(&mut self, x: &[f32], importance: Option<&[f32]>) {
        let mut found = self.affine(x, importance, 16, 3, (-0.5, 0.1, 15));
        let steps = |values: &[f32]| -> (f32, Vec<u8>) {
            if importance.is_some() {
                return make_qp_quants(15, values, &found.sum_w);
            }
            let max = largest(values);
            if max > 0.0 {
                let inverse = 15.0 / max;
                (max / 15.0, values.iter().map(|value| nearest_int(inverse * value) as u8).collect())
            } else {
                (0.0, vec![0; 16])
            }
        };
        let (d, scales) = steps(&found.scales);
        let (d_min, mins) = steps(&found.mins);
        for j in 0..16 {
            let both = scales[j] | mins[j] << 4;
            self.out.push(both);
            let d = through_f16(d) * f32::from(both & 15);
            let min = through_f16(d_min) * f32::from(both >> 4);
            Self::requantize(&x[16 * j..][..16], &mut found.codes[16 * j..], d, min, 0, 3);
        }
        self.two_bits(&found.codes);
        self.out.extend(to_f16(d));
        self.out.extend(to_f16(d_min));
    }

    fn two_bits(&mut self, codes: &[i32]) {
        for codes in codes.chunks(128) {
            for l in 0..32 {
                let byte = codes[l] | codes[l + 32] << 2 | codes[l + 64] << 4 | codes[l + 96] << 6;
                self.out.push(byte as u8);
            }
        }
    }

    fn q3_k(&mut self, x: &[f32], importance: Option<&[f32]>) {
        let variance = 2.0 * sum_of_squares(x) / 256.0;
        let (mut values, mut sum_w, mut codes) = (vec![], vec![], vec![]);
        for (j, x) in x.chunks(16).enumerate() {
            let (scale, new) = match importance {
                Some(w) => {
                    let w = by_size(x, &w[16 * j..], variance);
                    sum_w.push(sum(&w));
                    make_qx_quants(4, x, &w)
                }
                None => make_q3_quants(x),
            };
            values.push(scale);
            codes.extend(new);
        }
        let (d, scales): (f32, Vec<i32>) = if importance.is_some() {
            make_qx_quants(32, &values, &sum_w)
        } else {
            let max = largest_magnitude(&values);
            if max != 0.0 {
                let inverse = -32.0 / max;
                let code = |value: &f32| i32::from(nearest_int(inverse * value) as i8).clamp(-32, 31) + 32;
                (1.0 / inverse, values.iter().map(code).collect())
            } else {
                (0.0, vec![0; 16])
            }
        };
        for j in 0..16 {
            let d = through_f16(d) * (scales[j] - 32) as f32;
            // Adding nothing changes only the sign of a zero, which rounds to the same.
            Self::requantize(&x[16 * j..][..16], &mut codes[16 * j..], d, 0.0, -4, 3);
        }
        let mut high = [0u8; 32];
        for (j, code) in codes.iter_mut().enumerate() {
            if *code > 3 {
                high[j % 32] |= 1 << (j / 32);
                *code -= 4;
            }
        }
        self.out.extend(high);
        self.two_bits(&codes);
        let mut packed = [0u8; 12];
        for (j, scale) in scales.iter().enumerate() {
            packed[j % 8] |= ((scale & 15) as u8) << (4 * (j / 8));
            packed[8 + j % 4] |= ((scale >> 4) as u8) << (2 * (j / 4));
        }
        self.out.extend(packed);
        self.out.extend(to_f16(d));
    }

    fn q45_k(&mut self, x: &[f32], importance: Option<&[f32]>, top: i32, steps: (f32, f32, i32)) {
        let mut found = self.affine(x, importance, 32, top, steps);
        let settle = |values: &[f32]| -> (f32, Vec<u8>) {
            if importance.is_some() {
                return make_qp_quants(63, values, &found.sum_w);
            }
            let max = largest(values);
            let inverse = if max > 0.0 { 63.0 / max } else { 0.0 };
            (max / 63.0, values.iter().map(|value| (nearest_int(inverse * value) as u8).min(63)).collect())
        };
        let (d, scales) = settle(&found.scales);
        let (d_min, mins) = settle(&found.mins);
        self.out.extend(to_f16(d));
        self.out.extend(to_f16(d_min));
        for j in 0..8 {
            assert!(scales[j] <= 63 && mins[j] <= 63, "no such value is known");
            let d = through_f16(d) * f32::from(scales[j]);
            let min = through_f16(d_min) * f32::from(mins[j]);
            Self::requantize(&x[32 * j..][..32], &mut found.codes[32 * j..][..32], d, min, 0, top);
        }
        let mut packed = [0u8; 12];
        for j in 0..4 {
            packed[j] = scales[j] | scales[j + 4] >> 4 << 6;
            packed[j + 4] = mins[j] | mins[j + 4] >> 4 << 6;
            packed[j + 8] = scales[j + 4] & 15 | mins[j + 4] << 4;
        }
        self.out.extend(packed);
        if top == 31 {
            let mut high = [0u8; 32];
            for (j, code) in found.codes.iter().enumerate() {
                high[j % 32] |= ((code >> 4) as u8) << (j / 32);
            }
            self.out.extend(high);
        }
        for codes in found.codes.chunks(64) {
            for l in 0..32 {
                self.out.push((codes[l] & 15 | (codes[l + 32] & 15) << 4) as u8);
            }
        }
    }

    fn q6_k(&mut self, x: &[f32], importance: Option<&[f32]>) {
        let (mut values, mut codes) = (vec![], vec![]);
        for (j, x) in x.chunks(16).enumerate() {
            let w: Vec<f32> = match importance {
                Some(w) => w[16 * j..][..16].to_vec(),
                None => x.iter().map(|x| x * x).collect(),
            };
            let (scale, new) = make_qx_quants(32, x, &w);
            values.push(scale);
            codes.extend(new);
        }
        let max = largest_magnitude(&values);
        if max.abs() < 1e-15 {
            self.out.extend([0; 210]);
            return;
        }
        let inverse = -128.0 / max;
        let d = through_f16(1.0 / inverse);
        let scales: Vec<i8> =
            values.iter().map(|value| nearest_int(inverse * value).min(127) as i8).collect();
        for j in 0..16 {
            let d = d * f32::from(scales[j]);
            Self::requantize(&x[16 * j..][..16], &mut codes[16 * j..], d, 0.0, -32, 31);
        }
        let (mut low, mut high) = (vec![], vec![]);
        for codes in codes.chunks(128) {
            for half in [0, 32] {
                for l in 0..32 {
                    low.push((codes[half + l] & 15 | (codes[half + l + 64] & 15) << 4) as u8);
                }
            }
            for l in 0..32 {
                let part = |at: usize| codes[l + at] >> 4;
                high.push((part(0) | part(32) << 2 | part(64) << 4 | part(96) << 6) as u8);
            }
        }
        self.out.extend(low);
        self.out.extend(high);
        self.out.extend(scales.iter().map(|scale| *scale as u8));
        self.out.extend(to_f16(1.0 / inverse));
    }

    fn iq4_weights(&self, x: &[f32], importance: Option<&[f32]>, variance: f32) -> Vec<f32> {
        match importance {
            Some(w) => by_size(x, w, variance),
            None => x.iter().map(|x| x * x).collect(),
        }
    }

    fn iq4_codes(&mut self, x: &[f32], inverse: f32) {
        for l in 0..16 {
            let code = |at: usize| best_index(inverse * x[at]) as u8;
            self.out.push(code(l) | code(l + 16) << 4);
        }
    }

    fn iq4_xs(&mut self, x: &[f32], importance: Option<&[f32]>) {
        let variance = sum_of_squares(x) * (2.0 / 256.0);
        let scales: Vec<f32> = (0..8)
            .map(|j| {
                let x = &x[32 * j..][..32];
                iq4_scale(x, &self.iq4_weights(x, importance.map(|w| &w[32 * j..]), variance))
            })
            .collect();
        let d = -largest_magnitude(&scales) / 32.0;
        let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
        let codes: Vec<i32> = scales.iter().map(|s| nearest_int(inverse * s).clamp(-32, 31)).collect();
        let (mut high, mut low) = (0u16, [0u8; 4]);
        for (j, code) in codes.iter().enumerate() {
            high |= ((code + 32) as u16 >> 4) << (2 * j);
            low[j / 2] |= ((code + 32) as u8 & 15) << (4 * (j % 2));
        }
        self.out.extend(to_f16(d));
        self.out.extend(high.to_le_bytes());
        self.out.extend(low);
        for (j, code) in codes.iter().enumerate() {
            let dl = d * *code as f32;
            self.iq4_codes(&x[32 * j..][..32], if dl != 0.0 { 1.0 / dl } else { 0.0 });
        }
    }
}
