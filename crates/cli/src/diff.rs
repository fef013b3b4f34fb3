//! `diff A B`.

use crate::session::Session;
use crate::text::{count, plural, printable, quantized_lines, shortened};
use crate::{args, output};
use clap::ArgMatches;
use modelferry_convert::diff::{Change, Closeness, Difference, Entry, diff};
use modelferry_convert::verify::unravel;
use modelferry_convert::{Opened, open, pick};
use modelferry_core::{Error, Result};
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

/// Runs the command and returns its exit code: 1 if the models differ.
pub(crate) fn run(session: &Session<'_>, matches: &ArgMatches) -> i32 {
    match compare(session, matches) {
        Ok(code) => code,
        Err(error) => session.fail("diff", &error),
    }
}

fn compare(session: &Session<'_>, matches: &ArgMatches) -> Result<i32> {
    let closeness = Closeness { atol: tolerance(matches, "atol")?, rtol: tolerance(matches, "rtol")? };
    let (path_a, path_b) = (args::get_path(matches, "a"), args::get_path(matches, "b"));
    let options = args::plugin_options(session.registry, matches);
    let cx = session.context();
    let (a, b, found) = {
        let _watcher = session.watch("diff");
        let mut a = open(&cx, &path_a, args::get(matches, "from-a"), &options)?;
        let mut b = open(&cx, &path_b, args::get(matches, "from-b"), &options)?;
        let in_use: Vec<_> = a.readers().chain(b.readers()).map(|it| (it.format, it.options)).collect();
        pick::check_options(session.registry, &options, &in_use)?;
        let select = args::get(matches, "select");
        for (opened, path) in [(&mut a, &path_a), (&mut b, &path_b)] {
            opened.select(select).map_err(|error| error.file(path.display()))?;
        }
        let found = diff(&cx, &mut a, &mut b, closeness)?;
        (a, b, found)
    };
    output::stdout(|out| {
        if session.is_json {
            found.write_json((a.reader.format, b.reader.format), out)
        } else if session.is_quiet {
            Ok(())
        } else {
            render(&found, (&path_a, &a), (&path_b, &b), out)
        }
    })?;
    Ok(i32::from(found.is_different()))
}

fn tolerance(matches: &ArgMatches, id: &str) -> Result<Option<f64>> {
    let expected = "a number that is not negative";
    let Some(text) = args::get(matches, id) else { return Ok(None) };
    let value: f64 = args::number(id, text, expected)?;
    if !value.is_finite() || value < 0.0 {
        return Err(Error::usage(format!("--{id}: unusable value")).expected(expected).found(text));
    }
    Ok(Some(value))
}

fn render(
    found: &Difference,
    (path_a, a): (&Path, &Opened),
    (path_b, b): (&Path, &Opened),
    out: &mut dyn Write,
) -> io::Result<()> {
    let name = |path: &Path| printable(&path.display().to_string());
    writeln!(
        out,
        "A: {} ({}, {})",
        name(path_a),
        a.reader.format,
        plural(a.model.tensors.len() as u64, "tensor")
    )?;
    writeln!(
        out,
        "B: {} ({}, {})",
        name(path_b),
        b.reader.format,
        plural(b.model.tensors.len() as u64, "tensor")
    )?;
    let shapes: HashMap<&str, &[u64]> = match found.entries.is_empty() {
        true => HashMap::new(),
        false => {
            a.model.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect()
        }
    };
    for entry in &found.entries {
        let shape = shapes.get(entry.name.as_str()).copied().unwrap_or_default();
        writeln!(out, "{}", line(entry, shape))?;
    }
    let side = |value: &Option<String>| match value {
        Some(text) => format!("{:?}", shortened(text, 60)),
        None => "absent".to_owned(),
    };
    for change in &found.metadata {
        let key = printable(&change.key);
        writeln!(
            out,
            "metadata  {key}: {} in A, {} in B (does not count)",
            side(&change.a),
            side(&change.b)
        )?;
    }
    if !found.is_same_order {
        writeln!(out, "order     differs (does not count)")?;
    }
    for line in quantized_lines(&found.quantized, "quantized ") {
        writeln!(out, "{line}")?;
    }
    let verdict = if found.is_different() { "different" } else { "the same" };
    writeln!(out, "{verdict}: {} of {} common tensors agree", count(found.n_same), count(found.n_common))
}

fn line(entry: &Entry, shape: &[u64]) -> String {
    let name = printable(&entry.name);
    let note = if entry.counts { "" } else { " (does not count)" };
    match &entry.change {
        Change::Missing => format!("missing   {name}: only in A"),
        Change::Extra => format!("extra     {name}: only in B"),
        Change::DType(a, b) => format!("dtype     {name}: {a} in A, {b} in B{note}"),
        Change::Shape(a, b) => format!("shape     {name}: {a:?} in A, {b:?} in B"),
        Change::Values { n_different, n_elements, max_abs, max_rel, n_nan, first } => {
            let nan = if *n_nan > 0 { format!(", {n_nan} NaN on one side") } else { String::new() };
            format!(
                "values    {name}: {n_different} of {n_elements} differ, by at most {max_abs:.6e} ({max_rel:.3e} \
                 relative){nan}, first at {:?}",
                unravel(*first, shape)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let entry = |change| Entry { name: "a.w".into(), change, counts: true };
        let values = Change::Values {
            n_different: 3,
            n_elements: 12,
            max_abs: 0.5,
            max_rel: 0.25,
            n_nan: 1,
            first: 7,
        };
        assert_eq!(
            line(&entry(values), &[3, 4]),
            "values    a.w: 3 of 12 differ, by at most 5.000000e-1 (2.500e-1 relative), 1 NaN on one side, first at \
             [1, 3]"
        );
        assert_eq!(line(&entry(Change::Missing), &[]), "missing   a.w: only in A");
        assert_eq!(unravel(0, &[]), Vec::<u64>::new());
    }
}
