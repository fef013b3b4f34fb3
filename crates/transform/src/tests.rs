//! Tests of the edits, on models made in memory.

use super::*;
use modelferry_core::expr::{BlockFn, NodeId, Op, ScalarFn};
use modelferry_core::graph::{Binding, Graph};
use modelferry_core::limits::Limits;
use modelferry_core::loss::LossKind;
use modelferry_core::model::Value;
use modelferry_core::plugin::{Answer, Query};
use modelferry_core::tree::Part;
use modelferry_core::{DType, ErrorKind};

pub(crate) struct NoHost {
    pub(crate) limits: Limits,
    pub(crate) equal: Option<bool>,
}

impl Host for NoHost {
    fn limits(&self) -> &Limits {
        &self.limits
    }
    fn ask(&mut self, _: &Model, query: Query) -> Result<Answer> {
        assert!(matches!(query, Query::Equal(..)));
        Ok(Answer::Bool(self.equal.expect("nothing should be asked")))
    }
}

/// A model of one-dimensional tensors of four elements; each has a node of its own.
fn model(tensors: &[(&str, DType)]) -> Model {
    let mut model = Model::default();
    for &(name, dtype) in tensors {
        let bytes = vec![0u8; dtype.packed_len(4).unwrap() as usize];
        let bytes = model.nodes.inline(bytes).unwrap();
        let data = model.nodes.decode(bytes, dtype, 4, Default::default()).unwrap();
        model.push(name, dtype, vec![4], data).unwrap();
    }
    model
}

/// Applies edits and shows the result as `name:dtype` words and losses as lines.
fn check(
    model: Model,
    edits: &Edits,
    ties: Carries,
    equal: Option<bool>,
) -> Result<(String, Vec<String>, Model)> {
    let mut host = NoHost { limits: Limits::default(), equal };
    let (model, losses) = apply(model, edits, None, Keeps { ties, graph: true }, &mut host)?;
    model.validate(&Limits::default()).unwrap();
    let words: Vec<String> =
        model.tensors.iter().map(|tensor| format!("{}:{}", tensor.name, tensor.dtype)).collect();
    let losses =
        losses.iter().map(|loss| format!("{loss}{}", if loss.asked { " (asked)" } else { "" })).collect();
    Ok((words.join(" "), losses, model))
}

fn globs(texts: &[&str]) -> Vec<Glob> {
    texts.iter().map(|text| Glob::new(text).unwrap()).collect()
}

fn renames(texts: &[&str]) -> Vec<Rename> {
    texts.iter().map(|text| Rename::parse(text).unwrap()).collect()
}

fn fails(model: Model, edits: &Edits, kind: ErrorKind, text: &str) {
    let error = check(model, edits, Carries::No, None).map(|done| done.0).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
}

#[test]
fn include_and_exclude() {
    let three = || model(&[("a.w", DType::F32), ("a.b", DType::F32), ("c.w", DType::I8)]);
    let edits = Edits { include: globs(&["*.w"]), exclude: globs(&["c.*"]), ..Edits::default() };
    let (names, losses, _) = check(three(), &edits, Carries::No, None).unwrap();
    assert_eq!(names, "a.w:f32");
    assert_eq!(
        losses,
        ["tensor: a.b: not in --include (asked)", "tensor: c.w: left out by --exclude (asked)"]
    );
    let edits = Edits { exclude: globs(&["a.*", "d.*"]), ..Edits::default() };
    fails(three(), &edits, ErrorKind::Usage, "--exclude: the pattern matches no tensor, found d.*");
    let edits = Edits { include: globs(&["x"]), ..Edits::default() };
    fails(three(), &edits, ErrorKind::Usage, "--include: the pattern matches no tensor, found x");
}

