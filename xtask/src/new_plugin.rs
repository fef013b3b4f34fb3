//! `cargo xtask new-plugin`: a crate that compiles, and whose test says what is left to do.

mod check;
mod register;

pub(crate) use check::check;

use crate::flags::Flags;
use crate::run::{self, Stop};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// `cargo xtask new-plugin`.
pub(crate) fn main(flags: Flags) -> Result<u8, Stop> {
    let [side, name] = &flags.names[..] else {
        return Err(Stop::usage("new-plugin reader NAME, or new-plugin writer NAME"));
    };
    let plugin = Plugin::new(side, name)?;
    plugin.check_format(&modelferry_cli::builtin::registry())?;
    let place = match flags.value("--out") {
        Some(folder) => Place::Outside(real(Path::new(folder))?),
        None => Place::Inside,
    };
    let folder = plugin.make(&run::root(), &place)?;
    plugin.say_what_comes_next(&place, &folder);
    Ok(0)
}

/// Where a path leads, as far as it is there: `..` and links taken out, for what is inside of what is told by names.
fn real(path: &Path) -> Result<PathBuf, Stop> {
    let mut found = PathBuf::new();
    for part in std::path::absolute(path).map_err(run::at(path))?.components() {
        match part {
            Component::ParentDir => drop(found.pop()),
            part => found.push(part),
        }
        found = found.canonicalize().unwrap_or(found);
    }
    Ok(found)
}

/// Which half of a format.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Reader,
    Writer,
}

/// Where a plugin is made.
#[derive(Debug)]
enum Place {
    /// In `plugins` of the workspace, with those that are built in.
    Inside,
    /// In this folder, which becomes a workspace of its own.
    Outside(PathBuf),
}

/// A file of a template: where it belongs, and its text.
type File = (&'static str, &'static [u8]);

macro_rules! template {
    ($path:literal) => {
        include_bytes!(concat!("../templates/", $path))
    };
}

/// A model that the workspace has anyway: what a new writer has to convert.
const MODEL: &[u8] = include_bytes!("../../testdata/models/names-nested.safetensors");

const READER: &[File] = &[
    ("src/lib.rs", template!("plugin-reader/src/lib.rs")),
    ("src/identify.rs", template!("plugin-reader/src/identify.rs")),
    ("src/reader.rs", template!("plugin-reader/src/reader.rs")),
    ("tests/conformance.rs", template!("plugin-reader/tests/conformance.rs")),
    ("testdata/models/tiny.__NAME__", template!("plugin-reader/tiny.txt")),
    ("testdata/bad/__NAME__/README.md", template!("plugin-reader/bad.md")),
];

const WRITER: &[File] = &[
    ("src/lib.rs", template!("plugin-writer/src/lib.rs")),
    ("src/writer.rs", template!("plugin-writer/src/writer.rs")),
    ("tests/conformance.rs", template!("plugin-writer/tests/conformance.rs")),
    ("testdata/models/tiny.safetensors", MODEL),
];

/// A plugin to be made.
#[derive(Debug)]
struct Plugin {
    side: Side,
    /// The format's.
    name: String,
}

impl Plugin {
    fn new(side: &str, name: &str) -> Result<Plugin, Stop> {
        let side = match side {
            "reader" => Side::Reader,
            "writer" => Side::Writer,
            other => return Err(Stop::usage(format!("a plugin is a reader or a writer, not {other:?}"))),
        };
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
        // An id has 64 characters at most, `-reader` among them.
        if !begins || !name.chars().all(is_part) || name.ends_with(['-', '_']) || name.len() > 50 {
            let rule = "a format's name is small letters, digits, - and _, and begins with a letter";
            return Err(Stop::usage(format!("{name:?}: {rule}")));
        }
        if let Some(short) = name.strip_suffix("-reader").or_else(|| name.strip_suffix("-writer")) {
            return Err(Stop::usage(format!("{name:?}: the name is the format's: {short}")));
        }
        Ok(Plugin { side, name: name.to_owned() })
    }

    /// A format has one reader and one writer; those that are built in stay.
    fn check_format(&self, registry: &modelferry_core::registry::Registry) -> Result<(), Stop> {
        let (is_taken, what) = match self.side {
            Side::Reader => (registry.reader(&self.name).is_ok(), "reader"),
            Side::Writer => (registry.writer(&self.name).is_ok(), "writer"),
        };
        match is_taken {
            true => Err(Stop::usage(format!("{} has a {what} already, which is built in", self.name))),
            false => Ok(()),
        }
    }

