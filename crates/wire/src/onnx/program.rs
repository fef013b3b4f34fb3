//! What the nodes of a document do with its tensors, as far as that tells what a tensor is.

use super::document::{Document, Found};
use super::fields::{Field, Fields, Wire};
use super::{attribute, function, graph, model, node, tensor_proto};
use std::collections::HashMap;

/// Number of a value: of a tensor, or of what a node makes.
pub type Value = u32;

/// Steps of a program, at most. Beyond that nobody looks: a graph of a transformer has some thousands.
const MAX_STEPS: usize = 1 << 21;

/// Operators that say something of a weight that they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `MatMul`.
    MatMul,
    /// `Gemm`.
    Gemm {
        /// Whether its second input is turned over: `transB`.
        turns: bool,
    },
    /// `Gather`.
    Gather,
    /// A layer of its own, whose second input is a weight, and the third too if it is a matrix: convolutions, and what
    /// goes along a sequence (`LSTM`, `GRU`, `RNN`).
    Layer,
    /// `Add`.
    Add,
    /// `Transpose` of two axes.
    Transpose,
    /// `Identity` or `Cast`: its output is its input, or nearly.
    Same,
    /// Any other.
    Other,
}

/// What the exporter of PyTorch (`torch.onnx.export(dynamo=True)`) notes beside a node; empty if it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes<'a> {
    /// `pkg.torch.onnx.name_scopes`: modules from the outermost on, then the operation.
    pub scopes: &'a str,
    /// `pkg.torch.onnx.class_hierarchy`: their classes.
    pub classes: &'a str,
    /// `pkg.torch.onnx.fx_node`: the operation with its arguments.
    pub operation: &'a str,
}

/// One node, apart from `Constant`s.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// What it does.
    pub operator: Operator,
    /// Its name; may be empty, or another's too.
    pub name: &'a str,
    /// Its first inputs. Nothing for one that is not there, or that nothing makes.
    pub inputs: [Option<Value>; 3],
    /// Its first output.
    pub output: Option<Value>,
    /// What is noted beside it.
    pub notes: Notes<'a>,
}

/// The nodes of all graphs and functions of a document.
#[derive(Debug, Default)]
pub struct Program<'a> {
    /// In the order of the document, those of inner graphs behind the node that they belong to.
    pub steps: Vec<Step<'a>>,
    /// Of each tensor of the document its value, and its name there: nothing for parts of sparse tensors and arguments.
    pub tensors: Vec<Option<(Value, &'a str)>>,
    n_values: Value,
    /// Places of each value among `uses`, one behind the other.
    ends: Vec<u32>,
    uses: Vec<(u32, u8)>,
}

impl<'a> Program<'a> {
    /// Looks through a document. What is damaged ends where the damage is; of a document of too many nodes there is
    /// nothing. Time and memory are linear in the document, and nothing in it is followed in circles.
    pub fn of(document: &'a Document) -> Program<'a> {
        let program = Program { tensors: vec![None; document.tensors.len()], ..Program::default() };
        let mut reading = Reading { found: &document.tensors, program, scopes: vec![] };
        let body = Part { bytes: &document.body, at: 0 };
        for (field, inside) in body.messages() {
            match field.number {
                model::GRAPH => reading.scope(inside, graph::NODE),
                model::FUNCTIONS => reading.scope(inside, function::NODE),
                _ => {}
            }
        }
        let mut program = reading.program;
        if program.steps.len() > MAX_STEPS {
            return Program { tensors: vec![None; document.tensors.len()], ..Program::default() };
        }
        program.index();
        program
    }

    /// How many values there are.
    pub fn n_values(&self) -> usize {
        self.n_values as usize
    }

    /// The steps that take a value, and as which of their first inputs.
    pub fn uses(&self, value: Value) -> &[(u32, u8)] {
        let end = |idx: usize| self.ends.get(idx).copied().unwrap_or(0) as usize;
        let idx = value as usize;
        let begin = if idx == 0 { 0 } else { end(idx - 1) };
        self.uses.get(begin..end(idx)).unwrap_or_default()
    }

    fn index(&mut self) {
        let inputs = |step: &Step<'_>| step.inputs;
        let mut ends = vec![0u32; self.n_values as usize];
        for value in self.steps.iter().flat_map(inputs).flatten() {
            ends[value as usize] += 1;
        }
        let mut total = 0;
        for end in &mut ends {
            total += *end;
            *end = total - *end;
        }
        let mut uses = vec![(0, 0); total as usize];
        for (idx, step) in self.steps.iter().enumerate() {
            for (position, value) in step.inputs.iter().enumerate() {
                let Some(value) = value else { continue };
                let end = &mut ends[*value as usize];
                uses[*end as usize] = (idx as u32, position as u8);
                *end += 1;
            }
        }
        (self.ends, self.uses) = (ends, uses);
    }
}

/// A part of the document's body, and where in it that is.
#[derive(Clone, Copy)]
struct Part<'a> {
    bytes: &'a [u8],
    at: u64,
}

impl<'a> Part<'a> {
    fn fields(self) -> impl Iterator<Item = Field<'a>> {
        Fields::of(self.bytes).map_while(Result::ok)
    }

    /// Fields that hold bytes, and these.
    fn messages(self) -> impl Iterator<Item = (Field<'a>, Part<'a>)> {
        let inside =
            move |field: Field<'a>| (field, Part { bytes: field.value, at: self.at + field.at as u64 });
        self.fields().filter(|field| field.wire == Wire::Bytes).map(inside)
    }

    /// The text of the last field of this number.
    fn text(self, number: u32) -> &'a str {
        let texts = self.fields().filter(|field| field.number == number);
        texts.last().and_then(|field| field.text()).unwrap_or_default()
    }
}

