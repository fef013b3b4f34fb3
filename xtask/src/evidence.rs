//! EVIDENCE.json: what was compared with what, by whom, and how it went. Generated and committed.
//!
//! The README's tables are made from it, `ci` compares its counts with those of its own run, and only a run of
//! everything writes it. So a check that silently stops running turns the next `ci` red.

use crate::conformance::{self, Found};
use crate::flags::Flags;
use crate::peers::{self, Case, Judged};
use crate::run::{self, Stop};
use crate::tally::Tally;
use modelferry_conformance::{Mutated, Verdict};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// What to do about evidence that is out of date.
const HINT: &str = "look at the difference, then run `cargo xtask ci --full`, or `cargo xtask evidence --bless` for the \
                    counts of ci alone";

/// `cargo xtask evidence`.
pub(crate) fn main(flags: Flags) -> Result<u8, Stop> {
    let mut tally = Tally::default();
    if flags.has("--bless") {
        let (found, counts) = conformance::run()?;
        tally.add(counts);
        let judged = if flags.has("--own") {
            None
        } else {
            let (judged, counts) = peers::run(&[], false)?;
            tally.add(counts);
            Some(judged)
        };
        if tally.is_green() {
            let mut evidence = Evidence::load().unwrap_or_default();
            evidence.set("conformance", of_conformance(&found));
            if let Some(judged) = judged {
                evidence.set("peers", of_peers(&judged));
            }
            evidence.save()?;
        } else {
            println!("nothing is written: evidence is of runs that passed");
        }
    } else if flags.has("--tables") {
        Evidence::load()?.write_readme()?;
    }
    tally.add(check_readme()?);
    Ok(tally.finish())
}

/// The file.
#[derive(Debug, Default)]
pub(crate) struct Evidence(Map<String, Value>);

fn path() -> PathBuf {
    run::root().join("EVIDENCE.json")
}

fn readme() -> PathBuf {
    run::root().join("README.md")
}

impl Evidence {
    pub(crate) fn load() -> Result<Evidence, Stop> {
        let wrong = |why: String| Stop::new(format!("EVIDENCE.json: {why}; {HINT}"));
        let text = fs::read_to_string(path()).map_err(|error| wrong(error.to_string()))?;
        serde_json::from_str(&text).map(Evidence).map_err(|error| wrong(error.to_string()))
    }

    pub(crate) fn get(&self, section: &str) -> Option<&Value> {
        self.0.get(section)
    }

    pub(crate) fn set(&mut self, section: &str, value: Value) {
        self.0.insert(section.to_owned(), value);
    }

    /// Writes the file, and the README's tables from it.
    pub(crate) fn save(&mut self) -> Result<(), Stop> {
        self.set("generated_by", "cargo xtask ci --full; change nothing by hand".into());
        let order = ["generated_by", "conformance", "peers", "peers_full", "bench"];
        let sorted: Map<String, Value> =
            order.iter().filter_map(|key| Some(((*key).to_owned(), self.0.get(*key)?.clone()))).collect();
        let text = format!("{:#}\n", Value::Object(sorted));
        fs::write(path(), text).map_err(run::at(&path()))?;
        self.write_readme()
    }

    fn write_readme(&self) -> Result<(), Stop> {
        let text = fs::read_to_string(readme()).map_err(run::at(&readme()))?;
        let filled = fill(&text, &self.tables()).map_err(|why| Stop::new(format!("README.md: {why}")))?;
        fs::write(readme(), filled).map_err(run::at(&readme()))
    }

    /// The tables that the README can show, by name.
    fn tables(&self) -> BTreeMap<&'static str, String> {
        let section = |name: &str| self.0.get(name).cloned().unwrap_or_default();
        let full = section("peers_full");
        let peers = if full.is_null() { section("peers") } else { full };
        BTreeMap::from([
            ("pairs", pairs_table(&section("conformance"))),
            ("checks", checks_table(&section("conformance"))),
            ("mutations", mutations_table(&section("conformance"))),
            ("programs", programs_table(&peers)),
            ("not-judged", not_judged_list(&peers)),
            ("bench", crate::bench::table::markdown(&section("bench"))),
            ("machine", section("bench")["machine"].as_str().unwrap_or("not measured yet").to_owned() + "\n"),
        ])
    }
}

