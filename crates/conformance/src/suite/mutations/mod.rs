//! Proof that the suite can fail: conversions spoilt on purpose, each of which its comparison must notice.
//!
//! Nothing here knows a format either. A registered writer is wrapped so that its layout, its losses or the description
//! it is shown are wrong in one thing; a reader, so that a tie is there that was not. Then a fixture is converted as
//! the check of pairs does it, without `--verify`, which would notice first.

mod mutant;
mod plan;

use super::content::{Content, Held, compare};
use super::fixtures::{Fixture, lacks, own_metadata};
use super::run::{Manner, Run};
use super::{Control, Log, Suite, SuiteOptions, Verdict, guarded};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::Value;
use modelferry_core::plugin::{Carries, Shards, WriterInfo};
use modelferry_core::registry::Registry;
use mutant::mutants;
use plan::{Mutation, plan};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// What was spoilt, and what the suite said to it.
#[derive(Clone, Debug, Default)]
pub struct Mutations {
    /// Each kind of mutation.
    pub kinds: Vec<Mutated>,
    /// Everything that is wrong: a mutation that was not noticed, or noticed for another reason, or a kind, a reader or
    /// a writer that none applied to.
    pub failures: Vec<String>,
}

/// What became of one kind of mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutated {
    /// What was done.
    pub kind: &'static str,
    /// How many conversions were spoilt so.
    pub n_tried: u64,
    /// In how many of them the comparison said so.
    pub n_caught: u64,
}

/// A kind of mutation, and what the comparison must say to it: one of these.
struct Kind {
    name: &'static str,
    signs: &'static [&'static str],
}

/// Every kind, in the order of [`Mutation::kind`].
const KINDS: [Kind; 13] = [
    Kind { name: "a bit of the payload is flipped", signs: &["differs at byte"] },
    Kind { name: "two tensors of one shape are swapped", signs: &["differs at byte"] },
    Kind { name: "a tensor is left out", signs: &["nobody declared a change: tensor"] },
    // In a format that makes names unique, another tensor may get the one that became free.
    Kind {
        name: "a tensor gets another name",
        signs: &["nobody declared a change: name", "differs at byte"],
    },
    Kind { name: "a shape is changed", signs: &["has shape"] },
    // Read as another type, the same bytes are other numbers.
    Kind { name: "a dtype is changed", signs: &["differs at byte", "nobody declared a change: dtype"] },
    Kind { name: "a metadata value is changed", signs: &["nobody declared a change: metadata"] },
    Kind { name: "a declared loss is dropped", signs: &["nobody declared a change"] },
    Kind { name: "a false loss is declared", signs: &["a declared loss cannot be seen"] },
    Kind { name: "a tie is broken", signs: &["nobody declared a change: tie-copied"] },
    // Where the source has a tie that was declared to be copied, the copy is seen to be none.
    Kind { name: "a tie is made up", signs: &["is tied and was not", "cannot be seen: tie-copied"] },
    Kind {
        name: "a file beside the weights is changed",
        signs: &["is another", "nobody declared a change: asset"],
    },
    Kind { name: "a file beside the weights is left out", signs: &["nobody declared a change: asset"] },
];

