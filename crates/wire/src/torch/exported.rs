//! Archives of `torch.export.save`: weights as plain bytes, described by JSON beside a graph that is not ours to read.

use super::archive::{Records, bytes};
use super::types::ElementType;
use super::{Checkpoint, Kind};
use crate::shown;
use crate::zip::{Directory, Method};
use modelferry_core::error::{Error, Result};
use modelferry_core::expr::ByteOrder;
use modelferry_core::inputs::{Inputs, Window};
use modelferry_core::limits::Limits;
use modelferry_core::plugin::Host;
use modelferry_core::tree::{Global, Instance, Object, ObjectId, Tree};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

const WEIGHTS: &str = "data/weights/";
const CONFIG: &str = "_weights_config.json";

/// Layout of a tensor that is neither sparse nor foreign (`torch/_export/serde/schema.py`).
const STRIDED: u32 = 7;

/// Whether the records are those of an exported program.
pub(super) fn is_one(records: &Records) -> bool {
    records.names().any(|name| config_of(name).is_some())
}

fn config_of(name: &str) -> Option<&str> {
    name.strip_prefix(WEIGHTS)?.strip_suffix(CONFIG)
}

/// The state dictionary of an archive of torch 2.1 to 2.6, which is an archive of its own within one without folders.
///
/// Errors: of kind [`Unsupported`](modelferry_core::error::ErrorKind::Unsupported) where it is deflated.
pub(super) fn old_state(directory: &Directory) -> Result<Option<Window>> {
    let names = ["serialized_state_dict.pt", "serialized_state_dict.json"];
    let Some(entry) = directory.entries.iter().find(|entry| names.contains(&&*entry.name)) else {
        return Ok(None);
    };
    if entry.method == Method::Deflated {
        return Err(Error::unsupported(format!(
            "the archive {:?} within the archive is deflated",
            entry.name
        ))
        .offset(entry.header_at));
    }
    Ok(Some(directory.data(entry)))
}

pub(super) fn read(
    inputs: &dyn Inputs,
    window: Window,
    records: Records,
    byte_order: ByteOrder,
    host: &mut dyn Host,
) -> Result<Checkpoint> {
    let configs: Vec<String> = records.names().filter_map(config_of).map(str::to_owned).collect();
    let mut builder = Builder::new()?;
    let mut models = Vec::with_capacity(configs.len());
    for model in configs {
        let name = format!("{WEIGHTS}{model}{CONFIG}");
        let Some(record) = records.get(&name).copied() else { continue };
        let text = bytes(inputs, &record, host.limits().header_bytes, host)?;
        let place = |error: Error| error.offset(record.window.at);
        let config: Config = serde_json::from_slice(&text).map_err(|error| {
            place(Error::malformed(format!("record {:?}: {}", shown(&name), shown(&error.to_string()))))
        })?;
        let entries = builder.model(&records, config, host.limits()).map_err(place)?;
        models.push((builder.text(&model)?, builder.push(Object::Dict(entries))?));
    }
    // One model is the rule; several go under their names.
    let root = match models[..] {
        [(_, only)] => only,
        _ => builder.push(Object::Dict(models))?,
    };
    builder.tree.set_root(root);
    let [storages, other] =
        records.split(|name| name.strip_prefix(WEIGHTS).filter(|_| config_of(name).is_none()));
    let checkpoint = Checkpoint::new(inputs, window, Kind::Exported, builder.tree, storages);
    Ok(Checkpoint { byte_order, other, ..checkpoint })
}

#[derive(Deserialize)]
struct Config {
    config: Payloads,
}

/// Name and description of each weight, in the order of the text.
struct Payloads(Vec<(String, Payload)>);

#[derive(Deserialize)]
struct Payload {
    path_name: String,
    is_param: bool,
    #[serde(default)]
    use_pickle: bool,
    tensor_meta: Option<TensorMeta>,
}

#[derive(Deserialize)]
struct TensorMeta {
    dtype: u32,
    sizes: Vec<SymInt>,
    strides: Vec<SymInt>,
    storage_offset: SymInt,
    requires_grad: bool,
    layout: u32,
}

/// A number, which in graphs may be an expression instead.
#[derive(Deserialize)]
struct SymInt {
    as_int: i64,
}

impl<'de> Deserialize<'de> for Payloads {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Payloads, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Payloads;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object that describes weights by name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Payloads, A::Error> {
                let mut payloads = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    payloads.push(entry);
                }
                Ok(Payloads(payloads))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// `ScalarType` of `torch/_export/serde/schema.py`, which is not the numbering of torch itself.
fn element_type(code: u32) -> Option<&'static ElementType> {
    ElementType::from_name(match code {
        1 => "uint8",
        2 => "int8",
        3 => "int16",
        4 => "int32",
        5 => "int64",
        6 => "float16",
        7 => "float32",
        8 => "float64",
        9 => "complex32",
        10 => "complex64",
        11 => "complex128",
        12 => "bool",
        13 => "bfloat16",
        28 => "uint16",
        29 => "float8_e4m3fn",
        30 => "float8_e5m2",
        31 => "float8_e4m3fnuz",
        32 => "float8_e5m2fnuz",
        33 => "float8_e8m0fnu",
        34 => "uint32",
        35 => "uint64",
        _ => return None,
    })
}

