//! Files that report on the run: who owes them, and having them made.

use crate::job::Context;
use crate::report::six_digits;
use modelferry_core::epilogue::{Digested, Outcome, Quantized, TensorSeen, Written};
use modelferry_core::layout::Layout;
use modelferry_core::loss::Loss;
use modelferry_core::model::Model;
use modelferry_core::plugin::Writer;
use modelferry_core::{Error, Result};
use modelferry_engine::{Part, Staged};

/// Refuses a layout that somebody else would have to keep the promises of: a writer that is not there, or one whose
/// layout it has taken in, without what that promised. `owed` are the formats of the latter.
pub(crate) fn check_promises(cx: &Context<'_>, layout: &Layout, owed: &[String]) -> Result<()> {
    let makers = layout.makers();
    let is_made = |format: &String| makers.iter().flatten().any(|maker| maker.format == *format);
    if let Some(format) = owed.iter().find(|format| !is_made(format)) {
        return Err(Error::plugin("a layout leaves out the files that a part of it promises").found(format));
    }
    for maker in makers.into_iter().flatten() {
        cx.registry.writer(&maker.format).map_err(|_| {
            Error::plugin("a layout promises files of a writer that is not there").found(&maker.format)
        })?;
    }
    Ok(())
}

/// Has the writers make what the layout of a part promises, and writes it beside what is staged. Returns names and
/// lengths, in the order of the promises.
pub(crate) fn write(
    cx: &Context<'_>,
    writer: &dyn Writer,
    part: Part<'_>,
    (staged, number): (&Staged<'_>, usize),
    losses: &[Loss],
) -> Result<Vec<(String, u64)>> {
    let promises = &part.layout.promises;
    let mut written = vec![0; promises.len()];
    let makers = part.layout.makers();
    if makers.is_empty() {
        return Ok(vec![]);
    }
    let outcome = outcome(part, (staged, number), losses);
    for maker in makers {
        let writer = match maker {
            Some(maker) => cx.registry.writer(&maker.format)?,
            None => writer,
        };
        let outcome = outcome.of(maker);
        let texts = writer.epilogue(&outcome).and_then(|made| outcome.keep(made));
        let texts = texts.map_err(|error| error.format(writer.info().format))?;
        let own = (0..promises.len()).filter(|&idx| promises[idx].by.as_ref() == maker);
        for (idx, text) in own.zip(texts) {
            staged.write_promised(number, idx, text.as_bytes())?;
            written[idx] = text.len() as u64;
        }
    }
    Ok(promises.iter().map(|promise| promise.path.clone()).zip(written).collect())
}

/// What writing a part has shown.
fn outcome(part: Part<'_>, (staged, number): (&Staged<'_>, usize), losses: &[Loss]) -> Outcome {
    let Part { model, layout } = part;
    let digests = layout.digests.iter().zip(&staged.digests[number]);
    Outcome {
        promises: layout.promises.clone(),
        files: layout.files.iter().map(|file| Written { path: file.path.clone(), len: file.len }).collect(),
        digests: digests
            .map(|(digest, value)| Digested { digest: digest.clone(), value: value.clone() })
            .collect(),
        tensors: tensors(model, staged, number),
        losses: losses.to_vec(),
    }
}

fn tensors(model: &Model, staged: &Staged<'_>, number: usize) -> Vec<TensorSeen> {
    let of = |(&idx, seen): (&usize, &modelferry_engine::Seen)| {
        let (tensor, quantized) = (&model.tensors[idx], &seen.quantized);
        TensorSeen {
            idx,
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            overflow: seen.casts.overflow,
            underflow: seen.casts.underflow,
            quantized: (quantized.n > 0).then(|| Quantized {
                n: quantized.n,
                non_finite: quantized.non_finite,
                overflow: quantized.overflow,
                rms: six_digits(quantized.rms()),
                largest: six_digits(quantized.largest),
            }),
        }
    };
    staged.seen[number].iter().map(of).collect()
}
