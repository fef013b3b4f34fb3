//! `--values NAME[0:4]`: some of a tensor's numbers.

use crate::job::Context;
use crate::json;
use crate::open::Opened;
use modelferry_core::dtype::Class;
use modelferry_core::expr::{BlockFn, Dim};
use modelferry_core::{DType, Error, Result};
use modelferry_engine::read_items;
use serde_json::{Value, json};

/// Most values shown at once: as `f64` or `c128` they stay within what the engine reads at a time.
const MAX_VALUES: u64 = 1 << 16;

/// One number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A truth value.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A number that `f32` holds; printed with no more digits than that needs.
    Single(f32),
    /// A number that needs `f64`.
    Double(f64),
    /// Real and imaginary part.
    Complex(f64, f64),
}

/// Some of a tensor's numbers.
#[derive(Clone, Debug)]
pub struct Values {
    /// As it was asked for.
    pub text: String,
    /// The tensor's type.
    pub dtype: DType,
    /// Extents of what was chosen; single indices take their axis away.
    pub shape: Vec<u64>,
    /// Row-major.
    pub numbers: Vec<Number>,
}

impl Values {
    /// For `--json`.
    pub fn json(&self) -> Value {
        let number = |number: &Number| match *number {
            Number::Bool(value) => value.into(),
            Number::Int(value) => value.into(),
            Number::Uint(value) => value.into(),
            Number::Single(value) => json::number(f64::from(value)),
            Number::Double(value) => json::number(value),
            Number::Complex(re, im) => json!([json::number(re), json::number(im)]),
        };
        let values: Vec<Value> = self.numbers.iter().map(number).collect();
        json!({"of": self.text, "dtype": self.dtype.to_string(), "shape": self.shape, "values": values})
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Number::Bool(value) => write!(f, "{value}"),
            Number::Int(value) => write!(f, "{value}"),
            Number::Uint(value) => write!(f, "{value}"),
            Number::Single(value) => write!(f, "{value:?}"),
            Number::Double(value) => write!(f, "{value:?}"),
            Number::Complex(re, im) if *im < 0.0 => write!(f, "{re:?}-{:?}j", -im),
            Number::Complex(re, im) => write!(f, "{re:?}+{im:?}j"),
        }
    }
}

/// One axis of a selection: from, count, and whether the axis stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    from: u64,
    count: u64,
    stays: bool,
}

/// Reads `NAME` or `NAME[SLICES]`, slices as in numpy: `2`, `0:4`, `:`, `-1`, separated by commas; axes that are not
/// named are taken whole.
///
/// Errors: [`Usage`](modelferry_core::ErrorKind::Usage) for an unknown name, an unusable slice, or too many values.
pub fn read(cx: &Context<'_>, opened: &mut Opened, text: &str) -> Result<Values> {
    let model = &mut opened.model;
    let find = |name: &str| model.tensors.iter().position(|tensor| tensor.name == name);
    // A name may itself end in brackets; the name as it stands comes first.
    let divided = text.strip_suffix(']').and_then(|rest| rest.rsplit_once('['));
    let (idx, slices) = match (find(text), divided) {
        (Some(idx), _) => (idx, ""),
        (None, Some((name, slices))) => {
            let idx = find(name).ok_or_else(|| Error::usage("--values: no such tensor").found(name))?;
            (idx, slices)
        }
        (None, None) => return Err(Error::usage("--values: no such tensor").found(text)),
    };
    let (dtype, shape) = (model.tensors[idx].dtype, model.tensors[idx].shape.clone());
    let axes = parse(slices, &shape).map_err(|error| error.found(text).tensor(&model.tensors[idx].name))?;
    let n = axes.iter().fold(1u64, |n, axis| n.saturating_mul(axis.count));
    if n > MAX_VALUES {
        return Err(Error::usage("--values: too many at once")
            .tensor(&model.tensors[idx].name)
            .expected(format_args!("at most {MAX_VALUES}"))
            .found(n));
    }

    let mut data = model.tensors[idx].data;
    let wide = match dtype.class() {
        Class::Bool => DType::Bool,
        Class::Signed => DType::I64,
        Class::Unsigned => DType::U64,
        Class::Float if dtype == DType::F64 => DType::F64,
        Class::Float | Class::Block => DType::F32,
        Class::Complex => DType::C128,
        Class::Opaque => {
            let error = Error::unsupported("--values: only its format knows what these bytes mean");
            return Err(error.tensor(&model.tensors[idx].name).found(dtype));
        }
    };
    let nodes = &mut model.nodes;
    if dtype.class() == Class::Block {
        let row = shape.last().copied().unwrap_or(1);
        data = nodes.block(BlockFn::Dequantize, data, DType::F32, row, None)?;
    }
    let mut offset = 0u64;
    let mut stride = 1u64;
    let mut dims = vec![];
    for (axis, extent) in axes.iter().zip(&shape).rev() {
        // Within the tensor, whose element count fits; a tensor without elements selects none.
        offset = offset.saturating_add(axis.from.saturating_mul(stride));
        dims.push(Dim { count: axis.count, stride: i64::try_from(stride).unwrap_or(i64::MAX) });
        stride = stride.saturating_mul((*extent).max(1));
    }
    dims.reverse();
    let chosen = nodes.view(data, offset, &dims)?;
    let chosen = nodes.cast(chosen, wide)?;
    let bytes = read_items(opened.source(), cx.settings, chosen, 0, n)?;
    Ok(Values {
        text: text.to_owned(),
        dtype,
        shape: axes.iter().filter(|axis| axis.stays).map(|axis| axis.count).collect(),
        numbers: numbers(&bytes, wide),
    })
}

