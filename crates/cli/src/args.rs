//! The arguments, and how their values are read.

use crate::text::parse_size;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use modelferry_convert::edit::Change;
use modelferry_convert::{ConfigFrom, PluginOptions};
use modelferry_core::loss::LossKind;
use modelferry_core::options::{OptionKind, OptionSpec};
use modelferry_core::plugin::Shards;
use modelferry_core::registry::Registry;
use modelferry_core::{DType, Error, Result};
use modelferry_transform::quantize::{Preset, Quantize, WRITTEN};
use modelferry_transform::{Edits, Glob, Names, Rename, StripPrefix, Ties, is_castable};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The heading under which plugins' options stand.
const FORMAT_OPTIONS: &str = "Format options";

/// The whole command line; options of plugins are made from what `registry` declares.
pub(crate) fn command(registry: &Registry) -> Command {
    let readers: Vec<_> =
        registry.readers().map(|reader| (reader.info().format, reader.info().options)).collect();
    let mut both = readers.clone();
    both.extend(registry.writers().map(|writer| (writer.info().format, writer.info().options)));
    Command::new("modelferry")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Carries trained models from one file format to another, and says what was lost")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommand(convert(&both))
        .subcommand(inspect(&readers))
        .subcommand(diff(&readers))
        .subcommand(verify(&readers))
        .subcommand(edit())
        .subcommand(
            Command::new("formats")
                .about("List readers and writers, what they can carry, and their options")
                .args(common()),
        )
        .subcommand(plugin())
}

fn plugin() -> Command {
    let library = || path("library", "LIBRARY", "The plugin's library");
    Command::new("plugin")
        .about("Pin a plugin's library, write the manifest beside one, list those that are named")
        .after_help(
            "A plugin that is loaded is code that you trust: it can do what you can do.\n\
             Only libraries that --plugin or MODELFERRY_PLUGIN_PATH names are loaded, when a format of theirs is used.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("add")
                .about("Pin the hash of a library: with --locked no other is taken for it")
                .arg(library())
                .args(common()),
        )
        .subcommand(
            Command::new("manifest")
                .about("Load a library, ask it what it is, and write that beside it")
                .arg(library())
                .args(common()),
        )
        .subcommand(Command::new("list").about("List the libraries that a run may use").args(common()))
}

/// The names of the program's own options, which no plugin may take.
pub(crate) fn names() -> BTreeSet<String> {
    let command = command(&Registry::default());
    let of =
        |command: &Command| command.get_arguments().map(|arg| arg.get_id().to_string()).collect::<Vec<_>>();
    command.get_subcommands().flat_map(of).chain(["help".to_owned(), "version".to_owned()]).collect()
}

type Declared = [(&'static str, &'static [OptionSpec])];

