//! regex-lite under regex's name: oci-spec looks at one field (`execCPUAffinity`) with an expression of a line, and regex, with
//! its tables and engines, is 400 KB of `runp` for that. See `[patch.crates-io]` in Cargo.toml.

pub use regex_lite::*;
