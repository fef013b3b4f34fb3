//! Rules of the repository that no compiler checks.

use crate::flags::Flags;
use crate::run::{self, Stop};
use crate::tally::Tally;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// `cargo xtask tidy`.
pub(crate) fn main(_: Flags) -> Result<u8, Stop> {
    Ok(check()?.finish())
}

/// Lines of a file above which its reader deserves a better order. A warning only.
const MANY_LINES: usize = 700;

/// Files that must be there.
const PAGES: [&str; 7] =
    ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE", "deny.toml", ".ci/run"];

/// Pages whose paths must exist. A changelog names what is gone, so it is not among them.
const PAGES_WITH_PATHS: [&str; 3] = ["README.md", "ARCHITECTURE.md", "SECURITY.md"];

/// Crates that may hold unsafe code: vector instructions and the C boundary.
const MAY_BE_UNSAFE: [&str; 3] = ["crates/kernels", "crates/abi", "crates/plugin"];

/// Every rule, on every file.
pub(crate) fn check() -> Result<Tally, Stop> {
    let root = run::root();
    let mut tally = Tally::default();
    for page in PAGES {
        tally.check("tidy", root.join(page).is_file(), || format!("{page} is missing"));
    }
    let crates = crates(&root)?;
    for folder in &crates {
        check_crate(&root, folder, &mut tally)?;
    }
    check_directions(&mut tally)?;
    let mut pages = PAGES_WITH_PATHS.map(|page| root.join(page)).to_vec();
    walk(&root.join("docs"), &mut pages)?;
    for page in &pages {
        if let Ok(text) = fs::read_to_string(page) {
            // Links are relative to their page, code speaks of the workspace.
            let around = page.parent().unwrap_or(&root);
            let is_there = |path: &String| root.join(path).exists() || around.join(path).exists();
            let gone: Vec<String> = paths(&text).into_iter().filter(|path| !is_there(path)).collect();
            let name = page.strip_prefix(&root).unwrap_or(page).display();
            tally.check("tidy", gone.is_empty(), || {
                format!("{name} names paths that are not there: {gone:?}")
            });
        }
    }
    let mut files = vec![];
    for folder in ["crates", "plugins", "xtask", "testdata", "docs", "fuzz", ".ci"] {
        walk(&root.join(folder), &mut files)?;
    }
    for path in files.iter().chain(&PAGES.map(|page| root.join(page))) {
        let name = path.strip_prefix(&root).unwrap_or(path).display().to_string();
        if let Ok(text) = fs::read_to_string(path) {
            check_file(&name, &text, &mut tally);
        }
    }
    tally.must_have_run("tidy");
    tally.must_have_run("tidy files");
    Ok(tally)
}