fn convert(options: &Declared) -> Command {
    Command::new("convert")
        .about("Convert a model to another format")
        .after_help(
            "Exit codes: 0 done, 2 usage, 3 output exists, 4 ambiguous input, 10 malformed input, 11 unsupported,\n\
             12 the target cannot represent it, 13 limit, 14 I/O, 15 plugin, 130 and 143 interrupted.",
        )
        .arg(path("input", "INPUT", "Model to read: a file, a shard, the index of its shards, or a folder"))
        .arg(path("output", "OUTPUT", "File to write; its extension names the format, {type} stands for the type. A folder ends in / or is there"))
        .arg(text("from", "FORMAT", "Format of the input [default: by content]"))
        .arg(text("to", "FORMAT", "Format of the output [default: by extension]"))
        .arg(named_path("config", "FILE", "The model's config.json [default: the one in the input's folder]"))
        .arg(text("arch", "NAME|none", "none takes the input for a bag of tensors, without a config"))
        .arg(named_path("weights", "OTHER", "Take the values of every tensor that OTHER has by the same name"))
        .arg(text("select", "PATH", "Part of a nested checkpoint that is the model; . for all of it"))
        .arg(flag("keep-optimizer", "Take optimizer, scheduler and other state of the training too"))
        .arg(text("dtype", "TYPE", "Cast floating and block-quantized tensors: f64 f32 f16 bf16 f8_e4m3 …"))
        .arg(list("quantize", "PRESET", "Quantize as llama-quantize does: q8_0 q6_k q5_k_m q4_k_m q4_0 …; several write {type} in OUTPUT").value_delimiter(','))
        .arg(flag("pure", "Give every tensor the type of the preset, without the mixture's exceptions"))
        .arg(list("tensor-type", "GLOB=TYPE", "Write these tensors in TYPE, q4_k say, by target name"))
        .arg(named_path("imatrix", "FILE", "Importance matrix of llama.cpp, for what is quantized"))
        .arg(list("keep-dtype", "GLOB", "Tensors whose type is left alone, by target name"))
        .arg(list("include", "GLOB", "Take only these tensors, by source name"))
        .arg(list("exclude", "GLOB", "Leave these tensors out, by source name"))
        .arg(list("rename", "REGEX=REPL", "Rewrite names, in order; $1 stands for a group"))
        .arg(text("names", "WHICH", "Names of a graph's tensors: original, as before its export, or graph [default: original]"))
        .arg(text("strip-prefix", "PREFIX|none", "Cut off names [default: prefixes of wrappers such as module.]"))
        .arg(text("ties", "WHAT", "Two names for one storage: auto, keep, drop, copy [default: auto]"))
        .arg(text("shard-size", "SIZE|none|keep", "Split into files of at most SIZE (5GB), or as the source is"))
        .arg(list("allow", "LOSS", "Accept a loss, by kind: tensor, overflow, metadata, …").value_delimiter(','))
        .arg(flag("strict", "Refuse any loss or fallback that no option asked for"))
        .arg(flag("verify", "Read the output back and compare it with the source before it is published"))
        .arg(flag("dry-run", "Say what would be written and lost, and stop"))
        .arg(flag("sync", "Return only when the output is on the disk"))
        .arg(flag("force", "Replace an output that is there"))
        .arg(named_path("report", "FILE", "Write the account of the run to FILE, as JSON"))
        .args(common())
        .args(declared(options))
}

fn inspect(options: &Declared) -> Command {
    Command::new("inspect")
        .about("Say what a file is, then list its tensors")
        .arg(path("input", "PATH", "Model to look at"))
        .arg(text("from", "FORMAT", "Format of the input [default: by content]"))
        .arg(list("include", "GLOB", "List only these tensors"))
        .arg(text("sort", "ORDER", "Order of the list: file, name, size [default: file]"))
        .arg(text("depth", "N", "Add up below the first N components of names"))
        .arg(list("values", "NAME[0:4]", "Show values, sliced as in numpy"))
        .arg(flag("stats", "Read the listed tensors: smallest, largest, mean, NaN, zeros"))
        .args(common())
        .args(declared(options))
}

fn diff(options: &Declared) -> Command {
    Command::new("diff")
        .about("Compare two models tensor by tensor, in any formats")
        .after_help(
            "Exit code 1 if they differ. Metadata and order are listed but do not count.\n\
             With a tolerance, |a - b| <= atol + rtol * |b| is equal, and types may differ.",
        )
        .arg(path("a", "A", "One model"))
        .arg(path("b", "B", "The other"))
        .arg(text("from-a", "FORMAT", "Format of A [default: by content]"))
        .arg(text("from-b", "FORMAT", "Format of B [default: by content]"))
        .arg(text("select", "PATH", "Part of a nested checkpoint to compare; . for all of it"))
        .arg(text("atol", "NUMBER", "Absolute tolerance").allow_negative_numbers(true))
        .arg(text("rtol", "NUMBER", "Relative tolerance").allow_negative_numbers(true))
        .args(common())
        .args(declared(options))
}

fn verify(options: &Declared) -> Command {
    Command::new("verify")
        .about("Check every rule and checksum of a model, and that it is what its source is")
        .after_help(
            "Every file's structure, every byte of payload, every checksum and statement that the files hold.\n\
             Exit code 1 if it can be read but a check fails, 10 if it cannot be read.",
        )
        .arg(path("input", "PATH", "Model to check"))
        .arg(named_path("against", "SOURCE", "Compare every tensor with SOURCE, bit by bit, in any formats"))
        .arg(text("from", "FORMAT", "Format of PATH [default: by content]"))
        .arg(text("from-source", "FORMAT", "Format of SOURCE [default: by content]"))
        .args(common())
        .args(declared(options))
}