/// Spoils conversions of every fixture to every format, in every way that applies.
pub fn mutate(registry: Registry, testdata: &Path) -> Mutations {
    let registry = Arc::new(registry);
    let options = SuiteOptions::default();
    let mut log = Log::default();
    let suite = match Suite::prepare(&registry, testdata, &options, &mut log) {
        Ok(suite) => suite,
        Err(why) => return Mutations { failures: vec![why], ..Mutations::default() },
    };
    let kinds = KINDS.iter().map(|kind| Mutated { kind: kind.name, n_tried: 0, n_caught: 0 }).collect();
    let mut found = Mutations { kinds, failures: log.failures };
    let mut met: BTreeSet<(&str, &str)> = BTreeSet::new();
    for writer in registry.writers() {
        let (info, own) = (writer.info(), own_metadata(&suite, writer));
        for fixture in &suite.fixtures {
            let way = Way { suite: &suite, registry: &registry, fixture, info, own: &own };
            let subject = format!("{} to {}", fixture.name, info.format);
            match guarded(|| way.spoil_each(&subject, &mut found)).and_then(|result| result) {
                Ok(0) => {}
                Ok(_) => {
                    met.insert((fixture.format, info.format));
                }
                Err(why) => found.failures.push(format!("{subject}: {why}")),
            }
        }
    }
    for mutated in found.kinds.iter().filter(|mutated| mutated.n_tried == 0) {
        found.failures.push(format!("{}: there was nowhere to do it", mutated.kind));
    }
    for format in registry.readers().map(|reader| reader.info().format) {
        if !met.iter().any(|(reader, _)| *reader == format) && suite.has_tensors(format) {
            found.failures.push(format!("{format}: nothing that was read was spoilt"));
        }
    }
    for format in registry.writers().map(|writer| writer.info().format) {
        if !met.iter().any(|(_, writer)| *writer == format) {
            found.failures.push(format!("{format}: nothing that was written was spoilt"));
        }
    }
    found
}

impl<'a> Suite<'a> {
    /// The same suite on other plugins.
    fn on<'b>(&self, registry: &'b Registry) -> Result<Suite<'b>, String>
    where
        'a: 'b,
    {
        Ok(Suite {
            registry,
            testdata: self.testdata.clone(),
            options: self.options,
            fixtures: vec![],
            scratch: self.scratch.folder().map_err(|error| error.to_string())?,
            control: Control::new(),
            io: self.io.clone(),
        })
    }

    /// Whether a fixture of a format holds a tensor with a byte in it.
    fn has_tensors(&self, format: &str) -> bool {
        let holds = |fixture: &Fixture| {
            Content::read(self, &fixture.path, fixture.format)
                .is_ok_and(|(content, _)| content.tensors.iter().any(|held| !held.bytes.is_empty()))
        };
        self.fixtures.iter().filter(|fixture| fixture.format == format).any(holds)
    }
}

/// One fixture on its way to one format.
struct Way<'w, 'a> {
    suite: &'w Suite<'a>,
    registry: &'w Arc<Registry>,
    fixture: &'w Fixture,
    info: &'static WriterInfo,
    own: &'w [(String, Value)],
}

/// A conversion that nobody spoilt.
struct Honest {
    before: Content,
    after: Content,
    /// What the report declares.
    losses: Vec<Loss>,
    /// What the reader declares: things that no comparison can see, for they are on neither side.
    known: Vec<Loss>,
    run: Run,
}

impl Honest {
    /// The source as far as a writer's mistake can show in it: without tensors that are not written, or under another
    /// name (state of the training, nested parts), and without those that share their bytes.
    fn open_to_mutation(&self) -> Content {
        let mut open = self.before.clone();
        let is_tied = |idx: usize| self.before.ties.iter().any(|group| group.contains(&idx));
        let is_written = |held: &Held| self.after.tensors.iter().any(|other| other.name == held.name);
        let mut idx = 0;
        open.tensors.retain(|held| {
            idx += 1;
            is_written(held) && !is_tied(idx - 1)
        });
        open.ties.clear();
        open
    }
}

impl Way<'_, '_> {
    /// Spoils this conversion in every way that applies to it. Gives how many there were.
    fn spoil_each(&self, subject: &str, found: &mut Mutations) -> Result<u64, String> {
        let Some(honest) = self.honest(self.suite)? else { return Ok(0) };
        let open = honest.open_to_mutation();
        let mutations =
            plan(subject, (self.tensors(), self.info), &open, &honest.after, &honest.losses, &honest.known);
        let mut n_tried = 0;
        for mutation in mutations {
            let kind = mutation.kind();
            let result = guarded(|| self.spoilt(&honest, mutation)).and_then(|result| result);
            let Some(verdict) = result.map_err(|why| format!("{}: {why}", KINDS[kind].name))? else {
                continue;
            };
            n_tried += 1;
            found.kinds[kind].n_tried += 1;
            let wrong = match verdict {
                Err(why) if KINDS[kind].signs.iter().any(|sign| why.contains(sign)) => {
                    found.kinds[kind].n_caught += 1;
                    continue;
                }
                Err(why) => format!("it was noticed for another reason: {why}"),
                Ok(verdict) => format!("nobody noticed: {verdict:?}"),
            };
            found.failures.push(format!("{subject}: {}: {wrong}", KINDS[kind].name));
        }
        Ok(n_tried)
    }

