//! `--dtype` against exact rounding.

use super::content::{Content, cast};
use super::fixtures::{Fixture, lacks};
use super::run::Manner;
use super::{Log, Suite, guarded};
use crate::{naive, numbers};
use modelferry_core::dtype::{Class, DType};
use modelferry_core::error::ErrorKind;
use modelferry_core::loss::LossKind;
use modelferry_core::plugin::{Carries, Shards, WriterInfo};
use modelferry_transform::{Edits, StripPrefix};

/// Whether a format is judged whose writer stores a float type that its reader could read back.
pub(super) fn judges(suite: &Suite<'_>) -> bool {
    suite.judges_all() || targets().any(|to| writer(suite, to).is_some())
}

/// The types that are cast to.
fn targets() -> impl Iterator<Item = DType> {
    DType::all().filter(|dtype| dtype.is_float() && !dtype.is_sub_byte())
}

/// A writer of a judged format that stores the type under a name. Which one does not matter here.
fn writer(suite: &Suite<'_>, to: DType) -> Option<&'static WriterInfo> {
    let is_judged = |format: &str| suite.judges_writer(format) || suite.judges_reader(format);
    let is_read = |format: &str| suite.fixtures.iter().any(|fixture| fixture.format == format);
    let stores = |info: &&WriterInfo| info.names == Carries::Yes && info.dtypes.contains(&to);
    let mut writers = suite.registry.writers().map(|writer| writer.info());
    writers.find(|info| stores(info) && is_judged(info.format) && is_read(info.format))
}

pub(super) fn check(suite: &Suite<'_>, log: &mut Log) {
    for to in targets() {
        let Some(info) = writer(suite, to) else { continue };
        for fixture in suite.fixtures.iter().filter(|fixture| fixture.format == info.format) {
            let subject = format!("{} to {to}", fixture.name);
            let result = guarded(|| casts(suite, fixture, info, to)).and_then(|result| result);
            log.record(&subject, result);
        }
    }
}

/// Every float tensor is rounded once; what went out of range is refused, then allowed and named.
fn casts(suite: &Suite<'_>, fixture: &Fixture, info: &WriterInfo, to: DType) -> Result<(), String> {
    let read = |path| Content::read(suite, path, info.format).map_err(|error| error.to_string());
    // Of a nested checkpoint the weights are cast, under the names that they have there.
    let before =
        Content::read_weights(suite, &fixture.path, info.format).map_err(|error| error.to_string())?;
    let touched = |dtype: DType| modelferry_transform::holds_floats(dtype) && dtype != to;
    let overflows = |held: &super::content::Held| {
        let (dtype, bytes) = match held.dtype.class() {
            Class::Block => (DType::F32, naive::dequantized(held.dtype, &held.bytes).unwrap_or_default()),
            _ => (held.dtype, held.bytes.clone()),
        };
        let mut codes = bytes.chunks_exact(dtype.item_bytes() as usize).map(naive::little);
        touched(held.dtype) && codes.any(|code| !numbers::fits(to, numbers::decode(dtype, code)))
    };
    let out_of_range: Vec<&str> =
        before.tensors.iter().filter(|held| overflows(held)).map(|held| &*held.name).collect();

    let mut wanted = before.clone();
    wanted.tensors.iter_mut().filter(|held| touched(held.dtype)).for_each(|held| held.dtype = to);
    if lacks(info, &wanted, Shards::One).is_some() {
        // Something else in it is refused, with or without a cast; the pairs see to that.
        return Ok(());
    }
    let edits = Edits { dtype: Some(to), strip_prefix: StripPrefix::None, ..Edits::default() };
    let manner = Manner { edits, ..Manner::default() };
    let first = suite.convert(fixture, info, &manner)?;
    let run = match &first.error {
        None => first,
        // A checkpoint that is quantized in its own way is not cast as if it were plain.
        Some(error) if error.kind() == ErrorKind::Unsupported => return Ok(()),
        Some(error) if out_of_range.is_empty() => return Err(error.to_string()),
        Some(error) if error.kind() != ErrorKind::Target => return Err(error.to_string()),
        Some(_) => suite.convert(fixture, info, &Manner { allow_all: true, ..manner })?,
    };
    if let Some(error) = &run.error {
        return Err(error.to_string());
    }
    let of_kind = |kind| run.report.losses.iter().filter(move |loss| loss.kind == kind);
    let mut named: Vec<&str> = of_kind(LossKind::Overflow).map(|loss| &*loss.subject).collect();
    named.sort();
    let mut expected = out_of_range;
    expected.sort();
    if named != expected {
        return Err(format!("out of range are {expected:?}, reported were {named:?}"));
    }
    let (after, _) = read(&run.root)?;
    for held in &before.tensors {
        let Some(other) = after.tensors.iter().find(|other| other.name == held.name) else {
            return Err(format!("{:?} is gone", held.name));
        };
        let is_touched = touched(held.dtype);
        let dtype = if is_touched { to } else { held.dtype };
        let bytes = if is_touched { cast(&held.bytes, held.dtype, to) } else { held.bytes.clone() };
        if (other.dtype, &other.bytes) != (dtype, &bytes) {
            return Err(format!(
                "{:?}: {} became something else than {dtype} by one rounding",
                held.name, held.dtype
            ));
        }
        if is_touched && !of_kind(LossKind::Dtype).any(|loss| loss.subject == held.name && loss.asked) {
            return Err(format!("{:?}: nobody said that it was cast", held.name));
        }
    }
    Ok(())
}
