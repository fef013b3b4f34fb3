use super::*;
use modelferry_core::expr::Packing;
use modelferry_core::graph::{Binding, Graph};
use modelferry_core::inputs::{FileId, MemInputs};
use modelferry_core::limits::Limits;
use modelferry_core::model::Model;
use modelferry_core::options::Options;
use modelferry_core::plugin::{Answer, Query, Shards};
use modelferry_wire::onnx::{Document, Fields, attribute, graph as graph_field, model as model_field, node};
use std::collections::BTreeMap;

mod outside;

/// A program that the writer asks nothing.
struct Silent(Limits);

impl Host for Silent {
    fn limits(&self) -> &Limits {
        &self.0
    }

    fn ask(&mut self, _: &Model, _: Query) -> Result<Answer> {
        Err(Error::unsupported("nothing to ask"))
    }

    /// Files of odd numbers lie somewhere else.
    fn link(&mut self, file: FileId) -> Result<String> {
        match file.0 % 2 {
            0 => Ok(format!("sub/{}.safetensors", file.0)),
            _ => Err(Error::usage("not beside the output")),
        }
    }
}

fn push(model: &mut Model, name: &str, dtype: DType, shape: &[u64]) -> TensorIdx {
    let n = shape.iter().product();
    let bytes = model.nodes.inline(vec![0; dtype.packed_len(n).unwrap() as usize]).unwrap();
    let data = model.nodes.decode(bytes, dtype, n, Packing::default()).unwrap();
    model.push(name, dtype, shape.to_vec(), data).unwrap()
}

/// Lays out with `given` options.
fn lay_out(model: &Model, given: &[(&str, &str)], shards: Shards) -> Result<(Layout, Vec<Loss>)> {
    let limits = Limits::default();
    let view = ModelView::new(model, &limits)?;
    let given = given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let options = Options::resolve(INFO.options, &given.collect::<BTreeMap<_, _>>())?;
    let request = LayoutRequest { file_name: "m.onnx", weights: "", options: &options, shards };
    let (layout, losses) = OnnxWriter.layout(&view, &request, &mut Silent(limits.clone()))?;
    layout.validate(&view)?;
    Ok((layout, losses))
}

/// A file's bytes, those of tensors as 0x55.
fn bytes_of(layout: &Layout, file: usize) -> Vec<u8> {
    let bytes = |piece: &Piece| match piece {
        Piece::Bytes(bytes) => bytes.to_vec(),
        other => vec![0x55; other.byte_len() as usize],
    };
    layout.files[file].pieces.iter().flat_map(bytes).collect()
}

fn document(layout: &Layout) -> Document {
    read(&bytes_of(layout, layout.root))
}

fn read(bytes: &[u8]) -> Document {
    Document::read(&MemInputs::new("m.onnx", bytes.to_vec()), FileId(0), &Limits::default()).unwrap()
}

/// A message made of fields.
fn made(fields: impl FnOnce(&mut Message)) -> Message {
    let mut message = Message::default();
    fields(&mut message);
    message
}

fn flat(message: Message) -> Vec<u8> {
    let bytes = |part| match part {
        Part::Bytes(bytes) => bytes,
        Part::Tensor { len, .. } => vec![0x55; len as usize],
    };
    message.into_parts().into_iter().flat_map(bytes).collect()
}

/// `y = x + w` of two f32, with a `Constant` `c` that is not used, under this version of the operators.
fn program(opset: i64, is_listed: bool) -> Vec<u8> {
    let weight = |name: &str| {
        made(|tensor| {
            tensor.int(1, 2);
            tensor.int(2, 1);
            tensor.bytes(8, name.as_bytes());
            tensor.bytes(9, &[0x55; 8]);
        })
    };
    let value = |name: &str| {
        made(|value| {
            value.bytes(1, name.as_bytes());
            value.message(2, made(|of| of.message(1, made(|tensor| tensor.int(1, 1)))));
        })
    };
    let constant = made(|node| {
        node.bytes(2, b"c");
        node.bytes(4, b"Constant");
        node.message(
            5,
            made(|value| {
                value.bytes(1, b"value_floats");
                value.bytes(7, &[0x55; 8]);
                value.int(20, 6);
            }),
        );
    });
    let add = made(|node| {
        node.bytes(1, b"x");
        node.bytes(1, b"w");
        node.bytes(2, b"y");
        node.bytes(4, b"Add");
        node.bytes(99, b"unknown");
    });
    let graph = made(|graph| {
        graph.message(1, constant);
        graph.message(1, add);
        graph.bytes(2, b"g");
        graph.message(5, weight("w"));
        graph.message(11, value("x"));
        if is_listed {
            graph.message(11, value("w"));
        }
        graph.message(12, value("y"));
    });
    flat(made(|model| {
        model.int(1, 8);
        model.message(8, made(|import| import.int(2, opset)));
        model.message(7, graph);
    }))
}

