//! What must hold of errors and of models, whatever the file.

use crate::targets::Reached;
use modelferry_core::error::{Error, ErrorKind, Result as CoreResult};
use modelferry_core::inputs::Inputs;
use modelferry_core::limits::Limits;
use modelferry_core::model::{Model, ModelView};
use modelferry_core::options::Options;
use modelferry_core::plugin::{
    Answer, Carries, Host, LayoutRequest, Query, Reader, Shards, Writer, WriterInfo,
};
use modelferry_engine::{Settings, Source, answer, read_items};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Bytes of one end of a tensor that are evaluated, and of all tensors together.
const END_BYTES: u64 = 1 << 20;
const ALL_BYTES: u64 = 4 << 20;

/// Tensors that are evaluated.
const MAX_TENSORS: usize = 32;

/// Bytes of a message: one that is longer repeats the file instead of speaking about it.
const MAX_MESSAGE: usize = 4096;

/// Settings of every evaluation here: one thread, so that a case costs the same each time.
pub(crate) fn settings() -> Settings {
    Settings { threads: 1, memory: 8 << 20, ..Settings::default() }
}

/// A host that answers by the engine.
pub(crate) struct EngineHost<'a> {
    inputs: &'a dyn Inputs,
    settings: Settings,
}

impl<'a> EngineHost<'a> {
    pub(crate) fn new(inputs: &'a dyn Inputs) -> EngineHost<'a> {
        EngineHost { inputs, settings: settings() }
    }
}

impl Host for EngineHost<'_> {
    fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    fn ask(&mut self, model: &Model, query: Query) -> CoreResult<Answer> {
        answer(Source { model, inputs: self.inputs }, &self.settings, &query)
    }
}

/// Reads and validates, as the pipeline does.
pub(crate) fn read(reader: &dyn Reader, inputs: &dyn Inputs) -> CoreResult<Model> {
    let with_format = |error: Error| error.format(reader.info().format);
    let options = Options::resolve(reader.info().options, &BTreeMap::new())?;
    let mut host = EngineHost::new(inputs);
    let model = reader.read(inputs, &options, &mut host).map_err(with_format)?;
    model.validate(host.limits()).map_err(with_format)?;
    Ok(model)
}

/// An error about an input is the input's fault, says which file, and fits a line of a terminal.
pub(crate) fn refusal(error: &Error) -> Result<Reached, String> {
    let message = error.to_string();
    let fault = |why: &str| Err(format!("{why}: exit {}: {}", error.kind().exit_code(), cut(&message)));
    match error.kind() {
        ErrorKind::Malformed | ErrorKind::Unsupported | ErrorKind::Limit | ErrorKind::Ambiguous => {}
        _ => return fault("an error of the wrong kind"),
    }
    if !error.fields().iter().any(|(name, text)| *name == "file" && !text.is_empty()) {
        return fault("an error that names no file");
    }
    if message.chars().any(char::is_control) {
        return fault("a message that controls the terminal");
    }
    // Names of tensors and files stand in a message whole, and have a limit of their own.
    let named: usize = error
        .fields()
        .iter()
        .filter(|field| matches!(field.0, "file" | "tensor"))
        .map(|field| field.1.len())
        .sum();
    if message.len() > MAX_MESSAGE + 6 * named {
        return fault("a message of more than 4 KiB");
    }
    Ok(Reached::Refused)
}

fn cut(text: &str) -> String {
    let short: String = text.chars().take(300).collect();
    if short.len() < text.len() { format!("{short:?} and so on") } else { format!("{short:?}") }
}

/// Everything that `reader` can do with a file: read it twice, evaluate it, lay it out for every writer.
pub(crate) fn reader(reader: &dyn Reader, inputs: &dyn Inputs) -> Result<(Reached, Option<Model>), String> {
    reader.identify(inputs);
    let model = match read(reader, inputs) {
        Ok(model) => model,
        Err(error) => {
            // The same file gives the same words.
            let again = read(reader, inputs).err().map(|error| error.to_string());
            return match again == Some(error.to_string()) {
                true => refusal(&error).map(|reached| (reached, None)),
                false => Err(format!("refused once, then {again:?}: {}", cut(&error.to_string()))),
            };
        }
    };
    match read(reader, inputs) {
        Ok(again) if text(&again) == text(&model) => {}
        Ok(_) => return Err("read twice, it is two models".to_owned()),
        Err(error) => return Err(format!("read, then refused: {}", cut(&error.to_string()))),
    }
    self::model(&model, inputs)?;
    if let Some(loss) = model.losses.iter().find(|loss| loss.to_string().chars().any(char::is_control)) {
        return Err(format!("a loss that controls the terminal: {}", cut(&loss.to_string())));
    }
    Ok((Reached::Read, Some(model)))
}

