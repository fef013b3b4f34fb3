//! Standard output and standard error that nobody reads, or that cannot be written.

use crate::support::{BINARY, Dir, Run, convert, modelferry, run, safetensors, small, under, write};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// A command whose standard output is a pipe that was closed before it began.
fn with_closed_pipe(command: &mut Command) -> Run {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    Run::start(command.stdout(writer))
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let dir = Dir::new("pipe");
    let input = dir.join("in.safetensors");
    write(&input, small());
    let shown = input.to_str().unwrap();
    for args in [
        &["inspect", shown][..],
        &["inspect", shown, "--json"],
        &["formats"],
        &["formats", "--json"],
        &["--help"],
        &["--version"],
        &["convert", "--help"],
        &["diff", shown, shown],
        &["verify", shown],
    ] {
        let done = with_closed_pipe(&mut modelferry(args)).finish();
        assert_eq!((done.code(), &*done.stderr), (Some(0), ""), "{args:?}");
    }
    // A conversion is done all the same.
    for (output, options) in [("a.npz", &[][..]), ("b.npz", &["--json"])] {
        let done = with_closed_pipe(&mut convert(&input, dir.join(output), options)).finish();
        assert_eq!((done.code(), &*done.stderr), (Some(0), ""));
        assert!(dir.join(output).exists());
    }
    // A pipe that is closed after the first line, with much more to come than it holds.
    let names: Vec<String> = (0..5000).map(|idx| format!("layer.{idx}.some.weight.of.it")).collect();
    let tensors: Vec<(&str, u64)> = names.iter().map(|name| (&**name, 1)).collect();
    write(&input, safetensors(&tensors, 1));
    let mut child = modelferry(["inspect", shown, "--json"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
}

#[test]
fn a_full_standard_output_is_an_error() {
    let dir = Dir::new("dev-full");
    let input = dir.join("in.safetensors");
    write(&input, small());
    let shown = input.to_str().unwrap();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for args in [
        &["inspect", shown][..],
        &["inspect", shown, "--json"],
        &["formats"],
        &["--help"],
        &["diff", shown, shown],
    ] {
        let done = run(modelferry(args).stdout(full()));
        done.expect(14, "writing to standard output: No space left on device");
    }
    // The output itself is complete, and the exit code says that not all is well.
    for (output, options) in [("a.npz", &[][..]), ("b.npz", &["--json"])] {
        let done = run(convert(&input, dir.join(output), options).stdout(full()));
        done.expect(14, "writing to standard output");
        run(&mut modelferry(["inspect", dir.join(output).to_str().unwrap()])).expect(0, "");
    }
    // With nothing to say there is nothing that could fail; and of standard error nobody can be told.
    run(convert(&input, dir.join("c.npz"), &["--quiet"]).stdout(full())).expect(0, "");
    let done = run(convert(&input, dir.join("d.npz"), &["--dtype", "bf16"]).stderr(full()));
    assert_eq!(done.code(), Some(0));
    let done = run(modelferry(["inspect", "none"]).stderr(full()));
    assert_eq!(done.code(), Some(14));
    assert_eq!(dir.names(), ["a.npz", "b.npz", "c.npz", "d.npz", "in.safetensors"]);
}

#[test]
fn closed_streams_are_never_an_output() {
    // Without 0, 1 and 2 the next files opened would get these numbers, and messages would go into them.
    let dir = Dir::new("closed");
    let input = dir.join("in.safetensors");
    write(&input, small());
    run(&mut convert(&input, dir.join("expected.npz"), &["--dtype", "bf16"])).expect(0, "");
    let expected = fs::read(dir.join("expected.npz")).unwrap();
    for streams in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let command = convert(&input, dir.join("o.npz"), &["--dtype", "bf16"]);
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec \"$0\" \"$@\" {streams}")).arg(BINARY).args(command.get_args());
        let status = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{streams}");
        assert!(fs::read(dir.join("o.npz")).unwrap() == expected, "{streams}");
        fs::remove_file(dir.join("o.npz")).unwrap();
    }
    // Where the report is a stream of its own, its limits are an error like any other.
    let report = dir.join("report.json");
    let command = convert(&input, dir.join("o.npz"), &["--quiet", "--report", report.to_str().unwrap()]);
    let done = run(&mut under("ulimit -f 0", &command));
    assert_eq!(done.code(), Some(14), "{done:?}");
}
