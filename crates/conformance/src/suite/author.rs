//! What the author of a plugin runs: the steps that are left to a plugin that is begun, then the suite.
//!
//! The steps are found out, not kept in a list that somebody ticks off: each one looks at what the plugin does.

use super::content::Content;
use super::fixtures::{goes_with_others, write};
use super::scratch::walk;
use super::{Judged, Suite, SuiteOptions, guarded, run};
use crate::models;
use modelferry_core::inputs::Inputs;
use modelferry_core::plugin::{Reader, ReaderInfo, Verdict, Writer, WriterInfo};
use modelferry_core::registry::Registry;
use modelferry_engine::disk::DiskInputs;
use modelferry_engine::io::OsIo;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a generated plugin says in place of what its author has to say.
pub const PLACEHOLDER: &str = "not written yet";

/// Faults that are listed; the number of all of them is given.
const MAX_LISTED: usize = 20;

/// The variable with which a test writes the errors of bad files instead of comparing them.
const UPDATE: &str = "MODELFERRY_UPDATE";

/// What is left to do, as text for a person: a test that returns it fails with that text.
pub struct Left(String);

impl fmt::Debug for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Left {}

/// A step: what is to be done, and what shows that it is not.
type Step = (String, Result<(), String>);

/// Whether the reader of a format is done: first its steps, then the suite on it.
///
/// `registry` holds the reader, a writer to convert to, and the reader of that writer's format. `testdata` holds models
/// in `models`, and broken files in `bad/FORMAT`, each with the error that it gives in a file `.expect` beside it; with
/// `MODELFERRY_UPDATE` set those are written.
///
/// Errors: what is left to do.
pub fn reader_is_done(registry: &Registry, format: &str, testdata: &Path) -> Result<(), Left> {
    let reader = registry.reader(format).map_err(|error| Left(format!("{error}\n")))?;
    let (models, options) = (models_of(testdata), SuiteOptions::default());
    let bare = Suite::empty(registry, testdata, &options).map_err(Left)?;
    let each = |look: &dyn Fn(&Opened) -> Result<(), String>| {
        let models = models.as_ref().map_err(|_| "there is no model to show it".to_owned())?;
        models.iter().try_for_each(|model| look(model).map_err(|why| format!("{}: {why}", model.name)))
    };
    let steps = [
        (
            "put a small file of the format into testdata/models, in place of the text there",
            models.as_ref().map(drop).map_err(String::clone),
        ),
        (
            "info() says what is read, and by which bytes or names its files are known (src/reader.rs)",
            described(reader.info()).and_then(|()| each(&|model| announced(reader.info(), model))),
        ),
        (
            "identify() knows a file of the format by its content (src/identify.rs)",
            each(&|model| identified(reader, model)),
        ),
        (
            "read() reads the header and describes every tensor (src/reader.rs)",
            each(&|model| described_whole(&bare, reader, model)),
        ),
        (
            "put a broken file or two into testdata/bad, where the reader says what is wrong with it",
            broken(&testdata.join("bad").join(format)),
        ),
    ];
    finished(format, steps.map(|(what, found)| (what.to_owned(), found)).into())?;
    // The suite sees that no file stays open.
    drop((models, bare));
    let judged = Judged { readers: vec![format.to_owned()], writers: vec![] };
    suite(registry, testdata, judged)
}

/// Whether the writer of a format is done: first its steps, then the suite on it.
///
/// `registry` holds the writer, the reader that judges it, and a reader of what lies in `testdata/models`.
///
/// Errors: what is left to do.
pub fn writer_is_done(registry: &Registry, format: &str, testdata: &Path) -> Result<(), Left> {
    let writer = registry.writer(format).map_err(|error| Left(format!("{error}\n")))?;
    let judge = registry.reader(format).map(drop);
    let judge =
        judge.map_err(|_| format!("nothing here reads {format}, so nothing can tell what is written"));
    let steps = [
        (
            "a reader of the format judges what is written: it is registered (Cargo.toml, tests/conformance.rs)",
            judge,
        ),
        ("info() says what the format can hold (src/writer.rs)", holds(writer.info())),
        (
            "layout() lays a model out, and the reader knows it for its own (src/writer.rs)",
            laid_out(registry, writer, testdata),
        ),
    ];
    finished(format, steps.map(|(what, found)| (what.to_owned(), found)).into())?;
    let judged = Judged { readers: vec![], writers: vec![format.to_owned()] };
    suite(registry, testdata, judged)
}

fn finished(format: &str, steps: Vec<Step>) -> Result<(), Left> {
    let (n, n_done) = (steps.len(), steps.iter().filter(|(_, found)| found.is_ok()).count());
    if n_done == n {
        return Ok(());
    }
    let mut text = format!("{format} is not done, {n_done} of {n} steps are:\n");
    for (idx, (what, found)) in steps.iter().enumerate() {
        let (state, why) = match found {
            Ok(()) => ("done", String::new()),
            Err(why) => ("TODO", format!("\n      {why}")),
        };
        text += &format!("{state} {} of {n}: {what}{why}\n", idx + 1);
    }
    Err(Left(text))
}

