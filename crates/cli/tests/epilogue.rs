//! Files that report on the run: named by the plan, made of what it has shown, published with the rest or not at all.

// Helpers of tests are tests too, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::panic)]

use modelferry_cli::builtin;
use modelferry_convert::{Context, Job, Report, convert};
use modelferry_core::epilogue::{Outcome, SmallFile};
use modelferry_core::layout::{Digest, DigestAlgo, FileRange, Layout};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::ModelView;
use modelferry_core::plugin::{Host, LayoutRequest, Writer, WriterInfo};
use modelferry_core::registry::Registry;
use modelferry_core::{DType, Error, ErrorKind, Result};
use modelferry_engine::io::OsIo;
use modelferry_engine::{Control, Settings};
use modelferry_transform::quantize::Preset;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a writer does about its promise.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Right,
    Fails,
    Forgets,
    Renames,
    Exceeds,
    Repeats,
}

/// A writer of ours that reports on what it has written: checksums, and what the values showed.
struct Reporting {
    honest: Registry,
    format: &'static str,
    how: How,
}

impl Reporting {
    fn honest(&self) -> &dyn Writer {
        self.honest.writer(self.format).unwrap()
    }
}

const AT_MOST: u64 = 3000;

impl Writer for Reporting {
    fn info(&self) -> &'static WriterInfo {
        self.honest().info()
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        let (mut layout, losses) = self.honest().layout(view, request, host)?;
        for file in 0..layout.files.len() {
            let over = FileRange { file, bytes: 0..layout.files[file].len };
            layout.digests.push(Digest { algo: DigestAlgo::Sha256, over });
        }
        let name = format!("{}.report", layout.files[layout.root].path);
        layout.promise(name, AT_MOST);
        Ok((layout, losses))
    }

    fn epilogue(&self, outcome: &Outcome) -> Result<Vec<SmallFile>> {
        let mut text = String::new();
        for digested in outcome.digests.iter().filter(|known| known.digest.algo == DigestAlgo::Sha256) {
            let file = &outcome.files[digested.digest.over.file];
            let hex: String = digested.value.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(text, "{hex} {} {}", file.len, file.path).unwrap();
        }
        for seen in &outcome.tensors {
            let (name, dtype) = (&seen.name, seen.dtype);
            writeln!(text, "{} {name} {dtype} {} {}", seen.idx, seen.overflow, seen.underflow).unwrap();
            if let Some(cost) = seen.quantized {
                writeln!(text, "  {} of {} {} {}", cost.non_finite, cost.n, cost.rms, cost.largest).unwrap();
            }
        }
        outcome.losses.iter().for_each(|loss| writeln!(text, "{loss}").unwrap());
        let path = outcome.promises[0].path.clone();
        let file = |path: &str, text: &str| SmallFile { path: path.to_owned(), text: text.to_owned() };
        Ok(match self.how {
            How::Right => vec![file(&path, &text)],
            How::Fails => return Err(Error::unsupported("there is no ink")),
            How::Forgets => vec![],
            How::Renames => vec![file("other.report", &text)],
            How::Exceeds => vec![file(&path, &"x".repeat(AT_MOST as usize + 1))],
            How::Repeats => vec![file(&path, &text), file(&path, &text)],
        })
    }
}

/// Has the writer of another format lay everything out, and leaves out what that promises.
struct Careless;

impl Writer for Careless {
    fn info(&self) -> &'static WriterInfo {
        static INFO: std::sync::OnceLock<WriterInfo> = std::sync::OnceLock::new();
        INFO.get_or_init(|| WriterInfo {
            format: "careless",
            extensions: &[".careless"],
            ..*builtin::registry().writer("safetensors").unwrap().info()
        })
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        let (mut layout, losses) = host.layout(view, "safetensors", request)?;
        layout.promises.clear();
        Ok((layout, losses))
    }
}

/// The built-in plugins, of which the writers of two formats report.
fn registry(how: How) -> Registry {
    let mut registry = builtin::registry();
    registry.retain(|_| true, |format| !["safetensors", "gguf"].contains(&format));
    for format in ["safetensors", "gguf"] {
        registry.add_writer(Reporting { honest: builtin::registry(), format, how });
    }
    registry.add_writer(Careless);
    registry
}