/// Compares the counts of this run with the file.
pub(crate) fn compare(found: &Found, judged: &Judged) -> Tally {
    let mut tally = Tally::default();
    match Evidence::load() {
        Ok(evidence) => {
            for (section, found) in [("conformance", of_conformance(found)), ("peers", of_peers(judged))] {
                let committed = evidence.0.get(section).cloned().unwrap_or_default();
                let mut different = vec![];
                differences(section, &committed, &found, &mut different);
                let n = different.len();
                different.truncate(5);
                let list = different.join("; ");
                tally.check("evidence", n == 0, || {
                    format!("{n} counts are not those of EVIDENCE.json: {list}: {HINT}")
                });
            }
        }
        Err(stop) => tally.fail("evidence", stop.to_string()),
    }
    match check_readme() {
        Ok(found) => tally.add(found),
        Err(stop) => tally.fail("evidence", stop.to_string()),
    }
    tally
}

/// Whether the README shows the tables of the file.
fn check_readme() -> Result<Tally, Stop> {
    let mut tally = Tally::default();
    let text = fs::read_to_string(readme()).map_err(run::at(&readme()))?;
    let filled = fill(&text, &Evidence::load()?.tables());
    match filled {
        Err(why) => tally.fail("evidence", format!("README.md: {why}")),
        Ok(filled) => tally.check("evidence", filled == text, || {
            "README.md does not show the tables of EVIDENCE.json: run `cargo xtask evidence --tables`"
                .to_owned()
        }),
    }
    Ok(tally)
}

/// Appends every leaf in which two values differ, with its place.
fn differences(place: &str, committed: &Value, found: &Value, out: &mut Vec<String>) {
    match (committed, found) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let null = Value::Null;
                let (a, b) = (a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null));
                differences(&format!("{place} / {key}"), a, b, out);
            }
        }
        _ if committed == found => {}
        // The machine's own Python, which nobody pins.
        _ if place.ends_with("python / version") => {}
        (Value::Array(a), Value::Array(b)) => {
            let only = |these: &[Value], those: &[Value]| -> Vec<String> {
                these.iter().filter(|item| !those.contains(item)).map(Value::to_string).collect()
            };
            let (gone, new) = (only(a, b).join(", "), only(b, a).join(", "));
            out.push(format!("{place}: gone [{gone}], new [{new}]"));
        }
        _ => out.push(format!("{place}: {committed} is now {found}")),
    }
}

/// The part of the file about conformance.
pub(crate) fn of_conformance(found: &Found) -> Value {
    let Found { outcome, mutations } = found;
    let checks: Map<String, Value> =
        outcome.checks.iter().map(|(name, n)| ((*name).to_owned(), (*n).into())).collect();
    let mut pairs: BTreeMap<String, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for pair in &outcome.pairs {
        let of_pair = pairs.entry(format!("{} to {}", pair.reader, pair.writer)).or_default();
        of_pair.entry(word(pair.verdict)).or_default().insert(&pair.model);
    }
    let counts = |mutated: &Mutated| json!({"tried": mutated.n_tried, "caught": mutated.n_caught});
    let mutations: Map<String, Value> =
        mutations.kinds.iter().map(|mutated| (mutated.kind.to_owned(), counts(mutated))).collect();
    json!({"checks": checks, "mutations": mutations, "pairs": pairs})
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Exact => "exact",
        Verdict::Declared => "declared",
        Verdict::Refused => "refused",
        Verdict::Failed => "failed",
    }
}

