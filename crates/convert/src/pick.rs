//! Which reader, which writer, and whose options.

use crate::job::PluginOptions;
use crate::sniff;
use modelferry_core::inputs::Inputs;
use modelferry_core::options::OptionSpec;
use modelferry_core::plugin::{Carries, MetadataForm, Place, Reader, Shards, Verdict, Writer, WriterInfo};
use modelferry_core::registry::Registry;
use modelferry_core::{Error, Result};
use std::path::Path;

/// The reader for a file: the one named, else the one that knows the content, else the one that knows the name.
///
/// Errors: [`Usage`](modelferry_core::ErrorKind::Usage) for an unknown name,
/// [`Ambiguous`](modelferry_core::ErrorKind::Ambiguous) when several readers take it; for a file that none takes,
/// what it really is.
pub fn reader<'a>(
    registry: &'a Registry,
    from: Option<&str>,
    place: Place,
    inputs: &dyn Inputs,
) -> Result<&'a dyn Reader> {
    if let Some(format) = from {
        let reader = registry.reader(format)?;
        if place == Place::Folder && reader.info().place == Place::File {
            return Err(Error::usage("--from: this format's models are files, and a folder was named")
                .found(format)
                .hint("name the file of weights in it"));
        }
        return Ok(reader);
    }
    let mut best: Vec<&dyn Reader> = vec![];
    let mut best_verdict = Verdict::No;
    for reader in registry.readers().filter(|reader| reader.info().place == place) {
        let verdict = reader.identify(inputs);
        if verdict > best_verdict {
            best.clear();
            best_verdict = verdict;
        }
        if verdict == best_verdict && verdict != Verdict::No {
            best.push(reader);
        }
    }
    if place == Place::Folder && best.is_empty() {
        return Err(sniff::unknown_folder());
    }
    // Content that is known to be something else outweighs a name.
    if place == Place::File
        && best_verdict != Verdict::Content
        && let Some(error) = sniff::foreign(inputs, inputs.root())?
    {
        return Err(error);
    }
    match best[..] {
        [] => Err(sniff::unknown(inputs, registry)),
        [reader] => Ok(reader),
        _ => {
            let formats: Vec<&str> = best.iter().map(|reader| reader.info().format).collect();
            Err(Error::ambiguous("several readers take this file")
                .file(inputs.name(inputs.root()))
                .found(formats.join(", "))
                .hint("choose one with --from"))
        }
    }
}

/// The reader of folders that takes the folder of a file that was named for its model.
pub fn folder_of<'a>(registry: &'a Registry, inputs: &dyn Inputs) -> Option<&'a dyn Reader> {
    let mut folders = registry.readers().filter(|reader| reader.info().place == Place::Folder);
    folders.find(|reader| reader.identify(inputs) == Verdict::Content)
}

/// Where and how to write.
pub struct Target<'a> {
    /// The writer.
    pub writer: &'a dyn Writer,
    /// The writer of a folder's weights.
    pub weights: Option<&'a dyn Writer>,
    /// Name handed to the writer: plain, without folder, never that of an index. Empty for a file that is
    /// [`in_folder`](Target::in_folder), whose name depends on the model.
    pub file_name: String,
    /// Whether the output is a folder and what is written a file in it.
    pub in_folder: bool,
    /// How the output is split, unless that depends on the source.
    pub shards: TargetShards,
}

impl Target<'_> {
    /// What the tensors can be: the writer of a folder leaves that to another.
    pub fn tensors(&self) -> &'static WriterInfo {
        self.weights.unwrap_or(self.writer).info()
    }

    /// Whether a folder is written.
    pub fn is_folder(&self) -> bool {
        self.weights.is_some()
    }
}

/// How the output is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetShards {
    /// As said.
    Given(Shards),
    /// An index or a folder was named and nothing else said: as the source is if it is several files, else at
    /// [`DEFAULT_SHARD_BYTES`].
    Index,
}

/// 5 GB: what transformers and huggingface_hub split at.
pub const DEFAULT_SHARD_BYTES: u64 = 5_000_000_000;

impl TargetShards {
    /// The request to the writer, now that the number of source files is known.
    pub fn resolve(self, n_source_files: usize) -> Shards {
        match self {
            TargetShards::Given(shards) => shards,
            TargetShards::Index if n_source_files > 1 => Shards::Keep,
            TargetShards::Index => Shards::Max(DEFAULT_SHARD_BYTES),
        }
    }
}

