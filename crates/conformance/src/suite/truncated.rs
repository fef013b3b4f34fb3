//! A file that ends too early is an error, wherever it ends.

use super::content::Content;
use super::damage::{Files, blames_input, evaluate, read};
use super::fixtures::Fixture;
use super::{Log, Suite, guarded};
use crate::random::Random;
use modelferry_core::expr::Op;
use modelferry_core::inputs::{Inputs, MemInputs};
use modelferry_core::model::Model;
use modelferry_core::plugin::Reader;
use std::collections::BTreeSet;

/// Files of at most this many bytes are cut at every one of them.
const SMALL_BYTES: usize = 4096;

/// How far around a structural boundary of a larger file every byte is tried.
const AROUND: u64 = 40;

/// Cuts of one larger file, at most.
const MAX_CUTS: usize = 2000;

pub(super) fn check(suite: &Suite<'_>, log: &mut Log) {
    for fixture in suite.judged_fixtures() {
        let Ok(reader) = suite.registry.reader(fixture.format) else { continue };
        let result = guarded(|| all_cuts(suite, fixture, reader, log)).and_then(|result| result);
        if let Err(why) = result {
            log.record::<()>(&fixture.name, Err(why));
        }
    }
}

fn all_cuts(suite: &Suite<'_>, fixture: &Fixture, reader: &dyn Reader, log: &mut Log) -> Result<(), String> {
    let files = Files::of(fixture)?;
    let whole = files.whole();
    let model = read(suite.registry, reader, &whole).map_err(|error| error.to_string())?;
    let content = Content::of(&model, &whole).map_err(|error| error.to_string())?;
    for idx in files.used(&model, &whole) {
        let (name, bytes) = &files.files[idx];
        for len in cuts(&model, &whole, name, bytes.len()) {
            let subject = format!("{}, {name} cut to {len} of {} bytes", fixture.name, bytes.len());
            let inputs = files.with(idx, &bytes[..len]);
            let result = guarded(|| is_refused(suite, reader, &inputs, &content)).and_then(|result| result);
            log.record(&subject, result);
        }
    }
    Ok(())
}

/// An error of the input's kind, from reading or from evaluating; or the same model, where only white space was cut.
fn is_refused(
    suite: &Suite<'_>,
    reader: &dyn Reader,
    inputs: &MemInputs,
    whole: &Content,
) -> Result<(), String> {
    // A config is carried with the white space at its end.
    let bare = |content: &Content| {
        let config = content.config.as_deref().map(|text| text.trim_end().to_owned());
        Content { config, ..content.clone() }
    };
    match read(suite.registry, reader, inputs).and_then(|model| evaluate(&model, inputs)) {
        Ok(content) if bare(&content) == bare(whole) => Ok(()),
        Ok(_) => Err("it is read without an error, as another model".to_owned()),
        Err(error) => blames_input(&error),
    }
}

/// The lengths that a file of `len` bytes is cut to.
fn cuts(model: &Model, inputs: &MemInputs, name: &str, len: usize) -> Vec<usize> {
    if len <= SMALL_BYTES {
        return (0..len).collect();
    }
    let mut boundaries = BTreeSet::from([0, len as u64]);
    for (_, node) in model.nodes.iter() {
        if let Op::Region { file, at } = node.op
            && inputs.name(file) == name
        {
            boundaries.extend([at, at + node.n]);
        }
    }
    let mut cuts: Vec<usize> = boundaries
        .into_iter()
        .flat_map(|at| at.saturating_sub(AROUND)..at + AROUND)
        .filter(|&at| at < len as u64)
        .map(|at| at as usize)
        .collect();
    let mut random = Random::new(len as u64);
    cuts.extend((0..200).map(|_| random.below(len as u64) as usize));
    cuts.sort();
    cuts.dedup();
    random.shuffle(&mut cuts);
    cuts.truncate(MAX_CUTS);
    cuts
}