/// The part of the file about the programs that own the formats.
pub(crate) fn of_peers(judged: &Judged) -> Value {
    let mut programs: BTreeMap<&str, BTreeMap<String, (u64, u64, u64)>> = BTreeMap::new();
    let mut versions: BTreeMap<&str, &str> = BTreeMap::new();
    for Case { suite, program, version, direction, n_files, n_values, .. } in &judged.cases {
        versions.insert(program, version);
        let counts = programs.entry(program).or_default().entry(format!("{suite}, {direction}")).or_default();
        *counts = (counts.0 + 1, counts.1 + n_files, counts.2 + n_values);
    }
    let programs: Map<String, Value> = programs
        .into_iter()
        .map(|(program, suites)| {
            let suites: Map<String, Value> = suites
                .into_iter()
                .map(|(suite, (cases, files, values))| {
                    (suite, json!({"cases": cases, "files": files, "values": values}))
                })
                .collect();
            (program.to_owned(), json!({"version": versions.get(program), "suites": suites}))
        })
        .collect();
    json!({"programs": programs, "not_judged": judged.not_judged})
}

fn pairs_table(conformance: &Value) -> String {
    let mut text = "| from | to | exact | as declared | refused |\n|---|---|---:|---:|---:|\n".to_owned();
    for (pair, verdicts) in conformance["pairs"].as_object().into_iter().flatten() {
        let n = |verdict: &str| verdicts[verdict].as_array().map_or(0, Vec::len);
        let (from, to) = pair.split_once(" to ").unwrap_or((pair, ""));
        text += &format!("| {from} | {to} | {} | {} | {} |\n", n("exact"), n("declared"), n("refused"));
    }
    text
}

fn checks_table(conformance: &Value) -> String {
    let mut text = "| check | cases |\n|---|---:|\n".to_owned();
    for (name, n) in conformance["checks"].as_object().into_iter().flatten() {
        text += &format!("| {name} | {n} |\n");
    }
    text
}

fn mutations_table(conformance: &Value) -> String {
    let mut text = "| what was spoilt on purpose | conversions | noticed |\n|---|---:|---:|\n".to_owned();
    for (kind, counts) in conformance["mutations"].as_object().into_iter().flatten() {
        text += &format!("| {kind} | {} | {} |\n", counts["tried"], counts["caught"]);
    }
    text
}

fn programs_table(peers: &Value) -> String {
    let mut text =
        "| program | direction | cases | files opened | values compared |\n|---|---|---:|---:|---:|\n"
            .to_owned();
    for (program, about) in peers["programs"].as_object().into_iter().flatten() {
        let mut directions: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
        for (suite, counts) in about["suites"].as_object().into_iter().flatten() {
            let direction = suite.split_once(", ").map_or(&**suite, |(_, direction)| direction);
            let sums = directions.entry(direction).or_default();
            for (sum, key) in sums.iter_mut().zip(["cases", "files", "values"]) {
                *sum += counts[key].as_u64().unwrap_or_default();
            }
        }
        let version = about["version"].as_str().unwrap_or_default();
        for (direction, [cases, files, values]) in directions {
            let direction = direction.replace('-', " ");
            text += &format!("| {program} {version} | {direction} | {cases} | {files} | {values} |\n");
        }
    }
    text
}

fn not_judged_list(peers: &Value) -> String {
    let list = peers["not_judged"].as_array().map_or(&[][..], Vec::as_slice);
    if list.is_empty() {
        return "Nothing.\n".to_owned();
    }
    list.iter().filter_map(Value::as_str).map(|line| format!("- {line}\n")).collect()
}

const BEGIN: &str = "<!-- evidence:";
const END: &str = "<!-- /evidence -->";