#[test]
fn wrapper_prefixes() {
    let edits = Edits::default();
    let wrapped = || model(&[("module._orig_mod.a", DType::F32), ("module._orig_mod.b", DType::F32)]);
    let (names, losses, _) = check(wrapped(), &edits, Carries::No, None).unwrap();
    assert_eq!(names, "a:f32 b:f32");
    assert_eq!(
        losses,
        [
            "name: module._orig_mod.a: wrapper prefix stripped, written as \"a\"",
            "name: module._orig_mod.b: wrapper prefix stripped, written as \"b\""
        ]
    );
    let edits = Edits { strip_prefix: StripPrefix::None, ..Edits::default() };
    assert_eq!(
        check(wrapped(), &edits, Carries::No, None).unwrap().0,
        "module._orig_mod.a:f32 module._orig_mod.b:f32"
    );
    let partly = model(&[("module.a", DType::F32), ("b", DType::F32)]);
    assert_eq!(check(partly, &Edits::default(), Carries::No, None).unwrap().0, "module.a:f32 b:f32");
    let bare = model(&[("module.", DType::F32)]);
    assert_eq!(check(bare, &Edits::default(), Carries::No, None).unwrap().0, "module.:f32");
    assert_eq!(check(model(&[]), &Edits::default(), Carries::No, None).unwrap().0, "");
}

#[test]
fn prefix_by_name() {
    let two = || model(&[("net.a", DType::F32), ("b", DType::F32)]);
    let edits = Edits { strip_prefix: StripPrefix::Prefix("net.".into()), ..Edits::default() };
    let (names, losses, _) = check(two(), &edits, Carries::No, None).unwrap();
    assert_eq!(names, "a:f32 b:f32");
    assert_eq!(losses, ["name: net.a: by --strip-prefix, written as \"a\" (asked)"]);
    let edits = Edits { strip_prefix: StripPrefix::Prefix("foo.".into()), ..Edits::default() };
    fails(two(), &edits, ErrorKind::Usage, "--strip-prefix: no tensor bears the prefix, found foo.");
    let edits = Edits { strip_prefix: StripPrefix::Prefix("b".into()), ..Edits::default() };
    fails(two(), &edits, ErrorKind::Usage, "tensor \"b\": --strip-prefix: a name would be empty");
}

#[test]
fn renames_in_order() {
    let two = || model(&[("h.0.attn.w", DType::F32), ("h.1.attn.w", DType::F32)]);
    let edits = Edits { rename: renames(&[r"^h\.(\d+)=layers.$1", "attn=self_attn"]), ..Edits::default() };
    let (names, losses, _) = check(two(), &edits, Carries::No, None).unwrap();
    assert_eq!(names, "layers.0.self_attn.w:f32 layers.1.self_attn.w:f32");
    assert_eq!(losses[0], "name: h.0.attn.w: by --rename, written as \"layers.0.self_attn.w\" (asked)");
    let edits = Edits { rename: renames(&[r"\d+=x"]), ..Edits::default() };
    fails(
        two(),
        &edits,
        ErrorKind::Usage,
        "tensor \"h.x.attn.w\": --rename: two tensors would have one name, found \"h.0.attn.w\" and \"h.1.attn.w\"",
    );
    let edits = Edits { rename: renames(&["z=y"]), ..Edits::default() };
    fails(two(), &edits, ErrorKind::Usage, "--rename: the expression matches no tensor, found z=y");
    // Two tensors may swap their names.
    let swap = Edits { rename: renames(&["^h.0=x", "^h.1=h.0", "^x=h.1"]), ..Edits::default() };
    assert_eq!(check(two(), &swap, Carries::No, None).unwrap().0, "h.1.attn.w:f32 h.0.attn.w:f32");
    assert!(Rename::parse("abc").is_err());
    assert_eq!(
        Rename::parse("a(b=c").unwrap_err().to_string(),
        "--rename: unusable expression: unclosed group, found a(b"
    );
    assert_eq!(Rename::parse("a[=]b=c=d").unwrap().replacement, "c=d");
}

