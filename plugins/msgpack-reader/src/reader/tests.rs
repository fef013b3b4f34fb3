use super::*;
use modelferry_core::DType;
use modelferry_core::expr::Op;
use modelferry_core::inputs::MemInputs;
use modelferry_core::limits::Limits;
use modelferry_core::plugin::{Answer, Query};
use modelferry_core::tree::beside_tensors;
use modelferry_wire::msgpack::{CHUNKED, Emitter};
use std::collections::BTreeMap;

struct NoPayload(Limits);

impl Host for NoPayload {
    fn limits(&self) -> &Limits {
        &self.0
    }

    fn ask(&mut self, _: &Model, query: Query) -> Result<Answer> {
        Err(Error::plugin("a header says everything").found(format_args!("{query:?}")))
    }
}

fn read_as(name: &str, bytes: Vec<u8>) -> Result<Model> {
    let options = Options::resolve(&[], &BTreeMap::new())?;
    MsgpackReader.read(&MemInputs::new(name, bytes), &options, &mut NoPayload(Limits::default()))
}

fn read(bytes: Vec<u8>) -> Model {
    read_as("folder/m.msgpack", bytes).unwrap()
}

fn array(dtype: DType, shape: &[u64], elements: &[u8]) -> Vec<u8> {
    let mut out = Emitter::default();
    out.array(dtype, shape, elements.len() as u64).unwrap();
    out.raw(elements);
    out.take()
}

fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = Emitter::default();
    out.map(entries.len() as u64).unwrap();
    for (key, value) in entries {
        out.text(key).unwrap();
        out.raw(value);
    }
    out.take()
}

fn names(model: &Model) -> Vec<&str> {
    model.tensors.iter().map(|tensor| tensor.name.as_str()).collect()
}

#[test]
fn tensors_are_named_by_where_they_stand() {
    let one = array(DType::U8, &[1], b"x");
    let list = [&b"\x92"[..], &one, b"\x07"].concat();
    let inner = map(&[("kernel", one.clone()), ("", one.clone())]);
    let document = map(&[("params", map(&[("Dense_0", inner)])), ("list", list), ("step", vec![3])]);
    let model = read(document);
    assert_eq!(names(&model), ["params.Dense_0.kernel", "params.Dense_0.", "list.0"]);
    let beside: Vec<String> =
        beside_tensors(model.tree.as_ref().unwrap()).into_iter().map(|part| part.path).collect();
    assert_eq!(beside, ["list.1", "step"]);
    // The empty key is a key.
    assert_eq!(names(&read(map(&[("", map(&[("", one.clone())]))]))), ["."]);
    let alone = read(one.clone());
    assert!(names(&alone) == ["m"] && alone.tree.is_none());
    let clash = map(&[("a.b", one.clone()), ("a", map(&[("b", one)]))]);
    let error = read_as("m.msgpack", clash).err().unwrap();
    assert_eq!(error.to_string(), "m.msgpack: tensor \"a.b\": a name is used twice");
}

#[test]
fn elements_stay_in_the_file() {
    let document =
        map(&[("w", array(DType::Bf16, &[2, 1], &[1, 2, 3, 4])), ("s", array(DType::F64, &[], &[0; 8]))]);
    let at = document.windows(4).position(|bytes| bytes == [1, 2, 3, 4]).unwrap() as u64;
    let model = read(document);
    assert_eq!(model.tensors[0].shape, [2, 1]);
    assert_eq!(model.tensors[0].dtype, DType::Bf16);
    assert_eq!(model.verbatim(0), Some((FileId(0), at)));
    assert!(model.tensors[1].shape.is_empty());
}

#[test]
fn parts_are_put_together_along_the_flat_axis() {
    let part = |n: u64| array(DType::U8, &[n], &vec![n as u8; n as usize]);
    let chunks = map(&[("0", part(4)), ("1", part(0)), ("2", part(2))]);
    let shape = map(&[("0", vec![2]), ("1", vec![3])]);
    let whole = map(&[(CHUNKED, vec![0xc3]), ("shape", shape), ("chunks", chunks)]);
    let model = read(map(&[("w", whole)]));
    assert_eq!((names(&model), &*model.tensors[0].shape), (vec!["w"], &[2, 3][..]));
    let Op::Assemble { shape, pieces } = &model.nodes[model.tensors[0].data].op else {
        unreachable!("three parts are one tensor")
    };
    assert_eq!(**shape, [6]);
    let places: Vec<(u64, u64)> = pieces.iter().map(|piece| (piece.lo[0], piece.extent[0])).collect();
    assert_eq!(places, [(0, 4), (4, 0), (4, 2)]);
}

#[test]
fn only_what_flax_begins_with_is_recognized() {
    let verdict = |name: &str, bytes: &[u8]| MsgpackReader.identify(&MemInputs::new(name, bytes.to_vec()));
    let one = array(DType::F32, &[1], &[0; 4]);
    let long = "k".repeat(300);
    for document in [
        map(&[("w", one.clone())]),
        map(&[("params", map(&[("w", one.clone())]))]),
        map(&[("step", vec![7]), ("w", one.clone())]),
        map(&[(&long, one.clone())]),
        map(&[("new\nline", one.clone())]),
        map(&[("", one.clone())]),
        array(DType::U8, &[0], &[]),
        array(DType::F32, &[70_000], &vec![0; 280_000]),
        map(&(0..20).map(|_| ("w", one.clone())).collect::<Vec<_>>()),
    ] {
        assert_eq!(verdict("m", &document), Verdict::Content, "{:x?}", &document[..document.len().min(20)]);
    }
    assert_eq!((verdict("m", b"\x80"), verdict("m.msgpack", b"\x80")), (Verdict::No, Verdict::Content));
    for other in [
        &b""[..],
        // The length of a safetensors header of 136 bytes, and of one of 41,864.
        b"\x88\0\0\0\0\0\0\0{\"w\": {",
        b"\x88\xa3\0\0\0\0\0\0{\"w\": {",
        b"\x81\xa0\0\0\0\0\0\0{}",
        // Pickles.
        b"\x80\x02}q\0.",
        b"\x80\x04\x95",
        b"\x93NUMPY\x01\0",
        b"PK\x03\x04",
        b"GGUF\x03\0\0\0",
        b"\x08\x08\x12\x04",
        b"\x81\xa1\xff\xc0",
        b"\x81\xa1w\xc1",
        b"\x81\xa1w",
        b"\x81\x01\x02",
        b"{}",
    ] {
        assert_eq!(verdict("m", other), Verdict::No, "{other:x?}");
        assert_eq!(verdict("m.msgpack", other), Verdict::Name, "{other:x?}");
    }
}

#[test]
fn what_is_recognized_has_a_magic() {
    let one = array(DType::F32, &[1], &[0; 4]);
    for document in [map(&[("w", one.clone())]), one, vec![0x80]] {
        assert!(MAGIC.iter().any(|magic| document.starts_with(magic.bytes)));
    }
}
