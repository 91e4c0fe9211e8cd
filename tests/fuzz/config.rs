//! The bytes of a config.json, to the plan: no panic, and what comes out is sound.
#![no_main]

mod spec;

use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::Spec;
use runp::{cgroup, container, error};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(spec) = spec::load::parse::<Spec>(bytes)
        && let Some(plan) = spec::sound::plan(&spec)
    {
        spec::sound::assert_sound(&plan, &spec);
    }
});
