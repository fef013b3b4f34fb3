use super::*;
use modelferry_core::inputs::{FileId, MemInputs};
use modelferry_core::limits::Limits;
use modelferry_wire::onnx::messages::Entry;
use modelferry_wire::onnx::{Fields, Message, Part, attribute, function, graph, model, node, tensor_proto};

/// A graph in the making.
#[derive(Default)]
struct Made(Message);

impl Made {
    /// A tensor of `f32` zeros.
    fn tensor(mut self, name: &str, shape: &[i64]) -> Made {
        self.0.message(graph::INITIALIZER, tensor(name, shape));
        self
    }

    /// A node `NAME = OPERATOR(INPUTS)`; what it makes is called `NAME:0`.
    fn node(self, name: &str, operator: &str, inputs: &[&str]) -> Made {
        self.node_with(name, operator, inputs, |_| {})
    }

    fn node_with(
        mut self,
        name: &str,
        operator: &str,
        inputs: &[&str],
        more: impl FnOnce(&mut Message),
    ) -> Made {
        let mut message = Message::default();
        inputs.iter().for_each(|input| message.bytes(node::INPUT, input.as_bytes()));
        message.bytes(node::OUTPUT, format!("{name}:0").as_bytes());
        message.bytes(node::NAME, name.as_bytes());
        message.bytes(node::OP_TYPE, operator.as_bytes());
        more(&mut message);
        self.0.message(graph::NODE, message);
        self
    }

    /// A node with the notes of `dynamo=True`: its module, the class of that, and what was called.
    fn noted(self, name: &str, operator: &str, inputs: &[&str], notes: [&str; 3]) -> Made {
        let [module, class, operation] = notes;
        self.node_with(name, operator, inputs, |message| {
            note(message, "pkg.torch.onnx.name_scopes", &format!("['', '{module}', 'x']"));
            note(message, "pkg.torch.onnx.class_hierarchy", &format!("['m.M', '{class}', 'aten.x']"));
            note(message, "pkg.torch.onnx.fx_node", operation);
        })
    }

    fn find(self) -> String {
        let mut whole = Message::default();
        whole.message(model::GRAPH, self.0);
        find_in(whole)
    }
}

fn note(message: &mut Message, key: &str, value: &str) {
    let entry = Entry { key: Some(key.to_owned()), value: Some(value.to_owned()) };
    message.small(node::METADATA_PROPS, &entry);
}

fn tensor(name: &str, shape: &[i64]) -> Message {
    let mut message = Message::default();
    shape.iter().for_each(|&extent| message.int(tensor_proto::DIMS, extent));
    message.int(tensor_proto::DATA_TYPE, 1);
    message.bytes(tensor_proto::NAME, name.as_bytes());
    message.bytes(tensor_proto::RAW_DATA, &vec![0; 4 * shape.iter().product::<i64>() as usize]);
    message
}

fn flat(message: Message) -> Vec<u8> {
    let bytes = |part| match part {
        Part::Bytes(bytes) => bytes,
        Part::Tensor { .. } => vec![],
    };
    message.into_parts().into_iter().flat_map(bytes).collect()
}

/// What is found in a model: `TENSOR = NAME` for each origin, with ` T` where its axes are turned, then what is nameless.
fn find_in(mut whole: Message) -> String {
    whole.int(model::IR_VERSION, 8);
    let mut import = Message::default();
    import.int(2, 17);
    whole.message(model::OPSET_IMPORT, import);
    let inputs = MemInputs::new("m.onnx", flat(whole));
    let document = Document::read(&inputs, FileId(0), &Limits::default()).unwrap();
    let found = find(&document);
    let name = |idx: usize| document.tensors[idx].name.clone();
    let known = found.known.iter().map(|origin| {
        let turned = if *origin.axes == [1, 0] { " T" } else { "" };
        format!("{} = {}{turned}", name(origin.tensor), origin.name)
    });
    let nameless = found.nameless.iter().map(|&idx| format!("{}?", name(idx)));
    known.chain(nameless).collect::<Vec<_>>().join(", ")
}

