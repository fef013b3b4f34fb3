//! Tensors that stay in files of the source, which the model points into.

use crate::data::Place;
use crate::tensor::entry;
use modelferry_core::error::listed;
use modelferry_core::inputs::FileId;
use modelferry_core::layout::Link;
use modelferry_core::model::{ModelView, TensorIdx};
use modelferry_core::plugin::Host;
use modelferry_core::{Error, Result};
use modelferry_wire::onnx::External;
use std::collections::HashMap;

/// Where tensors lie already.
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// The files.
    pub(crate) files: Vec<Link>,
    /// Of each tensor that lies in one of them.
    pub(crate) places: Vec<Option<Place>>,
    /// Tensors that might have, and lie nowhere as they are to be written.
    computed: Vec<TensorIdx>,
}

impl Links {
    /// Looks where in the source's files tensors lie byte for byte. Those that a graph came with, and has kept, stay in
    /// its own files, and are copied.
    ///
    /// Errors: a file that the output cannot point into; no tensor that lies in one.
    pub(crate) fn find(
        view: &ModelView<'_>,
        may_be_outside: &dyn Fn(TensorIdx) -> bool,
        host: &mut dyn Host,
    ) -> Result<Links> {
        let mut links = Links { places: vec![None; view.tensors().len()], ..Links::default() };
        let mut is_kept = vec![false; view.tensors().len()];
        for binding in view.graph().iter().flat_map(|graph| &graph.bindings) {
            is_kept[binding.tensor] |= view.is_untouched(binding);
        }
        let mut known: HashMap<FileId, usize> = HashMap::new();
        for (idx, tensor) in view.tensors().enumerate() {
            if is_kept[idx] || tensor.byte_len() == 0 || !may_be_outside(idx) {
                continue;
            }
            let Some((file, offset)) = view.verbatim(idx) else {
                links.computed.push(idx);
                continue;
            };
            let position = match known.get(&file) {
                Some(&position) => position,
                None => {
                    let path = host.link(file).map_err(|error| error.tensor(tensor.name()))?;
                    check(&path)?;
                    links.files.push(Link { path, file, n_tensors: 0 });
                    *known.entry(file).or_insert(links.files.len() - 1)
                }
            };
            links.files[position].n_tensors += 1;
            links.places[idx] = Some(Place { file: position, offset });
        }
        if links.files.is_empty() {
            return Err(links.nothing(view));
        }
        Ok(links)
    }

    fn nothing(&self, view: &ModelView<'_>) -> Error {
        let error = Error::target("--link: no tensor lies in the source as it is to be written");
        match (self.computed.first(), view.graph()) {
            (Some(&idx), _) => error
                .tensor(view.tensor(idx).name())
                .found("values that are computed from what is there")
                .hint("leave out --dtype and what else changes values, or leave out --link"),
            (None, Some(_)) => error.hint("a graph keeps its own weights; name others with --weights"),
            (None, None) => error.found("no tensor with elements"),
        }
    }

    /// What is written all the same, in words.
    pub(crate) fn note(&self, view: &ModelView<'_>) -> Option<String> {
        let names = self.computed.iter().map(|&idx| view.tensor(idx).name().to_owned());
        let n = self.computed.len();
        (n > 0).then(|| {
            let what = if n == 1 { "tensor is" } else { "tensors are" };
            format!("{n} {what} written and not pointed to, having no bytes in the source: {}", listed(names))
        })
    }
}

/// Refuses a path that readers would not follow, our own among them.
fn check(path: &str) -> Result<()> {
    External::parse(&[entry("location", path)])
        .map(drop)
        .map_err(|error| Error::target("--link: programs do not follow such a path").file(path).source(error))
}