/// Says in a tree what `torch.save` would have said of the same tensors.
struct Builder {
    tree: Tree,
    storage: ObjectId,
    untyped: ObjectId,
    cpu: ObjectId,
    rebuild: ObjectId,
    parameter: ObjectId,
    hooks: ObjectId,
}

impl Builder {
    fn new() -> Result<Builder> {
        let mut tree = Tree::default();
        let storage = push(&mut tree, Object::Text("storage".into()))?;
        let untyped = global(&mut tree, "torch.storage", "UntypedStorage")?;
        let cpu = push(&mut tree, Object::Text("cpu".into()))?;
        let rebuild = global(&mut tree, "torch._utils", "_rebuild_tensor_v3")?;
        let parameter = global(&mut tree, "torch._utils", "_rebuild_parameter")?;
        let ordered = global(&mut tree, "collections", "OrderedDict")?;
        let nothing = push(&mut tree, Object::Tuple([].into()))?;
        let hooks = push(&mut tree, Object::Instance(Box::new(Instance::new(ordered, nothing))))?;
        Ok(Builder { tree, storage, untyped, cpu, rebuild, parameter, hooks })
    }

    fn push(&mut self, object: Object) -> Result<ObjectId> {
        push(&mut self.tree, object)
    }

    fn text(&mut self, text: &str) -> Result<ObjectId> {
        self.push(Object::Text(text.into()))
    }

    fn ints(&mut self, values: &[SymInt]) -> Result<ObjectId> {
        let ids: Result<Vec<ObjectId>> =
            values.iter().map(|value| self.push(Object::Int(value.as_int))).collect();
        self.push(Object::Tuple(ids?.into()))
    }

    fn call(&mut self, callable: ObjectId, args: impl Into<Box<[ObjectId]>>) -> Result<ObjectId> {
        let args = self.push(Object::Tuple(args.into()))?;
        self.push(Object::Instance(Box::new(Instance::new(callable, args))))
    }

    fn model(
        &mut self,
        records: &Records,
        config: Config,
        limits: &Limits,
    ) -> Result<Vec<(ObjectId, ObjectId)>> {
        let payloads = config.config.0;
        Limits::check("too many tensors", payloads.len() as u64, limits.tensors)?;
        let mut names = HashSet::with_capacity(payloads.len());
        let mut entries = Vec::with_capacity(payloads.len());
        for (name, payload) in &payloads {
            let place = |error: Error| error.tensor(shown(name));
            if !names.insert(name) {
                return Err(place(Error::malformed("two weights have this name")));
            }
            let value = self.weight(records, payload).map_err(place)?;
            entries.push((self.text(name)?, value));
        }
        Ok(entries)
    }

    fn weight(&mut self, records: &Records, payload: &Payload) -> Result<ObjectId> {
        let meta = payload.tensor_meta.as_ref().filter(|_| !payload.use_pickle);
        let Some(meta) = meta else {
            return Err(Error::unsupported("a weight that was saved as a pickle of its own is not read"));
        };
        if meta.layout != STRIDED {
            return Err(Error::unsupported("a weight is not a strided tensor").found(meta.layout));
        }
        let element = element_type(meta.dtype).ok_or_else(|| {
            Error::unsupported("a weight is of a type that we do not know").found(meta.dtype)
        })?;
        let record = records.get(&format!("{WEIGHTS}{}", payload.path_name)).ok_or_else(|| {
            Error::malformed("the bytes of a weight are not there")
                .found(format_args!("{:?}", shown(&payload.path_name)))
        })?;
        let len = i64::try_from(record.len).map_err(|_| Error::malformed("a weight is too long"))?;
        let key = self.text(&payload.path_name)?;
        let len = self.push(Object::Int(len))?;
        let of = self.push(Object::Tuple([self.storage, self.untyped, key, self.cpu, len].into()))?;
        let storage = self.push(Object::External(of))?;
        let offset = self.push(Object::Int(meta.storage_offset.as_int))?;
        let size = self.ints(&meta.sizes)?;
        let stride = self.ints(&meta.strides)?;
        let requires_grad = self.push(Object::Bool(meta.requires_grad))?;
        let dtype = global(&mut self.tree, "torch", element.name)?;
        let args = [storage, offset, size, stride, requires_grad, self.hooks, dtype];
        let tensor = self.call(self.rebuild, args)?;
        match payload.is_param {
            true => self.call(self.parameter, [tensor, requires_grad, self.hooks]),
            false => Ok(tensor),
        }
    }
}

pub(super) fn push(tree: &mut Tree, object: Object) -> Result<ObjectId> {
    tree.push(object).ok_or_else(|| Error::limit("a checkpoint holds too many objects"))
}

pub(super) fn global(tree: &mut Tree, module: &str, name: &str) -> Result<ObjectId> {
    push(tree, Object::Global(Box::new(Global { module: module.into(), name: name.into() })))
}
