//! Statistics of one tensor.

use crate::ask::scan;
use crate::control::{Control, Settings};
use crate::eval::{Cx, Evaluator, Source};
use modelferry_core::expr::NodeId;
use modelferry_core::model::TensorIdx;
use modelferry_core::{DType, Error, Result};
use modelferry_kernels::cast::{CastStats, Caster};

/// What the values of a tensor are like. All but the counts leave out NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorStats {
    /// Number of values.
    pub n: u64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Mean of the finite values.
    pub mean: f64,
    /// Largest magnitude.
    pub abs_max: f64,
    /// How many are NaN.
    pub n_nan: u64,
    /// How many are infinite.
    pub n_inf: u64,
    /// How many are zero.
    pub n_zero: u64,
}

/// Statistics of the tensors of one model. Made once, because it looks at every expression.
pub struct Statistics<'a> {
    evaluator: Evaluator<'a>,
    settings: &'a Settings,
    control: &'a Control,
}

impl<'a> Statistics<'a> {
    /// Statistics of the tensors of `source`.
    pub fn new(source: Source<'a>, settings: &'a Settings, control: &'a Control) -> Result<Statistics<'a>> {
        Ok(Statistics { evaluator: Evaluator::new(source)?, settings, control })
    }

    /// Statistics of one tensor of real numbers.
    ///
    /// Errors: [`Unsupported`](modelferry_core::ErrorKind::Unsupported) for complex and undecoded block types.
    pub fn tensor(&self, idx: TensorIdx) -> Result<TensorStats> {
        let mut cx = Cx::new(self.settings.tile_bytes() as usize);
        let tensor = &self.evaluator.source.model.tensors[idx];
        of_node(&self.evaluator, tensor.data, &mut cx, &|| self.control.check())
            .map_err(|error| error.tensor(&tensor.name))
    }
}

pub(crate) fn of_node(
    evaluator: &Evaluator<'_>,
    id: NodeId,
    cx: &mut Cx,
    check: &dyn Fn() -> Result<()>,
) -> Result<TensorStats> {
    let dtype = evaluator.source.model.nodes[id].dtype;
    let caster = Caster::new(dtype, DType::F64)
        .ok_or_else(|| Error::unsupported("values of this type have no statistics").found(dtype))?;
    let mut stats = TensorStats {
        n: 0,
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        mean: 0.0,
        abs_max: 0.0,
        n_nan: 0,
        n_inf: 0,
        n_zero: 0,
    };
    let mut sum = 0.0;
    let mut wide = vec![];
    scan(evaluator, id, cx, &mut |_, bytes| {
        check()?;
        let item = dtype.item_bytes() as usize;
        for chunk in bytes.chunks(item << 12) {
            wide.resize(chunk.len() / item * 8, 0);
            caster.run(chunk, &mut wide, &mut CastStats::default());
            for value in wide.as_chunks::<8>().0 {
                let value = f64::from_le_bytes(*value);
                stats.n += 1;
                stats.n_nan += u64::from(value.is_nan());
                stats.n_inf += u64::from(value.is_infinite());
                stats.n_zero += u64::from(value == 0.0);
                stats.min = stats.min.min(value);
                stats.max = stats.max.max(value);
                stats.abs_max = stats.abs_max.max(value.abs());
                sum += if value.is_finite() { value } else { 0.0 };
            }
        }
        Ok(true)
    })?;
    let n_finite = stats.n - stats.n_nan - stats.n_inf;
    stats.mean = if n_finite == 0 { f64::NAN } else { sum / n_finite as f64 };
    if stats.n == stats.n_nan {
        (stats.min, stats.max) = (f64::NAN, f64::NAN);
    }
    Ok(stats)
}
