//! A valid configuration after some changes, to the plan. Unlike bytes, it gets past the parser nearly always.
#![no_main]

mod spec;

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::Spec;
use runp::{cgroup, container, error};
use serde_json::{Value, json};

use spec::mutation::{Change, NUMBERS, TEXTS, mutated, odd_values, starts};

fuzz_target!(|bytes: &[u8]| {
    let Ok(config) = configuration(&mut Unstructured::new(bytes)) else {
        return;
    };
    if let Ok(spec) = spec::load::parse::<Spec>(config.to_string().as_bytes())
        && let Some(plan) = spec::sound::plan(&spec)
    {
        spec::sound::assert_sound(&plan, &spec);
    }
});

fn configuration(from: &mut Unstructured<'_>) -> Result<Value> {
    let start = from.choose(&starts())?.clone();
    let mut changes = Vec::new();
    while !from.is_empty() && changes.len() < 16 {
        changes.push(Change {
            kind: from.arbitrary()?,
            at: from.arbitrary::<u16>()?.into(),
            from: from.arbitrary::<u16>()?.into(),
            value: value(from)?,
        });
    }
    Ok(mutated(start, changes))
}

fn value(from: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match from.int_in_range(0..=6)? {
        0 => json!(from.choose(&TEXTS)?),
        1 => json!(from.arbitrary::<String>()?),
        2 => json!(from.choose(&NUMBERS)?),
        3 => json!(from.arbitrary::<i64>()?),
        4 => json!(from.arbitrary::<bool>()?),
        5 => from.choose(&odd_values())?.clone(),
        // two texts with something between them: options, keys, paths
        _ => {
            let between = from.choose(&["=", ":", "/", ",", " "])?;
            json!(format!("{}{between}{}", from.choose(&TEXTS)?, from.arbitrary::<String>()?))
        }
    })
}
