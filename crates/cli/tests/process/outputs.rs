//! Places where an output cannot be, or is not whole.

use crate::support::{BINARY, Dir, convert, names, run, safetensors, skip, small, under, write};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

#[test]
fn nothing_is_written_through_links_or_into_devices() {
    let dir = Dir::new("places");
    write(dir.join("in.safetensors"), small());
    write(dir.join("target.npz"), "precious");
    dir.folder("folder");
    symlink("target.npz", dir.join("link.npz")).unwrap();
    symlink("nowhere.npz", dir.join("dangling.npz")).unwrap();
    symlink("folder", dir.join("folder-link")).unwrap();
    mknodat(CWD, dir.join("fifo.npz"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let before = dir.names();
    for force in [&["--to", "npz"][..], &["--to", "npz", "--force"]] {
        for (output, code, text) in [
            ("link.npz", 2, "nothing is written through links (it leads to target.npz)"),
            ("dangling.npz", 2, "nothing is written through links (it leads to nowhere.npz)"),
            ("fifo.npz", 2, "found a FIFO"),
            ("/dev/null", 2, "found a character device"),
            ("none/o.npz", 14, "the output's folder is not there"),
            ("target.npz/o.npz", 14, "found a regular file"),
        ] {
            run(convert("in.safetensors", output, force).current_dir(dir.path())).expect(code, text);
        }
    }
    assert_eq!(dir.names(), before);
    assert_eq!(fs::read(dir.join("target.npz")).unwrap(), b"precious");
    // A folder reached through a link is the user's own business.
    run(convert("in.safetensors", "folder-link/o.npz", &[]).current_dir(dir.path())).expect(0, "");
    assert_eq!(names(&dir.join("folder")), ["o.npz"]);
}

#[test]
fn a_file_size_limit_is_an_error_that_leaves_nothing() {
    let dir = Dir::new("limit");
    let input = dir.join("in.safetensors");
    write(&input, safetensors(&[("a", 1 << 18)], 1));
    write(dir.join("old.npz"), "old");
    for (output, options) in
        [("o.npz", &[][..]), ("old.npz", &["--force"]), ("s.safetensors", &["--shard-size", "900KB"])]
    {
        // In blocks of 512 bytes or of 1024, as the shell likes.
        let limited = under("ulimit -f 100", &convert(&input, dir.join(output), options));
        run(&mut { limited }).expect(14, "File too large (os error 27)");
        assert_eq!(dir.names(), ["in.safetensors", "old.npz"]);
        assert_eq!(fs::read(dir.join("old.npz")).unwrap(), b"old");
    }
}

/// Runs a script in a mount namespace of its own, so that what it mounts is gone with it.
fn with_mounts(script: &str, args: &[&std::path::Path]) -> Option<std::process::Output> {
    for options in [&["-m"][..], &["-r", "-m"]] {
        let mut command = Command::new("unshare");
        command.args(options).args(["sh", "-c", script, "sh"]).args(args).stdin(Stdio::null());
        // Exit code 99 is the script's word for a mount that is not allowed.
        if let Ok(output) = command.output()
            && output.status.code().is_some_and(|code| code != 99 && code != 1)
        {
            return Some(output);
        }
    }
    None
}

#[test]
fn a_full_disk_is_noticed_before_the_work() {
    let dir = Dir::new("full");
    let (input, mount) = (dir.join("in.safetensors"), dir.folder("disk"));
    // Two megabytes to a disk of one.
    write(&input, safetensors(&[("a", 1 << 19)], 1));
    let script = r#"mount -t tmpfs -o size=1m none "$3" || exit 99
        "$1" convert "$2" "$3/o.npz"; echo "code $?"
        "$1" convert "$2" "$3/o.safetensors" --shard-size 1MB; echo "code $?"
        "$1" convert "$2" "$3/small.npz" --dtype f8_e4m3 --allow overflow --quiet; echo "code $?"
        ls -A "$3"; exit 0"#;
    let Some(output) = with_mounts(script, &[BINARY.as_ref(), &input, &mount]) else {
        return skip("a full disk", "no file system may be mounted here");
    };
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // One eighth of it fits; the others left nothing behind.
    assert_eq!(
        stdout.lines().filter(|line| !line.starts_with("wrote")).collect::<Vec<_>>(),
        ["code 14", "code 14", "code 0", "small.npz"],
        "{stderr}"
    );
    assert_eq!(stderr.matches("not enough free space, expected 2.1 MB (20").count(), 2, "{stderr}");
    assert_eq!(stderr.matches(", found 1.0 MB (1048576 bytes)").count(), 2, "{stderr}");
}

#[test]
fn files_have_the_mode_that_the_umask_gives() {
    use std::os::unix::fs::MetadataExt;
    let dir = Dir::new("umask");
    let input = dir.join("in.safetensors");
    write(&input, small());
    for (umask, mode) in [("077", 0o600), ("022", 0o644), ("027", 0o640), ("000", 0o666)] {
        let (folder, report) = (dir.folder(umask), dir.join(format!("{umask}.json")));
        let report = report.to_str().unwrap();
        for (output, options) in [
            ("o.npz", &["--report", report][..]),
            ("s.safetensors", &["--shard-size", "1000"]),
            ("o.npz", &["--force"]),
        ] {
            let command = convert(&input, folder.join(output), options);
            run(&mut under(&format!("umask {umask}"), &command)).expect(0, "");
        }
        let written = names(&folder).into_iter().map(|name| folder.join(name)).chain([report.into()]);
        for path in written {
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode, "{}", path.display());
        }
        assert!(names(&folder).len() >= 4);
    }
}
