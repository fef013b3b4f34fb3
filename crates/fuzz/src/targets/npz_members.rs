//! Archives made from choices.

use super::Reached;
use crate::check;
use crate::draw::Draw;
use crate::zip::build;

pub(super) fn check(choices: &[u8]) -> Result<Reached, String> {
    let archive = build(&mut Draw::new(choices));
    let registry = modelferry_cli::builtin::files();
    let reader = registry.reader("npz").map_err(|error| error.to_string())?;
    Ok(check::reader(reader, &archive)?.0)
}
