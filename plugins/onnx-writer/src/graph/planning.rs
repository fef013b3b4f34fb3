//! The way through a document: which tensor stands where.

use super::plan::{Bound, Kind, Plan, Role, Scope};
use super::{Part, Places, is_onnx, refused, text_of};
use modelferry_core::Result;
use modelferry_core::graph::Binding;
use modelferry_core::model::{ModelView, TensorIdx};
use modelferry_wire::onnx::messages::OperatorSet;
use modelferry_wire::onnx::{Wire, attribute, function, graph, model, node, sparse, tensor_proto, training};
use prost::Message as _;
use std::collections::HashSet;

/// The way through a document.
pub(super) struct Planning<'a> {
    pub(super) view: &'a ModelView<'a>,
    places: Places<'a>,
    /// Every name in the document; nothing if none is needed.
    pub(super) names: HashSet<String>,
    /// The same, with all new ones.
    pub(super) taken: HashSet<String>,
    pub(super) plan: Plan,
    /// New names of tensors, which nothing else may have.
    pub(super) wanted: Vec<(String, TensorIdx)>,
}

impl<'a> Planning<'a> {
    pub(super) fn new(
        view: &'a ModelView<'a>,
        bindings: &'a [Binding],
        names: HashSet<String>,
        plan: Plan,
    ) -> Planning<'a> {
        let mut taken = names.clone();
        if !taken.is_empty() {
            taken.extend(view.tensors().map(|tensor| tensor.name().to_owned()));
        }
        Planning { view, places: Places::new(bindings), names, taken, plan, wanted: vec![] }
    }

    /// Looks through the whole document.
    pub(super) fn finish(mut self, body: &[u8]) -> Result<Plan> {
        self.model(Part { bytes: body, at: 0 })?;
        self.check_names()?;
        Ok(self.plan)
    }

    fn model(&mut self, part: Part<'_>) -> Result<()> {
        let opset = opset(part, model::OPSET_IMPORT)?;
        for field in part.fields() {
            let field = field?;
            let inside = part.inside(&field);
            match (field.number, field.wire) {
                (model::IR_VERSION, Wire::Varint) => {
                    let stated = field.number_value().unwrap_or(0) as i64;
                    self.plan.ir_version = self.plan.ir_version.max(stated);
                }
                (model::GRAPH | model::FUNCTIONS, Wire::Bytes) => {
                    let is_function = field.number == model::FUNCTIONS;
                    self.scope(inside, if is_function { Kind::Function } else { Kind::Graph }, opset)?;
                }
                (model::TRAINING_INFO, Wire::Bytes) => {
                    for field in inside.fields() {
                        let field = field?;
                        if matches!(field.number, training::INITIALIZATION | training::ALGORITHM) {
                            self.scope(inside.inside(&field), Kind::Graph, opset)?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn scope(&mut self, part: Part<'_>, kind: Kind, opset_around: i64) -> Result<()> {
        let opset = match kind {
            Kind::Graph => opset_around,
            Kind::Function => opset(part, function::OPSET_IMPORT)?,
        };
        let mut scope = Scope { opset, ..Scope::default() };
        for field in part.fields() {
            let field = field?;
            let inside = part.inside(&field);
            match (kind, field.number) {
                _ if field.wire != Wire::Bytes => {}
                (Kind::Graph, graph::NODE) | (Kind::Function, function::NODE) => {
                    self.node(inside, &mut scope)?;
                }
                (Kind::Graph, graph::INITIALIZER) => {
                    scope.own.insert(text_of(inside, tensor_proto::NAME)?.to_owned());
                    let Some((idx, binding)) = self.places.take(inside) else { continue };
                    let (local, is_noted) = self.shell(inside, binding)?;
                    let bound = self.bind(binding, Role::Initializer, &local, is_noted, &mut scope)?;
                    scope.casts.extend(bound.cast.is_some().then_some(idx));
                    self.plan.bound.push(bound);
                }
                (Kind::Graph, graph::SPARSE_INITIALIZER) => {
                    let local = sparse_name(inside)?;
                    self.sparse(inside, Some(&local), &mut scope)?;
                }
                // Only its name matters here, and a damaged one has none.
                (Kind::Graph, graph::INPUT) => {
                    scope.own.extend(text_of(inside, 1).ok().map(str::to_owned));
                }
                _ => {}
            }
        }
        self.plan.scopes.insert(part.at, scope);
        Ok(())
    }

    fn node(&mut self, part: Part<'_>, scope: &mut Scope) -> Result<()> {
        let (mut op_type, mut domain, mut output) = ("", "", None);
        for field in part.fields() {
            let field = field?;
            let text = field.text().unwrap_or_default();
            match field.number {
                _ if field.wire != Wire::Bytes => {}
                node::OP_TYPE => op_type = text,
                node::DOMAIN => domain = text,
                node::OUTPUT => {
                    scope.own.insert(text.to_owned());
                    output.get_or_insert(text);
                }
                _ => {}
            }
        }
        if !self.places.has_any(part) && !has_graphs(part)? {
            return Ok(());
        }
        let is_constant = op_type == "Constant" && is_onnx(domain);
        let output = output.unwrap_or_default();
        for field in part.fields() {
            let field = field?;
            if (field.number, field.wire) == (node::ATTRIBUTE, Wire::Bytes) {
                let first = self.places.next;
                self.attribute(part.inside(&field), scope, is_constant.then_some(output))?;
                let made = self.plan.bound.get(first).map(|bound| bound.role);
                if matches!(made, Some(Role::Constant | Role::Numbers)) {
                    self.plan.constants.insert(part.at, first);
                }
            }
        }
        Ok(())
    }

    fn attribute(&mut self, part: Part<'_>, scope: &mut Scope, constant: Option<&str>) -> Result<()> {
        let is_numbers = self.places.bindings.get(self.places.next).is_some_and(|next| next.at == part.at);
        if let (true, Some((_, binding)), Some(output)) =
            (is_numbers, self.places.clone().take(part), constant)
        {
            self.places.next += 1;
            let name = text_of(part, attribute::NAME)?;
            let rank = usize::from(name.ends_with('s'));
            if self.view.tensor(binding.tensor).shape().len() != rank {
                return Err(self.reshaped(binding));
            }
            let bound = self.bind(binding, Role::Numbers, output, false, scope)?;
            self.plan.bound.push(bound);
            return Ok(());
        }
        // A reference to a function's own attribute holds no value.
        let is_reference = has_field(part, attribute::REF_ATTR_NAME)?;
        let constant = constant.filter(|_| !is_reference);
        let value = match text_of(part, attribute::NAME)? {
            "value" => constant,
            _ => None,
        };
        for field in part.fields() {
            let field = field?;
            let inside = part.inside(&field);
            match field.number {
                _ if field.wire != Wire::Bytes => {}
                attribute::G | attribute::GRAPHS => self.scope(inside, Kind::Graph, scope.opset)?,
                attribute::T | attribute::TENSORS => {
                    let Some((_, binding)) = self.places.take(inside) else { continue };
                    let (_, is_noted) = self.shell(inside, binding)?;
                    let bound = match value {
                        Some(output) => self.bind(binding, Role::Constant, output, is_noted, scope)?,
                        None => self.unchanged(binding, Role::Argument)?,
                    };
                    self.plan.bound.push(bound);
                }
                attribute::SPARSE_TENSOR | attribute::SPARSE_TENSORS => {
                    self.sparse(inside, constant, scope)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Both parts of a sparse tensor, which is called `local` in the graph, if it has a name there.
    fn sparse(&mut self, part: Part<'_>, local: Option<&str>, scope: &mut Scope) -> Result<()> {
        let mut stems = vec![];
        for field in part.fields() {
            let field = field?;
            let ending = match (field.number, field.wire) {
                (sparse::VALUES, Wire::Bytes) => ".values",
                (sparse::INDICES, Wire::Bytes) => ".indices",
                _ => continue,
            };
            let inside = part.inside(&field);
            // Texts have no place.
            let Some((_, binding)) = self.places.take(inside) else { continue };
            self.shell(inside, binding)?;
            let tensor = self.view.tensor(binding.tensor);
            if tensor.dtype() != binding.dtype {
                return Err(self.retyped(binding, "the parts of a sparse tensor keep their types in a graph"));
            }
            let stem = tensor.name().strip_suffix(ending).map(str::to_owned);
            stems.push((binding, stem, *tensor.name() != *binding.name));
            let (graph_name, is_noted, cast) = (None, false, None);
            self.plan.bound.push(Bound { role: Role::SparsePart, graph_name, is_noted, cast });
        }
        let Some((first, ..)) = stems.iter().find(|(.., is_renamed)| *is_renamed) else { return Ok(()) };
        let is_one = stems.len() == 2 && stems[0].1 == stems[1].1;
        match (&stems[0].1, local) {
            (Some(name), Some(local)) if is_one && !name.is_empty() => {
                self.rename(local, name, first.tensor, scope);
                Ok(())
            }
            _ => Err(refused(self.view, first.tensor, "the parts of a sparse tensor are called after it")
                .expected("one name with .values and .indices behind it")),
        }
    }
}

/// The name of a sparse initializer: that of its values.
fn sparse_name(part: Part<'_>) -> Result<String> {
    for field in part.fields() {
        let field = field?;
        if (field.number, field.wire) == (sparse::VALUES, Wire::Bytes) {
            return Ok(text_of(part.inside(&field), tensor_proto::NAME)?.to_owned());
        }
    }
    Ok(String::new())
}

/// Whether a message has a field of this number.
fn has_field(part: Part<'_>, number: u32) -> Result<bool> {
    for field in part.fields() {
        if field?.number == number {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a node has graphs in it.
fn has_graphs(part: Part<'_>) -> Result<bool> {
    for field in part.fields() {
        let field = field?;
        if (field.number, field.wire) != (node::ATTRIBUTE, Wire::Bytes) {
            continue;
        }
        for inner in part.inside(&field).fields() {
            if matches!(inner?.number, attribute::G | attribute::GRAPHS) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The version of onnx's own operators that a model or function imports; 0 without one.
fn opset(part: Part<'_>, number: u32) -> Result<i64> {
    let mut version = 0;
    for field in part.fields() {
        let field = field?;
        if (field.number, field.wire) == (number, Wire::Bytes) {
            // A damaged one is none.
            let import = OperatorSet::decode(field.value).unwrap_or_default();
            if is_onnx(import.domain.as_deref().unwrap_or_default()) {
                version = import.version.unwrap_or(version);
            }
        }
    }
    Ok(version)
}