/// The writer for an output: the one named, else the one whose extension the output has.
///
/// Errors: [`Usage`](modelferry_core::ErrorKind::Usage) for an unknown format or extension, listing what is there;
/// [`Unsupported`](modelferry_core::ErrorKind::Unsupported) for a folder where no writer makes such.
pub fn target<'a>(
    registry: &'a Registry,
    output: &Path,
    to: Option<&str>,
    shards: Option<Shards>,
) -> Result<Target<'a>> {
    let shown = output.display();
    let named = to.map(|format| registry.writer(format)).transpose()?;
    let names_folder = named.is_some_and(|writer| writer.info().place == Place::Folder);
    let is_folder = output.as_os_str().as_encoded_bytes().ends_with(b"/") || output.is_dir();
    if let Some(writer) = named.filter(|writer| is_folder && holds_all(writer.info())) {
        let shards = TargetShards::Given(shards.unwrap_or(Shards::One));
        return Ok(Target { writer, weights: None, file_name: String::new(), in_folder: true, shards });
    }
    if names_folder || is_folder {
        return folder_target(registry, output, named, shards);
    }
    let Some(name) = output.file_name() else {
        return Err(Error::usage("the output has no file name").file(shown));
    };
    // Writers make text of it; publishing knows the name behind U+FFFD.
    let name = name.to_string_lossy();
    // `x.safetensors.index.json` stands for shards of `x.safetensors`.
    let (file_name, is_index) = match name.strip_suffix(".index.json") {
        Some(plain) if !plain.is_empty() => (plain, true),
        _ => (&*name, false),
    };
    let writer = match named {
        Some(writer) => writer,
        None => registry.writer_for(file_name).ok_or_else(|| {
            let known: Vec<&str> =
                registry.writers().flat_map(|writer| writer.info().extensions).copied().collect();
            Error::usage("the output's extension names no format")
                .file(&shown)
                .expected(known.join(", "))
                .hint("choose a format with --to")
        })?,
    };
    let shards = match (shards, is_index) {
        (Some(Shards::One), true) => {
            return Err(Error::usage("--shard-size none writes no index, and the output is one").file(shown));
        }
        (Some(given), _) => TargetShards::Given(given),
        (None, true) => TargetShards::Index,
        (None, false) => TargetShards::Given(Shards::One),
    };
    Ok(Target { writer, weights: None, file_name: file_name.to_owned(), in_folder: false, shards })
}

/// Whether a model's file needs no folder around it: it has a place for what configs and tokenizers say, with types.
fn holds_all(info: &WriterInfo) -> bool {
    info.place == Place::File && info.metadata == MetadataForm::Typed
}

/// Format of a folder's weights where none is named.
const DEFAULT_WEIGHTS: &str = "safetensors";

/// What the tensors of a writer's output can be where nothing else is said: of a folder, those of its usual weights.
pub fn weights_of(registry: &Registry, info: &'static WriterInfo) -> &'static WriterInfo {
    match info.place {
        Place::File => info,
        Place::Folder => registry.writer(DEFAULT_WEIGHTS).map_or(info, |writer| writer.info()),
    }
}

/// A folder of the one format that is folders, with weights of the format named.
fn folder_target<'a>(
    registry: &'a Registry,
    output: &Path,
    named: Option<&'a dyn Writer>,
    shards: Option<Shards>,
) -> Result<Target<'a>> {
    let is_folder = |writer: &&dyn Writer| writer.info().place == Place::Folder;
    let (folder, weights) = match named {
        Some(writer) if is_folder(&writer) => (Some(writer), None),
        weights => (registry.writers().find(is_folder), weights),
    };
    let Some(writer) = folder else {
        let error = Error::unsupported("the output is a folder, and there is no writer for such");
        return Err(error.file(output.display()).hint("name a file"));
    };
    let weights = weights.map_or_else(|| registry.writer(DEFAULT_WEIGHTS), Ok)?;
    let file_name = output.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let in_folder = false;
    let shards = match (shards, weights.info().shards) {
        (Some(given), _) => TargetShards::Given(given),
        (None, Carries::Yes) => TargetShards::Index,
        (None, Carries::No) => TargetShards::Given(Shards::One),
    };
    Ok(Target { writer, weights: Some(weights), file_name, in_folder, shards })
}

/// Refuses options that none of the plugins in this run declares.
///
/// Errors: [`Usage`](modelferry_core::ErrorKind::Usage) naming the option and whose it is.
pub fn check_options(
    registry: &Registry,
    given: &PluginOptions,
    in_use: &[(&str, &'static [OptionSpec])],
) -> Result<()> {
    let declares = |specs: &[OptionSpec], name: &str| specs.iter().any(|spec| spec.name == name);
    for name in given.keys() {
        if in_use.iter().any(|(_, specs)| declares(specs, name)) {
            continue;
        }
        let readers = registry.readers().map(|reader| reader.info()).map(|info| (info.format, info.options));
        let writers = registry.writers().map(|writer| writer.info()).map(|info| (info.format, info.options));
        let owners: Vec<&str> = readers
            .chain(writers)
            .filter(|(_, specs)| declares(specs, name))
            .map(|(format, _)| format)
            .collect();
        let run: Vec<&str> = in_use.iter().map(|(format, _)| *format).collect();
        return Err(Error::usage(format!("--{name}: no format of this run has this option"))
            .expected(if owners.is_empty() { "a declared option".to_owned() } else { owners.join(", ") })
            .found(run.join(" to ")));
    }
    Ok(())
}
