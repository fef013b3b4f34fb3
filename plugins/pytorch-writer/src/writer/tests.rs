use super::*;
use modelferry_core::DType;
use modelferry_core::expr::Packing;
use modelferry_core::layout::Piece;
use modelferry_core::limits::Limits;
use modelferry_core::model::Model;
use modelferry_core::options::Options;
use modelferry_core::plugin::{Shards, SilentHost};
use modelferry_core::tree::{Global, Instance, Object, ObjectId, Tree};
use modelferry_wire::pickle::{self, Source};
use std::collections::BTreeMap;

fn push(model: &mut Model, name: &str, dtype: DType, shape: &[u64]) -> usize {
    let n = shape.iter().product();
    let bytes = model.nodes.inline(vec![0; dtype.packed_len(n).unwrap() as usize]).unwrap();
    let data = model.nodes.decode(bytes, dtype, n, Packing::default()).unwrap();
    model.push(name, dtype, shape.to_vec(), data).unwrap()
}

fn lay_out(model: &Model, foreign: &str, shards: Shards) -> Result<(Layout, Vec<Loss>)> {
    let limits = Limits::default();
    let view = ModelView::new(model, &limits)?;
    let given = BTreeMap::from([("foreign-objects".to_owned(), foreign.to_owned())]);
    let options = Options::resolve(INFO.options, &given)?;
    let request = LayoutRequest { file_name: "t.pt", weights: "", options: &options, shards };
    let (layout, losses) = PytorchWriter.layout(&view, &request, &mut SilentHost(limits.clone()))?;
    layout.validate(&view)?;
    Ok((layout, losses))
}

