//! Layouts executed on real files: every way a task can be done gives the same bytes.

// Helpers of tests panic as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use common::TempDir;
use modelferry_core::DType;
use modelferry_core::expr::{BlockFn, Dim, Packing};
use modelferry_core::inputs::FileId;
use modelferry_core::layout::{Digest, DigestAlgo, FileRange, Layout, Patch, PatchForm, Piece};
use modelferry_core::limits::Limits;
use modelferry_core::model::{Claim, Model, ModelView};
use modelferry_engine::disk::DiskInputs;
use modelferry_engine::io::fault::FaultIo;
use modelferry_engine::io::{Io, OsIo};
use modelferry_engine::publish::Replace;
use modelferry_engine::{Control, Part, Plan, Settings, execute};
use modelferry_kernels::crc::crc32;
use std::path::Path;
use std::sync::Arc;

fn bytes(n: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

fn run(
    io: Arc<dyn Io>,
    input: &Path,
    output: &Path,
    model: &Model,
    layout: &Layout,
    settings: &Settings,
) -> Vec<u8> {
    let inputs = DiskInputs::open(Arc::clone(&io), input).unwrap();
    layout.validate(&ModelView::new(model, &Limits::default()).unwrap()).unwrap();
    let plan = Plan {
        parts: &[Part { model, layout }],
        inputs: &inputs,
        output,
        is_folder: false,
        replace: Replace::Force,
        settings,
        control: &Control::new(),
        io,
    };
    execute(&plan, &mut |_| Ok(())).unwrap();
    std::fs::read(output).unwrap()
}

/// A tensor of bytes at `at` of the only input.
fn model_of(at: u64, len: u64) -> Model {
    let mut model = Model::default();
    let data = model.nodes.region(FileId(0), at, len).unwrap();
    model.push("t", DType::U8, vec![len], data).unwrap();
    model
}

#[test]
fn kernel_copies_and_tiles_agree() {
    let dir = TempDir::new("copies");
    let source = bytes(9 << 20);
    let input = dir.file("in", &source);
    // Offsets that agree modulo the page size may be copied inside the kernel, others may not.
    for (at, head) in [(4096u64, 8192usize), (100, 4196), (100, 101)] {
        let len = 8 << 20;
        let model = model_of(at, len);
        let view = ModelView::new(&model, &Limits::default()).unwrap();
        let mut layout = Layout::default();
        layout.push_file(
            "out",
            vec![Piece::Zero(head as u64), Piece::tensor(&view, 0), Piece::Bytes(vec![7; 3].into())],
        );
        let expected = [vec![0; head], source[at as usize..][..len as usize].to_vec(), vec![7; 3]].concat();
        let sharing: Arc<dyn Io> = Arc::new(FaultIo::sharing_blocks(OsIo));
        for io in [sharing, Arc::new(OsIo) as Arc<dyn Io>] {
            let out = run(io, &input, &dir.join("out"), &model, &layout, &Settings::default());
            assert!(out == expected, "at {at} behind {head}");
        }
    }
}

#[test]
fn budgets_and_threads_change_nothing() {
    let dir = TempDir::new("budgets");
    let (rows, columns) = (1500u64, 2100u64);
    let source = bytes((rows * columns * 4) as usize);
    let input = dir.file("in", &source);
    let mut model = Model::default();
    let region = model.nodes.region(FileId(0), 0, rows * columns * 4).unwrap();
    let words = model.nodes.decode(region, DType::I32, rows * columns, Packing::default()).unwrap();
    let turned = model
        .nodes
        .view(words, 0, &[Dim { count: columns, stride: 1 }, Dim { count: rows, stride: columns as i64 }])
        .unwrap();
    model.claims.push(Claim { node: region, crc32: crc32(&source), is_header: false });
    model.push("turned", DType::I32, vec![columns, rows], turned).unwrap();
    let view = ModelView::new(&model, &Limits::default()).unwrap();
    let mut layout = Layout::default();
    layout.push_file("out", vec![Piece::Zero(4), Piece::Bytes(vec![1; 13].into()), Piece::tensor(&view, 0)]);
    let len = layout.files[0].len;
    layout.digests.push(Digest { algo: DigestAlgo::Crc32, over: FileRange { file: 0, bytes: 9..len } });
    layout.patches.push(Patch { file: 0, at: 0, form: PatchForm::Raw, digest: 0 });

    let mut expected = vec![1; 17];
    for column in 0..columns as usize {
        for row in 0..rows as usize {
            expected.extend_from_slice(&source[(row * columns as usize + column) * 4..][..4]);
        }
    }
    let crc = crc32(&expected[9..]);
    expected[..4].copy_from_slice(&crc.to_le_bytes());
    for (threads, memory) in [(1, 1 << 16), (2, 1 << 20), (3, 32 << 20), (8, 256 << 20)] {
        let settings = Settings { threads, memory, ..Settings::default() };
        let out = run(Arc::new(OsIo), &input, &dir.join("out"), &model, &layout, &settings);
        assert!(out == expected, "{threads} threads, {memory} bytes");
    }
}

#[test]
fn a_wrong_claim_publishes_nothing() {
    let dir = TempDir::new("claims");
    let source = bytes(3 << 20);
    let input = dir.file("in", &source);
    let mut model = model_of(0, 3 << 20);
    model.claims.push(Claim { node: model.tensors[0].data, crc32: !crc32(&source), is_header: false });
    let view = ModelView::new(&model, &Limits::default()).unwrap();
    let mut layout = Layout::default();
    layout.push_file("out", vec![Piece::tensor(&view, 0)]);
    let io: Arc<dyn Io> = Arc::new(OsIo);
    let inputs = DiskInputs::open(Arc::clone(&io), &input).unwrap();
    let plan = Plan {
        parts: &[Part { model: &model, layout: &layout }],
        inputs: &inputs,
        output: &dir.join("out"),
        is_folder: false,
        replace: Replace::Refuse,
        settings: &Settings::default(),
        control: &Control::new(),
        io,
    };
    let error = execute(&plan, &mut |_| Ok(())).unwrap_err();
    assert_eq!(error.what(), "the data does not match its stated CRC-32");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn what_would_be_refused_is_refused_before() {
    let dir = TempDir::new("check");
    let input = dir.file("in", bytes(36));
    let mut model = Model::default();
    let region = model.nodes.region(FileId(0), 0, 36).unwrap();
    let blocks = model.nodes.decode(region, DType::Q8_1, 1, Packing::default()).unwrap();
    let floats = model.nodes.block(BlockFn::Dequantize, blocks, DType::F32, 32, None).unwrap();
    model.push("t", DType::F32, vec![32], floats).unwrap();
    let view = ModelView::new(&model, &Limits::default()).unwrap();
    let mut layout = Layout::default();
    layout.push_file("out", vec![Piece::tensor(&view, 0)]);
    let io: Arc<dyn Io> = Arc::new(OsIo);
    let inputs = DiskInputs::open(Arc::clone(&io), &input).unwrap();
    let plan = Plan {
        parts: &[Part { model: &model, layout: &layout }],
        inputs: &inputs,
        output: &dir.join("out"),
        is_folder: false,
        replace: Replace::Refuse,
        settings: &Settings::default(),
        control: &Control::new(),
        io,
    };
    assert_eq!(plan.check().unwrap_err().kind(), modelferry_core::ErrorKind::Unsupported);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_digest_over_a_hole_sees_it_filled() {
    let dir = TempDir::new("digests");
    let source = bytes(2 << 20);
    let input = dir.file("in", &source);
    let model = model_of(0, 2 << 20);
    let view = ModelView::new(&model, &Limits::default()).unwrap();
    let mut layout = Layout::default();
    layout.push_file("out", vec![Piece::Zero(64), Piece::Zero(4), Piece::tensor(&view, 0)]);
    let len = layout.files[0].len;
    let over = |bytes| FileRange { file: 0, bytes };
    layout.digests.push(Digest { algo: DigestAlgo::Crc32, over: over(68..len) });
    layout.digests.push(Digest { algo: DigestAlgo::Sha256, over: over(64..len) });
    layout.patches.push(Patch { file: 0, at: 0, form: PatchForm::Hex, digest: 1 });
    layout.patches.push(Patch { file: 0, at: 64, form: PatchForm::Raw, digest: 0 });
    let out = run(Arc::new(OsIo), &input, &dir.join("out"), &model, &layout, &Settings::default());
    assert_eq!(out[64..68], crc32(&source).to_le_bytes());
    use sha2::Digest as _;
    let sha: String = sha2::Sha256::digest(&out[64..]).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(std::str::from_utf8(&out[..64]).unwrap(), sha);
}
