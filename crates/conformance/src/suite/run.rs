//! One conversion, watched.

use super::Suite;
use super::fixtures::Fixture;
use super::scratch::{Scratch, open_files};
use modelferry_convert::{Context, Job, Policy, Report, convert};
use modelferry_core::error::Error;
use modelferry_core::loss::LossKind;
use modelferry_core::plugin::{Place, Shards, WriterInfo};
use modelferry_engine::Settings;
use modelferry_transform::Edits;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How a fixture is converted.
#[derive(Clone, Debug, Default)]
pub(super) struct Manner {
    pub(super) settings: Settings,
    pub(super) edits: Edits,
    pub(super) shards: Option<Shards>,
    /// Whether every loss is allowed.
    pub(super) allow_all: bool,
    /// Whether the program compares its own output with the source.
    pub(super) verify: bool,
    /// Whether it stops before anything is written.
    pub(super) dry_run: bool,
}

/// A conversion that has ended.
pub(super) struct Run {
    pub(super) report: Report,
    pub(super) error: Option<Error>,
    /// The file that stands for the output, or its folder.
    pub(super) root: PathBuf,
    /// What was written, by name.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// Holds the output as long as it is needed.
    _folder: Scratch,
}

/// The extension of a format's plain files: the last, for longer ones say more (an index of shards).
pub(super) fn extension(info: &WriterInfo) -> &'static str {
    info.extensions.last().copied().unwrap_or_default()
}

impl Suite<'_> {
    /// What the pipeline runs with.
    pub(super) fn context<'a>(&'a self, settings: &'a Settings) -> Context<'a> {
        Context { registry: self.registry, io: self.io.clone(), settings, control: &self.control }
    }

    /// Converts a fixture into an empty folder, and sees that nothing stays there or stays open but the output.
    ///
    /// Errors: something was left behind. A conversion that was refused is no error here.
    pub(super) fn convert(
        &self,
        fixture: &Fixture,
        info: &WriterInfo,
        manner: &Manner,
    ) -> Result<Run, String> {
        let folder = self.scratch.folder().map_err(|error| error.to_string())?;
        let job = Job {
            input: fixture.path.clone(),
            output: folder.path().join(format!("out{}", extension(info))),
            from: Some(fixture.format.to_owned()),
            to: Some(info.format.to_owned()),
            edits: manner.edits.clone(),
            shards: manner.shards,
            policy: Policy {
                allow: if manner.allow_all { LossKind::ALL.into() } else { Default::default() },
                strict: false,
            },
            verify: manner.verify,
            dry_run: manner.dry_run,
            ..Job::default()
        };
        let mut report = Report::default();
        let error = convert(&self.context(&manner.settings), &job, &mut report).err();

        let folders = self.testdata.iter().map(|folder| &**folder).chain([self.scratch.path()]);
        let open = open_files(&folders.collect::<Vec<_>>());
        if let Some(open) = open.first() {
            return Err(format!("{} is still open", open.display()));
        }
        let files = folder.files().map_err(|error| error.to_string())?;
        // A folder is one of its own.
        let folder_name = if info.place == Place::Folder { "out/" } else { "" };
        let announced = if error.is_some() || manner.dry_run { &[][..] } else { &report.files };
        let found: Vec<(&str, u64)> =
            files.iter().map(|(name, bytes)| (&**name, bytes.len() as u64)).collect();
        let mut expected: Vec<(String, u64)> =
            announced.iter().map(|(name, len)| (format!("{folder_name}{name}"), *len)).collect();
        expected.sort();
        if !found.iter().copied().eq(expected.iter().map(|(name, len)| (&**name, *len))) {
            return Err(format!("the folder holds {found:?} instead of {expected:?}"));
        }
        let root = match info.place {
            Place::File => folder.path().join(report.root.as_deref().unwrap_or_default()),
            Place::Folder => job.output,
        };
        Ok(Run { report, error, root, files, _folder: folder })
    }
}