#[test]
fn casts_touch_plain_floats_only() {
    let all: Vec<(&str, DType)> = vec![
        ("d", DType::F64),
        ("f", DType::F32),
        ("h", DType::F16),
        ("b", DType::Bf16),
        ("e", DType::F8E4M3),
        ("i", DType::I32),
        ("c", DType::C64),
        ("t", DType::Bool),
        ("x", DType::F4E2M1),
    ];
    let edits = Edits { dtype: Some(DType::F16), keep_dtype: globs(&["b"]), ..Edits::default() };
    let (names, losses, _) = check(model(&all), &edits, Carries::No, None).unwrap();
    assert_eq!(names, "d:f16 f:f16 h:f16 b:bf16 e:f16 i:i32 c:c64 t:bool x:f4_e2m1");
    assert_eq!(
        losses,
        [
            "dtype: d: f64 to f16, rounded (asked)",
            "dtype: f: f32 to f16, rounded (asked)",
            "dtype: e: f8_e4m3 to f16, exact (asked)"
        ]
    );
    let edits = Edits { keep_dtype: globs(&["b"]), ..Edits::default() };
    fails(model(&all), &edits, ErrorKind::Usage, "--keep-dtype: there is no --dtype to keep from, found b");
    let edits = Edits { dtype: Some(DType::F16), keep_dtype: globs(&["q*"]), ..Edits::default() };
    fails(model(&all), &edits, ErrorKind::Usage, "--keep-dtype: the pattern matches no tensor, found q*");
    let edits = Edits { dtype: Some(DType::I8), ..Edits::default() };
    fails(model(&all), &edits, ErrorKind::Usage, "--dtype: not a floating-point type, found i8");
}

#[test]
fn exact_casts() {
    use DType::{Bf16, F8E4M3, F8E5M2, F8E8M0, F16, F32, F64};
    for (from, to) in [(F32, F64), (F16, F32), (Bf16, F32), (F8E4M3, F16), (F8E5M2, Bf16), (F8E8M0, Bf16)] {
        assert!(dtype::is_exact(from, to), "{from} to {to}");
    }
    for (from, to) in [(F64, F32), (F16, Bf16), (Bf16, F16), (F8E8M0, F16), (F8E4M3, F8E5M2), (F32, F8E4M3)] {
        assert!(!dtype::is_exact(from, to), "{from} to {to}");
    }
}

/// A model of tensors of blocks, two rows of 256 elements each.
fn of_blocks(tensors: &[(&str, DType)]) -> Model {
    let mut model = Model::default();
    for &(name, dtype) in tensors {
        let bytes = model.nodes.inline(vec![0u8; dtype.packed_len(512).unwrap() as usize]).unwrap();
        let n = dtype.items(512).unwrap();
        let data = model.nodes.decode(bytes, dtype, n, Default::default()).unwrap();
        model.push(name, dtype, vec![2, 256], data).unwrap();
    }
    model
}

#[test]
fn blocks_are_dequantized_and_cast() {
    let quantized =
        || of_blocks(&[("a", DType::Q4_0), ("b", DType::Q6K), ("c", DType::Iq2S), ("n", DType::F32)]);
    let to = |dtype, keep: &[&str]| Edits { dtype: Some(dtype), keep_dtype: globs(keep), ..Edits::default() };
    let (names, losses, model) = check(quantized(), &to(DType::Bf16, &["c"]), Carries::No, None).unwrap();
    assert_eq!(names, "a:bf16 b:bf16 c:iq2_s n:bf16");
    assert_eq!(
        losses,
        [
            "dtype: a: q4_0 to bf16, rounded (asked)",
            "dtype: b: q6_k to bf16, rounded (asked)",
            "dtype: n: f32 to bf16, rounded (asked)"
        ]
    );
    let node = |id: NodeId| &model.nodes[id];
    let cast = node(model.tensors[1].data);
    let Op::Map { f: ScalarFn::Cast, args } = &cast.op else { panic!("{cast:?}") };
    let dequantized = node(args.ids()[0]);
    assert_eq!((cast.n, dequantized.n, dequantized.dtype), (512, 512, DType::F32));
    let Op::Block { f: BlockFn::Dequantize, row: 256, weights: None, .. } = dequantized.op else {
        panic!("{dequantized:?}")
    };

    // What is asked for is the type they are computed in: no cast, and nothing is rounded.
    let (names, losses, model) = check(quantized(), &to(DType::F32, &[]), Carries::No, None).unwrap();
    assert_eq!(names, "a:f32 b:f32 c:f32 n:f32");
    assert_eq!(losses[2], "dtype: c: iq2_s to f32, exact (asked)");
    assert_eq!(losses.len(), 3);
    assert!(matches!(model.nodes[model.tensors[2].data].op, Op::Block { .. }));

    let (names, losses, _) = check(quantized(), &Edits::default(), Carries::No, None).unwrap();
    assert_eq!((names.as_str(), losses.len()), ("a:q4_0 b:q6_k c:iq2_s n:f32", 0));
    fails(
        quantized(),
        &to(DType::Q4_0, &[]),
        ErrorKind::Usage,
        "--dtype: not a floating-point type, found q4_0",
    );
}

