//! `inspect PATH`: what a person needs to know in 25 lines, then the tensors.

use crate::session::Session;
use crate::text::{bytes, count, loss_lines, plural, printable, shortened};
use crate::{args, output};
use clap::ArgMatches;
use modelferry_convert::fold::Fold;
use modelferry_convert::folder::FolderContent;
use modelferry_convert::inspect::{Fate, Inspection, Request, Sort, inspect};
use modelferry_convert::originals::Originals;
use modelferry_convert::values::{Number, Values};
use modelferry_convert::{Opened, codes, open, pick};
use modelferry_core::graph::Origin;
use modelferry_core::model::Value as Metadata;
use modelferry_core::{Error, Result};
use std::io::{self, Write};
use std::path::Path;

/// Lines of collapsed layers shown before the rest is added up: what fits a screen with all else.
const MAX_FOLDS: usize = 12;
/// Ties shown before the rest is counted.
const MAX_TIES: usize = 2;
/// Widest column of names that others are lined up behind.
const MAX_NAME_WIDTH: usize = 64;

/// Runs the command and returns its exit code.
pub(crate) fn run(session: &Session<'_>, matches: &ArgMatches) -> i32 {
    match look(session, matches) {
        Ok(()) => 0,
        Err(error) => session.fail("inspect", &error),
    }
}

fn look(session: &Session<'_>, matches: &ArgMatches) -> Result<()> {
    let order = [("file", Sort::File), ("name", Sort::Name), ("size", Sort::Size)];
    let depth: Option<usize> = args::get(matches, "depth")
        .map(|text| args::number("depth", text, "a whole number from 1 on"))
        .transpose()?;
    if depth == Some(0) {
        return Err(Error::usage("--depth: unusable value").expected("a whole number from 1 on").found(0));
    }
    let request = Request {
        include: args::globs(matches, "include")?,
        sort: args::choice("sort", args::get(matches, "sort").unwrap_or("file"), &order)?,
        depth,
        with_stats: matches.get_flag("stats"),
        values: args::texts(matches, "values"),
    };
    let path = args::get_path(matches, "input");
    let options = args::plugin_options(session.registry, matches);
    let cx = session.context();
    let (opened, found) = {
        let _watcher = session.watch("inspect");
        let mut opened = open(&cx, &path, args::get(matches, "from"), &options)?;
        let in_use: Vec<_> = opened.readers().map(|reader| (reader.format, reader.options)).collect();
        pick::check_options(session.registry, &options, &in_use)?;
        let found = inspect(&cx, &mut opened, &request)?;
        (opened, found)
    };
    output::stdout(|out| {
        if session.is_json {
            return found.write_json(&opened, out);
        }
        for values in &found.values {
            write_values(values, out)?;
        }
        if request.values.is_empty() {
            write_summary(&path, &opened, &found, out)?;
            write_tensors(&opened, &found, out)?;
        }
        Ok(())
    })
}

