//! The suite on a format of a stranger: it passes when the plugin is right, and fails in the right place when not.

use modelferry_conformance::{
    Judged, Outcome, PLACEHOLDER, SuiteOptions, mutate, reader_is_done, run, writer_is_done,
};
use modelferry_core::epilogue::{Outcome as Shown, SmallFile};
use modelferry_core::expr::{Packing, volume};
use modelferry_core::inputs::Inputs;
use modelferry_core::layout::{Digest, DigestAlgo, FileRange, Layout, Piece};
use modelferry_core::limits::Limits;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, ModelView};
use modelferry_core::options::Options;
use modelferry_core::plugin::{
    Carries, Host, LayoutRequest, MetadataForm, Place, Reader, ReaderInfo, Verdict, Writer, WriterInfo,
};
use modelferry_core::registry::Registry;
use modelferry_core::{DType, Error, Result};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is wrong with the plugin.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The second tensor is not written, and nobody says so.
    DropsTensor,
    /// A loss is declared that does not happen.
    ClaimsLoss,
    /// Tensors are written in the reverse order.
    Reverses,
    /// Tensors that lie behind the end of the file are passed over.
    TakesShortFiles,
    /// Every file is its own.
    KnowsEverything,
    /// Reading panics on a short file.
    Panics,
    /// What reports on the run is another text each time.
    ReportsItsAge,
}

struct Toy(Fault);

static READER: ReaderInfo = ReaderInfo {
    format: "toy",
    about: "a format for this test",
    extensions: &[".toy"],
    magic: &[],
    place: Place::File,
    options: &[],
};

static WRITER: WriterInfo = WriterInfo {
    format: "toy",
    about: "a format for this test",
    extensions: &[".toy"],
    place: Place::File,
    options: &[],
    dtypes: &[DType::F32, DType::F16, DType::Bf16, DType::U8],
    max_rank: 3,
    max_tensors: 100,
    names: Carries::Yes,
    ties: Carries::No,
    metadata: MetadataForm::None,
    tree: Carries::No,
    graph: Carries::No,
    config: Carries::No,
    assets: Carries::No,
    shards: Carries::No,
};

const MAGIC: &[u8] = b"TOY\n";

impl Reader for Toy {
    fn info(&self) -> &'static ReaderInfo {
        &READER
    }

    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        let mut magic = [0; MAGIC.len()];
        let read = inputs.read_at(inputs.root(), 0, &mut magic);
        if self.0 == Fault::KnowsEverything || read.is_ok() && magic == MAGIC {
            Verdict::Content
        } else {
            Verdict::No
        }
    }

    /// Magic, length of the header, header; in it per line: type, extents, name in hexadecimal.
    fn read(&self, inputs: &dyn Inputs, _: &Options, _: &mut dyn Host) -> Result<Model> {
        let root = inputs.root();
        let start = inputs.read_vec(root, 0, 8, 8)?;
        if self.0 == Fault::Panics {
            assert_ne!(inputs.len(root), 9);
        }
        let header_len = u64::from(u32::from_le_bytes([start[4], start[5], start[6], start[7]]));
        if start[..4] != *MAGIC {
            return Err(Error::malformed("this is no toy"));
        }
        let header = String::from_utf8(inputs.read_vec(root, 8, header_len, 1 << 20)?)
            .map_err(|error| Error::malformed("the header is no text").source(error))?;
        let mut model = Model::default();
        let mut at = 8 + header_len;
        for line in header.lines() {
            let broken = || Error::malformed("a line of the header is broken").found(line);
            let mut words = line.split(' ');
            let dtype = words.next().and_then(DType::from_name).ok_or_else(broken)?;
            let extents = words.next().ok_or_else(broken)?.split_terminator(',').map(str::parse);
            let shape: Vec<u64> = extents.collect::<Result<_, _>>().map_err(|_| broken())?;
            let hex = words.next().ok_or_else(broken)?;
            let pairs = (0..hex.len()).step_by(2).map(|idx| hex.get(idx..idx + 2).ok_or_else(broken));
            let name: Result<Vec<u8>> =
                pairs.map(|pair| u8::from_str_radix(pair?, 16).map_err(|_| broken())).collect();
            let name = String::from_utf8(name?);
            let n = volume(&shape).ok_or_else(broken)?;
            let len = n.checked_mul(dtype.item_bytes()).ok_or_else(broken)?;
            let end = u64::checked_add(at, len).ok_or_else(broken)?;
            if end > inputs.len(root) {
                if self.0 == Fault::TakesShortFiles {
                    return Ok(model);
                }
                return Err(broken());
            }
            let region = model.nodes.region(root, at, len)?;
            at = end;
            let data = model.nodes.decode(region, dtype, n, Packing::default())?;
            model.push(name.map_err(|_| broken())?, dtype, shape, data)?;
        }
        if at != inputs.len(root) {
            return Err(Error::malformed("the file has another length").expected(at).found(inputs.len(root)));
        }
        Ok(model)
    }
}

