//! Folders, models and runs of the program.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The program.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_modelferry");

/// No run of these tests takes so long: it hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// Says that something could not be tested here. Not through `eprintln!`, which shows nothing of a test that passes.
pub(crate) fn skip(what: &str, why: impl std::fmt::Display) {
    let _ = std::io::stderr().write_all(format!("skipped: {what}: {why}\n").as_bytes());
}

/// A folder that goes when the test is done.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new(what: &str) -> Dir {
        Dir::below(&std::env::temp_dir(), what)
    }

    /// One in memory where there is such a file system, for tens of thousands of files.
    pub(crate) fn in_memory(what: &str) -> Dir {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Dir::below(memory, what) } else { Dir::new(what) }
    }

    fn below(base: &Path, what: &str) -> Dir {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("modelferry-process-{what}-{}-{n}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Dir(path.canonicalize().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// A folder in it.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// The names in it, sorted, folders and links included.
    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.0)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Every file of a folder with its content, links followed; staging folders are left out.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let is_file = |name: &String| folder.join(name).is_file();
    names(folder)
        .into_iter()
        .filter(is_file)
        .map(|name| (name.clone(), fs::read(folder.join(&name)).unwrap()))
        .collect()
}

/// Whether a staging folder lies there.
pub(crate) fn has_staging(folder: &Path) -> bool {
    names(folder).iter().any(|name| name.contains(".partial-"))
}

/// The header of a safetensors file of f32 vectors.
fn header(tensors: &[(&str, u64)]) -> Vec<u8> {
    let mut at = 0;
    let mut json = String::from("{");
    for (idx, (name, n)) in tensors.iter().enumerate() {
        let end = at + 4 * n;
        let comma = if idx > 0 { "," } else { "" };
        let _ =
            write!(json, r#"{comma}"{name}":{{"dtype":"F32","shape":[{n}],"data_offsets":[{at},{end}]}}"#);
        at = end;
    }
    json.push('}');
    [&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat()
}

/// A safetensors file as bytes: vectors of f32 whose values follow from `seed`.
pub(crate) fn safetensors(tensors: &[(&str, u64)], seed: u32) -> Vec<u8> {
    let mut bytes = header(tensors);
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    for _ in 0..tensors.iter().map(|(_, n)| n).sum() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend(((state >> 8) as f32).to_le_bytes());
    }
    bytes
}

/// Four small tensors.
pub(crate) fn small() -> Vec<u8> {
    safetensors(&[("a", 300), ("b", 200), ("c", 7), ("d", 1)], 7)
}

/// Writes a file, with the folders above it.
pub(crate) fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A safetensors file of one tensor that is one hole of `len` bytes: it takes time and no disk.
pub(crate) fn write_sparse(path: &Path, len: u64) {
    let header = header(&[("hole", len / 4)]);
    fs::write(path, &header).unwrap();
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(header.len() as u64 + len).unwrap();
}

/// The program with arguments, nothing on its standard input.
pub(crate) fn modelferry<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// `convert INPUT OUTPUT OPTIONS`.
pub(crate) fn convert(input: impl AsRef<Path>, output: impl AsRef<Path>, options: &[&str]) -> Command {
    let mut command = modelferry(["convert"]);
    command.arg("--").arg(input.as_ref()).arg(output.as_ref());
    // Options stand before `--`, which names that begin with a dash need.
    let mut all = modelferry(["convert"]);
    all.args(options).args(command.get_args().skip(1));
    all
}

/// The same command, after a shell has set limits: `ulimit -n 64`.
pub(crate) fn under(limits: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("{limits}; exec \"$0\" \"$@\""))
        .arg(command.get_program())
        .args(command.get_args());
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Sees that it ended with this code, and that its errors contain a text.
    #[track_caller]
    pub(crate) fn expect(self, code: i32, text: &str) -> Done {
        assert_eq!(self.code(), Some(code), "{self:?}");
        assert!(self.stderr.contains(text), "no {text:?} in {self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self
    }
}

/// A run under way. It is killed if the test ends before it does.
pub(crate) struct Run(Option<Child>);

impl Run {
    pub(crate) fn start(command: &mut Command) -> Run {
        Run(Some(command.spawn().unwrap()))
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    pub(crate) fn id(&mut self) -> u32 {
        self.child().id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child().try_wait().unwrap().is_some()
    }

    /// Waits for a condition; false if the run ends first.
    pub(crate) fn wait_for(&mut self, mut is_so: impl FnMut(u32) -> bool) -> bool {
        let begun = Instant::now();
        loop {
            if is_so(self.id()) {
                return true;
            }
            if self.has_ended() {
                return false;
            }
            assert!(begun.elapsed() < PATIENCE, "it never comes to that");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        let id = i32::try_from(self.id()).unwrap();
        // It may have ended by itself, and waits for its parent then.
        let _ = kill_process(Pid::from_raw(id).unwrap(), signal);
    }

    /// Stops it where it is, until [`Signal::CONT`].
    pub(crate) fn pause(&mut self) {
        self.signal(Signal::STOP);
        self.wait_for(|id| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // The state stands behind the name, which is in parentheses.
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 'Z', 'X']))
        });
    }

    /// Waits until it ends.
    pub(crate) fn finish(mut self) -> Done {
        let mut child = self.0.take().unwrap();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let read = |stream: Option<Box<dyn std::io::Read + Send>>| {
            std::thread::spawn(move || {
                let mut bytes = vec![];
                if let Some(mut stream) = stream {
                    let _ = stream.read_to_end(&mut bytes);
                }
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let stdout = read(stdout.map(|stream| Box::new(stream) as _));
        let stderr = read(stderr.map(|stream| Box::new(stream) as _));
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                panic!("it hangs: {}", stderr.join().unwrap());
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        Done { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Done {
    Run::start(command).finish()
}

/// Converts, and sees that it worked.
#[track_caller]
pub(crate) fn convert_ok(input: impl AsRef<Path>, output: impl AsRef<Path>, options: &[&str]) {
    run(&mut convert(input, output, options)).expect(0, "");
}

/// Does something in the middle of a conversion of a large input that the test owns, and gives how that ended; `None`
/// if it was over too soon.
fn try_during(dir: &Dir, len: u64, act: &mut dyn FnMut(&mut Run, &Path)) -> Option<Done> {
    let (input, folder) = (dir.join("in.safetensors"), dir.folder("out"));
    write_sparse(&input, len);
    let mut run = Run::start(&mut convert(&input, folder.join("o.safetensors"), &[]));
    if run.wait_for(|_| has_staging(&folder)) {
        run.pause();
        if has_staging(&folder) && !run.has_ended() {
            act(&mut run, &input);
            run.signal(Signal::CONT);
            return Some(run.finish());
        }
    }
    drop(run);
    fs::remove_dir_all(folder).unwrap();
    None
}

/// The same, with ever larger inputs until `is_enough`.
#[track_caller]
pub(crate) fn during(
    dir: &Dir,
    mut act: impl FnMut(&mut Run, &Path),
    is_enough: impl Fn(&Done) -> bool,
) -> Done {
    let mut last = None;
    for shift in [28, 30, 32] {
        let _ = fs::remove_dir_all(dir.join("out"));
        if let Some(done) = try_during(dir, 1 << shift, &mut act) {
            if is_enough(&done) {
                return done;
            }
            last = Some(done);
        }
    }
    panic!("a run over 4 GB did not notice: {last:?}");
}

/// The signal that ended a run, if one did.
pub(crate) fn killed_by(done: &Done) -> Option<i32> {
    done.status.signal()
}
