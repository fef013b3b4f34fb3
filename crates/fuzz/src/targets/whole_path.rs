//! Any file under any name, all the way.

use super::Reached;
use crate::check;
use crate::corpus::File;
use modelferry_convert::{Context, Job, Policy, Report, convert, inspect, open, pick};
use modelferry_core::error::ErrorKind;
use modelferry_core::inputs::MemInputs;
use modelferry_core::loss::LossKind;
use modelferry_core::plugin::Place;
use modelferry_engine::Control;
use modelferry_engine::io::OsIo;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

const NAMES: [&str; 7] = [
    "x.safetensors",
    "x.npz",
    "x.npy",
    "model.safetensors.index.json",
    "x-00001-of-00002.safetensors",
    "x",
    "x.bin",
];

/// One of so many inputs goes the long way, over a disk.
const ON_DISK: u32 = 16;

/// The first byte of the input chooses the name, the rest is the file.
pub(super) fn check(input: &[u8]) -> Result<Reached, String> {
    let (choice, bytes) = input.split_first().map_or((0, input), |(choice, bytes)| (*choice, bytes));
    let name = NAMES[usize::from(choice) % NAMES.len()];
    let inputs = MemInputs::new(name, bytes);
    let registry = modelferry_cli::builtin::files();
    let reader = match pick::reader(&registry, None, Place::File, &inputs) {
        Ok(reader) => reader,
        Err(error) => return check::refusal(&error),
    };
    let (reached, _) = check::reader(reader, &inputs)?;
    let sum = input.iter().fold(7u32, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    if reached == Reached::Read && (sum >> 8).is_multiple_of(ON_DISK) {
        on_disk(name, bytes)?;
    }
    Ok(reached)
}

/// The program itself, without its command line: inspects, and converts to every format.
fn on_disk(name: &str, bytes: &[u8]) -> Result<(), String> {
    let folder = Folder::new().map_err(|error| format!("no folder for temporary files: {error}"))?;
    let input = folder.0.join(name);
    fs::write(&input, bytes).map_err(|error| error.to_string())?;
    let registry = modelferry_cli::builtin::files();
    let (settings, control) = (check::settings(), Control::new());
    let cx = Context { registry: &registry, io: Arc::new(OsIo), settings: &settings, control: &control };
    let mut opened = match open(&cx, &input, None, &BTreeMap::new()) {
        Ok(opened) => opened,
        Err(error) => return Err(format!("read in memory, on disk refused: {error}")),
    };
    let request = inspect::Request { with_stats: true, ..inspect::Request::default() };
    let inspected = inspect::inspect(&cx, &mut opened, &request)
        .map(|inspection| inspection.write_json(&opened, &mut io::sink()));
    if let Err(error) = inspected {
        check::refusal(&error.file(name))?;
    }
    for writer in registry.writers() {
        let extension = writer.info().extensions.last().copied().unwrap_or_default();
        let job = Job {
            input: input.clone(),
            output: folder.0.join(format!("out{extension}")),
            policy: Policy { allow: LossKind::ALL.into(), strict: false },
            verify: true,
            ..Job::default()
        };
        match convert(&cx, &job, &mut Report::default()) {
            Ok(()) => fs::remove_file(&job.output).map_err(|error| format!("out{extension}: {error}"))?,
            Err(error) if error.kind() == ErrorKind::Target => {}
            Err(error) => {
                check::refusal(&error.file(name))?;
            }
        }
        let left = fs::read_dir(&folder.0).map_err(|error| error.to_string())?.count();
        if left != 1 {
            return Err(format!("{left} files lie in the folder after out{extension}"));
        }
    }
    Ok(())
}

/// A folder that goes with everything in it.
struct Folder(PathBuf);

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Folder {
    fn new() -> io::Result<Folder> {
        // In memory where the system has such a place: thousands are made.
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("modelferry-fuzz-{}-{number}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing is lost if it stays.
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn seed(file: &File) -> Option<Vec<u8>> {
    let choice = match &*file.name {
        name if name.ends_with(".index.json") => 3,
        name if name.ends_with(".safetensors") => 0,
        name if name.ends_with(".npz") => 1,
        name if name.ends_with(".npy") => 2,
        _ => 5,
    };
    Some([&[choice], &*file.bytes].concat())
}