fn write_summary(path: &Path, opened: &Opened, found: &Inspection, out: &mut dyn Write) -> io::Result<()> {
    let model = &opened.model;
    let on_disk = found.files.iter().fold(0u64, |sum, (_, len)| sum.saturating_add(*len));
    let files = plural(found.files.len() as u64, "file");
    let name = printable(&path.display().to_string());
    writeln!(out, "{name}: {}, {files}, {}", opened.reader.format, bytes(on_disk))?;
    writeln!(
        out,
        "{} in {}, {}",
        plural(found.n_parameters, "parameter"),
        plural(model.tensors.len() as u64, "tensor"),
        bytes(found.bytes)
    )?;
    for total in &found.dtypes {
        writeln!(
            out,
            "  {:<12} {:>8}  {:>8}  {}",
            total.dtype.to_string(),
            count(total.n_elements),
            bytes(total.bytes),
            plural(total.n_tensors, "tensor")
        )?;
    }
    write_folds(&found.folds, out)?;
    writeln!(out)?;
    if let Some(folder) = &found.folder {
        write_folder(folder, out)?;
    }
    for group in model.ties.iter().take(MAX_TIES) {
        let names: Vec<String> = group.iter().map(|&idx| printable(&model.tensors[idx].name)).collect();
        writeln!(out, "ties      {}", shortened(&names.join(" = "), 160))?;
    }
    match model.ties.len() {
        0 => writeln!(out, "ties      none")?,
        n if n > MAX_TIES => writeln!(out, "          and {} more", count((n - MAX_TIES) as u64))?,
        _ => {}
    }
    if let Some(summary) = codes::summary(model) {
        let n = plural(model.codes.len() as u64, "tensor");
        writeln!(out, "codes     {n}, of what scales and the graph make numbers: {summary}")?;
    }
    let metadata: Vec<String> = model
        .metadata
        .iter()
        .take(8)
        .map(|(key, value)| match value {
            Metadata::Text(text) => format!("{}: {}", printable(key), shortened(&printable(text), 40)),
            other => format!("{}: {}", printable(key), shortened(&printable(&other.to_string()), 40)),
        })
        .collect();
    match (metadata.len(), model.metadata.len()) {
        (0, _) => writeln!(out, "metadata  none")?,
        (shown, all) if shown < all => {
            writeln!(out, "metadata  {}, and {} more", metadata.join(", "), all - shown)?;
        }
        _ => writeln!(out, "metadata  {}", metadata.join(", "))?,
    }
    let taken = plural(found.taken.n_tensors as u64, "tensor");
    match (&found.taken.refusal, &found.taken.losses[..]) {
        (Some(refusal), _) => writeln!(out, "convert   {}", shortened(refusal, 400))?,
        (None, []) => writeln!(out, "convert   takes all of it: {taken}")?,
        (None, losses) => {
            let all = model.tensors.len();
            let of = if found.taken.n_tensors < all { format!(" of {all}") } else { String::new() };
            writeln!(out, "convert   takes {taken}{of}")?;
            for line in loss_lines(losses).iter().take(6) {
                writeln!(out, "          {line}")?;
            }
        }
    }
    if let Some(originals) = found.originals.as_ref().filter(|found| found.is_any()) {
        let (known, nameless) = (originals.known.len() as u64, originals.nameless.len() as u64);
        let unknown = match nameless {
            0 => String::new(),
            n => format!(", {} without a name of its own", plural(n, "tensor")),
        };
        writeln!(out, "names     {} had others before the export{unknown}", plural(known, "tensor"))?;
    }
    for fate in &found.fates {
        writeln!(out, "          to {}: {}", fate.format, fate_text(fate))?;
    }
    Ok(())
}

fn write_folder(folder: &FolderContent, out: &mut dyn Write) -> io::Result<()> {
    let config = folder.config.join(", ");
    writeln!(
        out,
        "config    {}",
        if config.is_empty() { "none".to_owned() } else { shortened(&printable(&config), 160) }
    )?;
    let formats = folder.weights_formats.join(", ");
    match &folder.weights[..] {
        [(name, len)] => writeln!(out, "weights   {}, {formats}, {}", printable(name), bytes(*len))?,
        files => {
            let total = files.iter().fold(0u64, |sum, (_, len)| sum.saturating_add(*len));
            let first = files.first().map(|(name, _)| printable(name)).unwrap_or_default();
            let files = plural(files.len() as u64, "file");
            writeln!(out, "weights   {files} from {first} on, {formats}, {}", bytes(total))?;
        }
    }
    let total = folder.assets.iter().fold(0u64, |sum, (_, len)| sum.saturating_add(*len));
    let names: Vec<String> = folder.assets.iter().take(8).map(|(name, _)| printable(name)).collect();
    match folder.assets.len() {
        0 => writeln!(out, "assets    none"),
        n => {
            let rest = if n > names.len() { ", …" } else { "" };
            let files = plural(n as u64, "file");
            writeln!(out, "assets    {files}, {}: {}{rest}", bytes(total), names.join(", "))
        }
    }
}

fn write_folds(folds: &[Fold], out: &mut dyn Write) -> io::Result<()> {
    // Where nothing collapses, the list of tensors says the same.
    if folds.iter().all(|fold| fold.n_tensors == 1) {
        return Ok(());
    }
    let mut shown: Vec<&Fold> = folds.iter().collect();
    let mut rest: &[&Fold] = &[];
    let by_size = {
        let mut by_size = shown.clone();
        by_size.sort_by_key(|fold| std::cmp::Reverse(fold.bytes));
        by_size
    };
    if folds.len() > MAX_FOLDS {
        let (large, small) = by_size.split_at(MAX_FOLDS - 1);
        shown.retain(|fold| large.iter().any(|other| std::ptr::eq(*other, *fold)));
        rest = small;
    }
    writeln!(out)?;
    let patterns: Vec<String> = shown.iter().map(|fold| printable(&fold.pattern)).collect();
    let width = column(patterns.iter().map(String::as_str));
    for (fold, pattern) in shown.iter().zip(&patterns) {
        let times = if fold.n_tensors > 1 { format!("  ×{}", fold.n_tensors) } else { String::new() };
        writeln!(out, "  {pattern:<width$}  {} {:?}{times}  {}", fold.dtype, fold.shape, bytes(fold.bytes))?;
    }
    if !rest.is_empty() {
        let n_tensors = rest.iter().map(|fold| fold.n_tensors).sum();
        let n_bytes = rest.iter().fold(0u64, |sum, fold| sum.saturating_add(fold.bytes));
        let kinds = plural(rest.len() as u64, "smaller kind");
        writeln!(out, "  and {kinds}: {}, {}", plural(n_tensors, "tensor"), bytes(n_bytes))?;
    }
    Ok(())
}