/// The way through a document, whose graphs are no deeper than its reading allows.
struct Reading<'a> {
    found: &'a [Found],
    program: Program<'a>,
    /// Names of values, of the outermost graph first.
    scopes: Vec<HashMap<&'a str, Value>>,
}

impl<'a> Reading<'a> {
    /// A graph or function.
    fn scope(&mut self, part: Part<'a>, node_number: u32) {
        self.scopes.push(HashMap::new());
        // Tensors stand behind the nodes that take them.
        for (field, inside) in part.messages() {
            match field.number {
                number if number == node_number => self.names_of(inside),
                graph::INITIALIZER if node_number == graph::NODE => {
                    let name = inside.text(tensor_proto::NAME);
                    let value = self.name(name);
                    self.tensor_in(inside, value, name);
                }
                graph::INPUT if node_number == graph::NODE => drop(self.name(inside.text(1))),
                _ => {}
            }
        }
        for (field, inside) in part.messages() {
            if field.number == node_number && self.program.steps.len() <= MAX_STEPS {
                self.node(inside);
            }
        }
        self.scopes.pop();
    }

    /// A new value of this name, in the innermost graph.
    fn name(&mut self, name: &'a str) -> Value {
        let value = self.program.n_values;
        self.program.n_values += 1;
        if let (false, Some(scope)) = (name.is_empty(), self.scopes.last_mut()) {
            scope.insert(name, value);
        }
        value
    }

    fn value(&self, name: &str) -> Option<Value> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name).copied())
    }

    /// The tensor that has its place in this part, if one does, is a value.
    fn tensor_in(&mut self, part: Part<'a>, value: Value, name: &'a str) {
        let end = part.at + part.bytes.len() as u64;
        let idx = self.found.partition_point(|found| found.at < part.at);
        if self.found.get(idx).is_some_and(|found| found.at <= end) {
            self.program.tensors[idx] = Some((value, name));
        }
    }

    /// What a node makes.
    fn names_of(&mut self, part: Part<'a>) {
        let (mut output, mut operator) = ("", "");
        for (field, _) in part.messages() {
            let text = field.text().unwrap_or_default();
            match field.number {
                node::OUTPUT if output.is_empty() => output = text,
                node::OP_TYPE => operator = text,
                _ => {}
            }
        }
        if output.is_empty() {
            return;
        }
        let value = self.name(output);
        if operator == "Constant" {
            self.tensor_in(part, value, output);
        }
    }

    fn node(&mut self, part: Part<'a>) {
        let (mut name, mut operator, mut domain, mut notes) = ("", "", "", Notes::default());
        let (mut inputs, mut n_inputs, mut output) = ([None; 3], 0, None);
        let (mut turns, mut axes) = (false, vec![]);
        let mut graphs = vec![];
        for (field, inside) in part.messages() {
            let text = field.text().unwrap_or_default();
            match field.number {
                node::INPUT => {
                    if let Some(input) = inputs.get_mut(n_inputs) {
                        *input = self.value(text).filter(|_| !text.is_empty());
                    }
                    n_inputs += 1;
                }
                node::OUTPUT if output.is_none() => output = self.value(text),
                node::NAME => name = text,
                node::OP_TYPE => operator = text,
                node::DOMAIN => domain = text,
                node::METADATA_PROPS => note(inside, &mut notes),
                node::ATTRIBUTE => match inside.text(attribute::NAME) {
                    "transB" => turns = numbers(inside, attribute::I).any(|number| number != 0),
                    "perm" => axes = numbers(inside, attribute::INTS).take(3).collect(),
                    _ => graphs.extend(inside.messages().filter_map(|(field, inside)| {
                        matches!(field.number, attribute::G | attribute::GRAPHS).then_some(inside)
                    })),
                },
                _ => {}
            }
        }
        if operator != "Constant" {
            let operator = match (is_onnx(domain), operator) {
                (true, "MatMul") => Operator::MatMul,
                (true, "Gemm") => Operator::Gemm { turns },
                (true, "Gather") => Operator::Gather,
                (true, "Conv" | "ConvTranspose" | "LSTM" | "GRU" | "RNN") => Operator::Layer,
                (true, "Add") => Operator::Add,
                (true, "Identity" | "Cast") => Operator::Same,
                (true, "Transpose") => match axes[..] {
                    [] | [1, 0] => Operator::Transpose,
                    [0, 1] => Operator::Same,
                    _ => Operator::Other,
                },
                _ => Operator::Other,
            };
            self.program.steps.push(Step { operator, name, inputs, output, notes });
        }
        for inside in graphs {
            self.scope(inside, graph::NODE);
        }
    }
}

/// The domains of onnx's own operators.
fn is_onnx(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

/// An entry of a node's metadata.
fn note<'a>(entry: Part<'a>, notes: &mut Notes<'a>) {
    let place = match entry.text(1) {
        "pkg.torch.onnx.name_scopes" => &mut notes.scopes,
        "pkg.torch.onnx.class_hierarchy" => &mut notes.classes,
        "pkg.torch.onnx.fx_node" => &mut notes.operation,
        _ => return,
    };
    *place = entry.text(2);
}

/// The numbers in fields of this number, packed or not.
fn numbers(part: Part<'_>, number: u32) -> impl Iterator<Item = u64> {
    let values = move |field: Field<'_>| -> Vec<u64> {
        // An attribute that matters here has few.
        const MOST: usize = 4;
        let mut found = vec![];
        let mut rest = field.value;
        while let (true, Ok(Some((value, len)))) =
            (found.len() < MOST && !rest.is_empty(), super::fields::varint(rest))
        {
            found.push(value);
            rest = &rest[len..];
        }
        found
    };
    part.fields().filter(move |field| field.number == number).flat_map(values)
}