#[test]
fn tied_blocks_share_their_cast() {
    let mut shared = of_blocks(&[("a", DType::Q8_0)]);
    let data = shared.tensors[0].data;
    shared.push("b", DType::Q8_0, vec![2, 256], data).unwrap();
    shared.ties = vec![vec![0, 1]];
    let edits = Edits { dtype: Some(DType::F16), ..Edits::default() };
    let (_, _, model) = check(shared, &edits, Carries::Yes, None).unwrap();
    assert_eq!(model.tensors[0].data, model.tensors[1].data);
    assert_eq!(model.ties, [vec![0, 1]]);
}

#[test]
fn quantized_checkpoints_are_not_cast() {
    let fp8 = || model(&[("a.weight", DType::F8E4M3), ("a.weight_scale_inv", DType::F32), ("n", DType::F32)]);
    let edits = Edits { dtype: Some(DType::Bf16), ..Edits::default() };
    fails(
        fp8(),
        &edits,
        ErrorKind::Unsupported,
        "tensor \"a.weight\": --dtype: a quantized checkpoint cannot be cast as if it were plain, found fp8 with \
         scales, with \"a.weight_scale_inv\" (leave out --dtype, or name both in --keep-dtype)",
    );
    let edits = Edits { keep_dtype: globs(&["a.weight*"]), ..edits };
    assert_eq!(
        check(fp8(), &edits, Carries::No, None).unwrap().0,
        "a.weight:f8_e4m3 a.weight_scale_inv:f32 n:bf16"
    );
    // A scale beside plain weights is just another tensor.
    let plain = model(&[("a.weight", DType::F32), ("a.weight_scale", DType::F32)]);
    let edits = Edits { dtype: Some(DType::Bf16), ..Edits::default() };
    assert!(check(plain, &edits, Carries::No, None).is_ok());
    let gptq = model(&[("l.qweight", DType::I32), ("l.scales", DType::F16)]);
    assert_eq!(
        check(gptq, &edits, Carries::No, None).map(|_| ()).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}

fn tied() -> Model {
    let mut model = model(&[("x", DType::F32), ("a", DType::F32), ("b", DType::F32), ("c", DType::F32)]);
    model.ties = vec![vec![1, 2, 3]];
    model
}

#[test]
fn ties_follow_their_tensors() {
    let edits = Edits { exclude: globs(&["x"]), ..Edits::default() };
    assert_eq!(check(tied(), &edits, Carries::Yes, None).unwrap().2.ties, [vec![0, 1, 2]]);
    let edits = Edits { exclude: globs(&["b"]), ..Edits::default() };
    assert_eq!(check(tied(), &edits, Carries::Yes, None).unwrap().2.ties, [vec![1, 2]]);
    let edits = Edits { exclude: globs(&["a", "c"]), ..Edits::default() };
    assert!(check(tied(), &edits, Carries::Yes, None).unwrap().2.ties.is_empty());
}

#[test]
fn ties_by_wish_and_target() {
    let with = |ties| Edits { ties, ..Edits::default() };
    let (_, losses, model) = check(tied(), &with(Ties::Auto), Carries::Yes, None).unwrap();
    assert!(losses.is_empty() && model.ties.len() == 1);
    let (_, losses, model) = check(tied(), &with(Ties::Auto), Carries::No, None).unwrap();
    assert_eq!(
        losses,
        [
            "tie-copied: b: was tied to \"a\", written as a copy",
            "tie-copied: c: was tied to \"a\", written as a copy"
        ]
    );
    assert!(model.ties.is_empty() && model.tensors.len() == 4);
    let (_, losses, _) = check(tied(), &with(Ties::Copy), Carries::Yes, None).unwrap();
    assert_eq!(losses[0], "tie-copied: b: was tied to \"a\", written as a copy (asked)");
    let (names, losses, model) = check(tied(), &with(Ties::Drop), Carries::Yes, Some(true)).unwrap();
    assert_eq!(names, "x:f32 a:f32");
    assert_eq!(losses[1], "tie-dropped: c: tied to \"a\", not written (asked)");
    assert!(model.ties.is_empty());
    let error = check(tied(), &with(Ties::Drop), Carries::Yes, Some(false)).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Target);
    fails(
        tied(),
        &with(Ties::Keep),
        ErrorKind::Target,
        "tensor \"b\": the format cannot tie two names to one storage, found a tie with \"a\" \
         (pass --ties copy or --ties drop)",
    );
}

