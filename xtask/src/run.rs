//! Folders and processes.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

/// Why a command ended early.
#[derive(Debug)]
pub(crate) struct Stop {
    /// The exit code.
    pub(crate) code: u8,
    text: String,
}

impl Stop {
    /// The user asked for something that does not exist.
    pub(crate) fn usage(text: impl Into<String>) -> Stop {
        Stop { code: 2, text: text.into() }
    }

    /// Something that is needed did not work.
    pub(crate) fn new(text: impl Into<String>) -> Stop {
        Stop { code: 1, text: text.into() }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Turns an I/O error about `path` into a [`Stop`] that names it.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Stop + '_ {
    move |error| Stop::new(format!("{}: {error}", path.display()))
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    // Cargo says where this run's workspace is; the folder seen by the compiler serves a binary started by hand.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = PathBuf::from(package);
    package.parent().map_or_else(|| package.clone(), Path::to_path_buf)
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => std::path::absolute(&folder).unwrap_or_else(|_| folder.into()),
        None => root().join("target"),
    }
}

/// Cargo, in the root of the workspace.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// `command` as one would type it, but for the rest of whole scripts among its arguments.
pub(crate) fn shown(command: &Command) -> String {
    const SHOWN: usize = 120;
    let name = Path::new(command.get_program());
    let name = name.strip_prefix(root()).unwrap_or(name);
    let name = if name.file_stem().is_some_and(|stem| stem == "cargo") { Path::new("cargo") } else { name };
    let mut text = name.display().to_string();
    let prefix = format!("{}/", root().display());
    for arg in command.get_args() {
        let arg = arg.to_string_lossy().replace(&prefix, "");
        let arg = arg.char_indices().nth(SHOWN).map_or(arg.as_str(), |(end, _)| &arg[..end]);
        let is_plain = !arg.is_empty() && arg.chars().all(|c| c.is_alphanumeric() || "-_./=:,@+".contains(c));
        text += &if is_plain { format!(" {arg}") } else { format!(" {arg:?}") };
    }
    text
}

fn starting(command: &Command) -> impl FnOnce(io::Error) -> Stop + use<> {
    let shown = shown(command);
    move |error| Stop::new(format!("`{shown}` did not start: {error}"))
}

/// Prints and runs `command`, its output going where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<(), Stop> {
    println!("$ {}", shown(command));
    let status = command.status().map_err(starting(command))?;
    ended(command, status)
}

fn ended(command: &Command, status: ExitStatus) -> Result<(), Stop> {
    if status.success() { Ok(()) } else { Err(Stop::new(format!("`{}`: {status}", shown(command)))) }
}

/// Prints and runs `command`, gives its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, Stop> {
    println!("$ {}", shown(command));
    let output = command.stderr(Stdio::inherit()).output().map_err(starting(command))?;
    ended(command, output.status)?;
    String::from_utf8(output.stdout).map_err(|_| Stop::new(format!("`{}` printed no UTF-8", shown(command))))
}

/// Prints and runs `command`, gives each line of its standard output and standard error, in the order of writing.
pub(crate) fn merged_lines(command: &mut Command, mut line: impl FnMut(&str)) -> Result<ExitStatus, Stop> {
    println!("$ {}", shown(command));
    let (reader, writer) = io::pipe().map_err(starting(command))?;
    let again = writer.try_clone().map_err(starting(command))?;
    let mut child =
        command.stdin(Stdio::null()).stdout(again).stderr(writer).spawn().map_err(starting(command))?;
    // The command keeps its ends of the pipe, without which this would never read to the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    each_line(reader, &mut line);
    child.wait().map_err(starting(command))
}

/// Prints and runs `command`, gives each line of its standard output.
pub(crate) fn lines(command: &mut Command, mut line: impl FnMut(&str)) -> Result<ExitStatus, Stop> {
    println!("$ {}", shown(command));
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(starting(command))?;
    if let Some(out) = child.stdout.take() {
        each_line(out, &mut line);
    }
    child.wait().map_err(starting(command))
}

fn each_line(out: impl Read, line: &mut dyn FnMut(&str)) {
    let mut out = BufReader::new(out);
    let mut bytes = vec![];
    while matches!(out.read_until(b'\n', &mut bytes), Ok(n) if n > 0) {
        line(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']));
        bytes.clear();
    }
}

/// Builds the program that users install, and gives its path.
pub(crate) fn build_modelferry() -> Result<PathBuf, Stop> {
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "modelferry-cli"]))?;
    let path = target().join("release/modelferry");
    if path.is_file() { Ok(path) } else { Err(Stop::new(format!("{} was not built", path.display()))) }
}

/// Prints what begins, gives a value that prints how long it took.
pub(crate) fn step(name: &str) -> Step {
    println!("\n== {name}");
    Step { name: name.to_owned(), begun: Instant::now() }
}

/// A part of a longer run.
pub(crate) struct Step {
    name: String,
    begun: Instant,
}

impl Drop for Step {
    fn drop(&mut self) {
        println!("== {}: {:.1} s", self.name, self.begun.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_order_from_both_streams() {
        let mut seen = vec![];
        let mut command = Command::new("sh");
        command.args(["-c", "echo a; echo b >&2; echo c; exit 3"]);
        let status = merged_lines(&mut command, |line| seen.push(line.to_owned())).unwrap();
        assert_eq!(seen, ["a", "b", "c"]);
        assert_eq!(status.code(), Some(3));
    }

    #[test]
    fn commands_are_shown_as_typed() {
        assert_eq!(shown(&cargo(&["fmt", "--check"])), "cargo fmt --check");
        assert_eq!(shown(Command::new("cp").args(["a b", ""])), "cp \"a b\" \"\"");
    }
}
