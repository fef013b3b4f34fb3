//! Numbers and names as people read and write them.

use modelferry_convert::report::Quantized;
use modelferry_core::loss::{Loss, Severity};
use modelferry_core::{DType, Error, Result};
use std::collections::BTreeMap;

/// Bytes in decimal units, three digits: `13.5 GB`.
pub(crate) fn bytes(n: u64) -> String {
    scaled(n, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// A count, exact below ten thousand: `6.74 B` is 6.74 thousand million.
pub(crate) fn count(n: u64) -> String {
    if n < 10_000 {
        return n.to_string();
    }
    scaled(n, &["", "k", "M", "B", "T", "Q", "Qi"])
}

fn scaled(n: u64, units: &[&str]) -> String {
    if n < 1000 {
        return format!("{n} {}", units[0]).trim_end().to_owned();
    }
    let mut value = n as f64;
    let mut unit = 0;
    // 999.5 would be shown as 1000.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {}", units[unit])
}

/// A duration: `6 s`, `3 min`, `2 h 5 min`.
pub(crate) fn seconds(seconds: f64) -> String {
    let whole = seconds.clamp(0.0, 1e9).ceil() as u64;
    match whole {
        0..120 => format!("{whole} s"),
        120..7200 => format!("{} min", whole.div_ceil(60)),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `1 tensor`, `2 tensors`.
pub(crate) fn plural(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {one}s", count(n)) }
}

/// Reads a size: `64MiB`, `32MB`, `1.5GB`, `5G`, `4096`. Decimal units unless there is an `i`.
///
/// Errors: usage, naming the option.
pub(crate) fn parse_size(option: &str, text: &str) -> Result<u64> {
    let bad = || {
        Error::usage(format!("--{option}: unusable size")).expected("a size such as 64MiB or 5GB").found(text)
    };
    let lower = text.trim().to_ascii_lowercase();
    let split = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(split);
    let unit = unit.trim();
    let factor: u64 = match unit.strip_suffix('b').unwrap_or(unit) {
        "" => 1,
        "k" => 1000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "t" => 1_000_000_000_000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        "ti" => 1 << 40,
        _ => return Err(bad()),
    };
    let size = match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(factor).ok_or_else(bad)?,
        // Below 2^53 a fraction of a unit is exact enough; above, whole numbers are what people write.
        Err(_) => match number.parse::<f64>() {
            Ok(value) if value.is_finite() && value * (factor as f64) < 9e15 => {
                (value * factor as f64) as u64
            }
            _ => return Err(bad()),
        },
    };
    if size == 0 { Err(bad()) } else { Ok(size) }
}

/// A name on one line: control characters and what could disguise as other text are written as escapes.
pub(crate) fn printable(name: &str) -> String {
    if name.chars().all(|c| !c.is_control() && !is_direction(c)) {
        return name.to_owned();
    }
    let escaped = name.chars().flat_map(|c| {
        let escape = c.is_control() || is_direction(c);
        let escaped = escape.then(|| c.escape_default());
        escaped.into_iter().flatten().chain((!escape).then_some(c))
    });
    escaped.collect()
}

/// Characters that turn the direction of text, or are not seen.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// At most `max` characters of a text, the rest as `…`.
pub(crate) fn shortened(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Losses as lines for a person: those of one kind and detail together, three names each.
pub(crate) fn loss_lines(losses: &[Loss]) -> Vec<String> {
    let mut lines = vec![];
    let mut groups: Vec<(&Loss, Vec<&Loss>)> = vec![];
    for loss in losses {
        // Few groups: details that name a tensor are joined by kind alone.
        let same = |first: &Loss| {
            first.kind == loss.kind
                && first.asked == loss.asked
                && (first.detail == loss.detail || has_name(&first.detail) && has_name(&loss.detail))
        };
        match groups.iter_mut().rev().take(64).find(|(first, _)| same(first)) {
            Some((_, members)) => members.push(loss),
            None => groups.push((loss, vec![loss])),
        }
    }
    for (first, members) in groups {
        let severity = match first.kind.severity() {
            _ if first.asked => "note",
            Severity::Note => "note",
            _ => "warning",
        };
        let shown: Vec<String> = members
            .iter()
            .take(3)
            .map(|loss| match has_name(&loss.detail) {
                true => format!("{:?} {}", loss.subject, loss.detail),
                false => format!("{:?}", loss.subject),
            })
            .collect();
        let more = match members.len() - shown.len() {
            0 => String::new(),
            more => format!(" and {} more", count(more as u64)),
        };
        let detail = if has_name(&first.detail) { String::new() } else { format!("{}: ", first.detail) };
        lines.push(format!("{severity}: {}: {detail}{}{more}", first.kind.name(), shown.join(", ")));
    }
    lines
}

/// Whether a detail is about one tensor only: it quotes a name or counts values.
fn has_name(detail: &str) -> bool {
    detail.contains('"') || detail.contains(" values ")
}

/// What quantization cost, by type, and the tensor that it cost most, each line behind `indent`.
pub(crate) fn quantized_lines(quantized: &[Quantized], indent: &str) -> Vec<String> {
    let mut by_type: BTreeMap<DType, Vec<&Quantized>> = BTreeMap::new();
    for tensor in quantized {
        by_type.entry(tensor.dtype).or_default().push(tensor);
    }
    let line = |(dtype, tensors): (DType, Vec<&Quantized>)| {
        let worst = tensors.iter().copied().max_by(|a, b| a.rms.total_cmp(&b.rms))?;
        Some(format!(
            "{indent}{dtype}: {}, {} bits a weight, RMS error up to {:.3e} and largest {:.3e} ({})",
            plural(tensors.len() as u64, "tensor"),
            worst.bits_per_weight(),
            worst.rms,
            tensors.iter().map(|tensor| tensor.largest).fold(0.0, f64::max),
            printable(&worst.name),
        ))
    };
    by_type.into_iter().filter_map(line).collect()
}

/// What clap says of a mistake, on one line, without its advice to read the help.
pub(crate) fn clap_line(rendered: &str) -> String {
    let mut line = String::new();
    for part in rendered.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if part.starts_with("Usage:") || part.starts_with("For more information") {
            break;
        }
        let part = part.strip_prefix("error: ").unwrap_or(part);
        match part.strip_prefix("tip: ") {
            Some(tip) => line.push_str(&format!(" ({tip})")),
            None if line.is_empty() => line.push_str(part),
            None => line.push_str(&format!(" {part}")),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelferry_core::loss::LossKind;

    #[test]
    fn three_digits() {
        let all = [0, 999, 1000, 9_994, 9_996, 99_960, 999_499, 999_500, 13_476_839_424, u64::MAX].map(bytes);
        assert_eq!(
            all,
            [
                "0 B", "999 B", "1.00 kB", "9.99 kB", "10.0 kB", "100 kB", "999 kB", "1.00 MB", "13.5 GB",
                "18.4 EB"
            ]
        );
        assert_eq!([9_999, 10_000, 6_738_415_616].map(count), ["9999", "10.0 k", "6.74 B"]);
        assert_eq!([plural(1, "tensor"), plural(2, "tensor")], ["1 tensor", "2 tensors"]);
        assert_eq!([0.2, 100.0, 150.0, 7500.0].map(seconds), ["1 s", "100 s", "3 min", "2 h 5 min"]);
    }

    #[test]
    fn sizes() {
        let read = |text: &str| parse_size("memory", text).ok();
        assert_eq!(read("64MiB"), Some(64 << 20));
        assert_eq!(read("32MB"), Some(32_000_000));
        assert_eq!(read("32mb"), Some(32_000_000));
        assert_eq!(read("5G"), Some(5_000_000_000));
        assert_eq!(read("1.5 GB"), Some(1_500_000_000));
        assert_eq!(read("4096"), Some(4096));
        assert_eq!(read("100B"), Some(100));
        for bad in ["", "GB", "0", "-1", "1.2.3GB", "5 apples", "99999999999999999999", "20000000TB"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(
            parse_size("shard-size", "big").unwrap_err().to_string(),
            "--shard-size: unusable size, expected a size such as 64MiB or 5GB, found big"
        );
    }

    #[test]
    fn names_stay_on_their_line() {
        assert_eq!(printable("größe.weight"), "größe.weight");
        assert_eq!(printable("a\nb\x1b[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(shortened("äöü", 2), "äö…");
    }

    #[test]
    fn losses_are_grouped() {
        let mut losses: Vec<Loss> = (0..5)
            .map(|at| Loss::declared(LossKind::Dtype, format!("t{at}"), "f32 to bf16, rounded").asked())
            .collect();
        losses.push(Loss::declared(LossKind::Name, "a", "written as \"x\"").asked());
        losses.push(Loss::declared(LossKind::Name, "b", "written as \"y\"").asked());
        losses.push(Loss::declared(LossKind::Metadata, "k", "npz holds no metadata"));
        assert_eq!(
            loss_lines(&losses),
            [
                "note: dtype: f32 to bf16, rounded: \"t0\", \"t1\", \"t2\" and 2 more",
                "note: name: \"a\" written as \"x\", \"b\" written as \"y\"",
                "warning: metadata: npz holds no metadata: \"k\""
            ]
        );
    }

    #[test]
    fn claps_messages_fit_a_line() {
        let rendered = "error: unexpected argument '--forse' found\n\n  tip: a similar argument exists: '--force'\n\n\
                        Usage: modelferry convert --force <INPUT> <OUTPUT>\n\nFor more information, try '--help'.\n";
        assert_eq!(
            clap_line(rendered),
            "unexpected argument '--forse' found (a similar argument exists: '--force')"
        );
        let rendered = "error: the following required arguments were not provided:\n  <OUTPUT>\n\nUsage: x\n";
        assert_eq!(clap_line(rendered), "the following required arguments were not provided: <OUTPUT>");
    }
}