const LINEAR: &str = "torch.nn.modules.linear.Linear";
const CALLED: &str =
    "%l : call_function[target=torch.ops.aten.linear.default](args = (%x, %p_h_0_q_gate), kwargs = {})";

#[test]
fn the_way_to_a_linear_layer_is_its_weights_name() {
    let found = Made::default()
        .tensor("onnx::MatMul_1", &[4, 4])
        .tensor("onnx::MatMul_2", &[4, 4])
        .node("/m/h.0/q/MatMul", "MatMul", &["x", "onnx::MatMul_1"])
        // Several multiplications, or anything else in it: no linear layer.
        .node("/m/h.0/experts/MatMul", "MatMul", &["x", "onnx::MatMul_2"])
        .node("/m/h.0/experts/Relu", "Relu", &["/m/h.0/experts/MatMul:0"])
        .find();
    assert_eq!(found, "onnx::MatMul_1 = m.h.0.q.weight T, onnx::MatMul_2?");
}

#[test]
fn a_module_with_others_in_it_is_no_layer() {
    let found = Made::default()
        .tensor("onnx::MatMul_1", &[4, 4])
        .tensor("m.a.b.bias", &[4])
        .node("/m/a/MatMul", "MatMul", &["x", "onnx::MatMul_1"])
        .find();
    assert_eq!(found, "onnx::MatMul_1?");
}

#[test]
fn the_bias_behind_it_says_whose_weight_it_is() {
    let with = |operator: &str, inputs: &[&str], bias: (&str, i64)| {
        Made::default()
            .tensor("12", &[4, 6])
            .tensor(bias.0, &[bias.1])
            .node("MatMul_3", operator, inputs)
            .node("Add_4", "Add", &[bias.0, "MatMul_3:0"])
    };
    let plain = |bias: (&str, i64)| with("MatMul", &["x", "12"], bias);
    assert_eq!(plain(("a.b.bias", 6)).find(), "12 = a.b.weight T");
    // Of another length, of another kind, or of a module around others.
    assert_eq!(plain(("a.b.bias", 4)).find(), "12?");
    assert_eq!(plain(("a.b.gain", 6)).find(), "12?");
    assert_eq!(plain(("a.b.bias", 6)).tensor("a.b.c.weight", &[2]).find(), "12?");
    // What else is done with the product may be anything.
    assert_eq!(plain(("a.b.bias", 6)).node("Relu_5", "Relu", &["MatMul_3:0"]).find(), "12?");
    // An operator that a layer of either layout becomes, unless the name says more.
    assert_eq!(with("Gemm", &["x", "12", "a.b.bias"], ("a.b.bias", 6)).find(), "12?");
    let gemm = Made::default().tensor("onnx::MatMul_9", &[4, 6]).tensor("a.b.bias", &[6]);
    let gemm = gemm.node("Gemm_1", "Gemm", &["x", "onnx::MatMul_9", "a.b.bias"]);
    assert_eq!(gemm.find(), "onnx::MatMul_9 = a.b.weight T");
}

#[test]
fn the_way_is_stronger_than_a_bias_that_is_tied() {
    let found = Made::default()
        .tensor("onnx::MatMul_1", &[4, 6])
        .tensor("cls.bias", &[6])
        .tensor("cls.transform.bias", &[4])
        .node("/cls/decoder/MatMul", "MatMul", &["x", "onnx::MatMul_1"])
        .node("/cls/decoder/Add", "Add", &["cls.bias", "/cls/decoder/MatMul:0"])
        .find();
    assert_eq!(found, "onnx::MatMul_1 = cls.decoder.weight T");
}

