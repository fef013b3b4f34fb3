//! Licences, duplicate versions and sources of everything that is linked in, by the rules of deny.toml.
//!
//! cargo-deny takes minutes to build; what we need of it is below, on the same file. What it does more (advisories,
//! which need a network) is for those who have it.

use crate::flags::Flags;
use crate::run::{self, Stop};
use crate::tally::Tally;
use crate::toml;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// `cargo xtask licences`.
pub(crate) fn main(_: Flags) -> Result<u8, Stop> {
    Ok(check()?.finish())
}

const PART: &str = "licences";

/// Checks every package that a build for one of the targets of deny.toml uses.
pub(crate) fn check() -> Result<Tally, Stop> {
    let path = run::root().join("deny.toml");
    let text = fs::read_to_string(&path).map_err(run::at(&path))?;
    let rules = toml::parse(&text).map_err(|error| Stop::new(format!("deny.toml: {error}")))?;
    let rules = Rules::new(&rules)?;
    let mut packages: BTreeMap<String, Value> = BTreeMap::new();
    let mut shipped: BTreeSet<String> = BTreeSet::new();
    for target in &rules.targets {
        let args = ["metadata", "--format-version=1", "--locked", "--filter-platform", target];
        let text = run::output(&mut run::cargo(&args))?;
        let metadata: Value = serde_json::from_str(&text).map_err(|error| Stop::new(error.to_string()))?;
        let used = ids(&metadata["resolve"]["nodes"]);
        shipped.extend(beyond_tests(&metadata));
        for package in list(&metadata["packages"]) {
            let id = package["id"].as_str().unwrap_or_default();
            if used.contains(id) {
                packages.insert(id.to_owned(), package.clone());
            }
        }
    }
    let mut tally = Tally::default();
    rules.judge(packages.values(), &shipped, &mut tally);
    tally.must_have_run(PART);
    Ok(tally)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn ids(nodes: &Value) -> BTreeSet<&str> {
    list(nodes).iter().filter_map(|node| node["id"].as_str()).collect()
}

/// The packages of which something may be part of what is handed on: all that a member of the workspace reaches by other
/// ways than what its tests alone need.
fn beyond_tests(metadata: &Value) -> BTreeSet<String> {
    let is_shipped =
        |dependency: &&Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
    let nodes: BTreeMap<&str, &Value> = list(&metadata["resolve"]["nodes"])
        .iter()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let mut left: Vec<&str> = list(&metadata["workspace_members"]).iter().filter_map(Value::as_str).collect();
    let mut found = BTreeSet::new();
    while let Some(id) = left.pop() {
        if found.insert(id.to_owned()) {
            let dependencies = nodes.get(id).map_or(&[][..], |node| list(&node["deps"]));
            left.extend(
                dependencies.iter().filter(is_shipped).filter_map(|dependency| dependency["pkg"].as_str()),
            );
        }
    }
    found
}

/// deny.toml, as far as we follow it.
struct Rules {
    targets: Vec<String>,
    licences: Vec<String>,
    /// More licences for one crate, by its name. Only for what tests need: such a crate is part of nothing that is
    /// handed on.
    exceptions: BTreeMap<String, Vec<String>>,
    /// `name@version`.
    skip: Vec<String>,
    registries: Vec<String>,
}

/// Every key that is followed. One that is not here is refused: a rule that nobody obeys is worse than none.
const KEYS: [(&str, &[&str]); 4] = [
    ("graph", &["targets"]),
    ("licenses", &["allow", "exceptions"]),
    ("bans", &["multiple-versions", "wildcards", "allow-wildcard-paths", "skip"]),
    ("sources", &["unknown-registry", "unknown-git", "allow-registry"]),
];

impl Rules {
    fn new(rules: &Value) -> Result<Rules, Stop> {
        for (table, inside) in rules.as_object().into_iter().flatten() {
            let known = KEYS.iter().find(|(name, _)| name == table).map_or(&[][..], |(_, keys)| keys);
            for key in inside.as_object().into_iter().flatten().map(|(key, _)| key) {
                if !known.contains(&&**key) {
                    return Err(Stop::new(format!(
                        "deny.toml: {table}.{key} is not followed by licences.rs"
                    )));
                }
            }
        }
        for (table, key) in
            [("bans", "multiple-versions"), ("sources", "unknown-registry"), ("sources", "unknown-git")]
        {
            if rules[table][key] != "deny" {
                return Err(Stop::new(format!("deny.toml: {table}.{key} must be \"deny\"")));
            }
        }
        let strings = |value: &Value| -> Vec<String> {
            list(value)
                .iter()
                .filter_map(|item| item.as_str().or(item["crate"].as_str()))
                .map(str::to_owned)
                .collect()
        };
        let found = Rules {
            targets: strings(&rules["graph"]["targets"]),
            licences: strings(&rules["licenses"]["allow"]),
            exceptions: list(&rules["licenses"]["exceptions"])
                .iter()
                .map(|item| (item["crate"].as_str().unwrap_or_default().to_owned(), strings(&item["allow"])))
                .collect(),
            skip: strings(&rules["bans"]["skip"]),
            registries: strings(&rules["sources"]["allow-registry"]),
        };
        if found.targets.is_empty() || found.licences.is_empty() || found.registries.is_empty() {
            return Err(Stop::new("deny.toml: targets, allowed licences and registries must be named"));
        }
        Ok(found)
    }

    /// `shipped` are the ids of [`beyond_tests`].
    fn judge<'a>(
        &self,
        packages: impl Iterator<Item = &'a Value>,
        shipped: &BTreeSet<String>,
        tally: &mut Tally,
    ) {
        let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut needed: BTreeSet<String> = BTreeSet::new();
        let mut excepted: BTreeSet<&str> = BTreeSet::new();
        for package in packages {
            let text = |key: &str| package[key].as_str().unwrap_or_default();
            let (name, version) = (text("name"), text("version"));
            let who = format!("{name} {version}");
            let exception = self.exceptions.get(name);
            match (allowed(text("license"), &self.licences), exception) {
                (Ok(used), _) => {
                    tally.pass(PART, 1);
                    needed.extend(used);
                }
                (Err(_), Some(more)) => {
                    excepted.insert(name);
                    let all = [&self.licences[..], more].concat();
                    tally.result(PART, allowed(text("license"), &all).map(drop));
                    tally.check(PART, !shipped.contains(text("id")), || {
                        format!("{who} is excepted by deny.toml as what tests alone need, and more needs it")
                    });
                }
                (Err(why), None) => tally.fail(PART, format!("{who}: {why}")),
            }
            if let Some(source) = package["source"].as_str() {
                let is_known = self.registries.iter().any(|known| source == format!("registry+{known}"));
                tally.check(PART, is_known, || format!("{who} comes from {source}"));
                versions.entry(name).or_default().insert(version);
            }
            for dependency in list(&package["dependencies"]) {
                if package["source"].is_null() && dependency["source"].is_string() && dependency["req"] == "*"
                {
                    tally.fail(PART, format!("{who} takes any version of {}", dependency["name"]));
                }
            }
        }
        for (name, versions) in &versions {
            let kept: Vec<_> =
                versions.iter().filter(|version| !self.skip.contains(&format!("{name}@{version}"))).collect();
            tally.check(PART, kept.len() <= 1, || format!("{name} is there in versions {versions:?}"));
        }
        for skip in &self.skip {
            let (name, version) = skip.split_once('@').unwrap_or((skip, ""));
            let is_needed =
                versions.get(name).is_some_and(|found| found.len() > 1 && found.contains(version));
            tally.check(PART, is_needed, || format!("deny.toml skips {skip}, and nothing needs that"));
        }
        for name in self.exceptions.keys() {
            tally.check(PART, excepted.contains(&**name), || {
                format!("deny.toml excepts {name}, and nothing needs that")
            });
        }
        for licence in &self.licences {
            tally.check(PART, needed.contains(licence), || {
                format!("deny.toml allows {licence}, and nothing needs that")
            });
        }
    }
}

