use super::*;
use modelferry_core::DType;
use modelferry_core::inputs::MemInputs;
use modelferry_core::plugin::SilentHost;
use modelferry_wire::onnx::messages::Entry;
use modelferry_wire::onnx::{Message, Part, tensor_proto};
use std::collections::BTreeMap;

fn read(inputs: &MemInputs) -> Result<Model> {
    let options = Options::resolve(&[], &BTreeMap::new())?;
    OnnxReader.read(inputs, &options, &mut SilentHost::default())
}

fn flat(message: Message) -> Vec<u8> {
    let bytes = |part| match part {
        Part::Bytes(bytes) => bytes,
        Part::Tensor { .. } => vec![],
    };
    message.into_parts().into_iter().flat_map(bytes).collect()
}

/// Two numbers in `w.data` from `offset` on, with what else is said of that.
fn outside(name: &str, offset: &str, more: &[(&str, &str)]) -> Message {
    let mut message = Message::default();
    message.int(tensor_proto::DIMS, 2);
    message.int(tensor_proto::DATA_TYPE, 1);
    message.bytes(tensor_proto::NAME, name.as_bytes());
    let always = [("location", "w.data"), ("offset", offset)];
    for (key, value) in always.iter().chain(more) {
        let entry = Entry { key: Some((*key).to_owned()), value: Some((*value).to_owned()) };
        message.small(tensor_proto::EXTERNAL_DATA, &entry);
    }
    message.int(tensor_proto::DATA_LOCATION, 1);
    message
}

fn model(producer: &str, metadata: &[(&str, &str)], tensors: Vec<Message>) -> Vec<u8> {
    let mut graph = Message::default();
    graph.bytes(2, b"g");
    tensors.into_iter().for_each(|tensor| graph.message(5, tensor));
    let mut model = Message::default();
    model.int(1, 8);
    model.bytes(2, producer.as_bytes());
    let mut import = Message::default();
    import.int(2, 17);
    model.message(8, import);
    for (key, value) in metadata {
        model.small(14, &Entry { key: Some((*key).to_owned()), value: Some((*value).to_owned()) });
    }
    model.message(7, graph);
    flat(model)
}

#[test]
fn one_range_under_two_names_is_a_tie() {
    let tensors = vec![outside("a", "4", &[]), outside("b", "4", &[("length", "8")]), outside("c", "8", &[])];
    let inputs = MemInputs::new("m.onnx", model("x", &[], tensors)).with("w.data", vec![0; 16]);
    let model = read(&inputs).unwrap();
    assert_eq!(model.ties, [vec![0, 1]]);
    assert_eq!(model.tensors[0].data, model.tensors[1].data);
    assert_eq!(model.verbatim(2).map(|(file, at)| (inputs.name(file), at)), Some(("w.data".to_owned(), 8)));
    let graph = model.graph.unwrap();
    assert_eq!((graph.dialect, graph.bindings.len(), graph.parts.len()), ("onnx", 3, 1));
}

#[test]
fn data_lies_beside_a_model_in_a_folder() {
    let bytes = model("x", &[], vec![outside("a", "0", &[])]);
    let inputs =
        MemInputs::new("onnx/m.onnx", bytes).with("onnx/w.data", vec![0; 8]).with("w.data", vec![0; 1]);
    let model = read(&inputs).unwrap();
    assert_eq!(model.verbatim(0).map(|(file, _)| inputs.name(file)), Some("onnx/w.data".to_owned()));
}

#[test]
fn checksums_are_stated_or_odd() {
    let sha1 = "0123456789abcdef0123456789abcdef01234567";
    let tensors = vec![outside("a", "0", &[("checksum", sha1)]), outside("b", "8", &[("checksum", sha1)])];
    let inputs = MemInputs::new("m.onnx", model("x", &[], tensors)).with("w.data", vec![0; 16]);
    let found = read(&inputs).unwrap();
    assert_eq!((found.file_digests.len(), found.checks.len()), (1, 0));
    let tensors = vec![outside("a", "0", &[("checksum", "crc:1")])];
    let inputs = MemInputs::new("m.onnx", model("x", &[], tensors)).with("w.data", vec![0; 16]);
    let found = read(&inputs).unwrap();
    assert_eq!((found.file_digests.len(), found.checks.len(), found.checks[0].holds), (0, 1, false));
}

#[test]
fn our_own_files_have_no_graph_and_may_have_a_config() {
    let metadata = [("k", "v"), (CONFIG_KEY, "{}")];
    let ours = MemInputs::new("m.onnx", model(PRODUCER, &metadata, vec![outside("a", "0", &[])]));
    let found = read(&ours.with("w.data", vec![0; 8])).unwrap();
    assert!(found.graph.is_none());
    assert_eq!((found.config.as_deref(), found.metadata.len()), (Some("{}"), 1));
    let theirs = MemInputs::new("m.onnx", model("pytorch", &metadata, vec![outside("a", "0", &[])]));
    let found = read(&theirs.with("w.data", vec![0; 8])).unwrap();
    assert!(found.graph.is_some() && found.config.is_none());
    assert_eq!((found.metadata.len(), found.tensors[0].dtype), (2, DType::F32));
}