fn numbers(bytes: &[u8], dtype: DType) -> Vec<Number> {
    let (eights, _) = bytes.as_chunks::<8>();
    match dtype {
        DType::Bool => bytes.iter().map(|&byte| Number::Bool(byte != 0)).collect(),
        DType::I64 => eights.iter().map(|&b| Number::Int(i64::from_le_bytes(b))).collect(),
        DType::U64 => eights.iter().map(|&b| Number::Uint(u64::from_le_bytes(b))).collect(),
        DType::F32 => {
            bytes.as_chunks::<4>().0.iter().map(|&b| Number::Single(f32::from_le_bytes(b))).collect()
        }
        DType::F64 => eights.iter().map(|&b| Number::Double(f64::from_le_bytes(b))).collect(),
        _ => {
            let (pairs, _) = eights.as_chunks::<2>();
            pairs
                .iter()
                .map(|[re, im]| Number::Complex(f64::from_le_bytes(*re), f64::from_le_bytes(*im)))
                .collect()
        }
    }
}

fn parse(slices: &str, shape: &[u64]) -> Result<Vec<Axis>> {
    let mut axes: Vec<Axis> = shape.iter().map(|&count| Axis { from: 0, count, stays: true }).collect();
    if slices.trim().is_empty() {
        return Ok(axes);
    }
    for (position, slice) in slices.split(',').enumerate() {
        let Some(axis) = axes.get_mut(position) else {
            let what = format!("--values: more slices than the {} dimensions there are", shape.len());
            return Err(Error::usage(what));
        };
        *axis = parse_one(slice.trim(), axis.count)?;
    }
    Ok(axes)
}

fn parse_one(slice: &str, extent: u64) -> Result<Axis> {
    let bad = || Error::usage("--values: unusable slice").expected("2, 0:4, :4, or :");
    let index = |text: &str, default: u64| -> Result<u64> {
        if text.is_empty() {
            return Ok(default);
        }
        let number: i128 = text.parse().map_err(|_| bad())?;
        let number = if number < 0 { number + i128::from(extent) } else { number };
        Ok(number.clamp(0, i128::from(extent)) as u64)
    };
    match slice.split_once(':') {
        Some((from, to)) => {
            let (from, to) = (index(from.trim(), 0)?, index(to.trim(), extent)?);
            Ok(Axis { from, count: to.saturating_sub(from), stays: true })
        }
        None => {
            let number: i128 = slice.parse().map_err(|_| bad())?;
            let at = if number < 0 { number + i128::from(extent) } else { number };
            let fits = u64::try_from(at).ok().filter(|&at| at < extent);
            let at = fits.ok_or_else(|| {
                Error::usage("--values: index out of range").expected(format_args!("below {extent}"))
            })?;
            Ok(Axis { from: at, count: 1, stays: false })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_as_in_numpy() {
        let show = |slices: &str, shape: &[u64]| -> String {
            match parse(slices, shape) {
                Ok(axes) => axes
                    .iter()
                    .map(|axis| format!("{}+{}{}", axis.from, axis.count, if axis.stays { "" } else { "!" }))
                    .collect::<Vec<_>>()
                    .join(" "),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(show("0:4", &[10, 3]), "0+4 0+3");
        assert_eq!(show("2, -1", &[10, 3]), "2+1! 2+1!");
        assert_eq!(show(":, 1:", &[10, 3]), "0+10 1+2");
        assert_eq!(show("8:99", &[10]), "8+2");
        assert_eq!(show("-3:-1", &[10]), "7+2");
        assert_eq!(show("5:2", &[10]), "5+0");
        assert_eq!(show("", &[]), "");
        assert_eq!(show("10", &[10]), "--values: index out of range, expected below 10");
        assert_eq!(show("x", &[10]), "--values: unusable slice, expected 2, 0:4, :4, or :");
        assert_eq!(show("0", &[]), "--values: more slices than the 0 dimensions there are");
    }

    #[test]
    fn numbers_print_shortest() {
        assert_eq!(Number::Single(0.1).to_string(), "0.1");
        assert_eq!(Number::Double(0.1).to_string(), "0.1");
        assert_eq!(Number::Single(f32::NAN).to_string(), "NaN");
        assert_eq!(Number::Complex(1.0, -2.0).to_string(), "1.0-2.0j");
    }
}