/// The folders of all crates, relative to the root.
fn crates(root: &Path) -> Result<Vec<String>, Stop> {
    let mut found = vec!["xtask".to_owned()];
    for group in ["crates", "plugins"] {
        let folder = root.join(group);
        for entry in fs::read_dir(&folder).map_err(run::at(&folder))? {
            let entry = entry.map_err(run::at(&folder))?;
            if entry.path().join("Cargo.toml").is_file() {
                found.push(format!("{group}/{}", entry.file_name().to_string_lossy()));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<String, Stop> {
    fs::read_to_string(path).map_err(run::at(path))
}

fn check_crate(root: &Path, folder: &str, tally: &mut Tally) -> Result<(), Stop> {
    let path = root.join(folder);
    let manifest = read(&path.join("Cargo.toml"))?;
    for key in ["version", "edition", "rust-version", "license"] {
        let line = format!("{key}.workspace = true");
        tally.check("tidy", manifest.contains(&line), || format!("{folder}/Cargo.toml: no `{line}`"));
    }
    let lints = "[lints]\nworkspace = true";
    tally.check("tidy", manifest.contains(lints), || {
        format!("{folder}/Cargo.toml does not take the workspace's lints")
    });

    let main =
        ["src/lib.rs", "src/main.rs"].map(|name| path.join(name)).into_iter().find(|path| path.is_file());
    let Some(main) = main else {
        tally.fail("tidy", format!("{folder} has neither src/lib.rs nor src/main.rs"));
        return Ok(());
    };
    let text = read(&main)?;
    let is_documented = text.starts_with("//! ") && text.lines().next().is_some_and(|line| line.len() > 20);
    tally.check("tidy", is_documented, || format!("{folder} does not open with a sentence about itself"));
    if !MAY_BE_UNSAFE.contains(&folder) {
        let line = "#![forbid(unsafe_code)]";
        tally.check("tidy", text.contains(line), || format!("{folder} does not say {line}"));
    }
    if folder.starts_with("plugins/") {
        // The conformance suite is a plugin's test, and counts which of them it met.
        return Ok(());
    }
    let mut sources = vec![];
    walk(&path, &mut sources)?;
    let has_tests =
        sources.iter().any(|path| fs::read_to_string(path).is_ok_and(|text| text.contains("#[test]")));
    tally.check("tidy", has_tests, || format!("{folder} has no tests"));
    Ok(())
}

/// What may not depend on what, tests apart.
fn check_directions(tally: &mut Tally) -> Result<(), Stop> {
    let text = run::output(&mut run::cargo(&["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| Stop::new(error.to_string()))?;
    let root = run::root();
    let mut depends: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
        let folder = manifest.parent().and_then(|folder| folder.strip_prefix(&root).ok());
        let normal =
            package["dependencies"].as_array().into_iter().flatten().filter(|found| found["kind"].is_null());
        let names = normal.filter_map(|found| found["name"].as_str()).map(str::to_owned).collect();
        depends.insert(folder.unwrap_or(manifest).display().to_string(), names);
    }
    tally.check("tidy", depends.contains_key("crates/core"), || {
        "cargo metadata lists no crates/core".to_owned()
    });
    for wrong in wrong_directions(&depends) {
        tally.fail("tidy", wrong);
    }
    Ok(())
}

/// The dependencies that may not be, of those of each folder.
fn wrong_directions(depends: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let plugins: Vec<&str> = depends.keys().filter_map(|folder| folder.strip_prefix("plugins/")).collect();
    let mut wrong = vec![];
    for (folder, names) in depends {
        for name in names {
            let above = ["modelferry-engine", "modelferry-convert", "modelferry-cli", "modelferry-transform"];
            let why = if folder == "crates/core" {
                "and core depends on nothing"
            } else if folder != "crates/cli" && plugins.contains(&&**name) {
                "a plugin, which only the command line may name"
            } else if folder.starts_with("plugins/") && above.contains(&&**name) {
                "which is above it"
            } else {
                continue;
            };
            wrong.push(format!("{folder} depends on {name}, {why}"));
        }
    }
    wrong
}

/// Text files below `folder`; fixtures and what is built are passed over.
fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Stop> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(run::at(folder))? {
        let path = entry.map_err(run::at(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_link = path.is_symlink();
        if path.is_dir() && !is_link {
            let is_fixture = folder.ends_with("testdata") || folder.ends_with("tests") && name == "data";
            if name != "target" && name != "__pycache__" && !is_fixture {
                walk(&path, found)?;
            }
        } else if [".rs", ".py", ".md", ".toml", ".txt", "run"].iter().any(|end| name.ends_with(end)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

fn check_file(name: &str, text: &str, tally: &mut Tally) {
    tally.pass("tidy files", 1);
    let n_lines = text.lines().count();
    if n_lines > MANY_LINES && !name.starts_with("LICENSE") && !name.ends_with(".md") {
        println!("note: {name} has {n_lines} lines");
    }
    for (idx, line) in text.lines().enumerate() {
        let place = || format!("{name}:{}", idx + 1);
        if name.ends_with(".rs") {
            for attribute in ["#[ignore", "#[should_panic"] {
                if line.trim_start().starts_with(attribute) {
                    tally
                        .fail("tidy", format!("{}: {attribute}: assert what happens today instead", place()));
                }
            }
        }
        for part in machine_paths() {
            let begins =
                |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-{}".contains(c));
            if line.match_indices(&part).any(|(at, _)| begins(at)) {
                tally.fail("tidy", format!("{}: a path of one machine: {part}", place()));
            }
        }
    }
}

/// Beginnings of paths that are right on one machine only. Put together here, so that this file does not hold them.
fn machine_paths() -> [String; 4] {
    let home = ["home", "Users", "root", "work"];
    home.map(|folder| format!("/{folder}/"))
}

/// Paths of the workspace that a page names: targets of links, and code that begins with one of our folders.
fn paths(markdown: &str) -> Vec<String> {
    let mut found = vec![];
    let is_path = |text: &str| {
        !text.is_empty()
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
            && !text.starts_with('/')
    };
    let mut is_code_block = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            is_code_block = !is_code_block;
        }
        if is_code_block {
            continue;
        }
        for link in line.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            if is_path(target) {
                found.push(target.to_owned());
            }
        }
        for code in line.split('`').skip(1).step_by(2) {
            let ours = ["crates/", "plugins/", "testdata/", "xtask/", "fuzz/", ".ci/"];
            // Words in capitals stand for something else: plugins/NAME-reader.
            let is_pattern = code
                .split(['/', '-', '.'])
                .any(|part| part.len() > 1 && part.chars().all(|c| c.is_ascii_uppercase()));
            if is_path(code)
                && ours.iter().any(|folder| code.starts_with(folder))
                && (!is_pattern || code.ends_with(".md"))
            {
                found.push(code.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_in_links_and_code() {
        let page = "See [a](crates/core/src/lib.rs#L1) and `plugins/npz-reader`, not `plugins/NAME-reader`,\n\
                    [b](https://example.org/x), `cargo xtask` or `core`.\n```\n`crates/none`\n```\n[c](SECURITY.md)\n";
        assert_eq!(paths(page), ["crates/core/src/lib.rs", "plugins/npz-reader", "SECURITY.md"]);
    }

    #[test]
    fn forbidden_lines_are_found() {
        let fails = |name: &str, text: &str| {
            let mut tally = Tally::default();
            check_file(name, text, &mut tally);
            !tally.is_green()
        };
        assert!(!fails("a.rs", "fn a() {}\n"));
        assert!(fails("a.rs", "    #[ignore = \"slow\"]\n"));
        assert!(fails("a.rs", "#[should_panic]\n"));
        assert!(fails("a.py", &format!("open('/{}/me/x')\n", "home")));
    }

    #[test]
    fn directions_are_judged() {
        let wrong = |folder: &str, name: &str| {
            let mut depends = BTreeMap::from([("plugins/a-reader".to_owned(), vec![])]);
            depends.insert(folder.to_owned(), vec![name.to_owned()]);
            !wrong_directions(&depends).is_empty()
        };
        assert!(wrong("crates/core", "serde"));
        assert!(wrong("plugins/b-reader", "a-reader"));
        assert!(wrong("crates/convert", "a-reader"));
        assert!(wrong("plugins/b-reader", "modelferry-engine"));
        assert!(!wrong("crates/cli", "a-reader"));
        assert!(!wrong("plugins/b-reader", "modelferry-core"));
    }
}
