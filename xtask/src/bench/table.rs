//! What was measured, as data and as a table.

use super::measure::{Formula, Pairs, Spread};
use super::rows::{Bar, Kind};
use serde_json::{Value, json};

/// What a row asks for, in words.
pub(crate) fn bar_text(kind: &Kind) -> String {
    match kind {
        Kind::Ratio { reference, bar: Bar::AtMost(bar), .. } => {
            format!("at most {bar} x {}", reference.name())
        }
        Kind::Ratio { reference, bar: Bar::Faster(bar), .. } => {
            format!("at least {bar} x faster than {}", reference.name())
        }
        Kind::Ratio { reference, bar: Bar::None, .. } => format!("none; beside {}", reference.name()),
        Kind::Plugins { bar, .. } => format!("under {} more than without", duration(*bar)),
        Kind::Seconds { bar, .. } => format!("under {}", duration(*bar)),
        Kind::Memory { .. } => "64 MB + 32 MB + 1 KiB a tensor + 3 x header".to_owned(),
    }
}

fn verdict(is_met: Option<bool>, is_judged: bool) -> &'static str {
    match is_met {
        _ if !is_judged => "not judged",
        Some(true) => "pass",
        Some(false) => "miss",
        None => "for information",
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// A row of seconds by seconds. A bar that says "faster" is shown that way round too; without a bar, so is what is.
pub(crate) fn of_ratio(pairs: &Pairs, bar: Bar, reference: &str, is_judged: bool) -> Value {
    let Spread { median, min, max } = pairs.ratio();
    let is_met = bar.is_met(median);
    let (unit, [median, min, max]) = match bar {
        Bar::AtMost(_) => ("x the time", [median, min, max]),
        Bar::None if median > 1.0 => ("x the time", [median, min, max]),
        Bar::Faster(_) | Bar::None => ("x faster", [1.0 / median, 1.0 / max, 1.0 / min]),
    };
    json!({
        "unit": unit, "median": rounded(median), "min": rounded(min), "max": rounded(max),
        "reference": reference, "seconds": rounded(pairs.ours().median),
        "reference_seconds": rounded(pairs.theirs().median), "runs": pairs.len(), "verdict": verdict(is_met, is_judged),
    })
}

/// A row of seconds.
pub(crate) fn of_seconds(pairs: &Pairs, bar: f64, is_judged: bool) -> Value {
    let Spread { median, min, max } = pairs.ours();
    json!({
        "unit": "s", "median": rounded(median), "min": rounded(min), "max": rounded(max), "seconds": rounded(median),
        "runs": pairs.len(), "verdict": verdict(Some(median < bar), is_judged),
    })
}

/// A row of seconds of ours beyond theirs.
pub(crate) fn of_seconds_beyond(pairs: &Pairs, bar: f64, is_judged: bool) -> Value {
    let Spread { median, min, max } = pairs.difference();
    json!({
        "unit": "s", "median": rounded(median), "min": rounded(min), "max": rounded(max),
        "seconds": rounded(pairs.ours().median), "reference_seconds": rounded(pairs.theirs().median),
        "runs": pairs.len(), "verdict": verdict(Some(median < bar), is_judged),
    })
}

/// A row of bytes: what was used, by what the formula allows.
pub(crate) fn of_memory(peak: u64, formula: &Formula) -> Value {
    let allowed = formula.bytes();
    json!({
        "unit": "of what is allowed", "median": rounded(peak as f64 / allowed as f64), "peak_bytes": peak,
        "allowed_bytes": allowed, "n_tensors": formula.n_tensors, "header_bytes": formula.header,
        "verdict": verdict(Some(peak <= allowed), true),
    })
}

fn duration(seconds: f64) -> String {
    if seconds < 0.1 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

/// Bytes in decimal units, as DESIGN counts them.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

/// The fields of a row after its name: what, bar, result, range, verdict, seconds.
fn fields(row: &Value) -> [String; 7] {
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| row[key].as_f64();
    let (result, range) = if let Some(peak) = row["peak_bytes"].as_u64() {
        let terms = format!(
            "{} tensors, header {}",
            row["n_tensors"],
            bytes(row["header_bytes"].as_u64().unwrap_or(0))
        );
        (bytes(peak), format!("of {} ({terms})", bytes(row["allowed_bytes"].as_u64().unwrap_or(0))))
    } else {
        let is_seconds = row["unit"] == "s";
        let show = |key: &str| {
            let value = number(key).unwrap_or(f64::NAN);
            if is_seconds { duration(value) } else { format!("{value:.2}") }
        };
        let unit = if is_seconds { String::new() } else { format!(" {}", text("unit")) };
        (format!("{}{unit}", show("median")), format!("{}..{}", show("min"), show("max")))
    };
    let seconds = |key: &str| number(key).map(duration).unwrap_or_default();
    [
        text("what"),
        text("bar"),
        result,
        range,
        text("verdict"),
        seconds("seconds"),
        seconds("reference_seconds"),
    ]
}

/// One row, for a terminal.
pub(crate) fn line(row: &Value) -> String {
    let [_, bar, result, range, verdict, ours, theirs] = fields(row);
    let absolute = match (ours.is_empty(), theirs.is_empty()) {
        (false, false) => format!("; {ours} beside {theirs}"),
        _ => String::new(),
    };
    format!("  {result} ({range}{absolute}); bar: {bar}: {verdict}")
}

/// Everything that was measured.
pub(crate) fn markdown(bench: &Value) -> String {
    let mut text = "| row | what | bar | median | range | verdict | ours | reference |\n\
                    |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for row in bench["rows"].as_array().into_iter().flatten() {
        let name = row["name"].as_str().unwrap_or_default();
        text += &format!("| {name} | {} |\n", fields(row).join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> Pairs {
        let mut pairs = Pairs::default();
        for ours in [0.5, 1.0, 2.0] {
            pairs.push(ours, 4.0);
        }
        pairs
    }

    #[test]
    fn rows_say_what_was_asked_and_found() {
        let faster = of_ratio(&pairs(), Bar::Faster(6.0), "numpy", true);
        assert_eq!(
            (&faster["median"], &faster["min"], &faster["max"]),
            (&json!(4.0), &json!(2.0), &json!(8.0))
        );
        assert_eq!(faster["verdict"], "miss");
        assert_eq!(of_ratio(&pairs(), Bar::Faster(6.0), "numpy", false)["verdict"], "not judged");
        let at_most = of_ratio(&pairs(), Bar::AtMost(0.3), "cp", true);
        assert_eq!((at_most["median"].as_f64(), &at_most["verdict"]), (Some(0.25), &json!("pass")));
        assert_eq!(of_seconds(&pairs(), 1.0, true)["verdict"], "miss");
        assert_eq!(of_ratio(&pairs(), Bar::None, "torch", true)["unit"], "x faster");
        let mut slower = Pairs::default();
        slower.push(3.0, 2.0);
        let slower = of_ratio(&slower, Bar::None, "the same linked in", true);
        assert_eq!((&slower["unit"], slower["median"].as_f64()), (&json!("x the time"), Some(1.5)));
        assert_eq!(slower["verdict"], "for information");
    }

    #[test]
    fn memory_is_judged_by_its_formula() {
        let formula = Formula { n_tensors: 1000, header: 1_000_000 };
        let allowed = 64_000_000 + 32_000_000 + 1_024_000 + 3_000_000;
        assert_eq!(of_memory(allowed, &formula)["verdict"], "pass");
        let row = of_memory(allowed + 1, &formula);
        assert_eq!(row["verdict"], "miss");
        assert!(
            line(&row).contains("100.0 MB (of 100.0 MB (1000 tensors, header 1.0 MB))"),
            "{}",
            line(&row)
        );
    }

    #[test]
    fn the_table_has_a_line_for_each_row() {
        let mut row = of_ratio(&pairs(), Bar::AtMost(1.15), "cp", true);
        row["name"] = "a".into();
        let table = markdown(&json!({"rows": [row]}));
        assert_eq!(table.lines().count(), 3);
        assert!(table.lines().all(|line| line.matches('|').count() == 9), "{table}");
        assert!(table.contains("| 0.25 x the time | 0.12..0.50 | pass | 1.00 s | 4.00 s |"), "{table}");
    }
}
