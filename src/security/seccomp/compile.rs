//! From a profile to a program, through libseccomp. Pure, apart from its asking the kernel which actions it knows.

use std::ffi::CString;

use rustix::io::Errno;

use super::enosys;
use crate::error::{Context, Error, Result};
use crate::spec::seccomp::{Condition, Rule, Seccomp};
use crate::sys::seccomp::{self as library, INSTRUCTION, Rules};

/// bpf(4), `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;
/// From so many rules on a tree is worth it: it is passed through faster, also by the kernel when it loads the program and
/// looks which calls are always allowed. libseccomp is slower at making it, which happens once.
const MANY: usize = 32;

/// Compiles a profile.
///
/// # Errors
/// The rule that libseccomp refuses; a program that is too large for the kernel.
pub(super) fn compile(profile: &Seccomp) -> Result<Vec<u8>> {
    let step = || "config.json: linux.seccomp";
    let mut rules = Rules::new(profile.default_action)
        .context(|| "config.json: linux.seccomp.defaultAction")?;
    for &architecture in &profile.architectures {
        rules
            .add_architecture(architecture)
            .context(|| "config.json: linux.seccomp.architectures")?;
    }
    if profile.rules.len() > MANY {
        rules.optimize().context(step)?;
    }
    // libseccomp refuses rules that change nothing.
    let default = profile.default_action;
    for rule in profile.rules.iter().filter(|rule| rule.action != default) {
        add(&mut rules, rule).context(step)?;
    }
    let mut program = enosys::stub(profile);
    program.extend(
        rules
            .compile()
            .map_err(|e| too_large(Error::sys("compile", e)).step(step()))?,
    );
    match program.len() / INSTRUCTION {
        0..=MAX_INSTRUCTIONS => Ok(program),
        _ => Err(too_large(Error::sys("compile", Errno::TOOBIG)).step(step())),
    }
}

fn too_large(error: Error) -> Error {
    error.hint("the kernel takes filters of at most 4096 instructions: use fewer rules with args")
}

fn add(rules: &mut Rules, rule: &Rule) -> Result<()> {
    let name = CString::new(rule.name.as_str()).map_err(|e| Error::new(e.to_string()))?;
    let Some(number) = library::resolve(0, &name) else {
        log::debug!(
            "linux.seccomp: unknown system call {:?} is ignored",
            rule.name
        );
        return Ok(());
    };
    let conditions: Vec<_> = rule.conditions.iter().filter_map(condition).collect();
    // libseccomp takes one condition per argument; several are a rule each, any of which is enough, as in runc.
    let result = if shares_argument(&rule.conditions) {
        conditions
            .iter()
            .try_for_each(|one| rules.add_rule(rule.action, number, &[*one]))
    } else {
        rules.add_rule(rule.action, number, &conditions)
    };
    result.context(|| format!("rule for {}", rule.name))
}

fn shares_argument(conditions: &[Condition]) -> bool {
    let argument = |condition: &Condition| 1 << condition.argument;
    let distinct = conditions.iter().fold(0_u32, |all, c| all | argument(c));
    distinct.count_ones() as usize != conditions.len()
}

fn condition(condition: &Condition) -> Option<library::Condition> {
    use library::Comparison::*;
    let all = [
        SCMP_CMP_NE,
        SCMP_CMP_LT,
        SCMP_CMP_LE,
        SCMP_CMP_EQ,
        SCMP_CMP_GE,
        SCMP_CMP_GT,
        SCMP_CMP_MASKED_EQ,
    ];
    Some(library::Condition {
        arg: condition.argument,
        op: all
            .into_iter()
            .find(|op| *op as u32 == condition.comparison)?,
        datum_a: condition.value,
        datum_b: condition.value_two,
    })
}
