//! What is there, and what is wanted.

use crate::naming;
use modelferry_core::loss::LossKind;
use modelferry_core::plugin::Shards;
use modelferry_core::registry::Registry;
use modelferry_engine::io::Io;
use modelferry_engine::{Control, Settings};
use modelferry_transform::Edits;
use modelferry_transform::quantize::Preset;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// What is there: data without which nothing runs.
#[derive(Clone)]
pub struct Context<'a> {
    /// The readers and writers.
    pub registry: &'a Registry,
    /// The disk.
    pub io: Arc<dyn Io>,
    /// Threads, memory, limits.
    pub settings: &'a Settings,
    /// Cancellation and progress.
    pub control: &'a Control,
}

/// Values for options that plugins declare, by name.
pub type PluginOptions = BTreeMap<String, String>;

/// One conversion.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// A model's root file, or its folder.
    pub input: PathBuf,
    /// The file or folder to write. `{type}` in it stands for the type that is asked for, in lower case.
    pub output: PathBuf,
    /// Reader, by format; otherwise by content.
    pub from: Option<String>,
    /// Writer, by format; otherwise by the output's extension.
    pub to: Option<String>,
    /// Options of reader and writer.
    pub options: PluginOptions,
    /// Where the model's config comes from.
    pub config: ConfigFrom,
    /// A model whose tensors give their values to the input's, by name.
    pub weights: Option<PathBuf>,
    /// What is changed on the way.
    pub edits: Edits,
    /// Presets of which each makes an output of its own, in the place of the one in `edits`: of two or more. They are
    /// made in one run that reads the source once, and published together.
    pub several: Vec<Preset>,
    /// How the output is split; otherwise by its name.
    pub shards: Option<Shards>,
    /// Which losses are accepted.
    pub policy: Policy,
    /// Stop before anything is written.
    pub dry_run: bool,
    /// Read the output back and compare it with the source before it is published.
    pub verify: bool,
    /// Replace an output that is there.
    pub force: bool,
}

impl Job {
    /// The output of each type, `{type}` in its place: files, or the folder that they go into.
    pub fn outputs(&self) -> Vec<PathBuf> {
        let presets = self.presets().into_iter();
        presets.map(|preset| naming::filled(&self.output, &self.edits, preset)).collect()
    }

    /// The preset of each output; none where nothing is quantized by one.
    pub(crate) fn presets(&self) -> Vec<Option<Preset>> {
        match self.several.is_empty() {
            true => vec![self.edits.quantize.preset],
            false => self.several.iter().copied().map(Some).collect(),
        }
    }
}

/// Where a model's config comes from.
#[derive(Clone, Debug, Default)]
pub enum ConfigFrom {
    /// From the input's folder.
    #[default]
    Input,
    /// This text (`--config FILE`).
    Given(Arc<str>),
    /// The model is a bag of tensors and has none (`--arch none`).
    Nowhere,
}

/// Which losses are accepted.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Kinds that an option allows.
    pub allow: BTreeSet<LossKind>,
    /// Whether anything that no option asked for is refused.
    pub strict: bool,
}