    /// The conversion by `suite`; nothing if it is refused, or wrong without our help, which is another check's matter.
    fn honest(&self, suite: &Suite<'_>) -> Result<Option<Honest>, String> {
        let (before, known) = self.read(suite)?;
        if lacks(self.tensors(), &before, Shards::One).is_some() {
            return Ok(None);
        }
        let run = self.convert(suite)?;
        if run.error.is_some() {
            return Ok(None);
        }
        let after = self.read_back(self.suite, &run)?;
        let losses = run.report.losses.clone();
        let is_right = compare(&before, &after, &losses, self.own).is_ok();
        Ok(is_right.then_some(Honest { before, after, losses, known, run }))
    }

    /// What the comparison says to a spoilt conversion; nothing if the mutation found nothing to change.
    fn spoilt(&self, honest: &Honest, mutation: Mutation) -> Result<Option<Result<Verdict, String>>, String> {
        let compared = |before: &Content, after: &Content, losses: &[Loss]| {
            Ok(Some(compare(before, after, losses, self.own)))
        };
        match mutation {
            Mutation::DropLoss(dropped) => {
                let losses = without(&honest.losses, |loss| {
                    loss.kind == dropped.kind
                        && (loss.kind == LossKind::Order || loss.subject == dropped.subject)
                });
                compared(&honest.before, &honest.after, &losses)
            }
            Mutation::MakeTie { .. } => {
                let registry = mutants(self.registry, mutation);
                let after = self.read_back(&self.suite.on(&registry)?, &honest.run)?;
                compared(&honest.before, &after, &honest.losses)
            }
            Mutation::BreakTie { .. } => {
                let tied = mutants(self.registry, mutation.clone());
                let suite = self.suite.on(&tied)?;
                let Some(honest) = self.honest(&suite)? else { return Ok(None) };
                if self.tensors().ties == Carries::No {
                    let losses = without(&honest.losses, |loss| loss.kind == LossKind::TieCopied);
                    return compared(&honest.before, &honest.after, &losses);
                }
                let registry = mutants(&Arc::new(tied), Mutation::HideTies);
                self.converted(&honest, &registry)
            }
            other => self.converted(honest, &mutants(self.registry, other)),
        }
    }

    /// What the comparison says to a conversion by other plugins.
    fn converted(
        &self,
        honest: &Honest,
        registry: &Registry,
    ) -> Result<Option<Result<Verdict, String>>, String> {
        let suite = self.suite.on(registry)?;
        let run = self.convert(&suite)?;
        if run.error.is_some() {
            // The writer itself has noticed.
            return Ok(None);
        }
        let after = self.read_back(self.suite, &run)?;
        Ok(Some(compare(&honest.before, &after, &run.report.losses, self.own)))
    }

    /// What the tensors of the output can be.
    fn tensors(&self) -> &'static WriterInfo {
        self.suite.tensors_of(self.info)
    }

    fn convert(&self, suite: &Suite<'_>) -> Result<Run, String> {
        let manner = Manner { shards: Some(Shards::One), allow_all: true, ..Manner::default() };
        suite.convert(self.fixture, self.info, &manner)
    }

    fn read(&self, suite: &Suite<'_>) -> Result<(Content, Vec<Loss>), String> {
        let read = Content::read(suite, &self.fixture.path, self.fixture.format);
        read.map_err(|error| format!("cannot be read: {error}"))
    }

    fn read_back(&self, suite: &Suite<'_>, run: &Run) -> Result<Content, String> {
        let read = Content::read(suite, &run.root, self.info.format);
        read.map(|(content, _)| content).map_err(|error| format!("cannot be read back: {error}"))
    }
}

fn without(losses: &[Loss], is_dropped: impl Fn(&Loss) -> bool) -> Vec<Loss> {
    losses.iter().filter(|loss| !is_dropped(loss)).cloned().collect()
}
