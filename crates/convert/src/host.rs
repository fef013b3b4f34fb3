//! What a plugin may use of the program around it: the engine's answers, recorded.

use modelferry_core::Result;
use modelferry_core::expr::NodeId;
use modelferry_core::inputs::Inputs;
use modelferry_core::limits::Limits;
use modelferry_core::model::Model;
use modelferry_core::plugin::{Answer, Host, Query};
use modelferry_engine::{Settings, Source};

/// A question about payload and its answer, as text for the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What was asked, with the expressions it was asked about.
    pub question: String,
    /// What the engine found.
    pub answer: String,
}

/// Answers from the files behind one model.
pub(crate) struct EngineHost<'a> {
    pub(crate) inputs: &'a dyn Inputs,
    pub(crate) settings: &'a Settings,
    pub(crate) asked: &'a mut Vec<Asked>,
}

impl Host for EngineHost<'_> {
    fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    fn ask(&mut self, model: &Model, query: Query) -> Result<Answer> {
        let answer = modelferry_engine::answer(Source { model, inputs: self.inputs }, self.settings, &query)?;
        self.asked.push(Asked { question: question_text(model, &query), answer: answer_text(&answer) });
        Ok(answer)
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
