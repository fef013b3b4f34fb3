//! The sources of the boundary's types, in the order in which C sees them.

// Not every test uses all of it.
#![allow(dead_code, reason = "each test uses a part of it")]

macro_rules! sources {
    ($($name:literal)*) => {
        /// Their paths.
        pub(crate) const FILES: &[&str] = &[$(concat!("src/types/", $name, ".rs")),*];
        /// Their text.
        pub(crate) const TEXT: &str = concat!($(include_str!(concat!("../../src/types/", $name, ".rs"))),*);
    };
}

sources! { "mod" "told" "model" "layout" "outcome" "request" "host" "plugin" }
