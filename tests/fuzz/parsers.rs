//! Texts that come from users, images and the kernel, to their parsers: no panic, and nothing of the host gets through.
#![no_main]

mod spec;

use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::Spec;
use runp::{cgroup, container, error};
use serde_json::json;

use spec::{sound, testing};

// The first byte says what the text is.
fuzz_target!(|bytes: &[u8]| {
    let Some((&which, bytes)) = bytes.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(bytes);
    match which % 8 {
        0 => drop(cgroup::Layout::from_mountinfo(&text)),
        1 => {
            if let Some(home) = runp::container::home_in(bytes, 1000) {
                assert!(!home.is_empty());
            }
        }
        2 => {
            if let Some(signal) = spec::tables::signal(&text) {
                assert!((0..=64).contains(&signal), "{text:?}: {signal}");
            }
            if let Some(capability) = spec::tables::capability(&text) {
                assert_eq!(capability.count_ones(), 1, "{text:?}");
            }
        }
        3 => name(&text),
        4 => planned("/mounts/0/options", json!(text.split(',').collect::<Vec<_>>())),
        5 => {
            let (key, value) = text.split_once('=').unwrap_or((&text, ""));
            planned("/linux/sysctl", json!({ key: value }));
        }
        6 => planned("/linux/resources/cpu", json!({"cpus": text, "mems": text})),
        _ => planned("/linux/cgroupsPath", json!(text)),
    }
});

/// A valid name is one harmless component of a path.
fn name(text: &str) {
    let harmless = |name: &str| {
        assert!(!matches!(name, "" | "." | ".."), "{name:?}");
        assert!(!name.contains(['/', '\0', '\n', '@']), "{name:?}");
    };
    if text.parse::<runp::state::ContainerId>().is_ok() {
        harmless(text);
    }
    if text.parse::<runp::pod::store::PodName>().is_ok() {
        harmless(text);
    }
}

fn planned(pointer: &str, value: serde_json::Value) {
    let config = testing::with(&[(pointer, value)]);
    let spec = spec::load::parse::<Spec>(config.to_string().as_bytes()).expect("the types are right");
    if let Some(plan) = sound::plan(&spec) {
        sound::assert_sound(&plan, &spec);
    }
}
