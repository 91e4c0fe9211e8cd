//! A profile, to a filter: what the program decides about a call is what the profile says (a reference that knows nothing of
//! programs). Each system call has one rule in these profiles: what libseccomp makes of rules that contradict each other is
//! its own, and over some that share conditions it runs for ever (tests/container/hostile.rs).
#![no_main]

#[path = "../../src/security/seccomp/evaluate.rs"]
mod evaluate;

use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use runp::security::seccomp::Filter;
use runp::spec::seccomp::{Condition, Rule, Seccomp};

const X86_64: u32 = 0xc000_003e;
/// Some calls of x86-64, by number.
const CALLS: [(&str, u32); 8] = [
    ("read", 0),
    ("write", 1),
    ("ioctl", 16),
    ("socket", 41),
    ("clone", 56),
    ("personality", 135),
    ("openat", 257),
    ("clone3", 435),
];
/// KILL_THREAD, KILL_PROCESS, TRAP, ERRNO 1, ERRNO 38, TRACE, LOG, ALLOW.
const ACTIONS: [u32; 8] = [
    0,
    0x8000_0000,
    0x3_0000,
    0x5_0001,
    0x5_0026,
    0x7ff0_0001,
    0x7ffc_0000,
    0x7fff_0000,
];
const ENOSYS: u32 = 0x5_0026;

fuzz_target!(|bytes: &[u8]| {
    let _ = check(&mut Unstructured::new(bytes));
});

fn check(from: &mut Unstructured<'_>) -> Result<()> {
    let profile = profile(from)?;
    // Not `Filter::of`: libFuzzer has a thread of its own, and a process with threads cannot fork.
    let Ok(filter) = Filter::new(&profile) else {
        return Ok(());
    };
    let bytes = filter.to_bytes().expect("a filter");
    let end = bytes.iter().position(|&b| b == b'\n').expect("a line");
    let program = &bytes[end + 1..];
    for _ in 0..32 {
        let (_, number) = *from.choose(&CALLS)?;
        let number = if from.ratio(1, 8)? { from.int_in_range(0..=600)? } else { number };
        let mut args = [0; 6];
        for arg in &mut args {
            *arg = word(from, &profile)?;
        }
        assert_eq!(
            evaluate::decide(program, X86_64, number, &args),
            expected(&profile, number, &args),
            "call {number} with {args:x?} in {profile:?}"
        );
    }
    Ok(())
}

/// What the profile says about a call.
fn expected(profile: &Seccomp, number: u32, args: &[u64; 6]) -> u32 {
    let call = |name: &str| CALLS.iter().find(|(other, _)| *other == name).map(|(_, number)| *number);
    // Calls that are newer than all named get ENOSYS if they were not allowed: the documented guess of `enosys`.
    let newest = profile.rules.iter().filter_map(|rule| call(&rule.name)).max();
    let allows = matches!(profile.default_action & 0xffff_0000, 0x7ff0_0000 | 0x7ffc_0000 | 0x7fff_0000);
    if !allows && newest.is_some_and(|newest| number > newest) {
        return ENOSYS;
    }
    let holds = |c: &Condition| {
        let arg = args[c.argument as usize];
        match c.comparison {
            1 => arg != c.value,
            2 => arg < c.value,
            3 => arg <= c.value,
            4 => arg == c.value,
            5 => arg >= c.value,
            6 => arg > c.value,
            _ => arg & c.value == c.value_two,
        }
    };
    let rules = profile.rules.iter().filter(|rule| call(&rule.name) == Some(number));
    rules
        .filter(|rule| rule.conditions.iter().all(holds))
        .map(|rule| rule.action)
        .next()
        .unwrap_or(profile.default_action)
}

fn profile(from: &mut Unstructured<'_>) -> Result<Seccomp> {
    let default_action = *from.choose(&ACTIONS)?;
    let mut rules = Vec::new();
    for (name, _) in CALLS {
        let action = *from.choose(&ACTIONS)?;
        for _ in 0..from.int_in_range(0..=1)? {
            let mut conditions: Vec<Condition> = Vec::new();
            for _ in 0..from.int_in_range(0..=2)? {
                let argument = from.int_in_range(0..=5)?;
                if conditions.iter().all(|c| c.argument != argument) {
                    conditions.push(condition(from, argument)?);
                }
            }
            rules.push(Rule { name: name.into(), action, conditions });
        }
    }
    Ok(Seccomp { default_action, architectures: Vec::new(), flags: 0, rules, listener: None })
}

fn condition(from: &mut Unstructured<'_>, argument: u32) -> Result<Condition> {
    let comparison = from.int_in_range(1..=7)?;
    let value = number(from)?;
    // What is compared with a masked value has no bit beyond the mask: it could never be equal, which libseccomp refuses.
    let value_two = if comparison == 7 { number(from)? & value } else { 0 };
    Ok(Condition { argument, comparison, value, value_two })
}

/// Around the edges of 32 bits.
fn number(from: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match from.int_in_range(0..=3)? {
        0 => u64::from(u8::arbitrary(from)?),
        1 => u64::from(u8::arbitrary(from)?) << 32 | u64::from(u8::arbitrary(from)?),
        2 => u64::MAX - u64::from(u8::arbitrary(from)?),
        _ => u64::arbitrary(from)?,
    })
}

/// A value that a condition compares with, or one beside it.
fn word(from: &mut Unstructured<'_>, profile: &Seccomp) -> Result<u64> {
    let values: Vec<u64> = profile.rules.iter().flat_map(|r| &r.conditions).flat_map(|c| [c.value, c.value_two]).collect();
    if values.is_empty() || from.ratio(1, 4)? {
        return number(from);
    }
    Ok(from.choose(&values)?.wrapping_add_signed(from.int_in_range(-1..=1)?))
}