/// What must hold of a model that was read.
pub(crate) fn model(model: &Model, inputs: &dyn Inputs) -> Result<(), String> {
    let mut left = ALL_BYTES;
    for tensor in model.tensors.iter().take(MAX_TENSORS) {
        let node = &model.nodes[tensor.data];
        let n = (END_BYTES.min(left / 2) / node.dtype.item_bytes()).min(node.n);
        for at in [0, node.n - n] {
            left -= n * node.dtype.item_bytes();
            if let Err(error) = read_items(Source { model, inputs }, &settings(), tensor.data, at, n) {
                refusal(&error.format("engine"))?;
            }
        }
    }
    for writer in modelferry_cli::builtin::files().writers() {
        layout(writer, model, inputs)?;
    }
    Ok(())
}

/// Whether the pipeline would ask this writer at all.
pub(crate) fn holds(info: &WriterInfo, view: &ModelView<'_>) -> bool {
    view.tensors().len() as u64 <= info.max_tensors
        && (info.ties == Carries::Yes || view.ties().is_empty())
        && view
            .tensors()
            .all(|tensor| info.dtypes.contains(&tensor.dtype()) && tensor.shape().len() <= info.max_rank)
}

/// What a writer makes of a model that it claims to hold is a valid layout, or a target's refusal.
fn layout(writer: &dyn Writer, model: &Model, inputs: &dyn Inputs) -> Result<(), String> {
    let info = writer.info();
    let fault = |error: Error| format!("laid out as {}: {}", info.format, cut(&error.to_string()));
    let mut host = EngineHost::new(inputs);
    let view = ModelView::new(model, host.limits()).map_err(fault)?;
    if !holds(info, &view) {
        return Ok(());
    }
    let options = Options::resolve(info.options, &BTreeMap::new()).map_err(fault)?;
    let mut requests = vec![Shards::One];
    if info.shards == Carries::Yes && view.tensors().len() < 1000 {
        requests.extend([Shards::Max(1000), Shards::Keep]);
    }
    let file_name = format!("out{}", info.extensions.last().copied().unwrap_or_default());
    for shards in requests {
        let request = LayoutRequest { file_name: &file_name, weights: "", options: &options, shards };
        match writer.layout(&view, &request, &mut host) {
            Ok((layout, _)) => layout.validate(&view).map_err(fault)?,
            Err(error) if matches!(error.kind(), ErrorKind::Target | ErrorKind::Limit) => {}
            Err(error) => return Err(fault(error)),
        }
    }
    Ok(())
}

/// A model as text: two models with one text are one model.
fn text(model: &Model) -> String {
    let mut out = String::new();
    for tensor in &model.tensors {
        let data = model.nodes.text(tensor.data, 16);
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:?} {} {:?} {data}", tensor.name, tensor.dtype, tensor.shape);
    }
    let _ = writeln!(out, "{:?} {:?}", model.ties, model.metadata);
    for claim in &model.claims {
        let _ = writeln!(out, "{} {:08x}", model.nodes.text(claim.node, 16), claim.crc32);
    }
    for loss in &model.losses {
        let _ = writeln!(out, "{loss}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_judged() {
        let judged =
            |error: Error| refusal(&error).err().map(|fault| fault.split(':').next().unwrap().to_owned());
        assert_eq!(judged(Error::malformed("short").file("f")), None);
        assert_eq!(judged(Error::malformed("short")).as_deref(), Some("an error that names no file"));
        assert_eq!(judged(Error::plugin("x").file("f")).as_deref(), Some("an error of the wrong kind"));
        // The error itself escapes what would move a cursor.
        assert_eq!(judged(Error::malformed("x").file("f").found("\u{1b}[2J")), None);
        let long = Error::malformed("x").file("f").found("y".repeat(5000));
        assert_eq!(judged(long).as_deref(), Some("a message of more than 4 KiB"));
    }
}