fn edit() -> Command {
    Command::new("edit")
        .about("Change a file's metadata, and nothing else of it")
        .after_help(
            "The new file takes the old one's name when it is complete; the old one is never written to, so its other\n\
             hard links keep what they have. Of a sharded model, name the shard to be changed.",
        )
        .arg(path("input", "PATH", "File to change"))
        .arg(list("set", "KEY=VALUE", "Give a key this value; the first = divides"))
        .arg(list("set-file", "KEY=FILE", "Give a key the text of FILE, byte for byte"))
        .arg(list("remove", "KEY", "Remove a key"))
        .arg(text("from", "FORMAT", "Format of the file [default: by content]"))
        .arg(flag("dry-run", "Say what would change, and stop"))
        .arg(flag("sync", "Return only when the file is on the disk"))
        .args(common())
}

/// What every command takes.
fn common() -> Vec<Arg> {
    vec![
        flag("json", "Print one JSON object, also on failure"),
        text("threads", "N", "Worker threads [default: all cores]"),
        text("memory", "SIZE", "Buffers for payload, all threads together [default: 32MiB]"),
        text("progress", "HOW", "auto, plain, json, none [default: auto]"),
        flag("quiet", "Print nothing but results asked for and errors").short('q'),
        named_path("plugin", "PATH", "A plugin's library, or a folder of them, that may be loaded")
            .action(ArgAction::Append),
        flag("locked", "Take plugins only if `plugin add` has pinned them"),
    ]
}

/// Options that plugins declare, each once.
fn declared(options: &Declared) -> Vec<Arg> {
    let mut args: Vec<Arg> = vec![];
    let mut seen = BTreeSet::new();
    for spec in options.iter().flat_map(|(_, specs)| *specs) {
        if !seen.insert(spec.name) {
            continue;
        }
        let formats: BTreeSet<&str> = options
            .iter()
            .filter(|(_, specs)| specs.iter().any(|other| other.name == spec.name))
            .map(|(format, _)| *format)
            .collect();
        let formats: Vec<&str> = formats.into_iter().collect();
        let choices = match spec.kind {
            OptionKind::Choice(choices) => format!(": {}", choices.join(", ")),
            _ => String::new(),
        };
        let default =
            if spec.default.is_empty() { String::new() } else { format!(" [default: {}]", spec.default) };
        let help = format!("{}{choices} ({}){default}", spec.help, formats.join(", "));
        let value_name = match spec.kind {
            OptionKind::Bool => "true|false",
            OptionKind::Int => "N",
            OptionKind::Text => "TEXT",
            OptionKind::Choice(_) => "WHAT",
        };
        let arg = text(spec.name, value_name, "").help(help).help_heading(FORMAT_OPTIONS);
        args.push(match spec.kind {
            // By itself it means yes; a value is joined to it, for the next word may be a path.
            OptionKind::Bool => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
            _ => arg,
        });
    }
    args
}

fn path(id: &'static str, name: &'static str, help: &'static str) -> Arg {
    Arg::new(id).value_name(name).required(true).value_parser(value_parser!(PathBuf)).help(help)
}

fn named_path(id: &'static str, name: &'static str, help: &'static str) -> Arg {
    Arg::new(id).long(id).value_name(name).value_parser(value_parser!(PathBuf)).help(help)
}

fn text(id: &'static str, name: &'static str, help: &'static str) -> Arg {
    Arg::new(id).long(id).value_name(name).help(help)
}

fn list(id: &'static str, name: &'static str, help: &'static str) -> Arg {
    text(id, name, help).action(ArgAction::Append)
}

fn flag(id: &'static str, help: &'static str) -> Arg {
    Arg::new(id).long(id).action(ArgAction::SetTrue).help(help)
}

/// The value of a text option.
pub(crate) fn get<'a>(matches: &'a ArgMatches, id: &str) -> Option<&'a str> {
    matches.get_one::<String>(id).map(String::as_str)
}