/// The licences that were chosen of an SPDX expression.
///
/// Errors: no choice consists of allowed ones.
fn allowed(expression: &str, allow: &[String]) -> Result<Vec<String>, String> {
    if expression.is_empty() {
        return Err("states no licence".to_owned());
    }
    // `MIT/Apache-2.0` is how crates said OR before SPDX.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let chosen = either(&words, &mut at, allow);
    if at != words.len() {
        return Err(format!("{expression:?} is not understood"));
    }
    chosen.ok_or_else(|| format!("{expression:?} is not allowed by deny.toml"))
}

fn either(words: &[&str], at: &mut usize, allow: &[String]) -> Option<Vec<String>> {
    let mut chosen = both(words, at, allow);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        let other = both(words, at, allow);
        // The shorter list of obligations; the first of equals.
        chosen = match (chosen, other) {
            (Some(a), Some(b)) => Some(if b.len() < a.len() { b } else { a }),
            (a, b) => a.or(b),
        };
    }
    chosen
}

fn both(words: &[&str], at: &mut usize, allow: &[String]) -> Option<Vec<String>> {
    let mut chosen = one(words, at, allow);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        let other = one(words, at, allow);
        chosen = chosen.zip(other).map(|(a, b)| [a, b].concat());
    }
    chosen
}