/// The model that a program is read as.
fn read_program(bytes: &[u8]) -> Model {
    let document = read(bytes);
    let mut model = Model::default();
    let mut bindings = vec![];
    for found in document.tensors {
        let tensor = push(&mut model, &found.name, found.dtype, &found.shape);
        let data = model.tensors[tensor].data;
        bindings.push(Binding { at: found.at, tensor, name: found.name.into(), dtype: found.dtype, data });
    }
    let body = document.body.into();
    model.graph =
        Some(Graph { dialect: DIALECT, body, bindings, parts: vec![], origins: vec![], nameless: vec![] });
    model
}

/// Casts a tensor as `--dtype` does.
fn cast(model: &mut Model, idx: TensorIdx, dtype: DType) {
    let tensor = &mut model.tensors[idx];
    tensor.data = model.nodes.cast(tensor.data, dtype).unwrap();
    tensor.dtype = dtype;
}

/// Each node as `inputs > operator > outputs`, in order.
fn nodes(bytes: &[u8]) -> Vec<String> {
    let inside = |bytes: &[u8], number: u32| -> Vec<Vec<u8>> {
        let fields = Fields::of(bytes).map(|field| field.unwrap());
        fields.filter(|field| field.number == number).map(|field| field.value.to_vec()).collect()
    };
    let text = |bytes: &[u8], number: u32| -> String {
        let texts = inside(bytes, number).into_iter().map(|text| String::from_utf8(text).unwrap());
        texts.collect::<Vec<_>>().join(",")
    };
    let graphs = inside(bytes, model_field::GRAPH);
    inside(&graphs[0], graph_field::NODE)
        .iter()
        .map(|found| {
            let (inputs, outputs) = (text(found, node::INPUT), text(found, node::OUTPUT));
            let attributes: String = inside(found, node::ATTRIBUTE)
                .iter()
                .map(|found| format!(" {}", text(found, attribute::NAME)))
                .collect();
            format!("{inputs} > {}{attributes} > {outputs}", text(found, node::OP_TYPE))
        })
        .collect()
}

#[test]
fn a_graph_whose_weights_are_the_same_is_the_same() {
    for is_listed in [false, true] {
        let bytes = program(17, is_listed);
        let (layout, losses) = lay_out(&read_program(&bytes), &[], Shards::One).unwrap();
        assert_eq!(bytes_of(&layout, 0), bytes);
        assert!(losses.is_empty() && layout.notes.is_empty());
    }
}

#[test]
fn casts_stand_between_weights_and_graph() {
    let mut model = read_program(&program(17, true));
    cast(&mut model, 0, DType::F16);
    cast(&mut model, 1, DType::Bf16);
    let (layout, _) = lay_out(&model, &[], Shards::One).unwrap();
    let bytes = bytes_of(&layout, 0);
    let expected =
        ["w.bf16 > Cast to > w", " > Constant value > c.f16", "c.f16 > Cast to > c", "x,w > Add > y"];
    assert_eq!(nodes(&bytes), expected);
    // Both are found under their own names, and the second time around they stay as they are.
    let document = read(&bytes);
    let found: Vec<(&str, DType)> =
        document.tensors.iter().map(|found| (found.name.as_str(), found.dtype)).collect();
    assert_eq!(found, [("c", DType::F16), ("w", DType::Bf16)]);
    let (again, _) = lay_out(&read_program(&bytes), &[], Shards::One).unwrap();
    assert_eq!(bytes_of(&again, 0), bytes);
    // A weight that was an input's default stays one.
    let inputs = bytes.windows(8).filter(|window| window == b"\x0a\x06w.bf16").count();
    assert_eq!(inputs, 2);
}

#[test]
fn what_the_operators_cannot_cast_is_refused() {
    let mut model = read_program(&program(12, false));
    cast(&mut model, 1, DType::Bf16);
    let error = lay_out(&model, &[], Shards::One).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tensor \"w\": the graph's operators cannot cast this type to the one that it wants, expected version 13 of \
         ai.onnx, to cast bf16 to f32, found version 12 (leave its type with --keep-dtype)"
    );
    let mut model = read_program(&program(12, false));
    cast(&mut model, 1, DType::F16);
    lay_out(&model, &[], Shards::One).unwrap();
}

#[test]
fn names_follow_into_every_use() {
    let mut model = read_program(&program(17, true));
    model.tensors[0].name = "w".to_owned();
    model.tensors[1].name = "c".to_owned();
    let (layout, _) = lay_out(&model, &[], Shards::One).unwrap();
    let bytes = bytes_of(&layout, 0);
    assert_eq!(nodes(&bytes), [" > Constant value_floats > w", "x,c > Add > y"]);
    let document = read(&bytes);
    let names: Vec<&str> = document.tensors.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(names, ["w", "c"]);

    model.tensors[1].name = "y".to_owned();
    let error = lay_out(&model, &[], Shards::One).unwrap_err();
    assert_eq!(error.to_string(), "tensor \"y\": the graph uses this name for something else, found \"y\"");
    // A cast's own name gives way.
    let mut model = read_program(&program(17, false));
    model.tensors[0].name = "w.f16".to_owned();
    cast(&mut model, 1, DType::F16);
    let (layout, _) = lay_out(&model, &[], Shards::One).unwrap();
    let expected = ["w.f16.2 > Cast to > w", " > Constant value_floats > w.f16", "x,w > Add > y"];
    assert_eq!(nodes(&bytes_of(&layout, 0)), expected);
}

