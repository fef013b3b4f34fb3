//! A model's file: its document without payload, and where the payload lies.

use super::coded::Coded;
use super::fields::Wire;
use super::file::{Field, Source};
use super::messages::{Entry, OperatorSet};
use super::nodes::Walk;
use super::tensor::{Payload, Place};
use super::{function, model, training};
use modelferry_core::dtype::DType;
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::limits::Limits;
use modelferry_core::{Error, Result};
use prost::Message as _;
use std::ops::Range;

/// A model as its file holds it.
#[derive(Debug)]
pub struct Document {
    /// The file's own message, `ModelProto`, without elements of the tensors that are [`tensors`](Document::tensors),
    /// without what says in which files they lie, and without [`metadata`](Document::metadata).
    pub body: Vec<u8>,
    /// The tensors, in the order of their places in `body`.
    pub tensors: Vec<Found>,
    /// Keys and values of the whole model.
    pub metadata: Vec<(String, String)>,
    /// Which bytes of the file each of them is.
    pub metadata_at: Vec<Range<u64>>,
    /// Which of the tensors are codes.
    pub codes: Vec<Coded>,
    /// What made it.
    pub producer: String,
    /// What it holds besides.
    pub summary: Summary,
}

/// A tensor.
#[derive(Clone, Debug)]
pub struct Found {
    /// A name that no other has: its own, with the way to it before it where others have the same.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents, row-major.
    pub shape: Vec<u64>,
    /// What its place is.
    pub place: Place,
    /// First byte of its place in [`Document::body`]: of the elements that are not there, or of the attribute.
    pub at: u64,
    /// Where its elements lie in the file.
    pub payload: Payload,
}

/// What a model holds besides tensors, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Nodes of all graphs and functions.
    pub n_nodes: u64,
    /// Inputs of the main graph.
    pub n_inputs: u64,
    /// Outputs of the main graph.
    pub n_outputs: u64,
    /// Functions.
    pub n_functions: u64,
    /// Tensors of texts: name and number of texts.
    pub texts: Vec<(String, u64)>,
}

impl Document {
    /// Reads the model in `file`. What lies in payload is not looked at.
    ///
    /// Errors name the byte: a message that ends behind the one around it, a field that may stand once and stands twice,
    /// no graph, no version, no set of operators; and those of its tensors.
    pub fn read(inputs: &dyn Inputs, file: FileId, limits: &Limits) -> Result<Document> {
        Reading::new(inputs, file, limits).read().map_err(|error| error.file(inputs.name(file)))
    }
}

/// Whether a file looks like a model: its fields are those of one and end where it does.
pub fn identify(inputs: &dyn Inputs, file: FileId) -> bool {
    /// Any model has fewer; each function is one.
    const MAX_FIELDS: usize = 1 << 14;
    let mut source = Source::new(inputs, file);
    let (mut at, end) = (0, source.len);
    let (mut has_version, mut has_graph) = (false, false);
    for _ in 0..MAX_FIELDS {
        let field = match source.field(&mut at, end) {
            Ok(Some(field)) => field,
            Ok(None) => return has_version && has_graph,
            Err(_) => return false,
        };
        let wire = match field.number {
            1 | 5 => Wire::Varint,
            2..=4 | 6..=8 | 14 | 20 | 25 | 26 => Wire::Bytes,
            _ => field.wire,
        };
        if field.wire != wire {
            return false;
        }
        has_version |= field.number == model::IR_VERSION && field.varint <= i32::MAX as u64;
        if field.number == model::GRAPH {
            let mut inside = field.at;
            let first = source.field(&mut inside, field.end);
            let is_known = |field: Field| matches!(field.number, 1 | 2 | 5 | 10..=16);
            has_graph |= first.is_ok_and(|first| first.is_some_and(is_known));
        }
    }
    false
}

struct Reading<'a> {
    walk: Walk<'a>,
    metadata: Vec<(String, String)>,
    metadata_at: Vec<Range<u64>>,
    producer: String,
    has_graph: bool,
    ir_version: Option<u64>,
    imports: bool,
}

