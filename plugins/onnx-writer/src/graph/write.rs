//! The document with its weights.

use super::plan::{Bound, Cast, Kind, Plan, Renames, Role};
use super::{Part, Places, misplaced, values};
use crate::data::Data;
use crate::tensor;
use modelferry_core::Result;
use modelferry_core::graph::{Binding, Graph};
use modelferry_core::model::ModelView;
use modelferry_wire::onnx::messages::{Entry, IntAttribute, Node};
use modelferry_wire::onnx::{
    Message, NAME_KEY, Wire, attribute, function, graph, model, node, sparse, tensor_proto, training,
};
use prost::Message as _;

/// `AttributeProto.type` of a tensor and of a whole number.
const TENSOR: i64 = 4;
const INT: i32 = 2;

/// `TensorAnnotation.tensor_name`, and its `quant_parameter_tensor_names` with the `value` of each.
const ANNOTATED: &[u32] = &[1];
const PARAMETERS: &[u32] = &[2, 2];

/// `NodeProto.device_configurations` of nodes that several devices share, and the names in it:
/// `sharding_spec`, `tensor_name`.
const DEVICE_CONFIGURATIONS: u32 = 10;
const SHARDED: &[u32] = &[2, 1];

/// The message of the whole file.
pub(crate) fn message(
    view: &ModelView<'_>,
    program: &Graph,
    plan: &Plan,
    metadata: &[Entry],
    data: &Data,
) -> Result<Message> {
    Writing { view, plan, data, places: Places::new(&program.bindings) }.model(&program.body, metadata)
}

struct Writing<'a> {
    view: &'a ModelView<'a>,
    plan: &'a Plan,
    data: &'a Data,
    places: Places<'a>,
}

impl<'a> Writing<'a> {
    fn model(mut self, body: &[u8], metadata: &[Entry]) -> Result<Message> {
        let part = Part { bytes: body, at: 0 };
        let none = Renames::new();
        let mut out = Message::default();
        let mut entries = metadata.iter();
        for field in part.fields() {
            let field = field?;
            let inside = part.inside(&field);
            if field.number > model::METADATA_PROPS {
                entries.by_ref().for_each(|entry| out.small(model::METADATA_PROPS, entry));
            }
            match (field.number, field.wire) {
                (model::IR_VERSION, Wire::Varint)
                    if field.number_value() != Some(self.plan.ir_version as u64) =>
                {
                    out.int(field.number, self.plan.ir_version);
                }
                (model::GRAPH, Wire::Bytes) => {
                    out.message(field.number, self.scope(inside, Kind::Graph, &none)?);
                }
                (model::FUNCTIONS, Wire::Bytes) => {
                    out.message(field.number, self.scope(inside, Kind::Function, &none)?);
                }
                (model::TRAINING_INFO, Wire::Bytes) => out.message(field.number, self.training(inside)?),
                _ => out.raw(field.whole),
            }
        }
        entries.for_each(|entry| out.small(model::METADATA_PROPS, entry));
        if self.places.next == self.places.bindings.len() { Ok(out) } else { Err(misplaced()) }
    }

    fn training(&mut self, part: Part<'_>) -> Result<Message> {
        let mut out = Message::default();
        for field in part.fields() {
            let field = field?;
            match (field.number, field.wire) {
                (training::INITIALIZATION | training::ALGORITHM, Wire::Bytes) => {
                    let inside = self.scope(part.inside(&field), Kind::Graph, &Renames::new())?;
                    out.message(field.number, inside);
                }
                _ => out.raw(field.whole),
            }
        }
        Ok(out)
    }