fn suite(registry: &Registry, testdata: &Path, judged: Judged) -> Result<(), Left> {
    let bless = std::env::var_os(UPDATE).is_some();
    let bless_by = "`MODELFERRY_UPDATE=1 cargo test`";
    let options = SuiteOptions { judged: Some(judged), bless, bless_by, ..SuiteOptions::default() };
    let outcome = run(registry, testdata, &options);
    if outcome.failures.is_empty() {
        return Ok(());
    }
    let mut text = format!("the suite found {} faults:\n", outcome.failures.len());
    outcome.failures.iter().take(MAX_LISTED).for_each(|failure| text += &format!("- {failure}\n"));
    if outcome.failures.len() > MAX_LISTED {
        text += "- and more like these\n";
    }
    Err(Left(text))
}

/// A model of testdata.
struct Opened {
    name: String,
    inputs: DiskInputs,
    path: PathBuf,
}

/// The models that the author has put there. Errors: none, or the text that stands for one.
fn models_of(testdata: &Path) -> Result<Vec<Opened>, String> {
    let folder = testdata.join("models");
    let files = walk(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut found = vec![];
    for path in files.into_iter().filter(|path| !goes_with_others(path)) {
        let name = path.strip_prefix(&folder).unwrap_or(&path).display().to_string();
        if fs::read_to_string(&path).is_ok_and(|text| text.contains(PLACEHOLDER)) {
            return Err(format!("{name} is still the text that stands for a model"));
        }
        let inputs = DiskInputs::open(Arc::new(OsIo), &path).map_err(|error| error.to_string())?;
        found.push(Opened { name, inputs, path });
    }
    if found.is_empty() { Err(format!("{} is empty", folder.display())) } else { Ok(found) }
}

fn described(info: &ReaderInfo) -> Result<(), String> {
    match info.about.contains(PLACEHOLDER) {
        true => Err(format!("`about` is {:?}", info.about)),
        false => Ok(()),
    }
}

/// A library is opened only for a file that has the bytes or the name.
fn announced(info: &ReaderInfo, model: &Opened) -> Result<(), String> {
    let (inputs, root) = (&model.inputs, model.inputs.root());
    let has_bytes = info.magic.iter().any(|magic| {
        let mut found = vec![0; magic.bytes.len()];
        inputs.read_at(root, magic.at, &mut found).is_ok() && found == magic.bytes
    });
    let name = inputs.name(root);
    match has_bytes || info.extensions.iter().any(|ending| name.ends_with(ending)) {
        true => Ok(()),
        false => Err("it has none of the `magic` bytes and none of the `extensions`".to_owned()),
    }
}

fn identified(reader: &dyn Reader, model: &Opened) -> Result<(), String> {
    match guarded(|| reader.identify(&model.inputs))? {
        Verdict::Content => Ok(()),
        Verdict::Name => Err("identify() knows it by its name alone".to_owned()),
        Verdict::No => Err("identify() does not know it".to_owned()),
    }
}

fn described_whole(suite: &Suite<'_>, reader: &dyn Reader, model: &Opened) -> Result<(), String> {
    let read = guarded(|| Content::read(suite, &model.path, reader.info().format))?;
    read.map(drop).map_err(|error| error.to_string())
}

fn broken(folder: &Path) -> Result<(), String> {
    let files = walk(folder).unwrap_or_default();
    match files
        .iter()
        .any(|path| !path.extension().is_some_and(|ending| ending == "expect" || ending == "md"))
    {
        true => Ok(()),
        false => Err(format!(
            "{} has none; cut one of the models short, or put a wrong number into it",
            folder.display()
        )),
    }
}

fn holds(info: &WriterInfo) -> Result<(), String> {
    match () {
        () if info.about.contains(PLACEHOLDER) => Err(format!("`about` is {:?}", info.about)),
        () if info.dtypes.is_empty() => Err("`dtypes` is empty".to_owned()),
        () => Ok(()),
    }
}

/// One of the made models is enough to begin with; the suite has the others.
fn laid_out(registry: &Registry, writer: &dyn Writer, testdata: &Path) -> Result<(), String> {
    let options = SuiteOptions::default();
    let suite = Suite::empty(registry, testdata, &options)?;
    let mut why = "none of the suite's models fits into what info() says".to_owned();
    for made in models::all().map_err(|error| error.to_string())? {
        match guarded(|| write(&suite, &made, writer)).and_then(|written| written) {
            Ok(None) => {}
            Err(error) => why = format!("{}: {error}", made.name),
            Ok(Some(written)) => {
                let Ok(reader) = registry.reader(writer.info().format) else {
                    return Err("it is laid out, and nothing here reads it".to_owned());
                };
                let inputs =
                    DiskInputs::open(Arc::new(OsIo), &written.root).map_err(|error| error.to_string())?;
                return identified(reader, &Opened { name: made.name, inputs, path: written.root });
            }
        }
    }
    Err(why)
}