    fn package(&self) -> String {
        self.beside(self.side)
    }

    /// The name of the crate of a half of the format.
    fn beside(&self, side: Side) -> String {
        match side {
            Side::Reader => format!("{}-reader", self.name),
            Side::Writer => format!("{}-writer", self.name),
        }
    }

    /// Makes the crate, and gives its folder. Nothing is written unless all of it can be.
    fn make(&self, root: &Path, place: &Place) -> Result<PathBuf, Stop> {
        let package = self.package();
        let folder = match place {
            Place::Inside => root.join("plugins").join(&package),
            Place::Outside(folder) => folder.clone(),
        };
        if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
            return Err(Stop::usage(format!("{} is there already, and stays as it is", folder.display())));
        }
        if matches!(place, Place::Outside(_)) && folder.starts_with(real(root)?) {
            let why = "a crate in the workspace's folder is a plugin of it: leave --out away";
            return Err(Stop::usage(format!("{}: {why}", folder.display())));
        }
        let edits = match place {
            Place::Inside => register::edits(root, &package)?,
            Place::Outside(_) => vec![],
        };
        for (path, bytes) in self.files(root, place, &folder) {
            let path = folder.join(path);
            let around = path.parent().unwrap_or(&folder);
            fs::create_dir_all(around).map_err(run::at(around))?;
            fs::write(&path, bytes).map_err(run::at(&path))?;
        }
        if matches!(place, Place::Outside(_)) {
            // The versions that the workspace was tested with; cargo takes out what the crate does not use.
            let lock = root.join("Cargo.lock");
            fs::copy(&lock, folder.join("Cargo.lock")).map_err(run::at(&lock))?;
        }
        for (path, text) in edits {
            fs::write(&path, text).map_err(run::at(&path))?;
        }
        Ok(folder)
    }

    /// The files of the crate.
    fn files(&self, root: &Path, place: &Place, folder: &Path) -> Vec<(String, Vec<u8>)> {
        let (templates, manifest) = match (self.side, place) {
            (Side::Reader, Place::Inside) => {
                (READER, template!("plugin-reader/Cargo.inside.toml").as_slice())
            }
            (Side::Reader, Place::Outside(_)) => {
                (READER, template!("plugin-reader/Cargo.outside.toml").as_slice())
            }
            (Side::Writer, Place::Inside) => {
                (WRITER, template!("plugin-writer/Cargo.inside.toml").as_slice())
            }
            (Side::Writer, Place::Outside(_)) => {
                (WRITER, template!("plugin-writer/Cargo.outside.toml").as_slice())
            }
        };
        let words = self.words(root, place, folder);
        let filled =
            |text: &str| words.iter().fold(text.to_owned(), |text, (word, to)| text.replace(word, to));
        let all = [("Cargo.toml", manifest)].into_iter().chain(templates.iter().copied());
        // What is no text is a model, and stays as it is.
        let bytes = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => filled(text).into_bytes(),
            Err(_) => bytes.to_vec(),
        };
        all.map(|(path, template)| (filled(path), bytes(template))).collect()
    }

    /// What stands in templates, and what in their place.
    fn words(&self, root: &Path, place: &Place, folder: &Path) -> Vec<(&'static str, String)> {
        let package = self.package();
        let ident = package.replace('-', "_");
        let capital = |part: &str| {
            let mut chars = part.chars();
            chars
                .next()
                .map(|first| first.to_ascii_uppercase().to_string() + chars.as_str())
                .unwrap_or_default()
        };
        let type_name = self.name.split(['-', '_']).map(capital).collect();
        let judge = self.beside(Side::Reader);
        let judge_folder = folder.with_file_name(&judge);
        let begin = if judge_folder.join("Cargo.toml").is_file() { "" } else { "// " };
        let dependency = match place {
            Place::Inside => format!("{judge}.workspace = true"),
            Place::Outside(_) => format!("{judge} = {{ path = \"../{judge}\" }}"),
        };
        vec![
            ("__JUDGE_DEPENDENCY__", begin.replace("//", "#") + &dependency),
            ("__JUDGE__", format!("{begin}{}::register(&mut registry);", judge.replace('-', "_"))),
            ("__CHECKOUT__", root.display().to_string()),
            ("__CRATE__", package),
            ("__IDENT__", ident),
            ("__TYPE__", type_name),
            ("__NAME__", self.name.clone()),
        ]
    }

    fn say_what_comes_next(&self, place: &Place, folder: &Path) {
        let package = self.package();
        println!("made {}", folder.display());
        match place {
            Place::Inside => {
                println!("it is a package of the workspace, and registered in crates/cli/src/builtin.rs\n");
                println!("  cargo test -p {package}   # says what is left to do");
                println!("  cargo xtask conformance       # the suite on every pair, its files among them");
            }
            Place::Outside(folder) => {
                println!("\n  cd {} && cargo test   # says what is left to do", folder.display());
                println!("  cargo xtask build-plugin {}", folder.display());
            }
        }
        println!("\ndocs/plugins.md is the guide.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn made(side: &str, name: &str, place: &Place) -> Vec<(String, Vec<u8>)> {
        let plugin = Plugin::new(side, name).unwrap();
        plugin.files(Path::new("/checkout"), place, Path::new("/elsewhere/x"))
    }

    #[test]
    fn every_word_of_a_template_is_filled() {
        for side in ["reader", "writer"] {
            for place in [Place::Inside, Place::Outside("/elsewhere/x".into())] {
                for (path, bytes) in made(side, "my-format_2", &place) {
                    let text = path.clone() + &String::from_utf8_lossy(&bytes);
                    let entry = format!("modelferry_my_format_2_{side}_v1");
                    let left = text.replace(&entry, "").matches("__").count();
                    // Metadata of safetensors has such a name.
                    assert!(left == 0 || path.ends_with(".safetensors"), "{path}: {text}");
                    assert_eq!(path == "src/lib.rs", text.contains(&entry), "{path}");
                    let is_short = text.lines().all(|line| line.chars().count() <= 120);
                    assert!(is_short || !path.ends_with(".rs"), "{path}");
                }
            }
        }
        let lib = made("reader", "my-format_2", &Place::Inside).remove(1).1;
        assert!(String::from_utf8(lib).unwrap().contains("pub use reader::MyFormat2Reader;"));
    }

    #[test]
    fn files_have_the_names_of_every_plugin() {
        for (side, known) in [("reader", "safetensors-reader"), ("writer", "safetensors-writer")] {
            let src = run::root().join("plugins").join(known).join("src");
            let known: BTreeSet<String> = fs::read_dir(src)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            let files = made(side, "flat", &Place::Inside);
            let files = files.iter().filter_map(|(path, _)| path.strip_prefix("src/").map(str::to_owned));
            assert_eq!(files.collect::<BTreeSet<_>>(), known);
        }
    }

    #[test]
    fn names_are_checked() {
        for wrong in
            ["", "Flat", "1flat", "-flat", "flat-", "a b", "größe", "../x", "flat-reader", &"x".repeat(51)]
        {
            assert_eq!(Plugin::new("reader", wrong).unwrap_err().code, 2, "{wrong}");
        }
        assert_eq!(Plugin::new("both", "flat").unwrap_err().code, 2);
        let taken = Plugin::new("reader", "npz").unwrap();
        assert!(taken.check_format(&modelferry_cli::builtin::registry()).is_err());
        assert!(taken.check_format(&Default::default()).is_ok());
    }

    #[test]
    fn beside_the_workspace_is_not_inside() {
        let root = real(&run::root()).unwrap();
        let beside = real(&root.join("docs/../../no-folder/../flat-reader")).unwrap();
        assert_eq!(beside, root.with_file_name("flat-reader"));
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = std::env::temp_dir().join(format!("modelferry-new-plugin-{}", std::process::id()));
        let place = Place::Outside(folder.join("flat-reader"));
        let plugin = Plugin::new("reader", "flat").unwrap();
        plugin.make(&run::root(), &place).unwrap();
        let again = plugin.make(&run::root(), &place).unwrap_err();
        assert!(again.to_string().contains("is there already"), "{again}");
        // A writer finds the reader beside it.
        let writer = Plugin::new("writer", "flat").unwrap();
        writer.make(&run::root(), &Place::Outside(folder.join("flat-writer"))).unwrap();
        let manifest = fs::read_to_string(folder.join("flat-writer/Cargo.toml")).unwrap();
        assert!(manifest.contains("\nflat-reader = { path = \"../flat-reader\" }\n"), "{manifest}");
        let inside = Place::Outside(real(&run::root().join("plugins/flat-reader")).unwrap());
        assert!(plugin.make(&run::root(), &inside).unwrap_err().to_string().contains("leave --out away"));
        fs::remove_dir_all(folder).unwrap();
    }
}