struct Folder(PathBuf);

impl Folder {
    /// A folder with a source in it: `x` fits f16 but for one small value, `y` has a value that does not fit.
    fn new() -> Folder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("modelferry-epilogue-{}-{n}", std::process::id()));
        fs::create_dir_all(path.join("out")).unwrap();
        let folder = Folder(path);
        folder.source("fits.safetensors", &[("x", vec![1.0, 1e-30, -2.0, 0.5])]);
        folder.source("does-not.safetensors", &[("x", vec![1.0, 1e-30]), ("y", vec![1e30])]);
        let row = |scale: f32| (0..512).map(|n| scale * ((n * 37 % 101) as f32 - 50.0)).collect::<Vec<_>>();
        folder.source(
            "rows.safetensors",
            &[("blk.0.attn_v.weight", row(0.01)), ("blk.0.attn_q.weight", row(3.0))],
        );
        folder
    }

    fn source(&self, name: &str, tensors: &[(&str, Vec<f32>)]) {
        let (mut header, mut data) = (vec![], vec![]);
        for (name, values) in tensors {
            let begin = data.len();
            data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            // Two rows, where they are long enough to be quantized.
            let (rows, end) = (if values.len() == 512 { 2 } else { 1 }, data.len());
            let shape = [rows, values.len() / rows];
            header.push(format!(
                r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#
            ));
        }
        let header = format!("{{{}}}", header.join(","));
        let header = format!("{header:width$}", width = header.len().next_multiple_of(8));
        let len = (header.len() as u64).to_le_bytes();
        fs::write(self.0.join(name), [&len, header.as_bytes(), &data].concat()).unwrap();
    }

    fn job(&self, input: &str, output: &str) -> Job {
        let (input, output) = (self.0.join(input), self.0.join("out").join(output));
        Job { input, output, ..Job::default() }
    }

    /// What is in the output's folder, hidden files too.
    fn found(&self) -> BTreeMap<String, Vec<u8>> {
        fn add(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                match entry.path().is_dir() {
                    true => add(&entry.path(), &format!("{name}/"), found),
                    false => drop(found.insert(name, fs::read(entry.path()).unwrap())),
                }
            }
        }
        let mut files = BTreeMap::new();
        add(&self.0.join("out"), "", &mut files);
        files
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run_with(how: How, job: &Job, settings: &Settings) -> (Report, Option<Error>) {
    let (registry, control) = (registry(how), Control::new());
    let cx = Context { registry: &registry, io: Arc::new(OsIo), settings, control: &control };
    let mut report = Report::default();
    let error = convert(&cx, job, &mut report).err();
    (report, error)
}

fn run(job: &Job) -> Report {
    let (report, error) = run_with(How::Right, job, &Settings::default());
    assert!(error.is_none(), "{error:?}");
    report
}

/// The line that a file has in a report, by `sha256sum`, which is not ours.
fn line(folder: &Path, name: &str) -> String {
    let done = std::process::Command::new("sha256sum").arg(folder.join(name)).output().unwrap();
    let said = String::from_utf8(done.stdout).unwrap();
    format!("{} {} {name}", &said[..64], fs::metadata(folder.join(name)).unwrap().len())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The report's names and lengths are those of the files.
fn check_account(report: &Report, found: &BTreeMap<String, Vec<u8>>, prefix: &str) {
    let mut files: Vec<(String, u64)> =
        report.files.iter().map(|(path, len)| (format!("{prefix}{path}"), *len)).collect();
    files.sort();
    let there: Vec<(String, u64)> =
        found.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect();
    assert_eq!(files, there);
    assert_eq!(report.bytes, there.iter().map(|(_, len)| len).sum::<u64>());
}

#[test]
fn a_report_has_the_figures_of_its_run() {
    let folder = Folder::new();
    let mut job = folder.job("fits.safetensors", "m.safetensors");
    job.edits.dtype = Some(DType::F16);
    job.verify = true;
    let report = run(&job);
    let found = folder.found();
    check_account(&report, &found, "");
    assert_eq!(report.files[1].0, "m.safetensors.report");
    assert_eq!(report.n_verified, Some(1));
    let sum = line(&folder.0.join("out"), "m.safetensors");
    assert_eq!(
        text(&found["m.safetensors.report"]),
        format!("{sum}\n0 x f16 0 1\nunderflow: x: 1 of 4 values become zero in f16\n")
    );
    let mut json = vec![];
    report.write_json(&mut json, None).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["epilogue"], serde_json::json!([{"path": "m.safetensors.report", "at_most": AT_MOST}]));
    let lengths = json["files"].as_array().unwrap().iter().map(|file| file["bytes"].as_u64().unwrap());
    assert_eq!(json["bytes"], lengths.sum::<u64>());
}