#[test]
fn another_shape_is_refused() {
    let mut model = read_program(&program(17, false));
    model.tensors[1].shape = vec![1, 2];
    let error = lay_out(&model, &[], Shards::One).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Target);
    model.tensors[1].shape = vec![2];
    push(&mut model, "more", DType::F32, &[1]);
    assert_eq!(lay_out(&model, &[], Shards::One).unwrap_err().kind(), ErrorKind::Target);
}

#[test]
fn weights_go_beside_the_model_and_come_back() {
    let mut model = read_program(&program(17, false));
    model.metadata.push(("k".to_owned(), Value::Text("v".to_owned())));
    let outside = [("external-data", "true"), ("external-threshold", "1")];
    let (layout, _) = lay_out(&model, &outside, Shards::One).unwrap();
    let names: Vec<(&str, u64)> = layout.files.iter().map(|file| (file.path.as_str(), file.len)).collect();
    // The Constant stays in the graph.
    assert_eq!((names[0], names[1].0, layout.root), (("m.onnx_data", 8), "m.onnx", 1));
    let document = document(&layout);
    assert!(matches!(document.tensors[1].payload, modelferry_wire::onnx::Payload::External(_)));
    assert_eq!(document.metadata, [("k".to_owned(), "v".to_owned())]);
    let mut again = read_program(&bytes_of(&layout, 1));
    again.metadata.clone_from(&model.metadata);
    let (inside, _) = lay_out(&again, &[], Shards::One).unwrap();
    let (expected, _) = lay_out(&model, &[], Shards::One).unwrap();
    assert_eq!(bytes_of(&inside, 0).len(), bytes_of(&expected, 0).len());
}

#[test]
fn files_of_data_are_aligned_split_and_shared() {
    let mut model = Model::default();
    for (idx, n) in [(0, 100), (1, 1 << 15), (2, 30)] {
        push(&mut model, &format!("t{idx}"), DType::F32, &[n]);
    }
    let tied = model.tensors[1].clone();
    model.tensors.push(modelferry_core::model::Tensor { name: "tied".to_owned(), ..tied });
    model.ties.push(vec![1, 3]);
    let outside = [("external-data", "true"), ("external-threshold", "200")];
    let (layout, losses) = lay_out(&model, &outside, Shards::One).unwrap();
    // 400 bytes, room up to a page, 131072 bytes once for both names; the third is too small.
    assert_eq!((layout.files.len(), layout.files[0].len), (2, 4096 + (1 << 17)));
    assert!(losses.is_empty() && layout.notes == [NO_GRAPH]);

    let (layout, losses) = lay_out(&model, &[], Shards::One).unwrap();
    assert_eq!((layout.files.len(), losses.len(), losses[0].kind), (1, 1, LossKind::TieCopied));

    let (layout, _) = lay_out(&model, &[], Shards::Max(1 << 17)).unwrap();
    let names: Vec<&str> = layout.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["m.onnx_data", "m.onnx"]);
    assert_eq!(
        lay_out(&model, &[("external-data", "false")], Shards::Max(1 << 17)).unwrap_err().kind(),
        ErrorKind::Usage
    );
}

#[test]
fn versions_are_no_newer_than_the_types_need() {
    for (dtype, expected) in [
        (DType::F32, [4, 9]),
        (DType::Bf16, [4, 9]),
        (DType::F8E5M2, [9, 20]),
        (DType::I4, [10, 22]),
        (DType::F4E2M1, [11, 23]),
        (DType::F8E8M0, [12, 24]),
        (DType::U2, [13, 25]),
    ] {
        let mut model = Model::default();
        push(&mut model, "t", dtype, &[8]);
        let (layout, _) = lay_out(&model, &[], Shards::One).unwrap();
        let bytes = bytes_of(&layout, 0);
        let fields: Vec<_> = Fields::of(&bytes).map(|field| field.unwrap()).collect();
        let import = fields.iter().find(|field| field.number == model_field::OPSET_IMPORT).unwrap();
        let opset =
            Fields::of(import.value).map(|field| field.unwrap()).find(|field| field.number == 2).unwrap();
        let found = [fields[0].number_value().unwrap(), opset.number_value().unwrap()];
        assert_eq!(found, expected, "{dtype}");
    }
}

#[test]
fn config_and_metadata_come_along() {
    let mut model = Model::default();
    push(&mut model, "t", DType::F32, &[1]);
    model.config = Some("{\"a\": NaN}".into());
    model.metadata.push((CONFIG_KEY.to_owned(), Value::Text("{}".to_owned())));
    let (layout, losses) = lay_out(&model, &[], Shards::One).unwrap();
    assert_eq!(document(&layout).metadata, [(CONFIG_KEY.to_owned(), "{\"a\": NaN}".to_owned())]);
    assert_eq!((losses.len(), losses[0].kind), (1, LossKind::Metadata));
}
