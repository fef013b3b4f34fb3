//! Tells the crate which target it is built for: Rust itself does not.

fn main() {
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=MODELFERRY_TARGET={target}");
    println!("cargo::rerun-if-changed=build.rs");
}
