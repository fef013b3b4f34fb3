//! One run for several types: the bytes of as many runs, the source read once, all outputs or none.

// Helpers of tests are tests too, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::panic)]

use modelferry_cli::builtin;
use modelferry_convert::diff::{Change, Closeness, diff};
use modelferry_convert::report::Quantized;
use modelferry_convert::{Context, Job, PluginOptions, Report, convert, open};
use modelferry_core::{ErrorKind, Result};
use modelferry_engine::io::fault::{Call, Fault, FaultIo};
use modelferry_engine::io::{Io, OsIo};
use modelferry_engine::{Control, Settings};
use modelferry_transform::quantize::Preset;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const TYPES: [Preset; 3] = [Preset::Q8_0, Preset::Q4KM, Preset::Q6K];

struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = base.join(format!("modelferry-types-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Names in the folder, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Matrices of f32 with names as in GGUF, long and short ones, rows of whole blocks and of none, and norms.
fn source() -> Vec<u8> {
    let mut shapes = vec![
        ("token_embd.weight".to_owned(), vec![400, 512]),
        ("output_norm.weight".to_owned(), vec![512]),
        ("output.weight".to_owned(), vec![401, 512]),
    ];
    for layer in 0..2 {
        shapes.push((format!("blk.{layer}.attn_norm.weight"), vec![512]));
        for (name, shape) in
            [("attn_v", [64, 512]), ("attn_q", [128, 512]), ("ffn_up", [100, 320]), ("ffn_down", [96, 1280])]
        {
            shapes.push((format!("blk.{layer}.{name}.weight"), shape.to_vec()));
        }
    }
    let mut header = String::new();
    let mut data = vec![];
    let mut state = 0x2545_f491_4f6c_dd1du64;
    for (name, shape) in shapes {
        let begin = data.len();
        for _ in 0..shape.iter().product::<usize>() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let value = (state >> 40) as f32 / (1 << 24) as f32 - 0.5;
            data.extend_from_slice(&value.to_le_bytes());
        }
        let end = data.len();
        let comma = if header.is_empty() { "" } else { "," };
        header +=
            &format!(r#"{comma}"{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#);
    }
    let json = format!("{{{header}}}");
    let json = format!("{json:width$}", width = json.len().next_multiple_of(8));
    (json.len() as u64).to_le_bytes().into_iter().chain(json.bytes()).chain(data).collect()
}

fn run(io: Arc<dyn Io>, settings: &Settings, job: &Job) -> Result<Report> {
    let (registry, control) = (builtin::registry(), Control::new());
    let cx = Context { registry: &registry, io, settings, control: &control };
    let mut report = Report::default();
    convert(&cx, job, &mut report).map(|()| report)
}

fn plain(job: &Job) -> Report {
    run(Arc::new(OsIo), &Settings::default(), job).unwrap()
}

/// From one file to another, with one preset or none.
fn single(input: &Path, output: &Path, preset: Option<Preset>) -> Job {
    let mut job = Job { input: input.to_owned(), output: output.to_owned(), ..Job::default() };
    job.edits.quantize.preset = preset;
    // What is quantized already may be quantized again.
    job.policy.allow.insert(modelferry_core::loss::LossKind::Dtype);
    job
}

fn several(input: &Path, output: &Path) -> Job {
    Job { several: TYPES.to_vec(), ..single(input, output, None) }
}

/// The source as itself, as GGUF, halved, quantized, and in an archive with checksums.
fn inputs(folder: &Folder) -> Vec<PathBuf> {
    let tensors = folder.0.join("in.safetensors");
    fs::write(&tensors, source()).unwrap();
    let mut inputs = vec![tensors.clone()];
    for (name, preset) in [
        ("in.gguf", None),
        ("half.gguf", Some(Preset::Bf16)),
        ("blocks.gguf", Some(Preset::Q8_0)),
        ("in.npz", None),
    ] {
        inputs.push(folder.0.join(name));
        plain(&single(&tensors, &folder.0.join(name), preset));
    }
    inputs
}

#[test]
fn the_source_is_read_once_and_the_bytes_are_those_of_as_many_runs() {
    let folder = Folder::new();
    for input in inputs(&folder) {
        let mut expected = vec![];
        for preset in TYPES {
            let alone = folder.0.join("alone.gguf");
            let report = plain(&Job { force: true, ..single(&input, &alone, Some(preset)) });
            expected.push((fs::read(&alone).unwrap(), report));
        }
        for (threads, memory) in [(1, 1 << 20), (4, 1 << 20), (1, 32 << 20), (4, 32 << 20)] {
            let io = FaultIo::new(OsIo, |_| None);
            let settings = Settings { threads, memory, ..Settings::default() };
            let job = Job { force: true, ..several(&input, &folder.0.join("o-{type}.gguf")) };
            let report = run(Arc::new(io.clone()), &settings, &job).unwrap();
            let name = format!("{} {threads} {memory}", input.display());

            let (read, len) = (io.n_bytes_read(), fs::metadata(&input).unwrap().len());
            // What it takes to know the file is read before; checksums cover heads of arrays, which each output looks at.
            let head = FaultIo::new(OsIo, |_| None);
            let dry = Job { dry_run: true, ..job.clone() };
            run(Arc::new(head.clone()), &settings, &dry).unwrap();
            assert!(
                read <= len + 2 * head.n_bytes_read(),
                "{name}: {read} - {} bytes of {len}",
                head.n_bytes_read()
            );
            assert!(len < 2_000_000 || read * 100 <= len * 105, "{name}: {read} bytes of {len} were read");
            assert_eq!(report.outputs.len(), 3, "{name}");
            for ((own, preset), (bytes, alone)) in report.outputs.iter().zip(TYPES).zip(&expected) {
                let output = folder.0.join(format!("o-{}.gguf", preset.name()));
                assert_eq!(own.output, output.display().to_string());
                assert!(fs::read(output).unwrap() == *bytes, "{name} {}", preset.name());
                assert_eq!(
                    (own.n_tensors, own.bytes, &own.losses),
                    (alone.n_tensors, alone.bytes, &alone.losses)
                );
                // Sums of the same numbers in another order.
                let figures = |report: &Report| -> Vec<String> {
                    let of = &report.quantized;
                    of.iter().map(|of| format!("{} {:.9e} {}", of.name, of.rms, of.largest)).collect()
                };
                assert_eq!(figures(own), figures(alone), "{name}");
            }
            assert_eq!(report.bytes, report.outputs.iter().map(|own| own.bytes).sum::<u64>());
        }
    }
}

/// One number to as many digits as a report gives.
fn short(value: f64) -> String {
    format!("{value:.5e}")
}

#[test]
fn a_comparison_finds_the_errors_that_the_conversion_has_reported() {
    let folder = Folder::new();
    for input in inputs(&folder) {
        for (preset, tolerance) in [(Preset::Q4KM, None), (Preset::Q5_0, Some(0.02))] {
            let output = folder.0.join("out.gguf");
            let report = plain(&Job { force: true, ..single(&input, &output, Some(preset)) });
            for (threads, memory) in [(1, 32 << 20), (3, 1 << 20)] {
                let settings = Settings { threads, memory, ..Settings::default() };
                let (registry, control) = (builtin::registry(), Control::new());
                let io: Arc<dyn Io> = Arc::new(OsIo);
                let cx = Context { registry: &registry, io, settings: &settings, control: &control };
                let opened = |path: &Path| open(&cx, path, None, &PluginOptions::new()).unwrap();
                let close = Closeness { atol: tolerance, rtol: None };
                for turned in [false, true] {
                    let (mut a, mut b) = (opened(&input), opened(&output));
                    if turned {
                        std::mem::swap(&mut a, &mut b);
                    }
                    let found = diff(&cx, &mut a, &mut b, close).unwrap();
                    assert_eq!(found.is_different(), tolerance.is_none() || found.n_same < found.n_common);
                    let figures = |of: &[Quantized]| {
                        let figure =
                            |of: &Quantized| (of.name.clone(), of.dtype, short(of.rms), short(of.largest));
                        let mut figures: Vec<_> = of.iter().map(figure).collect();
                        figures.sort();
                        figures
                    };
                    assert_eq!(figures(&found.quantized), figures(&report.quantized), "{}", input.display());
                    assert!(!found.quantized.is_empty());
                    // Of types that differ no values are listed unless they may be close.
                    let has_values =
                        found.entries.iter().any(|entry| matches!(entry.change, Change::Values { .. }));
                    assert_eq!(has_values, tolerance.is_some());
                }
            }
        }
    }
}

#[test]
fn all_outputs_or_none() {
    let folder = Folder::new();
    let input = folder.0.join("in.safetensors");
    fs::write(&input, source()).unwrap();
    let output = folder.0.join("o-{type}.gguf");
    let before = folder.names();
    // Writing the second fails; giving the third its name does.
    for (call, name) in [(Call::WriteAt, "o-q4_k_m.gguf"), (Call::HardLink, "o-q6_k.gguf")] {
        for force in [false, true] {
            let io = FaultIo::new(OsIo, move |seen| {
                (seen.call == call && seen.path.ends_with(name)).then_some(Fault::Errno(5))
            });
            let job = Job { force, ..several(&input, &output) };
            let error = run(Arc::new(io.clone()), &Settings::default(), &job).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            assert!(io.n_faults() > 0);
            assert_eq!(folder.names(), before, "{call:?}");
        }
    }
    // One that is there already stands in the way of all, and is replaced only with all.
    fs::write(folder.0.join("o-q4_k_m.gguf"), "old").unwrap();
    let error = run(Arc::new(OsIo), &Settings::default(), &several(&input, &output)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    let io = FaultIo::new(OsIo, |seen| {
        (seen.call == Call::HardLink && seen.path.ends_with("o-q6_k.gguf")).then_some(Fault::Errno(5))
    });
    let job = Job { force: true, verify: true, ..several(&input, &output) };
    run(Arc::new(io), &Settings::default(), &job).unwrap_err();
    assert_eq!(fs::read(folder.0.join("o-q4_k_m.gguf")).unwrap(), b"old");
    assert_eq!(folder.names(), ["in.safetensors", "o-q4_k_m.gguf"]);
    let report = plain(&job);
    assert!(report.outputs.iter().all(|own| own.n_verified == Some(own.n_tensors as usize)));
    assert_eq!(folder.names(), ["in.safetensors", "o-q4_k_m.gguf", "o-q6_k.gguf", "o-q8_0.gguf"]);
    assert!(fs::read(folder.0.join("o-q4_k_m.gguf")).unwrap().starts_with(b"GGUF"));
}

#[test]
fn a_folder_gets_names_of_the_model_and_its_types() {
    let folder = Folder::new();
    let input = folder.0.join("Some model-F32.safetensors");
    fs::write(&input, source()).unwrap();
    let to = Some("gguf".to_owned());
    let job = Job { to: to.clone(), ..several(&input, &folder.0.join("new/")) };
    let dry = plain(&Job { dry_run: true, ..job.clone() });
    assert_eq!(dry.outputs[1].output, folder.0.join("new/Some-model-Q4_K_M.gguf").display().to_string());
    assert!(dry.outputs[0].bytes > 0);
    assert_eq!(folder.names(), ["Some model-F32.safetensors"]);
    plain(&job);
    let bf16 = Job { to, ..single(&input, &folder.0.join("new"), Some(Preset::Bf16)) };
    plain(&bf16);
    let new = Folder(folder.0.join("new"));
    let names =
        ["Some-model-BF16.gguf", "Some-model-Q4_K_M.gguf", "Some-model-Q6_K.gguf", "Some-model-Q8_0.gguf"];
    assert_eq!(new.names(), names);
    assert_eq!(run(Arc::new(OsIo), &Settings::default(), &bf16).unwrap_err().kind(), ErrorKind::Exists);
}