impl Writer for Toy {
    fn info(&self) -> &'static WriterInfo {
        &WRITER
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        _: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        let mut order: Vec<usize> = (0..view.tensors().len()).collect();
        match self.0 {
            Fault::DropsTensor => order.retain(|&idx| idx != 1),
            Fault::Reverses => order.reverse(),
            _ => {}
        }
        let mut header = String::new();
        for &idx in &order {
            let tensor = view.tensor(idx);
            let shape: String = tensor.shape().iter().map(|extent| format!("{extent},")).collect();
            let name: String = tensor.name().bytes().map(|byte| format!("{byte:02x}")).collect();
            header += &format!("{} {shape} {name}\n", tensor.dtype());
        }
        let mut start = MAGIC.to_vec();
        start.extend((header.len() as u32).to_le_bytes());
        start.extend(header.bytes());
        let mut pieces = vec![Piece::Bytes(start.into())];
        pieces.extend(order.iter().map(|&idx| Piece::tensor(view, idx)));
        let mut layout = Layout::default();
        let file = layout.push_file(request.file_name, pieces);
        let over = FileRange { file, bytes: 0..layout.files[file].len };
        layout.digests.push(Digest { algo: DigestAlgo::Crc32, over });
        layout.promise(format!("{}.sum", request.file_name), 30);
        let claimed = order.first().filter(|_| self.0 == Fault::ClaimsLoss);
        let losses =
            claimed.map(|&idx| Loss::declared(LossKind::Order, view.tensor(idx).name(), "not at all"));
        Ok((layout, losses.into_iter().collect()))
    }

    /// The checksum of the file.
    fn epilogue(&self, outcome: &Shown) -> Result<Vec<SmallFile>> {
        static AGE: AtomicU64 = AtomicU64::new(0);
        let age = if self.0 == Fault::ReportsItsAge { AGE.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let text = format!("{:02x?} {age}\n", outcome.digests[0].value);
        Ok(vec![SmallFile { path: outcome.promises[0].path.clone(), text }])
    }
}

/// A format beside it, so that there is something to decline.
struct Text;

static TEXT: ReaderInfo = ReaderInfo {
    format: "text",
    about: "no tensors",
    extensions: &[".txt"],
    magic: &[],
    place: Place::File,
    options: &[],
};

impl Reader for Text {
    fn info(&self) -> &'static ReaderInfo {
        &TEXT
    }

    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        let mut start = [0; 4];
        let read = inputs.read_at(inputs.root(), 0, &mut start);
        if read.is_ok() && start == *b"text" { Verdict::Content } else { Verdict::No }
    }

    fn read(&self, inputs: &dyn Inputs, _: &Options, _: &mut dyn Host) -> Result<Model> {
        let bytes =
            inputs.read_vec(inputs.root(), 0, inputs.len(inputs.root()), Limits::default().header_bytes)?;
        if bytes == b"text" { Ok(Model::default()) } else { Err(Error::malformed("this is not the text")) }
    }
}

/// A folder of fixtures for one test.
fn testdata(name: &str) -> std::io::Result<PathBuf> {
    let testdata = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    for folder in ["models", "bad/toy", "bad/text"] {
        fs::create_dir_all(testdata.join(folder))?;
    }
    fs::write(testdata.join("models/nothing.txt"), "text")?;
    fs::write(testdata.join("bad/toy/no-header.toy"), "TOY\n\u{9}\0\0\0u8 1 61\n")?;
    let recorded =
        "exit 10\ntoy: no-header.toy: byte 8: a range ends past the file, expected 9 bytes, found 8 bytes\n";
    fs::write(testdata.join("bad/toy/no-header.toy.expect"), recorded)?;
    fs::write(testdata.join("bad/text/longer.txt"), "text and more")?;
    let recorded = "exit 10\ntext: this is not the text\n";
    fs::write(testdata.join("bad/text/longer.txt.expect"), recorded)?;
    Ok(testdata)
}

fn registry(fault: Fault) -> Registry {
    let mut registry = Registry::default();
    registry.add_reader(Toy(fault));
    registry.add_reader(Text);
    registry.add_writer(Toy(fault));
    registry
}

fn outcome(name: &str, fault: Fault) -> Outcome {
    let testdata = testdata(name).expect("the target folder can be written");
    run(&registry(fault), &testdata, &SuiteOptions { n_seeds: 1, ..SuiteOptions::default() })
}

#[track_caller]
fn check(name: &str, fault: Fault, expected: &str) {
    let outcome = outcome(name, fault);
    assert!(
        outcome.failures.iter().any(|failure| failure.contains(expected)),
        "nothing says {expected:?}: {:#?}",
        outcome.failures
    );
}

#[test]
fn a_plugin_that_is_right_passes() {
    let outcome = outcome("right", Fault::None);
    assert!(outcome.failures.is_empty(), "{:#?}", outcome.failures);
    assert!(outcome.checks.iter().all(|(name, n)| *n > 0 || outcome.left_out.contains(name)));
    assert!(outcome.pairs.len() > 50);
}