fn one(words: &[&str], at: &mut usize, allow: &[String]) -> Option<Vec<String>> {
    let word = *words.get(*at)?;
    *at += 1;
    if word == "(" {
        let inside = either(words, at, allow);
        *at += usize::from(words.get(*at) == Some(&")"));
        return inside;
    }
    let mut name = word.to_owned();
    if words.get(*at) == Some(&"WITH") {
        name += &format!(" WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    allow.contains(&name).then(|| vec![name])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expressions_are_judged() {
        let allow = ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned);
        for right in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
        ] {
            assert!(allowed(right, &allow).is_ok(), "{right}");
        }
        for wrong in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(GPL-3.0 OR MIT) AND BSD",
            "Apache-2.0 WITH LLVM-exception",
            "MIT MIT",
        ] {
            assert!(allowed(wrong, &allow).is_err(), "{wrong}");
        }
    }

    fn judged(rules: &Value, packages: &[Value]) -> bool {
        let mut tally = Tally::default();
        let shipped = BTreeSet::from(["shipped".to_owned()]);
        Rules::new(rules).unwrap().judge(packages.iter(), &shipped, &mut tally);
        tally.is_green()
    }

    #[test]
    fn every_rule_can_fail() {
        let rules = |allow: Value, skip: Value| {
            json!({
                "graph": {"targets": ["t"]}, "licenses": {"allow": allow},
                "bans": {"multiple-versions": "deny", "skip": skip},
                "sources": {"unknown-registry": "deny", "unknown-git": "deny", "allow-registry": ["r"]},
            })
        };
        let package = |version: &str, licence: &str, source: &str| json!({"name": "p", "version": version, "license": licence, "source": source, "dependencies": []});
        let good = package("1.0.0", "MIT", "registry+r");
        let plain = rules(json!(["MIT"]), json!([]));
        assert!(judged(&plain, std::slice::from_ref(&good)));
        assert!(!judged(&plain, &[package("1.0.0", "GPL-3.0", "registry+r")]));
        assert!(!judged(&plain, &[package("1.0.0", "MIT", "git+elsewhere")]));
        let two = [good.clone(), package("2.0.0", "MIT", "registry+r")];
        assert!(!judged(&plain, &two));
        let skipping = rules(json!(["MIT"]), json!([{"crate": "p@1.0.0", "reason": "-"}]));
        assert!(judged(&skipping, &two));
        assert!(!judged(&skipping, std::slice::from_ref(&good)));
        assert!(!judged(&rules(json!(["MIT", "Zlib"]), json!([])), std::slice::from_ref(&good)));
        assert!(Rules::new(&json!({"licenses": {"alow": ["MIT"]}})).is_err());

        let mut excepting = plain.clone();
        excepting["licenses"]["exceptions"] = json!([{"crate": "q", "allow": ["MPL-2.0"]}]);
        let other = |licence: &str, id: &str| {
            let mut other = package("1.0.0", licence, "registry+r");
            (other["name"], other["id"]) = ("q".into(), id.into());
            other
        };
        assert!(judged(&excepting, &[good.clone(), other("MPL-2.0", "q")]));
        assert!(!judged(&excepting, &[good.clone(), other("GPL-3.0", "q")]));
        assert!(!judged(&excepting, &[good.clone(), other("MPL-2.0", "shipped")]));
        assert!(!judged(&excepting, &[good.clone(), other("MIT", "q")]), "nothing needs it");
        assert!(!judged(&plain, &[good, other("MPL-2.0", "q")]));
    }

    #[test]
    fn what_tests_alone_need_is_known() {
        let node = |id: &str, deps: Value| json!({"id": id, "deps": deps});
        let on = |id: &str, kinds: &[Value]| {
            let kinds: Vec<Value> = kinds.iter().map(|kind| json!({"kind": kind})).collect();
            json!({"pkg": id, "dep_kinds": kinds})
        };
        let (normal, dev, build) = (Value::Null, json!("dev"), json!("build"));
        let metadata = json!({"workspace_members": ["own"], "resolve": {"nodes": [
            node("own", json!([on("a", std::slice::from_ref(&normal)), on("t", std::slice::from_ref(&dev)),
                               on("both", &[dev, build])])),
            node("a", json!([on("b", std::slice::from_ref(&normal))])), node("t", json!([on("u", &[normal])])),
            node("b", json!([])), node("u", json!([])), node("both", json!([])),
        ]}});
        let found = beyond_tests(&metadata);
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "both", "own"]);
    }
}
