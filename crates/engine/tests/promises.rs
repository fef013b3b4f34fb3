//! Files whose text is made last: written by who approves, published with the others or not at all.

// Helpers of tests panic as tests do.
#![allow(clippy::unwrap_used)]

mod common;

use common::TempDir;
use modelferry_core::inputs::FileId;
use modelferry_core::layout::{Digest, DigestAlgo, FileRange, Layout, Patch, PatchForm, Piece};
use modelferry_core::limits::Limits;
use modelferry_core::model::{Model, ModelView};
use modelferry_core::{DType, ErrorKind, Result};
use modelferry_engine::disk::DiskInputs;
use modelferry_engine::io::fault::{Call, Fault, FaultIo};
use modelferry_engine::io::{Io, OsIo};
use modelferry_engine::publish::Replace;
use modelferry_engine::{Control, Part, Plan, Published, Settings, Staged, execute};
use modelferry_kernels::crc::crc32;
use sha2::Digest as _;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const LEN: u64 = 300_000;

/// A tensor of bytes, and an output of two files with a checksum in each: one of the other, so that the last digests
/// must wait for all holes.
fn job(input: &[u8], name: &str) -> (Model, Layout) {
    let mut model = Model::default();
    let data = model.nodes.region(FileId(0), 0, input.len() as u64).unwrap();
    model.push("t", DType::U8, vec![input.len() as u64], data).unwrap();
    let view = ModelView::new(&model, &Limits::default()).unwrap();
    let mut layout = Layout::default();
    let first = layout
        .push_file(name, vec![Piece::Zero(32), Piece::tensor(&view, 0), Piece::Bytes((*b"end").into())]);
    let second =
        layout.push_file(format!("{name}.more"), vec![Piece::Bytes((*b"sum ").into()), Piece::Zero(4)]);
    let whole = |layout: &Layout, file: usize| FileRange { file, bytes: 0..layout.files[file].len };
    let part = FileRange { file: first, bytes: 32..LEN };
    let digests = [
        (DigestAlgo::Sha256, FileRange { file: second, bytes: 0..8 }),
        (DigestAlgo::Crc32, part),
        (DigestAlgo::Sha256, whole(&layout, first)),
        (DigestAlgo::Crc32, whole(&layout, first)),
        (DigestAlgo::Crc32, whole(&layout, second)),
        (DigestAlgo::Sha256, whole(&layout, second)),
    ];
    layout.digests.extend(digests.map(|(algo, over)| Digest { algo, over }));
    layout.patches.push(Patch { file: first, at: 0, form: PatchForm::Raw, digest: 0 });
    layout.patches.push(Patch { file: second, at: 4, form: PatchForm::Raw, digest: 1 });
    layout.promise(format!("{name}.txt"), 1000);
    layout.promise(format!("{name}-notes/empty"), 0);
    layout.validate(&view).unwrap();
    (model, layout)
}

type Approve = dyn Fn(&Staged<'_>) -> Result<()>;

/// Runs it into a folder; `approve` is given what is staged.
fn run(
    io: Arc<dyn Io>,
    dir: &TempDir,
    jobs: &[(Model, Layout)],
    replace: Replace,
    settings: &Settings,
    approve: &Approve,
) -> Result<Published> {
    let parts: Vec<Part<'_>> = jobs.iter().map(|(model, layout)| Part { model, layout }).collect();
    let inputs = DiskInputs::open(Arc::clone(&io), &dir.join("in"))?;
    let plan = Plan {
        parts: &parts,
        inputs: &inputs,
        output: &dir.join("out/o"),
        is_folder: false,
        replace,
        settings,
        control: &Control::new(),
        io,
    };
    plan.check()?;
    execute(&plan, &mut |staged| approve(staged))
}

/// Makes what is promised: the digests in hexadecimal.
fn keep(staged: &Staged<'_>) -> Result<()> {
    for (part, digests) in staged.digests.iter().enumerate() {
        let hex = |digest: &Vec<u8>| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let lines: Vec<String> = digests.iter().map(hex).collect();
        staged.write_promised(part, 1, b"")?;
        staged.write_promised(part, 0, lines.join("\n").as_bytes())?;
    }
    Ok(())
}

/// What is in the output's folder, hidden files too.
fn found(dir: &TempDir) -> BTreeMap<String, Vec<u8>> {
    fn add(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            match entry.path().is_dir() {
                true => add(&entry.path(), &format!("{name}/"), found),
                false => drop(found.insert(name, std::fs::read(entry.path()).unwrap())),
            }
        }
    }
    let mut files = BTreeMap::new();
    add(&dir.join("out"), "", &mut files);
    files
}

fn start(what: &str) -> (TempDir, Vec<u8>) {
    let dir = TempDir::in_memory(what);
    let input: Vec<u8> = (0..LEN).map(|n| (n * n / 7) as u8).collect();
    dir.file("in", &input);
    std::fs::create_dir(dir.join("out")).unwrap();
    (dir, input)
}

