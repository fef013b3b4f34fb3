use super::*;
use modelferry_core::expr::Packing;
use modelferry_core::inputs::FileId;
use modelferry_core::layout::Piece;
use modelferry_core::limits::Limits;
use modelferry_core::model::Model;
use modelferry_core::options::Options;
use modelferry_core::plugin::{Answer, Query, Shards};
use modelferry_core::tree::{Global, Instance, Object, ObjectId, Tree};
use std::collections::BTreeMap;

struct NoQuestions(Limits);

impl Host for NoQuestions {
    fn limits(&self) -> &Limits {
        &self.0
    }

    fn ask(&mut self, _: &Model, query: Query) -> Result<Answer> {
        Err(Error::plugin("a layout is a function of the description").found(format_args!("{query:?}")))
    }
}

fn model(tensors: &[(&str, DType, &[u64])]) -> Model {
    let mut model = Model::default();
    for &(name, dtype, shape) in tensors {
        let n = shape.iter().product();
        let bytes = model.nodes.region(FileId(0), 0, dtype.packed_len(n).unwrap()).unwrap();
        let data = model.nodes.decode(bytes, dtype, n, Packing::default()).unwrap();
        model.push(name, dtype, shape.to_vec(), data).unwrap();
    }
    model
}

fn lay_out(model: &Model, dictionaries: &str) -> Result<(Layout, Vec<Loss>)> {
    let given = BTreeMap::from([("dictionaries".to_owned(), dictionaries.to_owned())]);
    let options = Options::resolve(INFO.options, &given)?;
    let host = &mut NoQuestions(Limits::default());
    let view = ModelView::new(model, &host.0)?;
    let request =
        LayoutRequest { file_name: "m.msgpack", weights: "", options: &options, shards: Shards::One };
    let (layout, losses) = MsgpackWriter.layout(&view, &request, host)?;
    layout.validate(&view)?;
    Ok((layout, losses))
}

/// The file, a tensor's bytes as its number and their range.
fn shown(layout: &Layout) -> String {
    let piece = |piece: &Piece| match piece {
        Piece::Bytes(bytes) => bytes.escape_ascii().to_string(),
        Piece::Tensor { idx, bytes, .. } => format!("<{idx}: {}..{}>", bytes.start, bytes.end),
        other => format!("{other:?}"),
    };
    layout.files[0].pieces.iter().map(piece).collect()
}

/// A document in the making.
#[derive(Default)]
struct Made(Tree);

impl Made {
    fn add(&mut self, object: Object) -> ObjectId {
        self.0.push(object).unwrap()
    }

    fn dict(&mut self, entries: &[(&str, ObjectId)]) -> ObjectId {
        let entries =
            entries.iter().map(|&(key, value)| (self.add(Object::Text(key.into())), value)).collect();
        self.add(Object::Dict(entries))
    }

    fn call(&mut self, module: &str, name: &str, args: &[ObjectId]) -> Instance {
        let global = Global { module: module.into(), name: name.into() };
        let callable = self.add(Object::Global(Box::new(global)));
        let args = self.add(Object::Tuple(args.into()));
        Instance::new(callable, args)
    }

    fn finish(mut self, root: ObjectId, mut model: Model) -> Model {
        self.0.set_root(root);
        model.tree = Some(self.0);
        model
    }
}

fn one() -> Model {
    model(&[("w", DType::U8, &[1])])
}

/// `{"w": the tensor, "x": value}`.
fn beside(build: impl FnOnce(&mut Made) -> ObjectId) -> Model {
    let mut made = Made::default();
    let tensor = made.add(Object::Tensor(0));
    let value = build(&mut made);
    let root = made.dict(&[("w", tensor), ("x", value)]);
    made.finish(root, one())
}

const W: &str = r"\xa1w\xc7\x0c\x01\x93\x91\x01\xa5uint8\xc4\x01<0: 0..1>";