#[test]
fn tied_tensors_share_their_cast() {
    let mut shared = model(&[("a", DType::F32)]);
    let data = shared.tensors[0].data;
    shared.push("b", DType::F32, vec![4], data).unwrap();
    shared.ties = vec![vec![0, 1]];
    let edits = Edits { dtype: Some(DType::F16), ties: Ties::Drop, ..Edits::default() };
    let cast = Edits { ties: Ties::Auto, ..edits.clone() };
    let (_, _, model) = check(shared.clone(), &cast, Carries::Yes, None).unwrap();
    assert_eq!(model.tensors[0].data, model.tensors[1].data);
    assert_eq!(model.ties, [vec![0, 1]]);
    // Nothing is asked where both names have one node.
    assert_eq!(check(shared.clone(), &edits, Carries::No, None).unwrap().0, "a:f16");
    let kept = Edits { keep_dtype: globs(&["b"]), ..cast };
    let (names, losses, model) = check(shared, &kept, Carries::Yes, None).unwrap();
    assert_eq!(names, "a:f16 b:f32");
    assert!(model.ties.is_empty());
    assert!(losses.iter().any(|loss| loss.starts_with(LossKind::TieCopied.name())));
}

/// The same model with this config.
fn with_config(mut model: Model, config: &str) -> Model {
    model.config = Some(config.into());
    model
}