/// The values of an option that may be given several times.
fn get_all<'a>(matches: &'a ArgMatches, id: &str) -> impl Iterator<Item = &'a str> {
    matches.get_many::<String>(id).into_iter().flatten().map(String::as_str)
}

/// A path that must be there.
pub(crate) fn get_path(matches: &ArgMatches, id: &str) -> PathBuf {
    matches.get_one::<PathBuf>(id).cloned().unwrap_or_default()
}

/// The values of plugins' options that were given.
pub(crate) fn plugin_options(registry: &Registry, matches: &ArgMatches) -> PluginOptions {
    let readers = registry.readers().flat_map(|reader| reader.info().options);
    let writers = registry.writers().flat_map(|writer| writer.info().options);
    let value = |spec: &OptionSpec| {
        // A command that does not read has no flags of readers.
        let found = matches.try_get_one::<String>(spec.name).ok().flatten();
        found.map(|value| (spec.name.to_owned(), value.clone()))
    };
    readers.chain(writers).filter_map(value).collect()
}

/// A value that is one of a few words.
pub(crate) fn choice<T: Copy>(option: &str, value: &str, choices: &[(&str, T)]) -> Result<T> {
    choices.iter().find(|(name, _)| *name == value).map(|(_, found)| *found).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        Error::usage(format!("--{option}: unusable value")).expected(names.join(", ")).found(value)
    })
}

/// A value that is a number.
pub(crate) fn number<T: std::str::FromStr>(option: &str, value: &str, expected: &str) -> Result<T> {
    let bad = |_| Error::usage(format!("--{option}: unusable value")).expected(expected).found(value);
    value.parse().map_err(bad)
}

/// Patterns, in order.
pub(crate) fn globs(matches: &ArgMatches, id: &str) -> Result<Vec<Glob>> {
    get_all(matches, id).map(Glob::new).collect()
}

/// Texts, in order.
pub(crate) fn texts(matches: &ArgMatches, id: &str) -> Vec<String> {
    get_all(matches, id).map(str::to_owned).collect()
}

/// What `convert` changes on the way.
pub(crate) fn edits(matches: &ArgMatches) -> Result<Edits> {
    let dtype = get(matches, "dtype")
        .map(|name| {
            DType::from_name(name).filter(|&dtype| is_castable(dtype)).ok_or_else(|| {
                let floats: Vec<String> =
                    DType::all().filter(|&dtype| is_castable(dtype)).map(|dtype| dtype.to_string()).collect();
                Error::usage("--dtype: not a floating-point type").expected(floats.join(" ")).found(name)
            })
        })
        .transpose()?;
    let ties = get(matches, "ties").map(|name| {
        let expected = Ties::NAMES.join(", ");
        Ties::from_name(name)
            .ok_or_else(|| Error::usage("--ties: unusable value").expected(expected).found(name))
    });
    let types = get_all(matches, "tensor-type").map(tensor_type).collect::<Result<_>>()?;
    Ok(Edits {
        quantize: Quantize {
            preset: presets(matches)?.first().copied(),
            pure: matches.get_flag("pure"),
            types,
            importance: None,
        },
        select: get(matches, "select").map(str::to_owned),
        keep_optimizer: matches.get_flag("keep-optimizer"),
        names: match get(matches, "names") {
            None => Names::Auto,
            Some(name) => choice("names", name, &[("original", Names::Original), ("graph", Names::Graph)])?,
        },
        include: globs(matches, "include")?,
        exclude: globs(matches, "exclude")?,
        strip_prefix: match get(matches, "strip-prefix") {
            None => StripPrefix::Auto,
            Some("none" | "") => StripPrefix::None,
            Some(prefix) => StripPrefix::Prefix(prefix.to_owned()),
        },
        rename: get_all(matches, "rename").map(Rename::parse).collect::<Result<_>>()?,
        dtype,
        keep_dtype: globs(matches, "keep-dtype")?,
        ties: ties.transpose()?.unwrap_or_default(),
    })
}

/// `--quantize`, each of its presets.
pub(crate) fn presets(matches: &ArgMatches) -> Result<Vec<Preset>> {
    get_all(matches, "quantize").map(preset).collect()
}

