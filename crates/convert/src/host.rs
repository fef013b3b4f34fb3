//! What a plugin may use of the program around it: the engine's answers, recorded, and the other plugins.

use crate::epilogue;
use crate::job::{Context, PluginOptions};
use crate::links::Links;
use crate::pick;
use modelferry_core::expr::NodeId;
use modelferry_core::inputs::{FileId, Inputs, Rooted};
use modelferry_core::layout::Layout;
use modelferry_core::limits::Limits;
use modelferry_core::loss::Loss;
use modelferry_core::model::{Model, ModelView};
use modelferry_core::options::Options;
use modelferry_core::plugin::{Answer, Host, LayoutRequest, Place, Query, ReaderInfo, Writer};
use modelferry_core::{Error, Result};
use modelferry_engine::Source;

/// A question about payload and its answer, as text for the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What was asked, with the expressions it was asked about.
    pub question: String,
    /// What the engine found.
    pub answer: String,
}

/// What the plugins of one run have asked of the others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traces {
    /// Questions about payload.
    pub(crate) asked: Vec<Asked>,
    /// Readers of models inside the model.
    pub(crate) readers: Vec<&'static ReaderInfo>,
    /// How many plugins are at work for another one now.
    depth: usize,
    /// Formats of the writers that have laid out parts for the one that is at work now and have promised files.
    owed: Vec<String>,
}

/// A folder of shards of containers is three deep; a model that is said to hold itself has no end.
const DEEPEST: usize = 8;

/// Answers from the files behind one model.
pub(crate) struct EngineHost<'a> {
    pub(crate) cx: &'a Context<'a>,
    pub(crate) inputs: &'a dyn Inputs,
    /// Of all plugins, as the user gave them.
    pub(crate) options: &'a PluginOptions,
    pub(crate) traces: &'a mut Traces,
    /// What an output can point into, where one is laid out.
    pub(crate) links: Option<Links<'a>>,
}

impl EngineHost<'_> {
    /// Has a plugin work for another one.
    fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        Limits::check("models inside of models", self.traces.depth as u64 + 1, DEEPEST as u64)?;
        self.traces.depth += 1;
        let done = work(self);
        self.traces.depth -= 1;
        done
    }

    /// Has a writer lay out. What those promise that lay out parts of it is part of its layout.
    pub(crate) fn lay_out(
        &mut self,
        writer: &dyn Writer,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
    ) -> Result<(Layout, Vec<Loss>)> {
        let before = std::mem::take(&mut self.traces.owed);
        let result = writer.layout(view, request, self);
        let owed = std::mem::replace(&mut self.traces.owed, before);
        let (layout, losses) = result?;
        epilogue::check_promises(self.cx, &layout, &owed)?;
        Ok((layout, losses))
    }
}

impl Host for EngineHost<'_> {
    fn limits(&self) -> &Limits {
        &self.cx.settings.limits
    }

    fn ask(&mut self, model: &Model, query: Query) -> Result<Answer> {
        let source = Source { model, inputs: self.inputs };
        let answer = modelferry_engine::answer(source, self.cx.settings, &query)?;
        let (question, answered) = (question_text(model, &query), answer_text(&answer));
        self.traces.asked.push(Asked { question, answer: answered });
        Ok(answer)
    }

    fn read(&mut self, inputs: &dyn Inputs, root: FileId) -> Result<Model> {
        let inputs = Rooted { inputs, root };
        let reader = pick::reader(self.cx.registry, None, Place::File, &inputs)?;
        let info = reader.info();
        let options = Options::resolve(info.options, self.options)?;
        self.traces.readers.push(info);
        self.deeper(|host| reader.read(&inputs, &options, host)).map_err(|error| error.format(info.format))
    }

    fn link(&mut self, file: FileId) -> Result<String> {
        let unable = || Error::unsupported("an output cannot point into its source here");
        self.links.as_ref().ok_or_else(unable)?.path(&*self.cx.io, file)
    }

    fn layout(
        &mut self,
        view: &ModelView<'_>,
        format: &str,
        request: &LayoutRequest<'_>,
    ) -> Result<(Layout, Vec<Loss>)> {
        let writer = self.cx.registry.writer(format)?;
        let info = writer.info();
        if info.place != Place::File {
            return Err(Error::usage("the weights of a folder are files").found(format));
        }
        let options = Options::resolve(info.options, self.options)?;
        let request = LayoutRequest { options: &options, ..request.clone() };
        let laid_out = self.deeper(|host| host.lay_out(writer, view, &request));
        let (mut layout, losses) = laid_out.map_err(|error| error.format(info.format))?;
        layout.sign(info.format);
        let makers = layout.makers();
        self.traces.owed.extend(makers.into_iter().flatten().map(|maker| maker.format.clone()));
        Ok((layout, losses))
    }
}

fn question_text(model: &Model, query: &Query) -> String {
    let node = |id: &NodeId| model.nodes.text(*id, 8);
    match query {
        Query::Equal(a, b) => format!("equal: {} and {}", node(a), node(b)),
        Query::Small { node: id, at, len } => {
            format!("items {at} to {}: {}", at.saturating_add(*len), node(id))
        }
        Query::AllZero(id) => format!("all zero: {}", node(id)),
        Query::AbsMax(id) => format!("largest magnitude: {}", node(id)),
        Query::Nnz(id) => format!("not zero: {}", node(id)),
        other => format!("{other:?}"),
    }
}

fn answer_text(answer: &Answer) -> String {
    match answer {
        Answer::Bool(yes) => (if *yes { "yes" } else { "no" }).to_owned(),
        Answer::Bytes(bytes) => {
            let shown: String = bytes.iter().take(32).map(|byte| format!("{byte:02x}")).collect();
            format!("{} bytes: {shown}{}", bytes.len(), if bytes.len() > 32 { "…" } else { "" })
        }
        Answer::Number(number) => number.to_string(),
        Answer::Count(count) => count.to_string(),
        other => format!("{other:?}"),
    }
}
