//! That what is generated compiles, and says what is left to do.

use super::{Place, Plugin};
use crate::build_plugin::{self, Source};
use crate::run::{self, Stop};
use crate::tally::Tally;
use std::fs;

const PART: &str = "new plugins";

/// Makes a reader and a writer outside of the workspace, and runs their tests: each is to fail with its list, and the
/// reader is to become a library that holds the one format.
pub(crate) fn check() -> Result<Tally, Stop> {
    let mut tally = Tally::default();
    // A folder of their own, beside what cargo would take for the workspace's.
    let folder = std::env::temp_dir().join(format!("modelferry-new-plugins-{}", std::process::id()));
    for (side, first) in [
        ("reader", "fresh is not done, 0 of 5 steps are:\nTODO 1 of 5: "),
        ("writer", "fresh is not done, 1 of 3 steps are:\ndone 1 of 3: "),
    ] {
        let plugin = Plugin::new(side, "fresh")?;
        let place = plugin.make(&run::root(), &Place::Outside(folder.join(plugin.package())))?;
        let mut command = run::cargo(&["test", "--quiet", "--offline"]);
        command.current_dir(&place).env("CARGO_TARGET_DIR", target()).env("RUSTFLAGS", "-D warnings");
        let mut said = String::new();
        let status = run::merged_lines(&mut command, |line| said += &format!("{line}\n"))?;
        let is_listed = said.contains(first) && said.contains("TODO");
        tally.check(PART, is_listed && !status.success(), || format!("{side}: its test says\n{said}"));
    }
    let mut build = build_plugin::command(&Source::Folder(folder.join("fresh-reader")), false);
    build.env("CARGO_TARGET_DIR", target()).env("RUSTFLAGS", "-D warnings");
    let library = build_plugin::built_by(&mut build)?;
    let (manifest, _) = build_plugin::describe(&library)?;
    tally.check(PART, build_plugin::wrong_exports(&library, &manifest)?.is_none(), || {
        format!("{} exports other functions", library.display())
    });
    let formats: Vec<&str> = manifest.readers.iter().map(|reader| &*reader.format).collect();
    tally.check(PART, formats == ["fresh"], || format!("the library reads {formats:?}"));
    fs::remove_dir_all(&folder).map_err(run::at(&folder))?;
    Ok(tally)
}

/// Where they are built: kept, for the second run is quick.
fn target() -> std::path::PathBuf {
    run::target().join("new-plugins")
}