fn fate_text(fate: &Fate) -> String {
    if let Some(refusal) = &fate.refusal {
        let plain =
            refusal.strip_prefix(fate.format).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(refusal);
        return format!("refused, {}", shortened(plain, 160));
    }
    if fate.losses.is_empty() {
        return "all of it".to_owned();
    }
    let losses: Vec<String> = fate.losses.iter().map(|(kind, n)| format!("{} ({n})", kind.name())).collect();
    format!("all tensors, but {}", losses.join(", "))
}

fn write_tensors(opened: &Opened, found: &Inspection, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out)?;
    if let Some(branches) = &found.branches {
        let names: Vec<String> = branches.iter().map(|branch| printable(&branch.prefix)).collect();
        let width = column(names.iter().map(String::as_str));
        for (branch, name) in branches.iter().zip(&names) {
            writeln!(
                out,
                "{name:<width$}  {:>8}  {:>8}  {}",
                count(branch.n_elements),
                bytes(branch.bytes),
                plural(branch.n_tensors, "tensor")
            )?;
        }
        return Ok(());
    }
    let tensors = &opened.model.tensors;
    let width = column(found.listed.iter().map(|&idx| tensors[idx].name.as_str()));
    let coded = codes::by_tensor(&opened.model);
    for (position, &idx) in found.listed.iter().enumerate() {
        let tensor = &tensors[idx];
        let name = printable(&tensor.name);
        write!(out, "{name:<width$}  {} {:?}  {}", tensor.dtype, tensor.shape, bytes(tensor.byte_len()))?;
        if let Some(codes) = coded.get(&idx) {
            write!(out, "  {}", printable(&codes::text(&opened.model, codes)))?;
        }
        if let Some(originals) = &found.originals {
            write_original(originals, idx, out)?;
        }
        if let Some(stats) = found.stats.as_ref().and_then(|stats| stats.get(position)) {
            match stats {
                None => write!(out, "  no statistics for this type")?,
                Some(stats) => write!(
                    out,
                    "  min {} max {} mean {} zeros {} NaN {} inf {}",
                    short_number(stats.min),
                    short_number(stats.max),
                    short_number(stats.mean),
                    stats.n_zero,
                    stats.n_nan,
                    stats.n_inf
                )?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// What a tensor of a graph was before its export, or that nothing shows it.
fn write_original(originals: &Originals, idx: usize, out: &mut dyn Write) -> io::Result<()> {
    let text = |origin: &Origin| match origin.axes.is_empty() {
        true => printable(&origin.name),
        false => format!("{}, axes {:?}", printable(&origin.name), origin.axes),
    };
    let was: Vec<String> = originals.of(idx).iter().map(text).collect();
    if !was.is_empty() {
        write!(out, "  was {}", was.join(" and "))?;
    }
    match originals.nameless.contains(&idx) {
        true => write!(out, "  its own name is not known"),
        false => Ok(()),
    }
}

fn short_number(value: f64) -> String {
    match value.abs() {
        size if size == 0.0 || (1e-3..1e6).contains(&size) => format!("{value:.5}"),
        _ => format!("{value:.4e}"),
    }
}

fn column<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.map(|name| name.chars().count()).max().unwrap_or(0).min(MAX_NAME_WIDTH)
}

/// Values a row a line; long rows in the middle as `…`.
fn write_values(values: &Values, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}: {} {:?}", printable(&values.text), values.dtype, values.shape)?;
    let row = values.shape.last().map_or(1, |&extent| extent.max(1)) as usize;
    for row in values.numbers.chunks(row) {
        const ENDS: usize = 8;
        let text = |numbers: &[Number]| numbers.iter().map(Number::to_string).collect::<Vec<_>>().join(" ");
        if row.len() > 4 * ENDS {
            writeln!(out, "  {} … {}", text(&row[..ENDS]), text(&row[row.len() - ENDS..]))?;
        } else {
            writeln!(out, "  {}", text(row))?;
        }
    }
    Ok(())
}
