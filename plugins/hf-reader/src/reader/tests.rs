use super::*;
use modelferry_core::DType;
use modelferry_core::expr::Packing;
use modelferry_core::inputs::MemInputs;
use modelferry_core::plugin::{Answer, Query};
use std::collections::BTreeMap;

/// Takes any file for one tensor of bytes.
struct Bytes(Limits);

impl Host for Bytes {
    fn limits(&self) -> &Limits {
        &self.0
    }

    fn ask(&mut self, _: &Model, _: Query) -> Result<Answer> {
        Err(Error::unsupported("nothing is asked here"))
    }

    fn read(&mut self, inputs: &dyn Inputs, root: FileId) -> Result<Model> {
        let mut model = Model::default();
        let len = inputs.len(root);
        let region = model.nodes.region(root, 0, len)?;
        let data = model.nodes.decode(region, DType::U8, len, Packing::default())?;
        model.push(inputs.name(root), DType::U8, vec![len], data)?;
        Ok(model)
    }
}

fn folder(files: &[(&str, &[u8])]) -> MemInputs {
    files.iter().fold(MemInputs::folder("m"), |inputs, (name, bytes)| inputs.with(name, *bytes))
}

fn read(inputs: &MemInputs, options: &[(&str, &str)]) -> Result<Model> {
    let given: BTreeMap<String, String> =
        options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options = Options::resolve(INFO.options, &given)?;
    HfReader.read(inputs, &options, &mut Bytes(Limits::default()))
}

fn said(model: &Model) -> Vec<String> {
    model.losses.iter().map(ToString::to_string).collect()
}

fn assets(model: &Model) -> Vec<&str> {
    model.assets.iter().map(|asset| asset.name.as_str()).collect()
}

#[test]
fn a_folder_is_its_weights_and_what_belongs_to_them() {
    let inputs = folder(&[
        ("config.json", b"{\"a\": NaN }\n"),
        ("model.safetensors", b"weights"),
        ("pytorch_model.bin", b"others"),
        ("tokenizer.json", b"{}"),
        ("empty", b""),
        ("1_Pooling/config.json", b"not ours to judge"),
        ("optimizer.pt", b"moments"),
        ("onnx/model.onnx", b"graph"),
        ("onnx/config.json", b"{}"),
        (".git/HEAD", b"ref"),
        ("vocab.pkl", b"."),
    ]);
    assert_eq!(HfReader.identify(&inputs), Verdict::Content);
    let model = read(&inputs, &[]).unwrap();
    assert_eq!(model.tensors[0].name, "model.safetensors");
    assert_eq!(model.config.as_deref(), Some("{\"a\": NaN }\n"));
    assert_eq!(assets(&model), ["1_Pooling/config.json", "empty", "tokenizer.json"]);
    let expected = [
        "asset: onnx/: weights that were not chosen, not carried",
        "state: optimizer.pt: state of the training, not carried",
        "asset: pytorch_model.bin: weights that were not chosen, not carried",
        "asset: vocab.pkl: a pickle, not carried; pass --keep-pickles true to carry it",
    ];
    assert_eq!(said(&model), expected);
    model.validate(&Limits::default()).unwrap();
}

#[test]
fn a_file_that_was_named_is_the_weights() {
    let inputs =
        MemInputs::new("special.pt", *b"w").with("config.json", *b"{}").with("model.safetensors", *b"x");
    assert_eq!(HfReader.identify(&inputs), Verdict::Content);
    let model = read(&inputs, &[]).unwrap();
    assert_eq!(model.tensors[0].name, "special.pt");
    assert_eq!(said(&model), ["asset: model.safetensors: weights that were not chosen, not carried"]);
    let lone = MemInputs::new("special.pt", *b"w");
    assert_eq!(HfReader.identify(&lone), Verdict::No);
    let other = MemInputs::new("README.md", *b"w").with("config.json", *b"{}");
    assert_eq!(HfReader.identify(&other), Verdict::No);
}

#[test]
fn a_fallback_is_named() {
    let inputs = folder(&[("config.json", b"{}"), ("best.safetensors", b"w")]);
    let expected = "asset: best.safetensors: taken for the folder's weights, for none has a usual name";
    assert_eq!(said(&read(&inputs, &[]).unwrap()), [expected]);
    let variant = folder(&[("config.json", b"{}"), ("model.fp16.safetensors", b"w")]);
    assert_eq!(said(&read(&variant, &[("variant", "fp16")]).unwrap()), [""; 0]);
}

#[test]
fn what_is_no_model_says_why() {
    let error = |files: &[(&str, &[u8])]| read(&folder(files), &[]).err().unwrap().to_string();
    assert_eq!(
        error(&[("config.json", b"{"), ("model.safetensors", b"w")]),
        "config.json: byte 1: not JSON, expected a key in quotes, found the end"
    );
    assert_eq!(
        error(&[("config.json", b"{}"), ("tf_model.h5", b"w")]),
        "the folder holds no weights that there is a reader for, expected model.safetensors, pytorch_model.bin or an \
         index of such, found tf_model.h5"
    );
    assert_eq!(
        error(&[("a.safetensors", b"w"), ("b.safetensors", b"w")]),
        "several sets of weights, and none of a usual name, found a.safetensors, b.safetensors (name the file that is \
         meant)"
    );
    assert_eq!(
        error(&[("config.json", b"{\"transformers_weights\": \"x\"}"), ("model.safetensors", b"w")]),
        "config.json: the weights that the config names are not there, expected \"x\""
    );
    let nothing = folder(&[("tokenizer.json", b"{}")]);
    assert_eq!(HfReader.identify(&nothing), Verdict::No);
}

#[test]
fn arguments_of_a_training_become_json() {
    // Protocol 2: {"lr": 5e-05}, and the same behind the preamble of torch before 1.6.
    let plain = b"\x80\x02}q\x00X\x02\x00\x00\x00lrq\x01G\x3f\x0a\x36\xe2\xeb\x1c\x43\x2ds.".as_slice();
    let legacy = [
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00.".as_slice(),
        plain,
        b"\x80\x02]q\x00.",
    ]
    .concat();
    for bytes in [plain, &legacy] {
        let inputs = folder(&[("model.safetensors", b"w"), ("training_args.bin", bytes)]);
        let model = read(&inputs, &[]).unwrap();
        assert_eq!(assets(&model), ["training_args.json"]);
        let Op::Inline(text) = &model.nodes[model.assets[0].data].op else { panic!("no text of ours") };
        assert_eq!(&**text, b"{\n  \"lr\": 5e-05\n}\n");
        assert_eq!(said(&model), ["asset: training_args.bin: a pickle, taken as training_args.json"]);
        let kept = read(&inputs, &[("keep-pickles", "true")]).unwrap();
        assert_eq!((assets(&kept), said(&kept)), (vec!["training_args.bin"], vec![]));
    }
    let damaged = folder(&[("model.safetensors", b"w"), ("training_args.bin", b"PK\x03\x04")]);
    let model = read(&damaged, &[]).unwrap();
    assert!(model.assets.is_empty());
    assert!(said(&model)[0].starts_with("asset: training_args.bin: a pickle that cannot be shown as text"));
}

#[test]
fn a_maze_of_folders_has_an_end() {
    let deep = format!("{}x", "a/".repeat(1000));
    let inputs = folder(&[("model.safetensors", b"w"), (&deep, b"")]);
    assert_eq!(read(&inputs, &[]).err().unwrap().kind(), ErrorKind::Limit);
}
