//! A document filled from a model, and a model from its document.

use crate::document::{
    self, Document, JsonBinding, JsonCheck, JsonCodes, JsonEntry, JsonGraph, JsonOrigin, JsonTree, JsonValue,
};
use crate::names::{dtype_of_text, dtype_text, lasting};
use crate::nodes::Blobs;
use crate::raw;
use crate::types::MfText;
use modelferry_core::codes::Codes;
use modelferry_core::expr::{Blob, NodeId};
use modelferry_core::graph::{Binding, Graph, Origin};
use modelferry_core::inputs::FileId;
use modelferry_core::model::{Check, FileDigest, Model, Stated};
use modelferry_core::tree::Part;
use modelferry_core::{Error, Result};

/// The parts of a model that cross as JSON.
pub(crate) struct Described<'a> {
    pub(crate) ties: &'a [Vec<usize>],
    pub(crate) metadata: &'a [(String, modelferry_core::model::Value)],
    pub(crate) config: Option<&'a str>,
    pub(crate) tree: Option<&'a modelferry_core::tree::Tree>,
    pub(crate) graph: Option<&'a Graph>,
    pub(crate) entries: Option<&'a [Stated]>,
    pub(crate) codes: &'a [Codes],
    pub(crate) checks: &'a [Check],
    pub(crate) file_digests: &'a [FileDigest],
}

impl<'a> Described<'a> {
    pub(crate) fn of(model: &'a Model) -> Described<'a> {
        Described {
            ties: &model.ties,
            metadata: &model.metadata,
            config: model.config.as_deref(),
            tree: model.tree.as_ref(),
            graph: model.graph.as_ref(),
            entries: model.entries.as_deref(),
            codes: &model.codes,
            checks: &model.checks,
            file_digests: &model.file_digests,
        }
    }
}

impl<'a> Document<'a> {
    /// `binding` gives the node of a place in the graph, and whether its tensor is untouched.
    pub(crate) fn of(
        from: &Described<'a>,
        binding: &dyn Fn(&Binding) -> (Option<u64>, bool),
        blobs: &mut Blobs,
    ) -> Result<Document<'a>> {
        let mut document = Document {
            ties: from.ties.to_vec(),
            config: from.config.map(str::to_owned),
            tree: from.tree.map(|tree| JsonTree::of(tree, blobs)).transpose()?,
            ..Document::default()
        };
        for (key, value) in from.metadata {
            document.metadata.push((key.clone(), JsonValue::of(value, blobs)));
        }
        document.graph = from.graph.map(|graph| {
            let place = |place: &Binding| {
                let (node, is_untouched) = binding(place);
                let (name, dtype) = (place.name.to_string(), dtype_text(place.dtype));
                JsonBinding { at: place.at, tensor: place.tensor, name, dtype, node, is_untouched }
            };
            let origin = |origin: &Origin| JsonOrigin {
                tensor: origin.tensor,
                name: origin.name.to_string(),
                axes: origin.axes.to_vec(),
            };
            JsonGraph {
                dialect: graph.dialect.to_owned(),
                body: blobs.add(graph.body.clone()),
                bindings: graph.bindings.iter().map(place).collect(),
                parts: graph.parts.iter().map(|part| (part.path.clone(), part.what.clone())).collect(),
                origins: graph.origins.iter().map(origin).collect(),
                nameless: graph.nameless.clone(),
            }
        });
        document.entries = from.entries.map(|entries| entries.iter().map(JsonEntry::of).collect());
        document.codes = from.codes.iter().map(JsonCodes::of).collect();
        document.checks = from.checks.iter().map(JsonCheck::of).collect();
        let hex = |digest: &FileDigest| digest.sha1.iter().map(|byte| format!("{byte:02x}")).collect();
        document.file_digests = from.file_digests.iter().map(|digest| (digest.file.0, hex(digest))).collect();
        Ok(document)
    }

    /// Its text; empty if there is nothing to say.
    pub(crate) fn text(&self) -> Result<String> {
        let text = serde_json::to_string(self);
        let text = text.map_err(|error| Error::plugin("a document cannot be written").source(error))?;
        Ok(if text == "{}" { String::new() } else { text })
    }

    /// # Safety
    ///
    /// The text is what it says, for `'a`.
    pub(crate) unsafe fn read(text: MfText) -> Result<Document<'a>> {
        // SAFETY: promised by the caller.
        let bytes = unsafe { raw::bytes(text) }?;
        if bytes.is_empty() {
            return Ok(Document::default());
        }
        let wrong = || Error::plugin("a document that is not of the published schema");
        // Looked at once, so that serde_json need not do so for every text in it.
        let text = std::str::from_utf8(bytes).map_err(|error| wrong().source(error))?;
        if !text.trim_ascii_start().starts_with('{') {
            return Err(wrong().expected("an object"));
        }
        serde_json::from_str(text).map_err(|error| wrong().source(error))
    }

    /// Moves what it says into the model whose tensors are there. `data` gives the expression of a place in a graph.
    pub(crate) fn apply(
        self,
        model: &mut Model,
        blobs: &[Blob],
        data: &mut dyn FnMut(&JsonBinding, &mut Model) -> Result<NodeId>,
    ) -> Result<()> {
        model.ties = self.ties;
        model.config = self.config.map(Into::into);
        model.tree = self.tree.map(|tree| tree.tree(blobs)).transpose()?;
        for (key, value) in self.metadata {
            model.metadata.push((key, value.value(blobs)?));
        }
        if let Some(graph) = self.graph {
            let mut bindings = Vec::with_capacity(graph.bindings.len());
            for place in graph.bindings {
                let data = data(&place, model)?;
                let dtype = dtype_of_text(&place.dtype)?;
                bindings.push(Binding {
                    at: place.at,
                    tensor: place.tensor,
                    name: place.name.into(),
                    dtype,
                    data,
                });
            }
            let origin = |origin: JsonOrigin| Origin {
                tensor: origin.tensor,
                name: origin.name.into(),
                axes: origin.axes.into(),
            };
            model.graph = Some(Graph {
                dialect: lasting(&graph.dialect),
                body: document::blob(blobs, graph.body)?,
                bindings,
                parts: graph.parts.into_iter().map(|(path, what)| Part { path, what }).collect(),
                origins: graph.origins.into_iter().map(origin).collect(),
                nameless: graph.nameless,
            });
        }
        model.entries = self.entries.map(|entries| entries.into_iter().map(JsonEntry::stated).collect());
        model.codes = self.codes.into_iter().map(JsonCodes::codes).collect();
        model.checks = self.checks.into_iter().map(JsonCheck::check).collect();
        for (file, text) in self.file_digests {
            model.file_digests.push(FileDigest { file: FileId(file), sha1: sha1(&text)? });
        }
        Ok(())
    }
}

impl JsonCheck {
    fn of(check: &Check) -> JsonCheck {
        JsonCheck {
            file: check.file.clone(),
            fault: check.fault.to_owned(),
            expected: check.expected.clone(),
            found: check.found.clone(),
            holds: check.holds,
        }
    }

    fn check(self) -> Check {
        let JsonCheck { file, fault, expected, found, holds } = self;
        Check { file, fault: lasting(&fault), expected, found, holds }
    }
}

/// The digits of a SHA-1.
fn sha1(text: &str) -> Result<[u8; 20]> {
    let wrong = || Error::plugin("a SHA-1 is not forty hexadecimal digits").found(text);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digits: Option<Vec<u8>> =
        pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    let found = digits.filter(|_| rest.is_empty()).and_then(|digits| digits.try_into().ok());
    found.ok_or_else(wrong)
}
