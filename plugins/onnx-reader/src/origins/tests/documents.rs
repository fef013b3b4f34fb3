//! Graphs in graphs, functions, and documents that nobody would make.

use super::*;

#[test]
fn branches_and_merges_give_names_back() {
    let branch = |idx: usize| {
        Made::default()
            .tensor(&format!("onnx::MatMul_{idx}"), &[4, 4])
            .tensor("n.weight", &[4])
            .node("/q/MatMul", "MatMul", &["x", &format!("onnx::MatMul_{idx}")])
            .node("/q/MatMul_1", "MatMul", &["x", "onnx::MatMul_9_merged_0"])
            .0
    };
    let found = Made::default()
        .tensor("h.weight_merged_3", &[4, 4])
        .tensor("onnx::MatMul_9_merged_0", &[4, 4])
        .node_with("if", "If", &["use"], |message| {
            for (name, idx) in [("then_branch", 1), ("else_branch", 2)] {
                let mut attribute = Message::default();
                attribute.bytes(attribute::NAME, name.as_bytes());
                attribute.message(attribute::G, branch(idx));
                message.message(node::ATTRIBUTE, attribute);
            }
        })
        .find();
    let expected = "h.weight_merged_3 = h.weight, onnx::MatMul_9_merged_0 = q.weight T, onnx::MatMul_1 = q.weight T, \
                    onnx::MatMul_2 = q.weight T, if.else_branch.n.weight = n.weight";
    let sorted = |text: &str| {
        let mut words: Vec<String> = text.split(", ").map(str::to_owned).collect();
        words.sort();
        words
    };
    assert_eq!(sorted(&found), sorted(expected));
}

#[test]
fn constants_in_functions_are_seen() {
    let mut constant = Message::default();
    constant.bytes(node::OUTPUT, b"val_1");
    constant.bytes(node::OP_TYPE, b"Constant");
    let mut value = Message::default();
    value.bytes(attribute::NAME, b"value");
    value.message(attribute::T, tensor("", &[4, 4]));
    constant.message(node::ATTRIBUTE, value);
    let mut inside = Message::default();
    inside.bytes(function::NAME, b"f");
    inside.message(function::NODE, constant);
    let nodes = Made::default().noted("n", "MatMul", &["x", "val_1"], ["q", LINEAR, CALLED]);
    let mut whole = Message::default();
    whole.message(model::GRAPH, Made::default().0);
    // Nodes of a function stand under another number.
    let nodes = flat(nodes.0);
    let node = Fields::of(&nodes).next().unwrap().unwrap();
    inside.bytes(function::NODE, node.value);
    whole.message(model::FUNCTIONS, inside);
    assert_eq!(find_in(whole), "val_1 = q.weight T");
}

/// Circles, names that are used twice or are not there, and ways without end are looked at once.
#[test]
fn hostile_graphs_are_looked_at_once() {
    let mut made = Made::default().tensor("val_1", &[2, 2]).tensor("a", &[2, 2]).tensor("b:0", &[2, 2]);
    for _ in 0..2000 {
        made = made
            .node("a", "Identity", &["a:0"])
            .node("a", "Identity", &["val_1"])
            .node("b", "Transpose", &["b:0"])
            .node("", "MatMul", &["", "val_1", "val_1", "val_1", "val_1"])
            .node("/", "Gemm", &["nobody", "b:0"])
            .node(&"/x".repeat(300), "MatMul", &["a", "val_1"])
            .node("/a/b", "Add", &[]);
    }
    assert_eq!(made.find(), "val_1?");
}

/// Names of a depth that no model has make modules without number: then nothing is concluded from any.
#[test]
fn modules_without_number_say_nothing() {
    let deep = |idx: usize| format!("{}bias", format!("a{idx}.").repeat(8000));
    let made = |n: usize| {
        let made = Made::default().tensor("12", &[4, 4]).tensor("q.bias", &[4]);
        let made =
            made.node("MatMul_3", "MatMul", &["x", "12"]).node("Add_4", "Add", &["q.bias", "MatMul_3:0"]);
        (0..n).fold(made, |made, idx| made.tensor(&deep(idx), &[1]))
    };
    assert_eq!(made(0).find(), "12 = q.weight T");
    assert_eq!(made(3).find(), "12?");
}