#[test]
fn a_plugin_that_is_wrong_fails() {
    check("drops", Fault::DropsTensor, "nobody declared a change: tensor");
    check("claims", Fault::ClaimsLoss, "a declared loss cannot be seen: order");
    check("reverses", Fault::Reverses, "nobody declared a change: order");
    check("short", Fault::TakesShortFiles, "cut to");
    check("everything", Fault::KnowsEverything, "several readers take this file: toy, text");
    check("panics", Fault::Panics, "a panic: assertion");
    check("age", Fault::ReportsItsAge, "out.toy.sum has other bytes with one thread");
}

#[test]
fn a_reader_without_bad_files_fails() {
    let testdata = testdata("no-bad").expect("the target folder can be written");
    fs::remove_dir_all(testdata.join("bad/text")).expect("it was just made");
    let outcome =
        run(&registry(Fault::None), &testdata, &SuiteOptions { n_seeds: 1, ..SuiteOptions::default() });
    assert!(outcome.failures.iter().any(|failure| failure.contains("text: the reader has no files in")));
}

#[test]
fn what_is_spoilt_is_noticed() {
    let found =
        mutate(registry(Fault::None), &testdata("mutations").expect("the target folder can be written"));
    // The format holds no metadata, and all else that its models have; it has no folders.
    let nowhere = |kind| format!("{kind}: there was nowhere to do it");
    let expected = [
        "a metadata value is changed",
        "a declared loss is dropped",
        "a file beside the weights is changed",
        "a file beside the weights is left out",
    ];
    assert_eq!(found.failures, expected.map(nowhere));
    for mutated in found.kinds {
        assert_eq!(mutated.n_caught, mutated.n_tried, "{}", mutated.kind);
    }
}

#[test]
fn those_that_only_help_are_not_judged() {
    let testdata = testdata("judged").expect("the target folder can be written");
    let judged = |registry: &Registry, readers: &[&str], writers: &[&str]| {
        let [readers, writers] =
            [readers, writers].map(|formats| formats.iter().map(|&format| format.to_owned()).collect());
        let judged = Some(Judged { readers, writers });
        run(registry, &testdata, &SuiteOptions { judged, ..SuiteOptions::default() })
    };
    // There is no writer of text, so there are no casts; and the engine is not the plugin's.
    let text = judged(&registry(Fault::DropsTensor), &["text"], &[]);
    let no_number = "a header with any number replaced is an error or a model: nothing was there to check";
    assert_eq!(text.failures, [no_number]);
    assert!(text.pairs.iter().all(|pair| pair.reader == "text"));
    assert!(text.checks.iter().all(|(name, _)| !name.contains("casts") && !name.contains("expressions")));
    let toy = judged(&registry(Fault::DropsTensor), &[], &["toy"]);
    assert!(toy.failures.iter().any(|failure| failure.contains("nobody declared a change: tensor")));
    assert!(toy.checks.iter().all(|(name, _)| !name.contains("cut")));
    let nobody = judged(&registry(Fault::None), &["other"], &[]);
    assert!(nobody.failures.iter().any(|failure| failure.contains("nothing was there to check")));
}

#[test]
fn steps_that_are_left_are_listed() {
    let testdata = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("steps");
    let write = |name: &str, bytes: &[u8]| {
        let path = testdata.join(name);
        let folder = path.parent().expect("it is in a folder");
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(path, bytes))
            .expect("the target folder can be written");
    };
    let _ = fs::remove_dir_all(&testdata);
    write("models/tiny.toy", PLACEHOLDER.as_bytes());
    let toy = registry(Fault::None);
    let left = format!("{:?}", reader_is_done(&toy, "toy", &testdata).unwrap_err());
    assert!(left.starts_with("toy is not done, 0 of 5 steps are:\nTODO 1 of 5: put a small file"), "{left}");

    write("models/tiny.toy", b"TOY\n\x09\0\0\0u8 1, 61\n\x07");
    let left = format!("{:?}", reader_is_done(&toy, "toy", &testdata).unwrap_err());
    assert!(left.starts_with("toy is not done, 4 of 5 steps are:\ndone 1 of 5"), "{left}");
    assert!(left.contains("TODO 5 of 5: put a broken file"), "{left}");

    write("bad/toy/short.toy", b"TOY");
    write("bad/toy/short.toy.expect", b"exit 10\ntoy: another\n");
    let left = format!("{:?}", reader_is_done(&toy, "toy", &testdata).unwrap_err());
    assert!(left.starts_with("the suite found 1 faults:\n"), "{left}");
    assert!(left.contains("MODELFERRY_UPDATE"), "{left}");
    assert!(writer_is_done(&toy, "toy", &testdata).is_ok());
    let mut alone = Registry::default();
    alone.add_writer(Toy(Fault::None));
    let left = format!("{:?}", writer_is_done(&alone, "toy", &testdata).unwrap_err());
    assert!(left.starts_with("toy is not done, 1 of 3 steps are:\nTODO 1 of 3: a reader"), "{left}");
    assert!(
        left.contains("done 2 of 3") && left.contains("it is laid out, and nothing here reads it"),
        "{left}"
    );
}
