//! What holds for every configuration, however strange.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use oci_spec::runtime::Spec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::mutation::{Change, NUMBERS, TEXTS, everything, mutated, odd_values, starts};
use super::sound::{assert_sound, plan};
use super::{load, tables};

fn strange() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(TEXTS.to_vec()).prop_map(|text| json!(text)),
        ".{0,300}".prop_map(|text| json!(text)),
        prop::sample::select(NUMBERS.to_vec()).prop_map(|number| json!(number)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<u32>().prop_map(|number| json!(number)),
        any::<bool>().prop_map(|flag| json!(flag)),
        prop::sample::select(odd_values().to_vec()),
    ]
}

/// Replaces, removes, doubles or moves some values.
fn some_mutated() -> impl Strategy<Value = Value> {
    let start = prop::sample::select(starts().to_vec());
    let change = (0..4u8, any::<usize>(), any::<usize>(), strange());
    let change = change.prop_map(|(kind, at, from, value)| Change {
        kind,
        at,
        from,
        value,
    });
    (start, prop::collection::vec(change, 0..8))
        .prop_map(|(config, changes)| mutated(config, changes))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_configuration_panics_and_every_plan_is_sound(config in some_mutated()) {
        if let Ok(spec) = load::parse::<Spec>(config.to_string().as_bytes())
            && let Some(plan) = plan(&spec)
        {
            assert_sound(&plan, &spec);
        }
    }

    #[test]
    fn no_bytes_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in any::<prop::sample::Index>(),
        whole in any::<bool>(),
    ) {
        let mut bytes = everything().to_string().into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if !whole {
            bytes.truncate(end.index(bytes.len()));
        }
        if let Ok(spec) = load::parse::<Spec>(&bytes) && let Some(plan) = plan(&spec) {
            assert_sound(&plan, &spec);
        }
    }

    #[test]
    fn names_from_anywhere_do_not_panic(name in "\\PC{0,20}|(SIG)?RTM(IN|AX)[+-]?[0-9]{0,20}") {
        tables::signal(&name);
        tables::capability(&name);
    }
}

#[test]
fn the_property_tests_have_something_to_test() {
    for config in starts() {
        let spec = load::parse(config.to_string().as_bytes()).unwrap();
        let plan = plan(&spec).expect("the start of all mutations is valid");
        assert_sound(&plan, &spec);
    }
}