#[test]
fn a_folder_has_the_report_of_its_weights() {
    let folder = Folder::new();
    let mut job = folder.job("fits.safetensors", "model/");
    job.verify = true;
    let model = folder.0.join("out/model");
    for is_there in [false, true] {
        job.force = is_there;
        let report = run(&job);
        let found = folder.found();
        check_account(&report, &found, "model/");
        // The checksums are those of the writer of the weights, by the names that they have in the folder.
        let expected = line(&model, "model.safetensors") + "\n";
        assert_eq!(text(&found["model/model.safetensors.report"]), expected);
        assert_eq!(report.root.as_deref(), Some("model.safetensors"));
    }
    // A file of the model that has the name of the report is in its way.
    fs::write(model.join("config.json"), "{}").unwrap();
    let job = Job { input: model, ..folder.job("", "again/") };
    let (_, error) = run_with(How::Right, &job, &Settings::default());
    let error = error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Target, "{error}");
    assert!(
        error.to_string().contains("model.safetensors.report: a file of the model has the name"),
        "{error}"
    );
}

#[test]
fn each_of_several_outputs_has_its_own() {
    let folder = Folder::new();
    let mut job = folder.job("rows.safetensors", "m-{type}.gguf");
    job.several = vec![Preset::Q8_0, Preset::Q4KM];
    job.policy.allow.insert(LossKind::Dtype);
    let dry = run(&Job { dry_run: true, ..job.clone() });
    assert!(folder.found().is_empty());
    let mut reports = vec![];
    for settings in [
        Settings { threads: 1, memory: 1 << 18, ..Settings::default() },
        Settings { threads: 2, ..Settings::default() },
    ] {
        let (report, error) = run_with(How::Right, &job, &settings);
        assert!(error.is_none(), "{error:?}");
        let found = folder.found();
        check_account(&report, &found, "");
        assert_eq!(found.len(), 4);
        for (own, dry) in report.outputs.iter().zip(&dry.outputs) {
            assert_eq!((&own.promised, own.promised.len()), (&dry.promised, 1));
            assert_eq!(own.files[..1], dry.files[..]);
            let name = &own.files[0].0;
            let mut expected = vec![line(&folder.0.join("out"), name)];
            for (idx, cost) in own.quantized.iter().enumerate() {
                expected.push(format!("{idx} {} {} 0 0", cost.name, cost.dtype));
                let short = |value: f64| format!("{value:.5e}").parse::<f64>().unwrap();
                expected.push(format!("  0 of 512 {} {}", short(cost.rms), short(cost.largest)));
                assert!(cost.rms > 0.0);
            }
            assert_eq!(own.quantized.len(), 2);
            let written = text(&found[&format!("{name}.report")]);
            assert_eq!(written.lines().collect::<Vec<_>>(), expected);
        }
        assert_eq!(report.promised.len(), 2);
        reports.push(found);
        fs::remove_dir_all(folder.0.join("out")).unwrap();
        fs::create_dir(folder.0.join("out")).unwrap();
    }
    assert_eq!(reports[0], reports[1], "with little memory as with much");
}

#[test]
fn what_is_refused_publishes_nothing() {
    let folder = Folder::new();
    let mut job = folder.job("does-not.safetensors", "m.safetensors");
    job.edits.dtype = Some(DType::F16);
    let (report, error) = run_with(How::Right, &job, &Settings::default());
    assert_eq!(error.unwrap().kind(), ErrorKind::Target);
    assert_eq!((report.files.len(), report.promised.len()), (1, 1));
    assert!(folder.found().is_empty());
    job.policy.allow.insert(LossKind::Overflow);
    run(&job);
    let found = folder.found();
    let written = text(&found["m.safetensors.report"]);
    let seen = "\n0 x f16 0 1\n1 y f16 1 0\nunderflow: x: 1 of 2 values become zero in f16\noverflow: y: 1 of 1 values do not fit f16\n";
    assert!(written.ends_with(seen), "{written}");
}