#[test]
fn names_are_one_dictionary_or_nested_ones() {
    let three = model(&[("a.b", DType::U8, &[1]), ("c", DType::U8, &[0]), ("a.d", DType::U8, &[1])]);
    let array = |idx: usize, n: usize, len: &str| {
        format!(r"\xc7{len}\x01\x93\x91\x0{n}\xa5uint8\xc4\x0{n}<{idx}: 0..{n}>")
    };
    let (a_b, c, a_d) = (array(0, 1, r"\x0c"), array(1, 0, r"\x0b"), array(2, 1, r"\x0c"));
    let (layout, losses) = lay_out(&three, "flat").unwrap();
    assert_eq!(shown(&layout), format!(r"\x83\xa3a.b{a_b}\xa1c{c}\xa3a.d{a_d}"));
    assert!(losses.is_empty());
    let (layout, losses) = lay_out(&three, "nested").unwrap();
    assert_eq!(shown(&layout), format!(r"\x82\xa1a\x82\xa1b{a_b}\xa1d{a_d}\xa1c{c}"));
    assert_eq!(losses[0].kind, LossKind::Order);
    let clash = model(&[("a", DType::U8, &[1]), ("a.b", DType::U8, &[1])]);
    assert_eq!(lay_out(&clash, "nested").unwrap_err().kind(), modelferry_core::ErrorKind::Target);
    let clash = model(&[("a.b", DType::U8, &[1]), ("a", DType::U8, &[1])]);
    assert!(lay_out(&clash, "nested").is_err() && lay_out(&clash, "flat").is_ok());
    assert_eq!(shown(&lay_out(&model(&[]), "flat").unwrap().0), r"\x80");
}

#[test]
fn arrays_above_a_gibibyte_are_parts() {
    // 2^30 bytes are one array, one element more is three.
    const GIB: u64 = 1 << 30;
    let at_most = model(&[("w", DType::F32, &[GIB / 4])]);
    let text = shown(&lay_out(&at_most, "flat").unwrap().0);
    assert_eq!(
        text,
        r"\x81\xa1w\xc9@\x00\x00\x14\x01\x93\x91\xce\x10\x00\x00\x00\xa7float32\xc6@\x00\x00\x00<0: 0..1073741824>"
    );
    let more = model(&[("w", DType::F32, &[3, GIB / 4 - 1])]);
    let text = shown(&lay_out(&more, "flat").unwrap().0);
    let whole = r"\xc9@\x00\x00\x14\x01\x93\x91\xce\x10\x00\x00\x00\xa7float32\xc6@\x00\x00\x00";
    let last = r"\xc9@\x00\x00\x08\x01\x93\x91\xce\x0f\xff\xff\xfd\xa7float32\xc6?\xff\xff\xf4";
    let expected = [
        r"\x81\xa1w\x83\xb9__msgpack_chunked_array__\xc3\xa5shape\x82\xa10\x03\xa11\xce\x0f\xff\xff\xff\xa6chunks\x83",
        &format!(r"\xa10{whole}<0: 0..1073741824>"),
        &format!(r"\xa11{whole}<0: 1073741824..2147483648>"),
        &format!(r"\xa12{last}<0: 2147483648..3221225460>"),
    ];
    assert_eq!(text, expected.concat());
    let most = GIB / 4 * (1 << 17);
    assert!(lay_out(&model(&[("w", DType::F32, &[most])]), "flat").is_ok());
    let error = lay_out(&model(&[("w", DType::F32, &[most + 1])]), "flat").unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().contains("parts of one array")),
        (modelferry_core::ErrorKind::Limit, true)
    );
}

#[test]
fn values_are_written_as_they_are() {
    type Build = fn(&mut Made) -> ObjectId;
    let cases: &[(Build, &str)] = &[
        (|made| made.add(Object::None), r"\xc0"),
        (|made| made.add(Object::Bool(true)), r"\xc3"),
        (|made| made.add(Object::Int(-33)), r"\xd0\xdf"),
        (
            |made| made.add(Object::BigInt([[0xff; 8].as_slice(), &[0]].concat().into())),
            r"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
        ),
        (|made| made.add(Object::Float(1.5)), r"\xcb?\xf8\x00\x00\x00\x00\x00\x00"),
        (|made| made.add(Object::Text("t".into())), r"\xa1t"),
        (|made| made.add(Object::Bytes(vec![0].into())), r"\xc4\x01\x00"),
        (
            |made| {
                let members = vec![made.add(Object::Int(1)), made.add(Object::List(vec![]))];
                made.add(Object::List(members))
            },
            r"\x92\x01\x90",
        ),
        (
            |made| {
                let (key, value) = (made.add(Object::Int(7)), made.add(Object::None));
                made.add(Object::Dict(vec![(key, value)]))
            },
            r"\x81\x07\xc0",
        ),
        (
            |made| {
                let parts = [made.add(Object::Float(1.5)), made.add(Object::Float(-2.0))];
                let call = made.call("builtins", "complex", &parts);
                made.add(Object::Instance(Box::new(call)))
            },
            r"\xc7\x13\x02\x92\xcb?\xf8\x00\x00\x00\x00\x00\x00\xcb\xc0\x00\x00\x00\x00\x00\x00\x00",
        ),
        (
            |made| {
                let parts = [made.add(Object::Int(-1)), made.add(Object::Bytes(vec![b'a'].into()))];
                let call = made.call("msgpack", "ExtType", &parts);
                made.add(Object::Instance(Box::new(call)))
            },
            r"\xd4\xffa",
        ),
        (
            |made| {
                let (key, value) = (made.add(Object::Text("k".into())), made.add(Object::Int(1)));
                let call = made.call("collections", "OrderedDict", &[]);
                let call = Instance { entries: vec![(key, value)], ..call };
                made.add(Object::Instance(Box::new(call)))
            },
            r"\x81\xa1k\x01",
        ),
    ];
    for (build, expected) in cases {
        let (layout, losses) = lay_out(&beside(build), "flat").unwrap();
        assert_eq!(shown(&layout), format!(r"\x82{W}\xa1x{expected}"));
        assert!(losses.is_empty(), "{losses:?}");
    }
}