#[test]
fn what_the_ways_lack_at_the_front_is_learnt() {
    let made = |norms: &[(&str, &str)]| {
        let made = Made::default().tensor("onnx::MatMul_1", &[4, 4]).node(
            "/h.0/q/MatMul",
            "MatMul",
            &["x", "onnx::MatMul_1"],
        );
        norms.iter().fold(made, |made, (name, node)| {
            made.tensor(name, &[4]).node(node, "LayerNormalization", &["x", name])
        })
    };
    assert_eq!(made(&[("bert.h.0.n.weight", "/h.0/n/N")]).find(), "onnx::MatMul_1 = bert.h.0.q.weight T");
    assert_eq!(made(&[("h.0.n.weight", "/h.0/n/N")]).find(), "onnx::MatMul_1 = h.0.q.weight T");
    // Where two nodes disagree, ways say nothing.
    let two = [("bert.h.0.n.weight", "/h.0/n/N"), ("h.0.o.weight", "/h.0/o/N")];
    assert_eq!(made(&two).find(), "onnx::MatMul_1?");
}

#[test]
fn notes_say_what_a_module_is() {
    let made = |operator: &str, class: &str, operation: &str| {
        Made::default()
            .tensor("val_1", &[4, 4])
            .noted("n", operator, &["x", "val_1"], ["h.0.q", class, operation])
            .find()
    };
    assert_eq!(made("MatMul", LINEAR, CALLED), "val_1 = h.0.q.weight T");
    assert_eq!(made("MatMul", "m.Router", CALLED), "val_1 = h.0.q.gate T");
    // What was computed of a parameter is none.
    for class in [LINEAR, "m.Router"] {
        assert_eq!(made("MatMul", class, &CALLED.replace("%p_h_0_q_gate", "%mul_3")), "val_1?");
        assert_eq!(made("MatMul", class, ""), "val_1?");
    }
    assert_eq!(made("MatMul", "transformers.pytorch_utils.Conv1D", ""), "val_1?");
    assert_eq!(made("Conv", "torch.nn.modules.conv.Conv2d", ""), "val_1?");
    // What takes it is no such operator.
    assert_eq!(made("Gather", LINEAR, CALLED), "val_1?");
    assert_eq!(made("Add", LINEAR, CALLED), "val_1?");
}

#[test]
fn a_transpose_that_is_still_there_is_followed() {
    let made = |name: &str| {
        Made::default().tensor(name, &[6, 4]).node("t", "Transpose", &[name]).node("c", "Cast", &["t:0"])
    };
    let noted = |name: &str| made(name).noted("n", "MatMul", &["x", "c:0"], ["q", LINEAR, CALLED]);
    assert_eq!(noted("val_1").find(), "val_1 = q.weight");
    assert_eq!(noted("q.weight").find(), "");
    // A name that was kept, and an order of axes that was not.
    let folded = Made::default().tensor("q.weight", &[4, 6]);
    let folded = folded.noted("n", "MatMul", &["x", "q.weight"], ["q", LINEAR, CALLED]);
    assert_eq!(folded.find(), "q.weight = q.weight T");
    // One that multiplies by its weight as it is keeps its name, and has its axes as they were.
    let plain = Made::default().tensor("q.weight", &[4, 6]).node("/q/MatMul", "MatMul", &["x", "q.weight"]);
    assert_eq!(plain.find(), "");
}

#[test]
fn tied_weights_have_their_names_back() {
    let embedding = ["embed", "torch.nn.modules.sparse.Embedding", ""];
    // The name that was kept is the head's, which has a copy of its own.
    let tied = Made::default()
        .tensor("head.weight", &[6, 4])
        .tensor("val_2", &[4, 6])
        .noted("e", "Gather", &["head.weight", "x"], embedding)
        .noted("h", "MatMul", &["e:0", "val_2"], ["head", LINEAR, CALLED]);
    assert_eq!(tied.find(), "head.weight = head.weight, head.weight = embed.weight, val_2 = head.weight T");
    // Without a copy, it is both.
    let shared = Made::default()
        .tensor("head.weight", &[6, 4])
        .noted("e", "Gather", &["head.weight", "x"], embedding)
        .node("t", "Transpose", &["head.weight"])
        .noted("h", "MatMul", &["e:0", "t:0"], ["head", LINEAR, CALLED]);
    assert_eq!(shared.find(), "head.weight = head.weight, head.weight = embed.weight");
    // A name that nothing shows to be the model's is somebody's wish.
    let renamed = Made::default()
        .tensor("mine.weight", &[6, 4])
        .noted("e", "Gather", &["mine.weight", "x"], embedding)
        .tensor("val_2", &[4, 6])
        .noted("h", "MatMul", &["e:0", "val_2"], ["head", LINEAR, CALLED]);
    assert_eq!(renamed.find(), "val_2 = head.weight T");
}