fn preset(name: &str) -> Result<Preset> {
    Preset::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = Preset::all().map(Preset::name).collect();
        Error::usage("--quantize: no such preset").expected(names.join(" ")).found(name)
    })
}

/// One `--tensor-type GLOB=TYPE`.
fn tensor_type(text: &str) -> Result<(Glob, DType)> {
    let wrong = |found: &str| {
        let names: Vec<String> = WRITTEN.iter().map(DType::to_string).collect();
        Error::usage("--tensor-type: not a type to write").expected(names.join(" ")).found(found)
    };
    let (glob, name) = text.rsplit_once('=').ok_or_else(|| {
        Error::usage("--tensor-type: no '=' before a type").expected("GLOB=TYPE").found(text)
    })?;
    let dtype = DType::from_name(&name.to_lowercase()).filter(|dtype| WRITTEN.contains(dtype));
    Ok((Glob::new(glob)?, dtype.ok_or_else(|| wrong(name))?))
}

/// `--set`, `--set-file` and `--remove`.
pub(crate) fn changes(matches: &ArgMatches, limit: u64) -> Result<Vec<Change>> {
    fn divide<'a>(option: &str, text: &'a str, expected: &str) -> Result<(&'a str, &'a str)> {
        text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
            Error::usage(format!("--{option}: no key before an '='")).expected(expected).found(text)
        })
    }
    let mut changes = vec![];
    for given in get_all(matches, "set") {
        let (key, text) = divide("set", given, "KEY=VALUE")?;
        changes.push(Change::Set { key: key.to_owned(), text: text.to_owned() });
    }
    for given in get_all(matches, "set-file") {
        let (key, file) = divide("set-file", given, "KEY=FILE")?;
        changes.push(Change::Set { key: key.to_owned(), text: text_of("set-file", file.as_ref(), limit)? });
    }
    changes.extend(get_all(matches, "remove").map(|key| Change::Remove { key: key.to_owned() }));
    Ok(changes)
}

/// A text file as it is, for the option that names it.
fn text_of(option: &str, path: &Path, limit: u64) -> Result<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let file = std::fs::File::open(path)?;
        let mut bytes = vec![];
        // One byte more tells a file at the limit from one above it.
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes =
        read().map_err(|error| Error::io(format!("--{option}: reading"), error).file(path.display()))?;
    if bytes.len() as u64 > limit {
        let error = Error::limit(format!("--{option}: the file is too long")).file(path.display());
        return Err(error.expected(format_args!("at most {limit}")).found(bytes.len()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to() as u64;
        Error::usage(format!("--{option}: not UTF-8 text")).file(path.display()).offset(at)
    })
}

/// `--shard-size`.
pub(crate) fn shards(matches: &ArgMatches) -> Result<Option<Shards>> {
    Ok(match get(matches, "shard-size") {
        None => None,
        Some("none") => Some(Shards::One),
        Some("keep") => Some(Shards::Keep),
        Some(size) => Some(Shards::Max(parse_size("shard-size", size)?)),
    })
}

/// `--config` and `--arch`.
pub(crate) fn config(matches: &ArgMatches) -> Result<ConfigFrom> {
    let given = matches.get_one::<PathBuf>("config");
    match (get(matches, "arch"), given) {
        (Some("none"), Some(_)) => Err(Error::usage("--arch none takes no config, and --config names one")),
        (Some("none"), None) => Ok(ConfigFrom::Nowhere),
        (Some(name), _) => {
            Err(Error::usage("--arch: no such architecture is known").expected("none").found(name))
        }
        (None, Some(path)) => {
            let text = text_of("config", path, modelferry_convert::MAX_CONFIG_BYTES)?;
            Ok(ConfigFrom::Given(text.into()))
        }
        (None, None) => Ok(ConfigFrom::Input),
    }
}

/// `--allow`.
pub(crate) fn allowed(matches: &ArgMatches) -> Result<BTreeSet<LossKind>> {
    let kind = |name| {
        LossKind::from_name(name).ok_or_else(|| {
            let names = LossKind::ALL.map(LossKind::name).join(", ");
            Error::usage("--allow: no such kind of loss").expected(names).found(name)
        })
    };
    get_all(matches, "allow").map(kind).collect()
}
