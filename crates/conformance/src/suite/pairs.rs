//! Every reader to every writer, through the whole pipeline.

use super::content::{Content, compare};
use super::fixtures::{Fixture, lacks, own_metadata};
use super::run::{Manner, Run};
use super::{Log, Pair, Suite, Verdict, guarded};
use modelferry_core::error::{Error, ErrorKind};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::Value;
use modelferry_core::plugin::{Carries, MetadataForm, Shards, WriterInfo};

pub(super) fn check(suite: &Suite<'_>, log: &mut Log) {
    for writer in suite.registry.writers() {
        let info = writer.info();
        let own = own_metadata(suite, writer);
        for fixture in suite.fixtures.iter().filter(|fixture| suite.judges_pair(fixture, info)) {
            let mut way = |manner: &str, shards: Shards| {
                let subject = format!("{} to {}{manner}", fixture.name, info.format);
                let verdict =
                    guarded(|| pair(suite, fixture, info, shards, &own)).and_then(|verdict| verdict);
                let verdict = log.record(&subject, verdict).unwrap_or(Verdict::Failed);
                let (reader, writer) = (fixture.format.to_owned(), info.format.to_owned());
                log.pairs.push(Pair { reader, writer, model: format!("{}{manner}", fixture.name), verdict });
            };
            way("", Shards::One);
            if suite.tensors_of(info).shards == Carries::Yes {
                way(" in shards", Shards::Max(SHARD_BYTES));
                way(" in shards as they were", Shards::Keep);
            }
        }
    }
    let was_exact = |pair: &Pair| matches!(pair.verdict, Verdict::Exact | Verdict::Declared);
    for format in suite.judged_readers().map(|reader| reader.info().format) {
        if !log.pairs.iter().any(|pair| pair.reader == format) {
            log.record::<()>(format, Err("the reader has no file to read".to_owned()));
        }
    }
    for format in suite.judged_writers().map(|writer| writer.info().format) {
        if !log.pairs.iter().any(|pair| pair.writer == format && was_exact(pair)) {
            log.record::<()>(format, Err("the writer has written nothing".to_owned()));
        }
    }
}

/// Small enough that most fixtures become several files.
const SHARD_BYTES: u64 = 200;

fn pair(
    suite: &Suite<'_>,
    fixture: &Fixture,
    info: &'static WriterInfo,
    shards: Shards,
    own: &[(String, Value)],
) -> Result<Verdict, String> {
    let read =
        |path, format| Content::read(suite, path, format).map_err(|error| format!("cannot be read: {error}"));
    let (before, _) = read(&fixture.path, fixture.format)?;
    let weights = Content::read_weights(suite, &fixture.path, fixture.format);
    let tensors = suite.tensors_of(info);
    let lack = lacks(tensors, &weights.map_err(|error| format!("no weights: {error}"))?, shards);
    let convert = |allow_all| {
        let manner = Manner { shards: Some(shards), allow_all, verify: true, ..Manner::default() };
        suite.convert(fixture, info, &manner)
    };
    let mut run = convert(false)?;
    if let Some(error) = &run.error {
        refused(error, [info.format, tensors.format], lack.as_deref())?;
        // A loss that was refused can be allowed; what the format lacks cannot.
        run = convert(true)?;
        if run.error.is_some() {
            return Ok(Verdict::Refused);
        }
        if run.report.losses.is_empty() {
            return Err("it was refused, then allowed, and nothing was lost".to_owned());
        }
    }
    if let Some(lack) = lack {
        return Err(format!("it was written, and the format cannot hold it: {lack}"));
    }
    let (after, _) = read(&run.root, info.format)?;
    verified(&run, &after)?;
    compare(&before, &after, &run.report.losses, own)
}

/// A refusal says whose it is, the folder's or its weights', and what is missing.
fn refused(error: &Error, formats: [&str; 2], lack: Option<&str>) -> Result<(), String> {
    let text = error.to_string();
    let names_its_place =
        error.fields().iter().any(|(field, _)| matches!(*field, "tensor" | "expected" | "found"));
    match lack {
        _ if error.kind() != ErrorKind::Target => {
            Err(format!("exit {} instead of 12: {text}", error.kind().exit_code()))
        }
        _ if !formats.iter().any(|format| text.starts_with(format)) => {
            Err(format!("the refusal does not name {}: {text}", formats[1]))
        }
        Some(lack) if !text.contains(lack) => {
            Err(format!("the refusal does not name what is missing, {lack}: {text}"))
        }
        None if !names_its_place => Err(format!("the refusal names neither tensor nor expectation: {text}")),
        _ => Ok(()),
    }
}

/// `--verify` has looked at every tensor.
fn verified(run: &Run, after: &Content) -> Result<(), String> {
    match run.report.n_verified {
        Some(n) if n == after.tensors.len() => Ok(()),
        other => Err(format!("--verify compared {other:?} of {} tensors", after.tensors.len())),
    }
}

/// The losses that follow from what a format says of itself: `info` of tensors, `whole` of what is around them.
pub(super) fn declared_by_capabilities(
    info: &WriterInfo,
    whole: &WriterInfo,
    content: &Content,
) -> Vec<Loss> {
    let names = content
        .tensors
        .iter()
        .map(|held| Loss::declared(LossKind::Name, &held.name, "the format has no names"));
    let parts = content.parts.iter().map(|path| Loss::declared(LossKind::Tree, path, "the format has none"));
    let keys = content
        .metadata
        .iter()
        .map(|(key, _)| Loss::declared(LossKind::Metadata, key, "the format has none"));
    let names = names.filter(|_| info.names == Carries::No);
    let keys = keys.filter(|_| info.metadata == MetadataForm::None);
    // Every dialect has one format that carries it; the made models have no graph.
    let graph = content.graph.iter().map(|path| Loss::declared(LossKind::Graph, path, "the format has none"));
    let config = content.config.iter().filter(|_| whole.config == Carries::No).map(|_| "config.json");
    let assets = content.assets.keys().filter(|_| whole.assets == Carries::No).map(String::as_str);
    let files =
        config.chain(assets).map(|name| Loss::declared(LossKind::Asset, name, "no folder is written"));
    let parts = parts.filter(|_| info.tree == Carries::No);
    let graph = graph.filter(|_| info.graph == Carries::No);
    names.chain(keys).chain(parts).chain(graph).chain(files).collect()
}