    /// A graph or function.
    fn scope(&mut self, part: Part<'_>, kind: Kind, around: &Renames) -> Result<Message> {
        let scope = self.plan.scopes.get(&part.at).ok_or_else(misplaced)?;
        let mut names: Renames = around.clone();
        names.retain(|old, _| !scope.own.contains(old));
        names.extend(scope.renames.iter().map(|(old, new)| (old.clone(), new.clone())));
        let mut out = Message::default();
        if names.is_empty() && !self.places.has_any(part) {
            out.raw(part.bytes);
            return Ok(out);
        }
        let node_number = if kind == Kind::Graph { graph::NODE } else { function::NODE };
        let mut casts = scope.casts.iter().filter_map(|&idx| self.plan.bound[idx].cast.as_ref());
        for field in part.fields() {
            let field = field?;
            let inside = part.inside(&field);
            match (kind, field.number) {
                _ if field.wire != Wire::Bytes => out.raw(field.whole),
                (_, number) if number == node_number => {
                    casts.by_ref().for_each(|cast| put_cast(&mut out, number, cast));
                    self.node(inside, number, &names, &mut out)?;
                }
                (Kind::Graph, graph::INITIALIZER) => {
                    let message = match self.places.take(inside) {
                        Some((idx, binding)) => self.tensor(inside, binding, &self.plan.bound[idx])?,
                        // Texts.
                        None => values::along(inside.bytes, &[tensor_proto::NAME], &names)?,
                    };
                    out.message(field.number, message);
                }
                (Kind::Graph, graph::SPARSE_INITIALIZER) => {
                    out.message(field.number, self.sparse(inside, Some(&names))?);
                }
                (Kind::Graph, graph::INPUT) => {
                    let own = super::text_of(inside, 1)?;
                    let own = values::name(&names, own);
                    let mut all = scope.casts.iter().filter_map(|&idx| self.plan.bound[idx].cast.as_ref());
                    out.message(
                        field.number,
                        match all.find(|cast| cast.to == own) {
                            Some(cast) => values::recast_input(inside.bytes, cast)?,
                            None => values::along(inside.bytes, &[1], &names)?,
                        },
                    );
                }
                (Kind::Graph, graph::OUTPUT | graph::VALUE_INFO) | (Kind::Function, function::VALUE_INFO) => {
                    out.message(field.number, values::along(inside.bytes, &[1], &names)?);
                }
                (Kind::Graph, graph::QUANTIZATION_ANNOTATION) => {
                    let named = values::along(inside.bytes, ANNOTATED, &names)?;
                    // What was just made holds no payload.
                    let named: Vec<u8> = bytes_of(named);
                    out.message(field.number, values::along(&named, PARAMETERS, &names)?);
                }
                (Kind::Function, function::INPUT | function::OUTPUT) => values::put(&mut out, &field, &names),
                _ => out.raw(field.whole),
            }
        }
        casts.for_each(|cast| put_cast(&mut out, node_number, cast));
        Ok(out)
    }

    fn node(&mut self, part: Part<'_>, number: u32, names: &Renames, out: &mut Message) -> Result<()> {
        if names.is_empty() && !self.places.has_any(part) {
            out.bytes(number, part.bytes);
            return Ok(());
        }
        let cast = self.plan.constants.get(&part.at).and_then(|&idx| self.plan.bound[idx].cast.as_ref());
        let mut left = cast;
        let mut inside = Message::default();
        for field in part.fields() {
            let field = field?;
            match (field.number, field.wire) {
                (node::OUTPUT, Wire::Bytes) if left.is_some() => {
                    left.take().into_iter().for_each(|cast| inside.bytes(field.number, cast.from.as_bytes()));
                }
                (node::INPUT | node::OUTPUT, Wire::Bytes) => values::put(&mut inside, &field, names),
                (node::ATTRIBUTE, Wire::Bytes) => {
                    inside.message(field.number, self.attribute(part.inside(&field), names)?);
                }
                (DEVICE_CONFIGURATIONS, Wire::Bytes) => {
                    inside.message(field.number, values::along(field.value, SHARDED, names)?);
                }
                _ => inside.raw(field.whole),
            }
        }
        out.message(number, inside);
        cast.into_iter().for_each(|cast| put_cast(out, number, cast));
        Ok(())
    }

    fn attribute(&mut self, part: Part<'_>, names: &Renames) -> Result<Message> {
        let is_next = self.places.bindings.get(self.places.next).is_some_and(|binding| binding.at == part.at);
        let mut out = Message::default();
        if is_next && let Some((idx, binding)) = self.places.take(part) {
            return self.numbers(part, binding, &self.plan.bound[idx]);
        }
        for field in part.fields() {
            let field = field?;
            let inside = part.inside(&field);
            match field.number {
                _ if field.wire != Wire::Bytes => out.raw(field.whole),
                attribute::G | attribute::GRAPHS => {
                    out.message(field.number, self.scope(inside, Kind::Graph, names)?);
                }
                attribute::T | attribute::TENSORS => match self.places.take(inside) {
                    Some((idx, binding)) => {
                        out.message(field.number, self.tensor(inside, binding, &self.plan.bound[idx])?);
                    }
                    None => out.raw(field.whole),
                },
                attribute::SPARSE_TENSOR | attribute::SPARSE_TENSORS => {
                    out.message(field.number, self.sparse(inside, None)?);
                }
                _ => out.raw(field.whole),
            }
        }
        Ok(out)
    }

