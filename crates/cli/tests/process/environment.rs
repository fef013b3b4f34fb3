//! What a run takes from its surroundings: nothing.

use crate::support::{BINARY, Dir, convert, during, files, run, skip, small, write};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn the_environment_changes_nothing() {
    let dir = Dir::new("environment");
    let input = dir.join("größe.safetensors");
    write(&input, small());
    let run_with = |changes: &[(&str, Option<&str>)]| {
        let folder = dir.folder("out");
        let mut texts = vec![];
        for (output, options) in
            [("ö.npz", &["--dtype", "bf16"][..]), ("ö.safetensors", &["--shard-size", "1000", "--json"])]
        {
            let mut command = convert(&input, folder.join(output), options);
            for &(name, value) in changes {
                match value {
                    Some(value) => command.env(name, value),
                    None if name == "*" => command.env_clear(),
                    None => command.env_remove(name),
                };
            }
            let done = run(&mut command).expect(0, "");
            texts.push((done.stdout, done.stderr));
        }
        let written = files(&folder);
        fs::remove_dir_all(folder).unwrap();
        (written, texts)
    };
    let usual = run_with(&[]);
    assert!(usual.0.len() >= 4);
    for changes in [
        &[("HOME", None)][..],
        &[("HOME", Some("/nowhere/at/all"))],
        &[("LC_ALL", Some("C"))],
        &[("LC_ALL", Some("POSIX")), ("LANG", Some("POSIX"))],
        &[("LC_ALL", Some("tr_TR.UTF-8")), ("LANG", Some("tr_TR.UTF-8"))],
        &[("TZ", Some("Asia/Kathmandu"))],
        &[("TMPDIR", Some("/nowhere"))],
        &[("*", None)],
    ] {
        assert!(run_with(changes) == usual, "{changes:?}");
    }
}

#[test]
fn the_working_folder_may_be_gone() {
    let dir = Dir::new("gone");
    let input = dir.join("in.safetensors");
    write(&input, small());
    dir.folder("gone");
    let script = r#"cd "$4" && rmdir "$4" && exec "$1" convert "$2" "$3""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh", BINARY]).arg(&input).arg(dir.join("o.npz")).arg(dir.join("gone"));
    let output = shell.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn no_process_is_started_and_no_network_used() {
    // In the middle of a run: no child, no socket, and nothing open for writing but the output.
    let dir = Dir::new("alone");
    let done = during(
        &dir,
        |run, input| {
            let proc = format!("/proc/{}", run.id());
            for task in fs::read_dir(format!("{proc}/task")).unwrap().flatten() {
                // Not every kernel tells.
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                assert_eq!(children.trim(), "");
            }
            let folder = input.parent().unwrap();
            for entry in fs::read_dir(format!("{proc}/fd")).unwrap().flatten() {
                let target = fs::read_link(entry.path()).unwrap_or_default();
                let shown = target.display().to_string();
                assert!(!shown.starts_with("socket:"), "{shown}");
                assert!(
                    target.starts_with(folder) || !shown.starts_with('/') || target == Path::new("/dev/null"),
                    "{shown}"
                );
            }
        },
        |_| true,
    );
    done.expect(0, "");

    // And from the first call to the last.
    let (input, trace) = (dir.join("small.safetensors"), dir.join("trace"));
    write(&input, small());
    let strace = || {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "trace=process,network,open,openat,creat", "-o"]).arg(&trace);
        strace
    };
    match strace().arg("true").output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => return skip("system calls", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => return skip("system calls", format!("strace: {error}")),
    }
    for (output, options) in [
        ("a.safetensors", &["--verify"][..]),
        ("b.safetensors", &["--shard-size", "1000"]),
        ("b.safetensors", &["--shard-size", "1000", "--force"]),
    ] {
        let command = convert(&input, dir.join("out").join(output), options);
        run(strace().arg(BINARY).args(command.get_args()).stdout(Stdio::piped()).stderr(Stdio::piped()))
            .expect(0, "");
        check_trace(&fs::read_to_string(&trace).unwrap(), &dir.join("out"));
    }
}

/// Sees that a trace has no other program, no network, and no file opened for writing outside of `folder`.
fn check_trace(trace: &str, folder: &Path) {
    let folder = folder.display().to_string();
    let (mut n_programs, mut n_written) = (0, 0);
    for line in trace.lines() {
        // `1234 call(…`.
        let call = line.split_once(' ').map_or(line, |(_, call)| call.trim_start());
        let name = call.split('(').next().unwrap_or_default();
        match name {
            "execve" => n_programs += 1,
            "fork" | "vfork" => panic!("{line}"),
            "clone" | "clone3" => {
                assert!(call.contains("CLONE_THREAD") || call.contains("resumed"), "{line}")
            }
            "open" | "openat" | "creat"
                if ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|flag| call.contains(flag)) =>
            {
                assert!(call.contains(&folder), "{line}");
                n_written += 1;
            }
            "socket" | "connect" | "bind" | "sendto" | "sendmsg" | "recvfrom" | "recvmsg" => panic!("{line}"),
            _ => {}
        }
    }
    assert_eq!(n_programs, 1, "{trace}");
    assert!(n_written > 1, "the trace is empty: {trace}");
}

#[test]
fn a_trace_with_a_stranger_in_it_is_noticed() {
    let trace = |line: &str| {
        format!(
            "1 execve(\"/bin/x\", …) = 0\n1 openat(AT_FDCWD, \"/o/a\", O_RDWR) = 3\n1 openat(AT_FDCWD, \"/o/b\", O_RDWR) = 3\n{line}\n"
        )
    };
    let is_fine =
        |line: &str| std::panic::catch_unwind(|| check_trace(&trace(line), Path::new("/o"))).is_ok();
    assert!(is_fine("1 openat(AT_FDCWD, \"/etc/ld.so.cache\", O_RDONLY|O_CLOEXEC) = 3"));
    assert!(is_fine("1 clone3({flags=CLONE_VM|CLONE_THREAD, …}) = 2"));
    for line in [
        "1 execve(\"/bin/y\", …) = 0",
        "1 vfork() = 2",
        "1 clone({flags=SIGCHLD}) = 2",
        "1 socket(AF_INET, SOCK_STREAM, 0) = 3",
        "1 openat(AT_FDCWD, \"/elsewhere/x\", O_WRONLY|O_CREAT, 0666) = 3",
    ] {
        assert!(!is_fine(line), "{line}");
    }
}