/// The pickle of a file: its second piece, behind a header.
fn pickle_of(layout: &Layout, file: usize) -> &[u8] {
    match &layout.files[file].pieces[1] {
        Piece::Bytes(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

/// A document as Python would nearly print it, tensors by the first number of their shapes.
fn shown(pickle: &[u8]) -> String {
    let tree = pickle::read(&mut Source::memory(pickle), &Limits::default()).unwrap();
    show(&tree, tree.root().unwrap())
}

fn show(tree: &Tree, id: ObjectId) -> String {
    let list = |ids: &[ObjectId]| ids.iter().map(|&id| show(tree, id)).collect::<Vec<_>>().join(" ");
    let class = |callable| tree.global(callable).map_or("?", |(_, name)| name);
    match &tree[id] {
        Object::Instance(instance) if class(instance.callable).starts_with("_rebuild_tensor") => {
            format!("tensor{}", show(tree, tree.sequence(instance.args).unwrap()[2]))
        }
        Object::Instance(instance) => {
            let mut text = format!("{}{}", class(instance.callable), show(tree, instance.args));
            let entries = tree.members(id).into_iter();
            entries.for_each(|(key, value)| text += &format!(" {key}={}", show(tree, value)));
            instance.states.iter().for_each(|&state| text += &format!(" state {}", show(tree, state)));
            text
        }
        Object::Dict(_) => {
            let entries = tree.members(id).into_iter();
            let entries = entries.map(|(key, value)| format!("{key}={}", show(tree, value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
        }
        Object::List(members) => format!("[{}]", list(members)),
        Object::Tuple(members) => format!("({})", list(members)),
        _ => tree.key_text(id),
    }
}

#[test]
fn a_state_dict_is_torchs_byte_for_byte() {
    let mut model = Model::default();
    let a = push(&mut model, "a", DType::F32, &[2, 3]);
    push(&mut model, "e", DType::F32, &[0, 3]);
    push(&mut model, "0", DType::I64, &[]);
    push(&mut model, "f8", DType::F8E4M3, &[4]);
    let tied = push(&mut model, "tied", DType::F32, &[2, 3]);
    push(&mut model, "f4", DType::F4E2M1, &[2, 6]);
    model.ties = vec![vec![a, tied]];
    let (layout, losses) = lay_out(&model, "drop", Shards::One).unwrap();
    assert_eq!(losses, []);
    // What torch 2.15 saves for such an OrderedDict.
    let expected: &[u8] = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(X\x01\x00\x00\x00aq\x02ctorch._utils\n\
        _rebuild_tensor_v2\nq\x03((X\x07\x00\x00\x00storageq\x04ctorch\nFloatStorage\nq\x05X\x01\x00\x00\x000q\x06\
        X\x03\x00\x00\x00cpuq\x07K\x06tq\x08QK\x00K\x02K\x03\x86q\x09K\x03K\x01\x86q\n\x89h\x00)Rq\x0btq\x0cRq\x0d\
        X\x01\x00\x00\x00eq\x0eh\x03((h\x04h\x05X\x01\x00\x00\x001q\x0fh\x07K\x00tq\x10QK\x00K\x00K\x03\x86q\x11\
        K\x03K\x01\x86q\x12\x89h\x00)Rq\x13tq\x14Rq\x15X\x01\x00\x00\x000q\x16h\x03((h\x04ctorch\nLongStorage\nq\x17\
        X\x01\x00\x00\x002q\x18h\x07K\x01tq\x19QK\x00))\x89h\x00)Rq\x1atq\x1bRq\x1cX\x02\x00\x00\x00f8q\x1d\
        ctorch._utils\n_rebuild_tensor_v3\nq\x1e((h\x04ctorch.storage\nUntypedStorage\nq\x1fX\x01\x00\x00\x003q \
        h\x07K\x04tq!QK\x00K\x04\x85q\x22K\x01\x85q#\x89h\x00)Rq$ctorch\nfloat8_e4m3fn\nq%tq&Rq'\
        X\x04\x00\x00\x00tiedq(h\x03((h\x04h\x05h\x06h\x07K\x06tq)QK\x00K\x02K\x03\x86q*K\x03K\x01\x86q+\x89h\x00)\
        Rq,tq-Rq.X\x02\x00\x00\x00f4q/h\x1e((h\x04h\x1fX\x01\x00\x00\x004q0h\x07K\x06tq1QK\x00K\x02K\x03\x86q2\
        K\x03K\x01\x86q3\x89h\x00)Rq4ctorch\nfloat4_e2m1fn_x2\nq5tq6Rq7u.";
    assert_eq!(pickle_of(&layout, 0).escape_ascii().to_string(), expected.escape_ascii().to_string());
    assert_eq!(layout.files[0].len, 2455);
    // Where torch's records lie; one without bytes has no digest.
    let digests: Vec<_> = layout.digests.iter().map(|digest| digest.over.bytes.clone()).collect();
    let places = [(64, 589), (768, 1), (896, 2), (960, 6), (1024, 24), (1216, 8), (1344, 4), (1408, 6)];
    let places = places.into_iter().chain([(1536, 2), (1664, 40)]);
    assert_eq!(digests, places.map(|(at, len)| at..at + len).collect::<Vec<_>>());
    assert_eq!(layout.patches.len(), 2 * digests.len());
    let tensors: Vec<usize> = layout.files[0].pieces.iter().filter_map(written).collect();
    assert_eq!(tensors, [0, 2, 3, 5]);
}

fn written(piece: &Piece) -> Option<usize> {
    match piece {
        Piece::Tensor { idx, .. } => Some(*idx),
        _ => None,
    }
}

/// A document in the making.
#[derive(Default)]
struct Builder(Tree);

impl Builder {
    fn add(&mut self, object: Object) -> ObjectId {
        self.0.push(object).unwrap()
    }

    fn text(&mut self, text: &str) -> ObjectId {
        self.add(Object::Text(text.into()))
    }

    fn dict<const N: usize>(&mut self, entries: [(&str, ObjectId); N]) -> ObjectId {
        let entries = entries.map(|(key, value)| (self.text(key), value));
        self.add(Object::Dict(entries.to_vec()))
    }

    fn call(&mut self, module: &str, name: &str, args: &[ObjectId]) -> Instance {
        let global = Global { module: module.into(), name: name.into() };
        let callable = self.add(Object::Global(Box::new(global)));
        let args = self.add(Object::Tuple(args.into()));
        Instance::new(callable, args)
    }

    fn made(&mut self, instance: Instance) -> ObjectId {
        self.add(Object::Instance(Box::new(instance)))
    }
}

/// A checkpoint with a state dict, and with objects in it that torch takes and does not take.
fn checkpoint() -> Model {
    let mut model = Model::default();
    let mut tree = Builder::default();
    let mut entries = vec![];
    for (name, extent) in [("w", 2), ("b", 3)] {
        let idx = push(&mut model, &format!("state_dict.{name}"), DType::F32, &[extent]);
        let tensor = tree.add(Object::Tensor(idx));
        entries.push((tree.text(name), tensor));
    }
    let metadata = tree.dict([]);
    let state = tree.dict([("_metadata", metadata)]);
    let ordered = tree.call("collections", "OrderedDict", &[]);
    let state_dict = tree.made(Instance { entries, states: vec![state], ..ordered });
    let namespace = tree.call("argparse", "Namespace", &[]);
    let lr = tree.add(Object::Float(0.5));
    let state = tree.dict([("lr", lr)]);
    let namespace = tree.made(Instance { states: vec![state], ..namespace });
    let seven = tree.add(Object::Int(7));
    let pair = tree.add(Object::Tuple([seven, namespace].into()));
    let list = tree.add(Object::List(vec![seven, namespace, seven]));
    let size = tree.add(Object::Tuple([seven].into()));
    let size = tree.call("torch", "Size", &[size]);
    let size = tree.made(size);
    let storage = tree.add(Object::External(seven));
    let root = tree.dict([
        ("epoch", seven),
        ("args", namespace),
        ("pair", pair),
        ("list", list),
        ("size", size),
        ("storage", storage),
        ("state_dict", state_dict),
    ]);
    tree.0.set_root(root);
    model.tree = Some(tree.0);
    model
}

fn told(losses: &[Loss]) -> Vec<String> {
    losses.iter().map(|loss| format!("{} {}", loss.kind.name(), loss.subject)).collect()
}

#[test]
fn what_torch_refuses_is_left_out_and_named() {
    let (layout, losses) = lay_out(&checkpoint(), "drop", Shards::One).unwrap();
    assert_eq!(
        shown(pickle_of(&layout, 0)),
        "{epoch=7 list=[7 None 7] size=Size((7)) state_dict=OrderedDict() w=tensor(2) b=tensor(3) \
         state {_metadata={}}}"
    );
    // An object that stands in several places is named by the first.
    assert_eq!(told(&losses), ["tree args", "tree pair", "tree storage"]);
    assert_eq!(
        losses[0].detail,
        "an object of argparse.Namespace, left out: torch does not load it from strangers"
    );
}

#[test]
fn foreign_objects_are_kept_when_asked_for() {
    let (layout, losses) = lay_out(&checkpoint(), "keep", Shards::One).unwrap();
    let namespace = "Namespace() state {lr=0.5}";
    assert_eq!(
        shown(pickle_of(&layout, 0)),
        format!(
            "{{epoch=7 args={namespace} pair=(7 {namespace}) list=[7 {namespace} 7] size=Size((7)) \
             state_dict=OrderedDict() w=tensor(2) b=tensor(3) state {{_metadata={{}}}}}}"
        )
    );
    // What another archive held is in no other.
    assert_eq!(told(&losses), ["tree storage"]);
}

#[test]
fn tensors_in_a_foreign_object_are_written_flat() {
    let mut model = checkpoint();
    let mut tree = Builder(model.tree.take().unwrap());
    let root = tree.0.root().unwrap();
    let wrapper = tree.call("somewhere", "Wrapper", &[root]);
    let wrapper = tree.made(wrapper);
    tree.0.set_root(wrapper);
    model.tree = Some(tree.0);
    let (layout, losses) = lay_out(&model, "drop", Shards::One).unwrap();
    assert_eq!(shown(pickle_of(&layout, 0)), "OrderedDict() state_dict.w=tensor(2) state_dict.b=tensor(3)");
    assert_eq!(told(&losses), ["tree the checkpoint"]);
    let tensors: Vec<usize> = layout.files[0].pieces.iter().filter_map(written).collect();
    assert_eq!(tensors, [0, 1]);
}

#[test]
fn order_is_that_of_the_document() {
    let mut model = checkpoint();
    model.tensors.swap(0, 1);
    let (_, losses) = lay_out(&model, "keep", Shards::One).unwrap();
    assert_eq!(told(&losses), ["tree storage"]);
    let mut tree = model.tree.take().unwrap();
    for id in tree.iter().map(|(id, _)| id).collect::<Vec<_>>() {
        if let Object::Tensor(idx) = tree.get_mut(id) {
            *idx = 1 - *idx;
        }
    }
    model.tree = Some(tree);
    let (_, losses) = lay_out(&model, "keep", Shards::One).unwrap();
    assert_eq!(told(&losses), ["tree storage", "order t.pt"]);
}

#[test]
fn shards_are_plain_dictionaries_with_an_index() {
    let mut model = checkpoint();
    let tied = push(&mut model, "tied", DType::F32, &[2]);
    model.ties = vec![vec![0, tied]];
    let (layout, losses) = lay_out(&model, "drop", Shards::Max(8)).unwrap();
    let names: Vec<&str> = layout.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["t-00001-of-00002.pt", "t-00002-of-00002.pt", "t.pt.index.json"]);
    assert_eq!(layout.root, 2);
    assert_eq!(shown(pickle_of(&layout, 0)), "OrderedDict() state_dict.b=tensor(3)");
    assert_eq!(shown(pickle_of(&layout, 1)), "OrderedDict() state_dict.w=tensor(2) tied=tensor(2)");
    assert_eq!(
        told(&losses),
        [
            "tree epoch",
            "tree args",
            "tree pair",
            "tree list",
            "tree size",
            "tree storage",
            "tree state_dict._metadata",
            "order t.pt"
        ]
    );
    let Piece::Bytes(index) = &layout.files[2].pieces[0] else { panic!("no index") };
    let index = String::from_utf8(index.to_vec()).unwrap();
    // Each storage counts once.
    assert!(index.contains("\"total_size\": 20\n"), "{index}");
}

#[test]
fn what_torch_cannot_count_is_refused() {
    let fault = |dtype, shape: &[u64]| {
        let mut model = Model::default();
        push(&mut model, "x", dtype, shape);
        lay_out(&model, "drop", Shards::One).unwrap_err().to_string()
    };
    assert_eq!(
        fault(DType::F4E2M1, &[2, 3]),
        "tensor \"x\": torch holds pairs along the last dimension, expected an even last dimension, found [2, 3]"
    );
    assert_eq!(
        fault(DType::F4E2M1, &[]),
        "tensor \"x\": torch holds pairs along the last dimension, expected an even last dimension, found []"
    );
    assert_eq!(
        fault(DType::F32, &[0, 1 << 63]),
        "tensor \"x\": torch counts up to 2^63 elements, expected less, found 9223372036854775808"
    );
    assert_eq!(
        fault(DType::F32, &[0, 1 << 40, 1 << 40]),
        "tensor \"x\": torch cannot count a tensor's elements, found [0, 1099511627776, 1099511627776]"
    );
}

#[test]
fn every_declared_type_is_written() {
    for dtype in DTYPES {
        let mut model = Model::default();
        push(&mut model, "x", dtype, &[3, 2]);
        let (layout, _) = lay_out(&model, "drop", Shards::One).unwrap();
        let last = if dtype == DType::F4E2M1 { 1 } else { 2 };
        assert_eq!(shown(pickle_of(&layout, 0)), format!("OrderedDict() x=tensor(3 {last})"), "{dtype}");
    }
}
