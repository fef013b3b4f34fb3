use super::*;
use modelferry_core::error::ErrorKind;

fn names(list: &str) -> Vec<String> {
    list.split_whitespace().map(str::to_owned).collect()
}

#[track_caller]
fn check(list: &str, variant: Option<&str>, expected: Option<&str>) {
    assert_eq!(choose(&names(list), variant, None).unwrap().as_deref(), expected, "{list}");
}

#[test]
fn the_order_is_that_of_transformers() {
    let all = "config.json pytorch_model.bin.index.json pytorch_model.bin model.safetensors.index.json model.safetensors";
    check(all, None, Some("model.safetensors"));
    check(
        "pytorch_model.bin.index.json pytorch_model.bin model.safetensors.index.json",
        None,
        Some("model.safetensors.index.json"),
    );
    check("pytorch_model.bin.index.json pytorch_model.bin", None, Some("pytorch_model.bin"));
    check("pytorch_model.bin.index.json other.safetensors", None, Some("pytorch_model.bin.index.json"));
    check("config.json tokenizer.json", None, None);
}

#[test]
fn variants() {
    let all = "model.safetensors model.fp16.safetensors pytorch_model.fp16.bin";
    check(all, Some("fp16"), Some("model.fp16.safetensors"));
    let sharded = "model.safetensors model.safetensors.index.fp16.json model.fp16-00001-of-00002.safetensors";
    check(sharded, Some("fp16"), Some("model.safetensors.index.fp16.json"));
    let older = "model-00001-of-00002.fp16.safetensors model-00002-of-00002.fp16.safetensors";
    check(older, Some("fp16"), Some("model-00001-of-00002.fp16.safetensors"));
    check("x.fp16.safetensors x.safetensors", Some("fp16"), Some("x.fp16.safetensors"));
    let error = choose(&names("model.safetensors"), Some("bf16"), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn one_set_of_another_name_is_taken() {
    check("a.safetensors config.json", None, Some("a.safetensors"));
    check("model.fp16.safetensors", None, Some("model.fp16.safetensors"));
    check("a-00001-of-00002.bin a-00002-of-00002.bin", None, Some("a-00001-of-00002.bin"));
    check("a-00001-of-00002.bin a-00002-of-00002.bin a.bin.index.json", None, Some("a.bin.index.json"));
    check("a-00001-of-00002.bin a.bin", None, Some("a.bin"));
    check(
        "model.npz extra.npz training_args.bin optimizer.pt rng_state_0.pth tf_model.h5",
        None,
        Some("model.npz"),
    );
    check("openvino_model.bin", None, None);
    // What folders of ours hold, in formats of plugins too.
    check("config.json model.msgpack model.h5", None, Some("model.msgpack"));
    check("adapter_model.npz adapter_config.json", None, Some("adapter_model.npz"));
    check("config.json model.flat model.flatdata model.py model.json", None, Some("model.flat"));
    check("model.flat a.safetensors", None, Some("a.safetensors"));
    check("model.h5 model.xml other.flat model.fp16.flat", None, None);
    for several in [
        "a.safetensors b.bin",
        "a-00001-of-00002.pt a-00001-of-00003.pt",
        "consolidated.00.pth consolidated.01.pth",
    ] {
        let error = choose(&names(several), None, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Ambiguous, "{several}");
    }
}

#[test]
fn a_config_may_name_its_weights() {
    let there = names("model.safetensors special.safetensors");
    assert_eq!(
        choose(&there, None, Some("special.safetensors")).unwrap().as_deref(),
        Some("special.safetensors")
    );
    assert_eq!(choose(&there, None, Some("absent.safetensors")).unwrap_err().kind(), ErrorKind::Malformed);
}

#[test]
fn gguf_is_weights_under_the_name_that_folders_of_ours_give_it() {
    let chosen = |list: &str| choose(&names(list), None, None).unwrap();
    assert_eq!(chosen("model.gguf config.json").as_deref(), Some("model.gguf"));
    assert_eq!(chosen("model.safetensors model.gguf").as_deref(), Some("model.safetensors"));
    let parts = "model-00001-of-00002.gguf model-00002-of-00002.gguf";
    assert_eq!(chosen(parts).as_deref(), Some("model-00001-of-00002.gguf"));
    assert_eq!(chosen("Model-Q4_K_M.gguf other-00001-of-00002.gguf"), None);
    assert!(has_usual(&names("model-00002-of-00002.gguf")) && !has_usual(&names("q.gguf")));
}

#[test]
fn roles() {
    let roles = [
        (
            Role::Weights,
            "model.safetensors pytorch_model-00001-of-00002.bin model.safetensors.index.json a/b.pth",
        ),
        (
            Role::Weights,
            "tf_model.h5 flax_model.msgpack rust_model.ot q.gguf model.ckpt.index model.ckpt.data-0-of-1",
        ),
        (Role::Weights, "flax_model.msgpack.index.json consolidated.00.pth model.onnx model.npz last.ckpt"),
        (
            Role::State,
            "optimizer.pt scheduler.pt rng_state.pth rng_state_12.pth scaler.pt trainer_state.json random_states_0.pkl",
        ),
        (Role::Pickle, "training_args.bin vocab.pkl 2_Dense/pytorch_model.bin"),
        (
            Role::Asset,
            "tokenizer.json merges.txt chat_template.jinja modeling_x.py 1_Pooling/config.json .gitattributes",
        ),
        (
            Role::Asset,
            "2_Dense/model.safetensors voices.npz spiece.model index.json README.md rng_state_x.json",
        ),
        (Role::Stranger, ".DS_Store a/x.pyc .model.partial-1-2"),
    ];
    for (expected, list) in roles {
        for path in names(list) {
            assert_eq!(role(&path), expected, "{path}");
        }
    }
    let folders = [
        (Some(Role::Weights), "original onnx"),
        (Some(Role::State), "checkpoint-500 global_step10"),
        (Some(Role::Stranger), ".git .cache a/__pycache__ .model.partial-1-2"),
        (None, "1_Pooling unet a/onnx checkpoint-best"),
    ];
    for (expected, list) in folders {
        for path in names(list) {
            assert_eq!(folder_role(&path), expected, "{path}");
        }
    }
}

#[test]
fn indexes_are_told_from_other_json() {
    for name in ["model.safetensors.index.json", "pytorch_model.bin.index.fp16.json", "x.index.json"] {
        assert!(is_index_name(name), "{name}");
    }
    assert!(is_index_of("model.safetensors.index.json", "model-00001-of-00002.safetensors"));
    assert!(is_index_of("model.safetensors.index.fp16.json", "model.fp16-00001-of-00002.safetensors"));
    assert!(is_index_of("model.safetensors.index.fp16.json", "model-00001-of-00002.fp16.safetensors"));
    assert!(!is_index_of("model.safetensors.index.json", "model.safetensors"));
    for name in ["config.json", ".index.json", "index.json", "a.index.b.c.json", "a.index..json"] {
        assert!(!is_index_name(name), "{name}");
    }
}