/// `text` with what stands between its markers replaced by tables.
///
/// Errors: a marker that names no table or has no end, or no marker at all.
fn fill(text: &str, tables: &BTreeMap<&str, String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, marked)) = rest.split_once(BEGIN) {
        let (name, marked) = marked.split_once("-->").ok_or("a marker of evidence has no end")?;
        let name = name.trim();
        let table = tables.get(name).ok_or_else(|| {
            let known: Vec<&str> = tables.keys().copied().collect();
            format!("there is no table {name:?}; there are {}", known.join(", "))
        })?;
        let (_, after) =
            marked.split_once(END).ok_or_else(|| format!("{BEGIN}{name} --> is not followed by {END}"))?;
        out += &format!("{before}{BEGIN}{name} -->\n\n{table}\n{END}");
        rest = after;
    }
    if out.is_empty() {
        return Err(format!("no marker such as {BEGIN}pairs -->"));
    }
    Ok(out + rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelferry_conformance::{Mutations, Outcome};

    #[test]
    fn markers_are_filled_again_and_again() {
        let tables = BTreeMap::from([("a", "| x |\n".to_owned())]);
        let page = "before\n<!-- evidence:a -->old<!-- /evidence -->\nafter\n";
        let filled = fill(page, &tables).unwrap();
        assert_eq!(filled, "before\n<!-- evidence:a -->\n\n| x |\n\n<!-- /evidence -->\nafter\n");
        assert_eq!(fill(&filled, &tables).unwrap(), filled);
        for wrong in
            ["no marker", "<!-- evidence:b --><!-- /evidence -->", "<!-- evidence:a -->", "<!-- evidence:a"]
        {
            assert!(fill(wrong, &tables).is_err(), "{wrong}");
        }
    }

    fn different(a: Value, b: Value) -> Vec<String> {
        let mut out = vec![];
        differences("x", &a, &b, &mut out);
        out
    }

    #[test]
    fn every_count_is_compared() {
        let a = json!({"p": {"n": 1, "m": ["a", "b"]}});
        assert!(different(a.clone(), a.clone()).is_empty());
        assert_eq!(different(a.clone(), json!({"p": {"n": 2, "m": ["a", "b"]}})), ["x / p / n: 1 is now 2"]);
        let moved = json!({"p": {"n": 1, "m": ["a", "c"]}});
        assert_eq!(different(a.clone(), moved), ["x / p / m: gone [\"b\"], new [\"c\"]"]);
        assert_eq!(different(a, json!({})).len(), 1);
        assert!(
            different(json!({"python": {"version": "3.11"}}), json!({"python": {"version": "3.12"}}))
                .is_empty()
        );
        assert_eq!(
            different(json!({"torch": {"version": "1"}}), json!({"torch": {"version": "2"}})).len(),
            1
        );
    }

    #[test]
    fn tables_add_up() {
        let case = |suite: &str, n_files| {
            let line = json!({"suite": suite, "case": "c", "program": "numpy", "version": "2", "ok": true, "detail": "",
                              "direction": "ours-to-theirs", "files_opened": n_files, "values_compared": 10});
            Case::read(&line).unwrap()
        };
        let judged = Judged { cases: vec![case("a", 1), case("a", 2), case("b", 4)], ..Judged::default() };
        let table = programs_table(&of_peers(&judged));
        assert!(table.ends_with("| numpy 2 | ours to theirs | 3 | 7 | 30 |\n"), "{table}");
        assert_eq!(not_judged_list(&of_peers(&judged)), "Nothing.\n");

        let outcome = Outcome {
            pairs: [("m", Verdict::Exact), ("n", Verdict::Exact), ("o", Verdict::Refused)]
                .map(|(model, verdict)| modelferry_conformance::Pair {
                    reader: "x".to_owned(),
                    writer: "y".to_owned(),
                    model: model.to_owned(),
                    verdict,
                })
                .to_vec(),
            ..Outcome::default()
        };
        let mutated = Mutated { kind: "a bit", n_tried: 3, n_caught: 2 };
        let mutations = Mutations { kinds: vec![mutated], ..Mutations::default() };
        let conformance = of_conformance(&Found { outcome, mutations });
        assert!(pairs_table(&conformance).ends_with("| x | y | 2 | 0 | 1 |\n"));
        assert!(mutations_table(&conformance).ends_with("| a bit | 3 | 2 |\n"));
    }
}