#[test]
fn a_report_that_cannot_be_made_publishes_nothing() {
    let folder = Folder::new();
    let cases = [
        (How::Fails, ErrorKind::Unsupported, "safetensors: there is no ink"),
        (
            How::Forgets,
            ErrorKind::Plugin,
            "safetensors: m.safetensors.report: a writer did not make a file that its layout promises",
        ),
        (
            How::Renames,
            ErrorKind::Plugin,
            "safetensors: other.report: a writer made a file that its layout does not promise",
        ),
        (
            How::Exceeds,
            ErrorKind::Plugin,
            "safetensors: m.safetensors.report: a file is longer than its layout promises, expected at most 3000, found 3001",
        ),
        (How::Repeats, ErrorKind::Plugin, "safetensors: m.safetensors.report: a writer made a file twice"),
    ];
    for (how, kind, expected) in cases {
        for output in ["m.safetensors", "model/"] {
            let job = folder.job("fits.safetensors", output);
            let (report, error) = run_with(how, &job, &Settings::default());
            let error = error.unwrap();
            let expected =
                if output == "model/" { &expected.replace("m.safe", "model.safe") } else { expected };
            assert_eq!((error.kind(), &*error.to_string()), (kind, expected));
            assert!(folder.found().is_empty(), "{how:?}");
            assert_eq!(report.files.len(), 1);
        }
    }
}

#[test]
fn a_stale_report_is_refused_or_replaced() {
    let folder = Folder::new();
    let mut job = folder.job("fits.safetensors", "m.safetensors");
    let stale = folder.0.join("out/m.safetensors.report");
    fs::write(&stale, "of an earlier run").unwrap();
    for dry_run in [true, false] {
        job.dry_run = dry_run;
        let (_, error) = run_with(How::Right, &job, &Settings::default());
        let error = error.unwrap();
        assert_eq!(error.kind(), ErrorKind::Exists, "{error}");
        assert!(error.to_string().contains("m.safetensors.report"), "{error}");
        assert_eq!(folder.found().len(), 1);
    }
    job.force = true;
    check_account(&run(&job), &folder.found(), "");
    assert_ne!(fs::read(&stale).unwrap(), b"of an earlier run");
    // One that cannot be made leaves what was there.
    let before = folder.found();
    run_with(How::Fails, &job, &Settings::default()).1.unwrap();
    assert_eq!(folder.found(), before);
    // The source is not replaced by a report either.
    let job = Job { input: stale.clone(), from: Some("safetensors".into()), ..job };
    fs::copy(folder.0.join("fits.safetensors"), &stale).unwrap();
    let (_, error) = run_with(How::Right, &job, &Settings::default());
    assert_eq!(error.unwrap().kind(), ErrorKind::Usage);
}

#[test]
fn a_plan_names_the_report() {
    let folder = Folder::new();
    for output in ["m.safetensors", "model/"] {
        let dry = run(&Job { dry_run: true, ..folder.job("fits.safetensors", output) });
        assert!(folder.found().is_empty());
        let name = if output == "model/" { "model.safetensors.report" } else { "m.safetensors.report" };
        assert_eq!(dry.promised, [(name.to_owned(), AT_MOST)]);
        assert_eq!(dry.files.len(), 1);
        assert_eq!(dry.bytes, dry.files[0].1);
    }
}

#[test]
fn a_writer_that_leaves_out_what_another_promised_is_refused() {
    let folder = Folder::new();
    let job = folder.job("fits.safetensors", "m.careless");
    let (_, error) = run_with(How::Right, &job, &Settings::default());
    let error = error.unwrap();
    assert_eq!(
        (error.kind(), &*error.to_string()),
        (
            ErrorKind::Plugin,
            "careless: a layout leaves out the files that a part of it promises, found safetensors"
        )
    );
    assert!(folder.found().is_empty());
}