#[test]
fn one_weight_of_two_modules_has_both_names() {
    let found = Made::default()
        .tensor("val_1", &[4, 4])
        .noted("a", "MatMul", &["x", "val_1"], ["a", LINEAR, CALLED])
        .noted("b", "MatMul", &["x", "val_1"], ["b", LINEAR, CALLED])
        .find();
    assert_eq!(found, "val_1 = a.weight T, val_1 = b.weight T");
    // It cannot have been both ways at once.
    let found = Made::default()
        .tensor("val_1", &[4, 4])
        .node("t", "Transpose", &["val_1"])
        .noted("a", "MatMul", &["x", "val_1"], ["a", LINEAR, CALLED])
        .noted("b", "MatMul", &["x", "t:0"], ["b", LINEAR, CALLED])
        .find();
    assert_eq!(found, "val_1?");
}

#[test]
fn what_an_exporter_named_may_be_a_weight_unless_it_is_one_number_or_the_programs() {
    let found = Made::default()
        .tensor("val_1", &[1, 1, 4, 4])
        .tensor("val_2", &[1])
        .tensor("val_3", &[])
        .tensor("mine", &[4])
        .tensor("/rotary/Constant_output_0", &[1, 4])
        .node("/attn/Add", "Add", &["x", "val_1"])
        .node("/attn/MatMul", "MatMul", &["x", "y"])
        .node("/attn/Mul", "Mul", &["x", "val_2"])
        .node("/attn/Div", "Div", &["x", "val_3"])
        .node("/attn/Norm", "InstanceNormalization", &["x", "mine", "onnx::Norm_1"])
        .tensor("onnx::Norm_1", &[4])
        .node("/rotary/Cos", "Cos", &["/rotary/Constant_output_0"])
        .find();
    assert_eq!(found, "val_1?, onnx::Norm_1?");
}

#[test]
fn a_module_that_is_called_again_is_no_other() {
    let made = |inputs: &[&str]| {
        Made::default()
            .tensor("onnx::MatMul_1", &[4, 4])
            .tensor("onnx::MatMul_2", &[4, 4])
            .node("/q/MatMul", "MatMul", &["x", "onnx::MatMul_1"])
            .node("/q_1/MatMul", "MatMul", inputs)
    };
    assert_eq!(made(&["x", "onnx::MatMul_1"]).find(), "onnx::MatMul_1 = q.weight T, onnx::MatMul_2?");
    // A copy of it, or another module's: only a parameter tells.
    let two = || made(&["x", "onnx::MatMul_2"]);
    assert_eq!(two().find(), "onnx::MatMul_1 = q.weight T, onnx::MatMul_2?");
    let add = |bias: &str| two().tensor(bias, &[4]).node("/q_1/Add", "Add", &[bias, "/q_1/MatMul:0"]).find();
    assert_eq!(add("q.bias"), "onnx::MatMul_1 = q.weight T, onnx::MatMul_2 = q.weight T");
    assert_eq!(add("q_1.bias"), "onnx::MatMul_1 = q.weight T, onnx::MatMul_2 = q_1.weight T");
}

#[test]
fn notes_tell_what_was_computed_from_what_has_a_short_name() {
    let made = |name: &str| {
        let notes = ["q", "m.Q", "%l : call_function[target=torch.ops.aten.mm.default](args = (%x, %p_w))"];
        Made::default().tensor(name, &[4, 4]).noted("n", "MatMul", &["x", name], notes).find()
    };
    assert_eq!((made("mul_2"), made("w")), ("mul_2?".to_owned(), String::new()));
}

mod documents;
