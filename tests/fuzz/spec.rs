//! runp's `spec`, and with it what its own tests use: what must hold for every plan, and changes to valid configurations.
#![allow(dead_code)] // each target uses a part

pub use runp::spec::*;

#[path = "../../src/spec/mutation.rs"]
pub mod mutation;
#[path = "../../src/spec/sound.rs"]
pub mod sound;
#[path = "../../src/spec/testing.rs"]
pub mod testing;