#[test]
fn digests_without_a_hole_are_those_of_the_finished_bytes() {
    let (dir, input) = start("promised-digests");
    for (threads, memory, sparse) in [(1, 1 << 16, false), (2, 32 << 20, false), (2, 32 << 20, true)] {
        if sparse {
            let mut holes = input.clone();
            holes[..100_000].fill(0);
            std::fs::remove_file(dir.join("in")).unwrap();
            let file = std::fs::File::create(dir.join("in")).unwrap();
            file.set_len(LEN).unwrap();
            std::os::unix::fs::FileExt::write_at(&file, &holes[100_000..], 100_000).unwrap();
        }
        let jobs = [job(&input, "o"), job(&input, "p")];
        let settings = Settings { threads, memory, ..Settings::default() };
        let done = run(Arc::new(OsIo), &dir, &jobs, Replace::Force, &settings, &keep).unwrap();
        let files = found(&dir);
        let published: Vec<(String, u64)> = done
            .files
            .iter()
            .map(|(path, len)| {
                (path.strip_prefix(dir.join("out")).unwrap().to_string_lossy().into_owned(), *len)
            })
            .collect();
        assert_eq!(published.len(), 8);
        for (name, len) in &published {
            assert_eq!(files[name].len() as u64, *len, "{name}");
        }
        assert_eq!(files.len(), 8, "nothing else: {:?}", files.keys());
        for name in ["o", "p"] {
            let (first, second) = (&files[name], &files[&format!("{name}.more")]);
            assert_eq!(second[4..], crc32(&first[32..LEN as usize]).to_le_bytes(), "{name}");
            let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let sha = |bytes: &[u8]| hex(&sha2::Sha256::digest(bytes));
            let crc = |bytes: &[u8]| hex(&crc32(bytes).to_le_bytes());
            let text = std::str::from_utf8(&files[&format!("{name}.txt")]).unwrap();
            let lines: Vec<&str> = text.split('\n').collect();
            assert_eq!(lines[0], hex(&first[..32]), "{name}: as it stands in its hole");
            assert_eq!(lines[1], hex(&second[4..]), "{name}: as it stands in its hole");
            assert_eq!(lines[2..], [sha(first), crc(first), crc(second), sha(second)], "{name}");
            assert_eq!(files[&format!("{name}-notes/empty")], b"");
        }
    }
}

#[test]
fn what_is_not_kept_publishes_nothing() {
    let (dir, input) = start("promised-broken");
    let jobs = [job(&input, "o")];
    let approvals: [(&Approve, &str); 3] = [
        (&|_| Ok(()), "o.txt: a file that a layout promises was not made"),
        (&|staged| staged.write_promised(0, 0, b"x"), "o-notes/empty: a file that a layout promises was not"),
        (&|staged| staged.write_promised(0, 1, b"x"), "a file is longer than its layout promises"),
    ];
    for (approve, expected) in approvals {
        let done = run(Arc::new(OsIo), &dir, &jobs, Replace::Refuse, &Settings::default(), approve);
        let error = done.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Plugin);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(found(&dir).is_empty());
    }
}

#[test]
fn a_promised_file_that_is_there_is_replaced_by_force_only() {
    let (dir, input) = start("promised-stale");
    dir.file("out/o.txt", "an older report");
    let jobs = [job(&input, "o")];
    let error = run(Arc::new(OsIo), &dir, &jobs, Replace::Refuse, &Settings::default(), &keep).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists, "{error}");
    assert_eq!(found(&dir).into_iter().collect::<Vec<_>>(), [("o.txt".into(), b"an older report".to_vec())]);
    run(Arc::new(OsIo), &dir, &jobs, Replace::Force, &Settings::default(), &keep).unwrap();
    assert!(found(&dir)["o.txt"].len() > 100);
    // Two models whose reports have one name.
    let clash = [job(&input, "o"), {
        let (model, mut layout) = job(&input, "p");
        layout.promises[0].path = "o.txt".into();
        (model, layout)
    }];
    let error = run(Arc::new(OsIo), &dir, &clash, Replace::Force, &Settings::default(), &keep).unwrap_err();
    assert!(error.to_string().ends_with("no plain unique relative path, found o.txt"), "{error}");
}

#[test]
fn a_fault_anywhere_publishes_all_or_nothing() {
    let (dir, input) = start("promised-faults");
    let jobs = [job(&input, "o")];
    let settings = Settings { threads: 1, ..Settings::default() };
    let mut failed = BTreeMap::new();
    for idx in 0.. {
        for fault in [Fault::Errno(28), Fault::Short, Fault::Halt] {
            let seen = Arc::new(std::sync::Mutex::new(None));
            let (io, call) = (OsIo, Arc::clone(&seen));
            let io = FaultIo::new(io, move |seen| {
                (seen.idx == idx).then(|| {
                    *call.lock().unwrap() = Some(seen.call);
                    fault
                })
            });
            let done = run(Arc::new(io), &dir, &jobs, Replace::Refuse, &settings, &keep);
            let Some(call) = *seen.lock().unwrap() else {
                assert!(done.is_ok());
                // Creation and write of both promised files and of their lengths were among them.
                for (call, at_least) in [(Call::SetLen, 2), (Call::WriteAt, 4), (Call::CreateNew, 4)] {
                    assert!(failed.get(&format!("{call:?}")).is_some_and(|n| *n >= at_least), "{failed:?}");
                }
                return;
            };
            if done.is_err() {
                *failed.entry(format!("{call:?}")).or_insert(0) += u32::from(fault == Fault::Errno(28));
            }
            if fault == Fault::Halt {
                // A killed run's files go with the next one's.
                modelferry_engine::publish::remove_leftovers(&OsIo, &dir.join("out/o"));
            }
            let files = found(&dir);
            assert!(
                files.is_empty() || files.len() == 4 && files.values().all(|bytes| bytes.len() < 310_000),
                "{fault:?} at call {idx}, {call:?}: {:?}",
                files.keys()
            );
            assert!(files.is_empty() || fault == Fault::Halt || done.is_ok(), "{fault:?} at call {idx}");
            std::fs::remove_dir_all(dir.join("out")).unwrap();
            std::fs::create_dir(dir.join("out")).unwrap();
        }
    }
}