impl<'a> Reading<'a> {
    fn new(inputs: &'a dyn Inputs, file: FileId, limits: &'a Limits) -> Reading<'a> {
        Reading {
            walk: Walk::new(Source::new(inputs, file), limits),
            metadata: vec![],
            metadata_at: vec![],
            producer: String::new(),
            has_graph: false,
            ir_version: None,
            imports: false,
        }
    }

    fn read(mut self) -> Result<Document> {
        let (mut at, end) = (0, self.walk.source.len);
        let mut body = vec![];
        while let Some(field) = self.walk.next(&mut at, end)? {
            self.field(&field, &mut body).map_err(|error| error.offset(field.begin))?;
        }
        if !self.has_graph {
            return Err(Error::malformed("the model has no graph"));
        }
        let Some(version) = self.ir_version else {
            return Err(Error::malformed("the model does not say its version").expected("ir_version"));
        };
        // Versions 1 and 2 had no sets of operators.
        if version >= 3 && !self.imports {
            return Err(Error::malformed("the model imports no set of operators").expected("opset_import"));
        }
        let (tensors, codes, summary) = self.walk.finish()?;
        Ok(Document {
            body,
            tensors,
            codes,
            metadata: self.metadata,
            metadata_at: self.metadata_at,
            producer: self.producer,
            summary,
        })
    }

    fn field(&mut self, field: &Field, body: &mut Vec<u8>) -> Result<()> {
        match (field.number, field.wire) {
            (model::GRAPH, Wire::Bytes) => {
                if std::mem::replace(&mut self.has_graph, true) {
                    return Err(Error::malformed("the model has two graphs"));
                }
                let first = self.walk.n_found();
                let inside = self.walk.graph(field, Walk::ROOT, true)?;
                self.walk.nest(body, field.number, &inside, first);
            }
            (model::TRAINING_INFO, Wire::Bytes) => {
                let first = self.walk.n_found();
                let inside = self.training(field)?;
                self.walk.nest(body, field.number, &inside, first);
            }
            (model::FUNCTIONS, Wire::Bytes) => {
                let first = self.walk.n_found();
                let inside = self.function(field)?;
                self.walk.nest(body, field.number, &inside, first);
                self.walk.summary.n_functions += 1;
            }
            (model::METADATA_PROPS, Wire::Bytes) => self.metadata(field)?,
            (number, wire) => {
                if (number, wire) == (model::IR_VERSION, Wire::Varint) {
                    self.ir_version = Some(field.varint);
                }
                let from = body.len();
                self.walk.copy(field, body)?;
                let value = &body[from + (field.at - field.begin) as usize..];
                if (number, wire) == (model::PRODUCER_NAME, Wire::Bytes) {
                    self.producer = String::from_utf8_lossy(value).into_owned();
                }
                if (number, wire) == (model::OPSET_IMPORT, Wire::Bytes) {
                    let decoded = OperatorSet::decode(value);
                    decoded
                        .map_err(|error| Error::malformed("a set of operators is damaged").source(error))?;
                    self.imports = true;
                }
            }
        }
        Ok(())
    }

    fn metadata(&mut self, field: &Field) -> Result<()> {
        let mut bytes = vec![];
        Limits::check("metadata is too long", field.len(), self.walk.limits.header_bytes)?;
        self.walk.source.append(field.at, field.end, &mut bytes)?;
        let entry = Entry::decode(&bytes[..])
            .map_err(|error| Error::malformed("an entry of the metadata is damaged").source(error))?;
        let (key, value) = (entry.key.unwrap_or_default(), entry.value.unwrap_or_default());
        self.walk.count_bytes(field)?;
        if self.walk.metadata_keys.insert(key.clone()) {
            self.metadata.push((key, value));
            self.metadata_at.push(field.begin..field.end);
            return Ok(());
        }
        Err(Error::malformed("a key of the metadata stands twice")
            .found(format_args!("{:?}", crate::shown(&key))))
    }

    fn training(&mut self, field: &Field) -> Result<Vec<u8>> {
        let (mut at, mut out) = (field.at, vec![]);
        while let Some(inner) = self.walk.next(&mut at, field.end)? {
            let name = match (inner.number, inner.wire) {
                (training::INITIALIZATION, Wire::Bytes) => "training.initialization",
                (training::ALGORITHM, Wire::Bytes) => "training.algorithm",
                _ => {
                    self.walk.copy(&inner, &mut out)?;
                    continue;
                }
            };
            let scope = self.walk.scope(name.to_owned(), None);
            let first = self.walk.n_found();
            let inside = self.walk.graph(&inner, scope, false)?;
            self.walk.nest(&mut out, inner.number, &inside, first);
        }
        Ok(out)
    }

    fn function(&mut self, field: &Field) -> Result<Vec<u8>> {
        let fields = self.walk.list(field)?;
        let name = self.walk.text_of(&fields, function::NAME)?;
        let scope = self.walk.scope(if name.is_empty() { "function".to_owned() } else { name }, None);
        let mut out = vec![];
        for inner in &fields {
            if (inner.number, inner.wire) == (function::NODE, Wire::Bytes) {
                let first = self.walk.n_found();
                let inside = self.walk.node(inner, scope)?;
                self.walk.nest(&mut out, inner.number, &inside, first);
            } else {
                self.walk.copy(inner, &mut out)?;
            }
        }
        Ok(out)
    }
}
