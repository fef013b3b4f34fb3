//! `verify` finds every flipped bit of a file that states checksums, and names the tensor.

// Helpers of tests are tests too, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::panic)]

use modelferry_cli::builtin;
use modelferry_convert::verify::{CheckKind, Verification, verify};
use modelferry_convert::{Context, Job, PluginOptions, Report, convert, open};
use modelferry_core::expr::Packing;
use modelferry_core::inputs::Inputs;
use modelferry_core::model::Model;
use modelferry_core::options::Options;
use modelferry_core::plugin::{Host, Place, Reader, ReaderInfo, Verdict};
use modelferry_core::tree::{Object, Tree};
use modelferry_core::{DType, ErrorKind, Result};
use modelferry_engine::io::OsIo;
use modelferry_engine::{Control, Settings};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn check(path: &Path, against: Option<&Path>, control: &Control) -> Result<Verification> {
    let registry = builtin::registry();
    let settings = Settings { threads: 3, ..Settings::default() };
    let cx = Context { registry: &registry, io: Arc::new(OsIo), settings: &settings, control };
    let opened = open(&cx, path, None, &PluginOptions::new())?;
    let mut against = against.map(|path| open(&cx, path, None, &PluginOptions::new())).transpose()?;
    verify(&cx, &opened, against.as_mut())
}

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models").join(name)
}

/// Every model of testdata verifies, and reading it says how much was read.
#[test]
fn good_files_are_good() {
    let mut n_checksums = 0;
    let mut n_files = 0;
    for entry in fs::read_dir(testdata("")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() || ![".npz", ".npy", ".safetensors"].iter().any(|end| name.ends_with(end)) {
            continue;
        }
        let control = Control::new();
        let found = check(&path, None, &control).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(found.is_ok(), "{name}: {:?}", found.failed);
        assert_eq!(found.n_readable, found.n_tensors, "{name}");
        assert_eq!(control.done_bytes(), found.bytes_read, "{name}");
        n_checksums += found.n_checksums;
        n_files += 1;
    }
    assert!(n_files > 20 && n_checksums > 20, "{n_files} files, {n_checksums} checksums");
}

/// Every bit of an archive, stored and deflated: the header no longer fits, or a check fails. Bits that stand for
/// nothing (times, versions) may go unseen; those of the arrays never.
#[test]
fn every_flipped_bit_of_an_array_is_found() {
    let folder = std::env::temp_dir().join(format!("modelferry-verify-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let mut kinds = std::collections::BTreeMap::<_, usize>::new();
    for name in ["ml-dtypes.npz", "ml-dtypes-deflated.npz"] {
        let whole = fs::read(testdata(name)).unwrap();
        let path = folder.join(name);
        fs::write(&path, &whole).unwrap();
        // Bytes of members lie between a local header and the next signature.
        let mut at = 0;
        while whole[at..].starts_with(b"PK\x03\x04") {
            let u16_at = |place: usize| usize::from(u16::from_le_bytes([whole[place], whole[place + 1]]));
            let begin = at + 30 + u16_at(at + 26) + u16_at(at + 28);
            let next = whole[begin..].windows(2).position(|pair| pair == b"PK").unwrap();
            for byte in (begin..begin + next).step_by(7).chain([begin + next - 1]) {
                let mut bytes = whole.clone();
                bytes[byte] ^= 1 << (byte % 8);
                fs::write(&path, &bytes).unwrap();
                match check(&path, None, &Control::new()) {
                    // The end of a stream's last byte stands for nothing.
                    Ok(found) if found.is_ok() && byte + 1 == begin + next => {
                        assert!(name.contains("deflated"), "{name}: byte {byte}");
                    }
                    Ok(found) => {
                        let failed = found.failed.first().unwrap_or_else(|| panic!("{name}: byte {byte}"));
                        assert!(!failed.tensors.is_empty(), "{name}: byte {byte}: {}", failed.error);
                        let kind = found.failure().unwrap().kind();
                        assert!(matches!(kind, ErrorKind::Difference | ErrorKind::Malformed));
                        assert_eq!(kind == ErrorKind::Malformed, failed.kind == CheckKind::Payload);
                        *kinds.entry(failed.kind.name()).or_default() += 1;
                    }
                    // In an array's header. An unknown type is unsupported, a wild shape beyond a limit.
                    Err(error) => {
                        let kind = error.kind();
                        assert!(
                            matches!(kind, ErrorKind::Malformed | ErrorKind::Unsupported | ErrorKind::Limit),
                            "{name}: byte {byte}: {error}"
                        );
                    }
                }
            }
            at = begin + next;
        }
    }
    let _ = fs::remove_dir_all(&folder);
    assert!(kinds["checksum"] > 20 && kinds["payload"] > 20, "{kinds:?}");
}

/// Reads any file as a document that is one tensor, which is called after the file.
struct Bare;

impl Reader for Bare {
    fn info(&self) -> &'static ReaderInfo {
        &ReaderInfo {
            format: "bare",
            about: "one tensor",
            extensions: &[".bare"],
            magic: &[],
            place: Place::File,
            options: &[],
        }
    }

    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        if inputs.name(inputs.root()).ends_with(".bare") { Verdict::Name } else { Verdict::No }
    }

    fn read(&self, inputs: &dyn Inputs, _: &Options, _: &mut dyn Host) -> Result<Model> {
        let mut model = Model::default();
        let bytes = model.nodes.region(inputs.root(), 0, 4)?;
        let data = model.nodes.decode(bytes, DType::F32, 1, Packing::default())?;
        let name = inputs.name(inputs.root());
        let tensor = model.push(name.trim_end_matches(".bare"), DType::F32, vec![1], data)?;
        let mut tree = Tree::default();
        let root = tree.push(Object::Tensor(tensor)).unwrap();
        tree.set_root(root);
        model.tree = Some(tree);
        Ok(model)
    }
}

/// Its name is the file's, which is another for the output.
#[test]
fn a_document_that_is_one_tensor_verifies_under_any_name() {
    let folder = std::env::temp_dir().join(format!("modelferry-bare-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("in.bare"), 1f32.to_le_bytes()).unwrap();
    let mut registry = builtin::registry();
    registry.add_reader(Bare);
    let (settings, control) = (Settings::default(), Control::new());
    let cx = Context { registry: &registry, io: Arc::new(OsIo), settings: &settings, control: &control };
    for output in ["other.pt", "other.safetensors"] {
        let (input, output) = (folder.join("in.bare"), folder.join(output));
        let job = Job { input, output, verify: true, ..Job::default() };
        convert(&cx, &job, &mut Report::default()).unwrap();
    }
    fs::remove_dir_all(folder).unwrap();
}