#[test]
fn a_head_is_dropped_where_the_config_ties_it() {
    let tied = |names: &[&str], config: &str| {
        let tensors: Vec<(&str, DType)> = names.iter().map(|&name| (name, DType::F32)).collect();
        let mut model = with_config(model(&tensors), config);
        model.ties.push((0..names.len()).collect());
        model
    };
    let ties = r#"{"tie_word_embeddings": true}"#;
    let names = ["lm_head.weight", "model.embed_tokens.weight"];
    let (left, losses, _) = check(tied(&names, ties), &Edits::default(), Carries::No, Some(true)).unwrap();
    assert_eq!(left, "model.embed_tokens.weight:f32");
    let dropped = "tie-dropped: lm_head.weight: tied to \"model.embed_tokens.weight\", as the config says, and not written";
    assert_eq!(losses, [dropped]);

    let copied = |model: Model, equal: Option<bool>| {
        let (left, losses, _) = check(model, &Edits::default(), Carries::No, equal).unwrap();
        (left.split(' ').count(), losses.iter().filter(|loss| loss.starts_with("tie-copied")).count())
    };
    // The bytes differ; the config says no, or nothing; something else is in the group; there is no head, no embedding.
    assert_eq!(copied(tied(&names, ties), Some(false)), (2, 1));
    assert_eq!(copied(tied(&names, r#"{"tie_word_embeddings": false}"#), None), (2, 1));
    assert_eq!(copied(tied(&names, "{}"), None), (2, 1));
    assert_eq!(copied(tied(&["wte.weight", "lm_head.weight", "other.weight"], ties), None), (3, 2));
    assert_eq!(copied(tied(&["shared.weight", "encoder.embed_tokens.weight"], ties), None), (2, 1));
    assert_eq!(copied(tied(&["a.lm_head.weight", "b.lm_head.weight"], ties), None), (2, 1));
    assert_eq!(
        copied(tied(&["shared.weight", "encoder.embed_tokens.weight", "lm_head.weight"], ties), Some(true)),
        (2, 1)
    );
    // A target that holds ties keeps this one.
    let kept = check(tied(&names, ties), &Edits::default(), Carries::Yes, None).unwrap();
    assert_eq!((kept.1.len(), kept.2.ties.len()), (0, 1));
    let edits = Edits { ties: Ties::Copy, ..Edits::default() };
    assert_eq!(check(tied(&names, ties), &edits, Carries::No, None).unwrap().0.split(' ').count(), 2);
}

#[test]
fn a_config_names_the_type_that_most_weights_have() {
    let told = |tensors: &[(&str, DType)], edits: &Edits, config: &str| {
        check(with_config(model(tensors), config), edits, Carries::No, None)
            .unwrap()
            .2
            .config
            .unwrap()
            .to_string()
    };
    let floats = [("a", DType::F32), ("b", DType::F32), ("c", DType::F32), ("n", DType::I64)];
    let half = Edits { dtype: Some(DType::F16), ..Edits::default() };
    let (f32, f16) = (r#"{ "dtype":"float32" }"#, r#"{ "dtype":"float16" }"#);
    assert_eq!(told(&floats, &half, f32), f16);
    assert_eq!(told(&floats, &Edits::default(), f16), f16);
    let mostly = Edits { keep_dtype: globs(&["a", "b"]), ..half.clone() };
    assert_eq!(told(&floats, &mostly, f32), f32);
    // Nothing is cast, so nothing is said.
    let bf16 = r#"{"torch_dtype": "bfloat16"}"#;
    assert_eq!(told(&floats, &Edits { dtype: Some(DType::F32), ..Edits::default() }, bf16), bf16);
    assert_eq!(told(&floats, &half, "{}"), "{}");
}

#[test]
fn a_config_that_says_quantized_is_believed() {
    let config = r#"{"quantization_config": {"quant_method": "bitsandbytes"}}"#;
    let quantized = || with_config(model(&[("a.weight", DType::U8), ("norm.weight", DType::F32)]), config);
    let half = Edits { dtype: Some(DType::F16), ..Edits::default() };
    let text = "tensor \"norm.weight\": --dtype: a quantized checkpoint cannot be cast as if it were plain, found \
                quantization_config in config.json, bitsandbytes (leave out --dtype: it is carried as it is)";
    fails(quantized(), &half, ErrorKind::Unsupported, text);
    let (names, losses, _) = check(quantized(), &Edits::default(), Carries::No, None).unwrap();
    assert_eq!((names.as_str(), losses.len()), ("a.weight:u8 norm.weight:f32", 0));
}

#[test]
fn a_program_goes_with_any_of_its_tensors() {
    let with_program = |names: &[&str]| {
        let tensors: Vec<(&str, DType)> = names.iter().map(|name| (*name, DType::F32)).collect();
        let mut model = model(&tensors);
        let bind = |(tensor, name): (usize, &&str)| {
            let data = model.tensors[tensor].data;
            Binding { at: tensor as u64, tensor, name: (*name).into(), dtype: DType::F32, data }
        };
        let bindings = names.iter().enumerate().map(bind).collect();
        let part = Part { path: "the graph".to_owned(), what: "2 nodes".to_owned() };
        model.graph = Some(Graph {
            dialect: "d",
            body: vec![0; 9].into(),
            bindings,
            parts: vec![part],
            origins: vec![],
            nameless: vec![],
        });
        model
    };
    let edits = Edits { exclude: globs(&["b"]), ..Edits::default() };
    let (words, losses, left) = check(with_program(&["a", "b"]), &edits, Carries::Yes, None).unwrap();
    assert_eq!(words, "a:f32");
    let expected = [
        "tensor: b: left out by --exclude (asked)",
        "graph: the graph: 2 nodes, not carried, for it lacks tensors now (asked)",
    ];
    assert_eq!(losses, expected);
    assert!(left.graph.is_none());

    let edits = Edits { include: globs(&["*"]), rename: renames(&["a=c"]), ..Edits::default() };
    let (words, _, kept) = check(with_program(&["a", "b"]), &edits, Carries::Yes, None).unwrap();
    assert_eq!(words, "c:f32 b:f32");
    let graph = kept.graph.unwrap();
    assert_eq!((&*graph.bindings[0].name, graph.bindings[0].tensor), ("a", 0));
}

/// Two rows of 256 numbers each, quantized under a matrix that knows the tensors named.
fn quantized_under(names: &[&str]) -> Result<Vec<String>, String> {
    let mut model = Model::default();
    for name in ["a.weight", "b.weight"] {
        let bytes = model.nodes.inline(vec![0; 2048]).unwrap();
        let data = model.nodes.decode(bytes, DType::F32, 512, Default::default()).unwrap();
        model.push(name, DType::F32, vec![2, 256], data).unwrap();
    }
    let mut importance = quantize::Importance::default();
    names.iter().for_each(|name| importance.add(name, vec![1.0; 256], &[1.0]).unwrap());
    let types = vec![(Glob::new("*").unwrap(), DType::Q4K)];
    let quantize = quantize::Quantize { types, importance: Some(importance.into()), ..Default::default() };
    let edits = Edits { quantize, ..Edits::default() };
    let mut host = NoHost { limits: Limits::default(), equal: None };
    let result = apply(model, &edits, None, Keeps::ALL, &mut host);
    let (model, losses) = result.map_err(|error| error.to_string())?;
    assert!(model.tensors.iter().all(|tensor| tensor.dtype == DType::Q4K));
    let fallbacks = losses.into_iter().filter(|loss| loss.kind == LossKind::Fallback);
    Ok(fallbacks.map(|loss| loss.subject).collect())
}

#[test]
fn what_an_importance_matrix_does_not_know_is_said() {
    assert_eq!(quantized_under(&["a.weight", "b.weight"]), Ok(vec![]));
    assert_eq!(quantized_under(&["a.weight"]), Ok(vec!["b.weight".to_owned()]));
    let error = quantized_under(&["blk.0.x.weight"]).unwrap_err();
    assert!(error.contains("knows none") && error.contains("blk.0.x.weight"), "{error}");
}

/// Blocks of nvfp4 with a scale beside them, as llama.cpp keeps them.
fn scaled(shape: &[u64], scale: &[u64]) -> Model {
    let mut model = Model::default();
    for (name, dtype, shape) in [
        ("blk.0.up.scale", DType::F32, scale),
        ("blk.0.up.weight", DType::Nvfp4, shape),
        ("blk.0.up.input_scale", DType::F32, &[1]),
    ] {
        let n: u64 = shape.iter().product();
        let bytes = model.nodes.inline(vec![0; dtype.packed_len(n).unwrap() as usize]).unwrap();
        let n_items = dtype.items(n).unwrap();
        let data = model.nodes.decode(bytes, dtype, n_items, Default::default()).unwrap();
        model.push(name, dtype, shape.to_vec(), data).unwrap();
    }
    model
}

#[test]
fn scales_beside_blocks_are_in_what_is_made_of_them() {
    let to = |dtype| Edits { dtype: Some(dtype), ..Edits::default() };
    for (shape, scale) in [(&[3, 64][..], &[1][..]), (&[64], &[]), (&[2, 3, 64], &[2])] {
        for dtype in [DType::F32, DType::F16] {
            let (words, losses, model) = check(scaled(shape, scale), &to(dtype), Carries::No, None).unwrap();
            assert_eq!(words, format!("blk.0.up.weight:{dtype} blk.0.up.input_scale:{dtype}"));
            assert!(losses.iter().any(|loss| loss.contains("multiplied into") && loss.contains("up.scale")));
            assert!(losses.iter().any(|loss| loss.contains(&format!("nvfp4 to {dtype}"))), "{losses:?}");
            let mut data = model.tensors[0].data;
            if let Op::Map { f: ScalarFn::Cast, args } = &model.nodes[data].op {
                data = args.ids()[0];
            }
            assert!(matches!(model.nodes[data].op, Op::Map { f: ScalarFn::SubMul, .. }));
        }
    }
    // A rename takes the pair apart by name only; what stays in blocks keeps its scale.
    let renamed = Edits { rename: renames(&["up.weight=w"]), ..to(DType::F16) };
    let (words, ..) = check(scaled(&[64], &[1]), &renamed, Carries::No, None).unwrap();
    assert_eq!(words, "blk.0.w:f16 blk.0.up.input_scale:f16");
    let kept = Edits { keep_dtype: globs(&["*"]), ..to(DType::F16) };
    let (words, ..) = check(scaled(&[64], &[1]), &kept, Carries::No, None).unwrap();
    assert_eq!(words, "blk.0.up.scale:f32 blk.0.up.weight:nvfp4 blk.0.up.input_scale:f32");
    let error = check(scaled(&[2, 64], &[2]), &to(DType::F16), Carries::No, None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    // Quantizing it again is a second rounding still.
    let mut again = Edits::default();
    again.quantize.types = vec![(Glob::new("*.weight").unwrap(), DType::Q8_0)];
    let (words, losses, _) = check(scaled(&[64], &[1]), &again, Carries::No, None).unwrap();
    assert_eq!(words, "blk.0.up.weight:q8_0 blk.0.up.input_scale:f32");
    assert!(
        losses.iter().any(|loss| loss.contains("a second time") && !loss.contains("asked")),
        "{losses:?}"
    );
}

#[test]
fn presets_number_blocks_and_mixture_where_the_model_is_one_of_ggml() {
    let numbers = |preset, metadata: &[(&str, &str)]| {
        let mut model = model(&[("a.weight", DType::F32)]);
        let entries = metadata.iter().map(|(key, text)| ((*key).to_owned(), Value::Text((*text).into())));
        model.metadata.extend(entries);
        let mut edits = Edits::default();
        edits.quantize.preset = Some(preset);
        let (_, _, model) = check(model, &edits, Carries::No, None).unwrap();
        let number = |key: &str| {
            let found = model.metadata.iter().find(|(known, _)| known == key);
            found.and_then(|(_, value)| value.as_u64())
        };
        [number("general.quantization_version"), number("general.file_type")]
    };
    use crate::quantize::Preset;
    let llama = [("general.architecture", "llama")];
    assert_eq!(numbers(Preset::F32, &llama), [Some(2), Some(0)]);
    assert_eq!(numbers(Preset::Bf16, &llama), [Some(2), Some(32)]);
    assert_eq!(numbers(Preset::Q8_0, &llama), [Some(2), Some(7)]);
    assert_eq!(numbers(Preset::Q8_0, &[]), [None, None]);
}

#[test]
fn pure_needs_a_preset() {
    let mut edits = Edits::default();
    edits.quantize.pure = true;
    let error = check(model(&[("a.weight", DType::F32)]), &edits, Carries::No, None).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Usage);
}
