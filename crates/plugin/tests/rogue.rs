//! A plugin that breaks every rule of the boundary: each leads to an error, never to a crash, and what it gave is released.

mod support;

use modelferry_core::registry::Registry;
use std::path::{Path, PathBuf};
use support::*;

fn build(name: &str) -> (PathBuf, Registry) {
    let folder = scratch(name);
    let library = folder.join(format!("librogue.{}", std::env::consts::DLL_EXTENSION));
    compile(&folder_of_c().join("rogue.c"), &library, &include());
    let parts = r#""readers": [{"format": "rogue", "about": "", "extensions": [".rogue"]}],
        "writers": [{"format": "rogue", "about": "", "extensions": [".rogue"], "dtypes": ["f32"], "max_rank": 8}]"#;
    describe(&library, "rogue", parts);
    let registry = registry(&folder).unwrap();
    (folder, registry)
}

fn folder_of_c() -> PathBuf {
    folder().join("tests/c")
}

fn ask(folder: &Path, how: &str) -> PathBuf {
    let path = folder.join("in.rogue");
    let mut bytes = format!("ROGUE {how}\n").into_bytes();
    bytes.resize(100, 0);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn x_readers() {
    let (folder, registry) = build("rogue-models");
    let c = std::fs::read_to_string(folder_of_c().join("rogue_model.h")).unwrap();
    for part in c.split("IS(\"").skip(1) {
        let how = part.split('"').next().unwrap();
        if how == "made_overrun" { continue; }
        let out = folder.join("out.safetensors");
        let _ = std::fs::remove_file(&out);
        match convert(&registry, &ask(&folder, how), &out) {
            Ok(report) => println!("    (\"{how}\", \"\"), {:?}", report.losses),
            Err(error) => println!("    (\"{how}\", {:?}, \"{error}\"),", error.kind()),
        }
    }
}

#[test]
fn x_writers() {
    let (folder, registry) = build("rogue-layouts");
    let good = folder.join("good.safetensors");
    convert(&registry, &ask(&folder, "good"), &good).unwrap();
    let c = std::fs::read_to_string(folder_of_c().join("rogue_layout.h")).unwrap();
    for part in c.split("IS(\"").skip(1) {
        let how = part.split('"').next().unwrap();
        match convert(&registry, &good, &folder.join(format!("{how}.rogue"))) {
            Ok(report) => println!("    (\"{how}\", \"\"), {:?}", report.losses),
            Err(error) => println!("    (\"{how}\", {:?}, \"{error}\"),", error.kind()),
        }
    }
}
