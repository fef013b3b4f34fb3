//! The three files of the workspace that name every plugin.

use crate::run::{self, Stop};
use std::fs;
use std::path::{Path, PathBuf};

/// The files as they are with a new plugin in them. None is written here.
///
/// Errors: the plugin is in one of them already; a file has no line of another plugin to follow.
pub(super) fn edits(root: &Path, package: &str) -> Result<Vec<(PathBuf, String)>, Stop> {
    let ident = package.replace('-', "_");
    let of_workspace = format!("{package} = {{ path = \"plugins/{package}\" }}");
    let of_program = format!("{package}.workspace = true");
    let of_list = format!("    {ident}::register(&mut registry);");
    let edit = |name: &str, line: &str, is_like: &dyn Fn(&str) -> bool| {
        let path = root.join(name);
        let text = fs::read_to_string(&path).map_err(run::at(&path))?;
        let text = insert(&text, line, is_like).map_err(|why| Stop::new(format!("{name}: {why}")))?;
        Ok((path, text))
    };
    Ok(vec![
        edit("Cargo.toml", &of_workspace, &|line| line.contains(" = { path = \"plugins/"))?,
        edit("crates/cli/Cargo.toml", &of_program, &|line| {
            line.ends_with("-reader.workspace = true") || line.ends_with("-writer.workspace = true")
        })?,
        // The last list is that of files; folders are added to it.
        edit("crates/cli/src/builtin.rs", &of_list, &|line| {
            line.starts_with("    ") && line.ends_with("::register(&mut registry);")
        })?,
    ])
}

/// A text with `line` behind the last line that is like it.
fn insert(text: &str, line: &str, is_like: &dyn Fn(&str) -> bool) -> Result<String, String> {
    if text.lines().any(|known| known == line) {
        return Err(format!("{:?} is there already", line.trim()));
    }
    let last = text.lines().enumerate().filter(|(_, known)| is_like(known)).last();
    let (last, _) = last.ok_or_else(|| format!("no line to put {:?} behind", line.trim()))?;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.insert(last + 1, line);
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_named_where_every_plugin_is() {
        let edits = edits(&run::root(), "flat-reader").unwrap();
        let lines = ["flat-reader = { path = ", "flat-reader.workspace = true", "flat_reader::register(&mut"];
        for ((path, text), line) in edits.iter().zip(lines) {
            let before = fs::read_to_string(path).unwrap();
            assert_eq!(text.lines().count(), before.lines().count() + 1);
            let at = text.lines().position(|known| known.trim_start().starts_with(line)).unwrap();
            let without: Vec<&str> =
                text.lines().enumerate().filter(|(idx, _)| *idx != at).map(|(_, line)| line).collect();
            assert_eq!(without, before.lines().collect::<Vec<_>>());
        }
        assert_eq!(edits.len(), 3);
        // Folders hold files: the plugin is among those, not in the list before.
        let list = &edits[2].1;
        assert!(list.find("flat_reader").unwrap() > list.find("pub fn files()").unwrap());
    }

    #[test]
    fn what_is_there_is_refused() {
        let refused = edits(&run::root(), "npz-reader").unwrap_err();
        assert!(refused.to_string().contains("is there already"), "{refused}");
        assert!(insert("a\n", "b", &|line| line == "c").is_err());
        assert_eq!(insert("a\nc\nd\n", "b", &|line| line != "d").unwrap(), "a\nc\nb\nd\n");
    }
}
