//! Runs the program on the cases in `tests/cases`: commands, inputs, outputs and exit codes, one text file for each
//! thing that is guarded.
//!
//! A case file is a list of lines, each beginning with a sign:
//!
//! ```text
//! # a comment
//! @ NAME TEXT              makes a file, and the folders around it; \n, \t, \\ and \xNN are escapes
//! @safetensors NAME JSON HEX   makes a safetensors file: length, header, data
//! % modelferry ARGS        runs the program in the case's own folder; 'quotes' keep blanks
//! > TEXT                   a line of its standard output; `> ...` stands for any lines that follow
//! ! TEXT                   a line of its standard error, likewise
//! = N                      its exit code
//! ~ NAME                   the file is there now
//! ^ NAME                   the file is not there
//! ```
//!
//! `{testdata}` in a command is the workspace's `testdata` folder. What is not said is expected to be empty; a case
//! that expects nothing to be lost says nothing about standard error.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .expect("the folder is in the repository")
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= 10, "too few cases in {}: is the folder complete?", folder.display());
    let only = std::env::var("MODELFERRY_CASE").unwrap_or_default();
    let update = std::env::var_os("MODELFERRY_UPDATE").is_some();
    let mut failures = String::new();
    let mut n_commands = 0;
    for file in files.iter().filter(|file| file.to_string_lossy().contains(&only)) {
        let expected = fs::read_to_string(file).unwrap();
        let (found, n) = run_case(file, &expected);
        n_commands += n;
        if found != expected {
            if update {
                fs::write(file, &found).unwrap();
                continue;
            }
            let _ = writeln!(failures, "--- {}\n{}", file.display(), difference(&expected, &found));
        }
    }
    assert!(n_commands > 0, "no command was run");
    assert!(
        failures.is_empty(),
        "{failures}\nIf that is how it should be: MODELFERRY_UPDATE=1 cargo test -p modelferry-cli --test cli"
    );
}

/// Runs one case and gives the file as it should be for this outcome, and how many commands it ran.
fn run_case(file: &Path, text: &str) -> (String, usize) {
    let name = file.file_stem().expect("cases have names").to_string_lossy();
    let folder = std::env::temp_dir().join(format!("modelferry-cli-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the temporary folder is ours");
    let mut out = String::new();
    let mut n_commands = 0;
    let lines: Vec<&str> = text.lines().collect();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        at += 1;
        match line.split_once(' ').unwrap_or((line, "")) {
            ("@", rest) => {
                let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
                write(&folder.join(name), &unescape(text));
            }
            ("@safetensors", rest) => {
                let (name, rest) = rest.split_once(' ').expect("a name, a header and data");
                let (json, hex) = rest.rsplit_once(' ').expect("a header and data");
                let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
                bytes.extend(json.as_bytes());
                bytes.extend(unhex(hex));
                write(&folder.join(name), &bytes);
            }
            ("%", command) => {
                let _ = writeln!(out, "{line}");
                let mut expected: Vec<&str> = vec![];
                while at < lines.len() && lines[at].starts_with(['>', '!', '=']) {
                    expected.push(lines[at]);
                    at += 1;
                }
                out.push_str(&run_command(&folder, command, &expected));
                n_commands += 1;
                continue;
            }
            ("~" | "^", name) => {
                let sign = if folder.join(name).exists() { '~' } else { '^' };
                let _ = writeln!(out, "{sign} {name}");
                continue;
            }
            _ => {}
        }
        let _ = writeln!(out, "{line}");
    }
    let _ = fs::remove_dir_all(&folder);
    (out, n_commands)
}

/// Makes a file in the case's folder, and the folders around it.
fn write(path: &Path, bytes: &[u8]) {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, bytes));
    made.expect("the case's folder is ours");
}

/// Runs a command and gives its outcome as the lines of a case.
fn run_command(folder: &Path, command: &str, expected: &[&str]) -> String {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
    let testdata = testdata.canonicalize().unwrap_or(testdata).display().to_string();
    let words = split_words(command);
    assert_eq!(words[0], "modelferry", "cases run this program only");
    let done = Command::new(env!("CARGO_BIN_EXE_modelferry"))
        .args(words[1..].iter().map(|word| word.replace("{testdata}", &testdata)))
        .current_dir(folder)
        .env_remove("MODELFERRY_UPDATE")
        .env("LC_ALL", "C")
        .output()
        .expect("the program runs");
    let mut out = String::new();
    for (sign, bytes) in [('>', &done.stdout), ('!', &done.stderr)] {
        let text = String::from_utf8_lossy(bytes).replace(&testdata, "{testdata}");
        let found: Vec<String> =
            text.lines().map(|line| format!("{sign} {line}").trim_end().to_owned()).collect();
        let wanted: Vec<&str> = expected.iter().filter(|line| line.starts_with(sign)).copied().collect();
        let lines =
            if matches(&wanted, &found) { wanted.iter().map(ToString::to_string).collect() } else { found };
        for line in lines {
            let _ = writeln!(out, "{line}");
        }
    }
    let code = done.status.code().map_or("killed".to_owned(), |code| code.to_string());
    let _ = writeln!(out, "= {code}");
    out
}

/// Whether the lines are as wanted, `...` standing for any number of them.
fn matches(wanted: &[&str], found: &[String]) -> bool {
    match (wanted, found) {
        ([], []) => true,
        ([first, rest @ ..], _) if first.get(2..) == Some("...") => {
            (0..=found.len()).any(|skipped| matches(rest, &found[skipped..]))
        }
        ([first, rest @ ..], [found, others @ ..]) => first.trim_end() == found && matches(rest, others),
        _ => false,
    }
}

fn split_words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in command.chars() {
        match c {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            _ => words.last_mut().expect("there is always a word").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = vec![];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            (_, Some('n')) => bytes.push(b'\n'),
            (_, Some('t')) => bytes.push(b'\t'),
            (_, Some('x')) => {
                let digits: String = chars.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&digits, 16).expect("\\x and two digits"));
            }
            (_, Some(other)) => bytes.extend(other.to_string().as_bytes()),
            (c, None) => bytes.extend(c.to_string().as_bytes()),
        }
    }
    bytes
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2) && text.is_ascii(), "hexadecimal digits in pairs: {text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

/// Lines of one that are not in the other, in order.
fn difference(expected: &str, found: &str) -> String {
    let mut out = String::new();
    let (expected, found): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let same = expected.iter().zip(&found).take_while(|(a, b)| a == b).count();
    for line in expected[same..].iter().take(12) {
        let _ = writeln!(out, "expected  {line}");
    }
    for line in found[same..].iter().take(12) {
        let _ = writeln!(out, "found     {line}");
    }
    out
}