#[test]
fn what_has_no_place_is_left_out_and_named() {
    let said = |model: &Model| {
        let (layout, losses) = lay_out(model, "flat").unwrap();
        (shown(&layout), losses.iter().map(ToString::to_string).collect::<Vec<_>>(), layout.notes)
    };
    let set = beside(|made| made.add(Object::Set(vec![])));
    assert_eq!(
        said(&set),
        (
            format!(r"\x81{W}"),
            vec!["tree: x: 0 members, left out: flax does not write it".to_owned()],
            vec![]
        )
    );
    // In a list its place stays; a tuple is a list.
    let tuple = beside(|made| {
        let members = [made.add(Object::Int(1)), made.add(Object::BigInt(vec![0; 10].into()))];
        made.add(Object::Tuple(members.into()))
    });
    let (text, losses, notes) = said(&tuple);
    assert_eq!(text, format!(r"\x82{W}\xa1x\x92\x01\xc0"));
    assert!(losses[0].starts_with("tree: x.1: "), "{losses:?}");
    assert_eq!(notes, ["1 tuples are written as lists"]);
    // What is no key is one as names have it.
    let keys = beside(|made| {
        let inner = [made.add(Object::Int(1)), made.add(Object::Int(2))];
        let (key, value) = (made.add(Object::Tuple(inner.into())), made.add(Object::None));
        made.add(Object::Dict(vec![(key, value)]))
    });
    assert_eq!(said(&keys).0, format!(r"\x82{W}\xa1x\x81\xa6(1, 2)\xc0"));
}

#[test]
fn a_document_that_cannot_be_kept_is_written_flat() {
    let mut made = Made::default();
    let tensor = made.add(Object::Tensor(0));
    // It holds itself.
    let root = made.dict(&[("w", tensor)]);
    let key = made.add(Object::Text("again".into()));
    if let Object::Dict(entries) = made.0.get_mut(root) {
        entries.push((key, root));
    }
    let (layout, losses) = lay_out(&made.finish(root, one()), "flat").unwrap();
    assert_eq!(shown(&layout), format!(r"\x81{W}"));
    assert!(losses[0].to_string().contains("written flat"), "{losses:?}");
    // A tensor that the document does not hold.
    let mut model = beside(|made| made.add(Object::None));
    let data = model.tensors[0].data;
    model.push("new", DType::U8, vec![1], data).unwrap();
    let (layout, losses) = lay_out(&model, "flat").unwrap();
    assert!(shown(&layout).starts_with(r"\x82\xa1w"));
    assert_eq!(losses.len(), 2, "{losses:?}");
}

#[test]
fn a_lone_tensor_keeps_its_name() {
    let mut made = Made::default();
    let root = made.add(Object::Tensor(0));
    let (layout, losses) = lay_out(&made.finish(root, one()), "flat").unwrap();
    assert_eq!((shown(&layout), losses.len()), (format!(r"\x81{W}"), 0));
}

#[test]
fn the_key_of_arrays_in_parts_is_flax_s_own() {
    let model = model(&[("__msgpack_chunked_array__", DType::U8, &[1])]);
    let error = lay_out(&model, "flat").unwrap_err();
    assert_eq!(error.kind(), modelferry_core::ErrorKind::Target);
}
