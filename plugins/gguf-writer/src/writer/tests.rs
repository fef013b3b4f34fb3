use super::*;
use modelferry_core::DType;
use modelferry_core::expr::Packing;
use modelferry_core::inputs::FileId;
use modelferry_core::model::Model;
use modelferry_core::options::Options;
use modelferry_core::plugin::{Shards, SilentHost};
use modelferry_wire::gguf::QUANTIZATION_VERSION;

/// A model of these tensors, their bytes one behind the other in a file, with this metadata.
fn model(tensors: &[(&str, DType, &[u64])], metadata: &[(&str, Value)]) -> Model {
    let mut model = Model::default();
    let mut at = 0;
    for (name, dtype, shape) in tensors {
        let n: u64 = shape.iter().product();
        let len = dtype.packed_len(n).unwrap();
        let region = model.nodes.region(FileId(0), at, len).unwrap();
        let n_items = dtype.items(n).unwrap();
        let data = model.nodes.decode(region, *dtype, n_items, Packing::default()).unwrap();
        model.push(*name, *dtype, shape.to_vec(), data).unwrap();
        at += len;
    }
    model.metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    model
}

fn lay_out(model: &Model, shards: Shards) -> Result<(Layout, Vec<Loss>)> {
    let mut host = SilentHost::default();
    let view = ModelView::new(model, &host.0)?;
    let options = Options::default();
    let request = LayoutRequest { file_name: "m.gguf", weights: "", options: &options, shards };
    let (layout, losses) = GgufWriter.layout(&view, &request, &mut host)?;
    layout.validate(&view)?;
    Ok((layout, losses))
}

fn lost(losses: &[Loss]) -> Vec<&str> {
    losses.iter().map(|loss| &*loss.subject).collect()
}

/// Whether a file's header has a key.
fn has(layout: &Layout, file: usize, key: &str) -> bool {
    layout.files[file].pieces.iter().any(|piece| match piece {
        Piece::Bytes(bytes) => bytes.windows(key.len()).any(|window| window == key.as_bytes()),
        _ => false,
    })
}

#[test]
fn parts_are_filled_in_order_and_say_what_they_are() {
    let f32s = |name, n| (name, DType::F32, [n]);
    let sizes = [f32s("a", 8), f32s("b", 8), f32s("c", 100), f32s("d", 1)];
    let tensors: Vec<(&str, DType, &[u64])> =
        sizes.iter().map(|(name, dtype, shape)| (*name, *dtype, &shape[..])).collect();
    let metadata = [(ARCHITECTURE, Value::Text("llama".into())), (ALIGNMENT, Value::U32(64))];
    let (layout, losses) = lay_out(&model(&tensors, &metadata), Shards::Max(128)).unwrap();
    let paths: Vec<&str> = layout.files.iter().map(|file| &*file.path).collect();
    assert_eq!(paths, ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"]);
    assert_eq!((layout.root, losses.len(), layout.notes.len()), (0, 0, 0));
    for file in 0..3 {
        assert!(layout.files[file].len.is_multiple_of(64));
        assert!([SPLIT_NO, SPLIT_COUNT, SPLIT_TENSORS, ALIGNMENT].iter().all(|key| has(&layout, file, key)));
        assert_eq!(has(&layout, file, ARCHITECTURE), file == 0);
    }
    let (one, _) = lay_out(&model(&tensors, &metadata), Shards::Max(1 << 20)).unwrap();
    assert_eq!((one.files.len(), &*one.files[0].path), (1, "m.gguf"));
    assert!(!has(&one, 0, SPLIT_NO));
}

#[test]
fn entries_of_other_files_and_types_are_left_out() {
    let x: &[(&str, DType, &[u64])] = &[("x", DType::F32, &[1])];
    let text = |text: &str| Value::Text(text.to_owned());
    let split = |count| {
        [(SPLIT_NO, Value::U16(0)), (SPLIT_COUNT, count), (SPLIT_TENSORS, Value::I32(1)), ("", text("empty"))]
    };
    let (layout, losses) = lay_out(&model(x, &split(Value::U16(3))), Shards::One).unwrap();
    assert_eq!(lost(&losses), [SPLIT_NO, SPLIT_COUNT, SPLIT_TENSORS, ""]);
    assert!(layout.notes[0].contains("llama.cpp will not run it"));
    let (layout, losses) = lay_out(&model(x, &split(Value::U16(0))), Shards::One).unwrap();
    assert_eq!(lost(&losses), [""]);
    assert!(has(&layout, 0, SPLIT_COUNT));
    for odd in [text("64"), Value::U32(48), Value::I32(64)] {
        let (_, losses) = lay_out(&model(x, &[(ALIGNMENT, odd)]), Shards::One).unwrap();
        assert_eq!(lost(&losses), [ALIGNMENT]);
    }
}

#[test]
fn the_meaning_of_blocks_is_numbered() {
    let blocks: &[(&str, DType, &[u64])] = &[("x", DType::Q8_0, &[1, 32])];
    let (layout, _) = lay_out(&model(blocks, &[]), Shards::One).unwrap();
    assert!(has(&layout, 0, QUANTIZATION_VERSION));
    let (layout, _) = lay_out(&model(&[("x", DType::I8, &[32])], &[]), Shards::One).unwrap();
    assert!(!has(&layout, 0, QUANTIZATION_VERSION));
}

#[test]
fn all_that_does_not_fit_is_named() {
    let long = "n".repeat(64);
    let tensors: &[(&str, DType, &[u64])] = &[
        ("good", DType::F32, &[1]),
        (&long, DType::F32, &[1]),
        ("halves", DType::Q4_0, &[2, 16]),
        ("zero\0", DType::F32, &[1]),
    ];
    let error = lay_out(&model(tensors, &[]), Shards::One).unwrap_err();
    assert_eq!(error.kind(), modelferry_core::ErrorKind::Target);
    assert_eq!(
        error.to_string(),
        format!(
            "tensor \"{long}\": ggml reads no name of so many bytes, expected at most 63, found 64 (as little can be \
             held: halves (rows do not hold whole blocks), zero\\u{{0}} (ggml ends a name at a zero))"
        )
    );
}

#[test]
fn an_edited_file_keeps_its_alignment_and_adds_nothing() {
    let blocks =
        model(&[("x", DType::Q8_0, &[1, 32])], &[(ALIGNMENT, Value::U32(8)), (SPLIT_COUNT, Value::U16(3))]);
    let relaid = |model: &Model| {
        let mut host = SilentHost::default();
        GgufWriter.relayout(&ModelView::new(model, &host.0)?, "m.gguf", &mut host)
    };
    let layout = relaid(&blocks).unwrap();
    assert!(has(&layout, 0, SPLIT_COUNT) && !has(&layout, 0, QUANTIZATION_VERSION));
    let before_padding = layout.files[0].len;
    assert!(before_padding.is_multiple_of(8));
    let wrong = relaid(&model(&[], &[(ALIGNMENT, Value::U32(7))])).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "ggml does not take this general.alignment, expected a u32, a power of two, found u32 7"
    );
}
