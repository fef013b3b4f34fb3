//! Writers alone: made models, written by the naive executor, read back.

use super::content::{Content, compare};
use super::fixtures::{lacks, own_metadata, write};
use super::{Log, Pair, Suite, Verdict, guarded};
use crate::models::{self, Made};
use modelferry_core::model::Value;
use modelferry_core::plugin::Writer;

pub(super) fn check(suite: &Suite<'_>, log: &mut Log) {
    let made = models::all().unwrap_or_default();
    for writer in suite.judged_writers() {
        let own = own_metadata(suite, writer);
        for made in &made {
            let subject = format!("{} written as {}", made.name, writer.info().format);
            let verdict = guarded(|| round_trip(suite, made, writer, &own)).and_then(|verdict| verdict);
            let verdict = log.record(&subject, verdict).unwrap_or(Verdict::Failed);
            let (reader, writer) = ("memory".to_owned(), writer.info().format.to_owned());
            log.pairs.push(Pair { reader, writer, model: made.name.clone(), verdict });
        }
    }
}

fn round_trip(
    suite: &Suite<'_>,
    made: &Made,
    writer: &dyn Writer,
    own: &[(String, Value)],
) -> Result<Verdict, String> {
    let Some(written) = write(suite, made, writer)? else { return Ok(Verdict::Refused) };
    let (info, tensors) = (writer.info(), suite.tensors_of(writer.info()));
    let mut before = Content::of(&made.model, &made.inputs).map_err(|error| error.to_string())?;
    if tensors.ties == modelferry_core::plugin::Carries::No {
        // Settled before a writer is asked; the pairs see to that.
        before.ties.clear();
    }
    debug_assert!(lacks(tensors, &before, made.shards).is_none());
    let (after, _) = Content::read(suite, &written.root, info.format).map_err(|error| error.to_string())?;
    let mut losses = written.losses;
    // What the capabilities already say is declared by the pipeline, not by the writer.
    losses.extend(super::pairs::declared_by_capabilities(tensors, info, &before));
    compare(&before, &after, &losses, own)
}
