//! `formats`.

use crate::output;
use crate::plugins::{Plugins, Side};
use crate::session::Session;
use crate::text::{plural, printable};
use modelferry_convert::json::{self, Object};
use modelferry_core::options::{OptionKind, OptionSpec};
use modelferry_core::plugin::{Carries, MetadataForm, Place, ReaderInfo, WriterInfo};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Runs the command and returns its exit code.
pub(crate) fn run(session: &Session<'_>) -> i32 {
    let printed = output::stdout(|out| match session.is_json {
        true => write_json(session.plugins, out),
        false => write_table(session.plugins, out),
    });
    printed.map_or_else(|error| session.fail("formats", &error), |()| 0)
}

fn write_table(plugins: &Plugins, out: &mut dyn Write) -> io::Result<()> {
    let registry = &plugins.registry;
    let mut formats: BTreeMap<&str, (Option<&ReaderInfo>, Option<&WriterInfo>)> = BTreeMap::new();
    for reader in registry.readers() {
        formats.entry(reader.info().format).or_default().0 = Some(reader.info());
    }
    for writer in registry.writers() {
        formats.entry(writer.info().format).or_default().1 = Some(writer.info());
    }
    for (format, (reader, writer)) in &formats {
        let what = match (reader, writer) {
            (Some(_), Some(_)) => "reads and writes",
            (Some(_), None) => "reads",
            _ => "writes",
        };
        let about = writer.map(|info| info.about).or(reader.map(|info| info.about)).unwrap_or_default();
        writeln!(out, "{format}: {about}")?;
        writeln!(out, "  does        {what} ({})", printable(&origins(plugins, format, (*reader, *writer))))?;
        let mut extensions: Vec<&str> = vec![];
        let declared = reader.map_or(&[][..], |info| info.extensions);
        for extension in declared.iter().chain(writer.map_or(&[][..], |info| info.extensions)) {
            if !extensions.contains(extension) {
                extensions.push(extension);
            }
        }
        let is_folder =
            writer.map(|info| info.place).or(reader.map(|info| info.place)) == Some(Place::Folder);
        if is_folder {
            writeln!(out, "  is          a folder; its tensors are what the format of its weights can hold")?;
        } else {
            writeln!(out, "  extensions  {}", extensions.join(" "))?;
        }
        if let Some(info) = writer.filter(|_| !is_folder) {
            let dtypes: Vec<String> = info.dtypes.iter().map(ToString::to_string).collect();
            for (at, row) in dtypes.chunks(12).enumerate() {
                writeln!(out, "  {:<10}  {}", if at == 0 { "writes" } else { "" }, row.join(" "))?;
            }
            let (mut kept, mut lost) = (vec![], vec![]);
            for (name, carries) in carried(info) {
                if carries == Carries::Yes { kept.push(name) } else { lost.push(name) }
            }
            writeln!(out, "  carries     {}", or_nothing(&kept))?;
            writeln!(out, "  drops       {}", or_nothing(&lost))?;
            let mut bounds = vec![];
            if info.max_rank < 1 << 16 {
                bounds.push(format!("{} dimensions", info.max_rank));
            }
            if info.max_tensors < 1 << 32 {
                bounds.push(plural(info.max_tensors, "tensor"));
            }
            if !bounds.is_empty() {
                writeln!(out, "  at most     {}", bounds.join(", "))?;
            }
        }
        let sides =
            [("reading", reader.map(|info| info.options)), ("writing", writer.map(|info| info.options))];
        for (side, specs) in sides {
            for spec in specs.unwrap_or_default() {
                let default = if spec.default.is_empty() {
                    String::new()
                } else {
                    format!(" (default {})", spec.default)
                };
                writeln!(out, "  {side:<10}  --{} {}: {}{default}", spec.name, values(spec), spec.help)?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Where reader and writer come from, once if that is one place.
fn origins(plugins: &Plugins, format: &str, halves: (Option<&ReaderInfo>, Option<&WriterInfo>)) -> String {
    let reader = halves.0.map(|_| plugins.origin(format, Side::Reader));
    let writer = halves.1.map(|_| plugins.origin(format, Side::Writer));
    match (reader, writer) {
        (Some(reader), Some(writer)) if reader != writer => format!("{reader}, {writer}"),
        (reader, writer) => reader.or(writer).unwrap_or_default(),
    }
}

fn or_nothing(names: &[&str]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn carried(info: &WriterInfo) -> [(&'static str, Carries); 8] {
    [
        ("names", info.names),
        ("ties", info.ties),
        ("metadata", if info.metadata == MetadataForm::None { Carries::No } else { Carries::Yes }),
        ("shards", info.shards),
        ("tree", info.tree),
        ("graph", info.graph),
        ("config", info.config),
        ("assets", info.assets),
    ]
}

fn values(spec: &OptionSpec) -> String {
    match spec.kind {
        OptionKind::Bool => "true|false".to_owned(),
        OptionKind::Int => "N".to_owned(),
        OptionKind::Text => "TEXT".to_owned(),
        OptionKind::Choice(choices) => choices.join("|"),
    }
}

fn write_json(plugins: &Plugins, out: &mut dyn Write) -> io::Result<()> {
    let registry = &plugins.registry;
    let mut object = Object::begin(out)?;
    json::head(&mut object, "formats", None)?;
    let reader = |info: &ReaderInfo| {
        json!({
            "format": info.format,
            "about": info.about,
            "origin": plugins.origin(info.format, Side::Reader),
            "folder": info.place == Place::Folder,
            "extensions": info.extensions,
            "options": options(info.options),
        })
    };
    object.list("readers", registry.readers().map(|found| reader(found.info())))?;
    let writer = |info: &WriterInfo| {
        let carries =
            carried(info).map(|(name, carries)| (name.to_owned(), Value::from(carries == Carries::Yes)));
        json!({
            "format": info.format,
            "about": info.about,
            "origin": plugins.origin(info.format, Side::Writer),
            "folder": info.place == Place::Folder,
            "extensions": info.extensions,
            "dtypes": info.dtypes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "max_rank": info.max_rank,
            "max_tensors": info.max_tensors,
            "carries": Value::Object(carries.into_iter().collect()),
            "metadata": match info.metadata {
                MetadataForm::None => Value::Null,
                MetadataForm::Text => "text".into(),
                MetadataForm::Typed => "typed".into(),
            },
            "options": options(info.options),
        })
    };
    object.list("writers", registry.writers().map(|found| writer(found.info())))?;
    object.list("losses", std::iter::empty())?;
    object.end()
}

fn options(specs: &[OptionSpec]) -> Value {
    let option = |spec: &OptionSpec| {
        let (kind, choices) = match spec.kind {
            OptionKind::Bool => ("bool", Value::Null),
            OptionKind::Int => ("int", Value::Null),
            OptionKind::Text => ("text", Value::Null),
            OptionKind::Choice(choices) => ("choice", Value::from(choices)),
        };
        let default = if spec.default.is_empty() { Value::Null } else { spec.default.into() };
        json!({"name": spec.name, "kind": kind, "choices": choices, "default": default, "help": spec.help})
    };
    specs.iter().map(option).collect()
}