    /// An attribute that holds numbers of its own: as it is, or as a tensor where they are others now.
    fn numbers(&self, part: Part<'_>, binding: &Binding, bound: &Bound) -> Result<Message> {
        let mut out = Message::default();
        if self.view.is_untouched(binding) {
            out.raw(part.bytes);
            return Ok(out);
        }
        out.bytes(attribute::NAME, b"value");
        let mut whole = tensor::whole(self.view, binding.tensor, None, &Data::inside())?;
        if bound.is_noted {
            self.note(&mut whole, binding);
        }
        out.message(attribute::T, whole);
        out.int(attribute::TYPE, TENSOR);
        // A value that it holds besides, which its name kept from being one, would be one now.
        for field in part.fields() {
            let field = field?;
            if field.number == attribute::DOC_STRING || field.number > attribute::SPARSE_TENSORS {
                out.raw(field.whole);
            }
        }
        Ok(out)
    }

    fn sparse(&mut self, part: Part<'_>, names: Option<&Renames>) -> Result<Message> {
        let mut out = Message::default();
        for field in part.fields() {
            let field = field?;
            let inside = part.inside(&field);
            let is_part = matches!(field.number, sparse::VALUES | sparse::INDICES);
            let place = if is_part && field.wire == Wire::Bytes { self.places.take(inside) } else { None };
            match place {
                Some((idx, binding)) => {
                    let mut bound = self.plan.bound[idx].clone();
                    if let (sparse::VALUES, Some(names)) = (field.number, names) {
                        bound.graph_name = names.get(super::text_of(inside, tensor_proto::NAME)?).cloned();
                    }
                    out.message(field.number, self.tensor(inside, binding, &bound)?);
                }
                None => out.raw(field.whole),
            }
        }
        Ok(out)
    }

    /// A tensor: what is in its place, and its elements.
    fn tensor(&self, part: Part<'_>, binding: &Binding, bound: &Bound) -> Result<Message> {
        let idx = binding.tensor;
        // Constants stay where they are: their values are what shapes are computed from.
        let inside = Data::inside();
        let data = if bound.role == Role::Initializer { self.data } else { &inside };
        let is_outside = data.place(idx).is_some();
        let hole = binding.at.checked_sub(part.at).ok_or_else(misplaced)?;
        let mut out = Message::default();
        let mut is_filled = false;
        for field in part.fields() {
            let field = field?;
            if !is_filled && field.begin as u64 >= hole {
                tensor::elements(&mut out, self.view, idx, data);
                is_filled = true;
            }
            match (field.number, &bound.graph_name) {
                (tensor_proto::NAME, Some(name)) if bound.role != Role::Constant => {
                    out.bytes(field.number, name.as_bytes());
                }
                (tensor_proto::DATA_TYPE, _) if !self.is_typed_so(binding) => {
                    out.int(field.number, tensor::number(self.view, idx)?);
                }
                // What was said of another file, and did not hold.
                (tensor_proto::EXTERNAL_DATA | tensor_proto::DATA_LOCATION, _) if is_outside => {}
                (tensor_proto::METADATA_PROPS, _) if is_note(field.value) => {}
                _ => out.raw(field.whole),
            }
        }
        if !is_filled {
            tensor::elements(&mut out, self.view, idx, data);
        }
        if bound.is_noted {
            self.note(&mut out, binding);
        }
        Ok(out)
    }

    fn is_typed_so(&self, binding: &Binding) -> bool {
        self.view.tensor(binding.tensor).dtype() == binding.dtype
    }

    /// Notes what the tensor is called, for the graph calls it otherwise.
    fn note(&self, out: &mut Message, binding: &Binding) {
        let name = self.view.tensor(binding.tensor).name();
        out.small(tensor_proto::METADATA_PROPS, &tensor::entry(NAME_KEY, name));
    }
}

fn is_note(entry: &[u8]) -> bool {
    Entry::decode(entry).is_ok_and(|entry| entry.key.as_deref() == Some(NAME_KEY))
}

fn put_cast(out: &mut Message, number: u32, cast: &Cast) {
    let to = IntAttribute { name: Some("to".to_owned()), i: Some(cast.data_type.into()), r#type: Some(INT) };
    let node = Node {
        input: vec![cast.from.clone()],
        output: vec![cast.to.clone()],
        name: Some(format!("{}/Cast", cast.from)),
        op_type: Some("Cast".to_owned()),
        attribute: vec![to],
    };
    out.small(number, &node);
}

/// The bytes of a message without payload.
fn bytes_of(message: Message) -> Vec<u8> {
    let bytes = |part| match part {
        modelferry_wire::onnx::Part::Bytes(bytes) => bytes,
        modelferry_wire::onnx::Part::Tensor { .. } => vec![],
    };
    message.into_parts().into_iter().flat_map(bytes).collect()
}
