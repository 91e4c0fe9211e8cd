//! `linux.personality` and `linux.memoryPolicy`: they hold for every process of the container, an exec too.

use oci_spec::runtime as oci;
use oci_spec::runtime::{MemoryPolicyFlagType as Flag, MemoryPolicyModeType as Mode};

use super::field::Field;
use super::plan::Execution;
use super::scheduling::plan_list;
use crate::sys::scheduling::MemoryPolicy;

/// As many nodes as the kernel is ever built for (`CONFIG_NODES_SHIFT` 10).
const MAX_NODES: u32 = 1024;

/// What `features` lists.
pub(super) const MODES: [&str; 7] = [
    "MPOL_BIND",
    "MPOL_DEFAULT",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];
/// What `features` lists.
pub(super) const FLAGS: [&str; 3] = [
    "MPOL_F_NUMA_BALANCING",
    "MPOL_F_RELATIVE_NODES",
    "MPOL_F_STATIC_NODES",
];

/// Plans both; `field` is `linux`.
pub(super) fn plan_execution(linux: Option<&oci::Linux>, field: &mut Field<'_>) -> Execution {
    let Some(linux) = linux else {
        return Execution::default();
    };
    let (personality, policy) = (linux.personality(), linux.memory_policy());
    Execution {
        personality: personality
            .as_ref()
            .map(|personality| plan_personality(personality, &mut field.at("personality"))),
        memory_policy: policy
            .as_ref()
            .map(|policy| plan_memory_policy(policy, &mut field.at("memoryPolicy"))),
    }
}

/// personality(2).
fn plan_personality(personality: &oci::LinuxPersonality, field: &mut Field<'_>) -> u32 {
    if personality
        .flags()
        .as_ref()
        .is_some_and(|flags| !flags.is_empty())
    {
        field
            .at("flags")
            .refuse_and_hint("are not known", "the runtime-spec defines none");
    }
    match personality.domain() {
        oci::LinuxPersonalityDomain::PerLinux => 0,
        oci::LinuxPersonalityDomain::PerLinux32 => 8,
    }
}

fn plan_memory_policy(policy: &oci::LinuxMemoryPolicy, field: &mut Field<'_>) -> MemoryPolicy {
    let mode = match policy.mode() {
        Mode::MpolDefault => 0,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    };
    let flags = policy.flags().iter().flatten().fold(0, |flags, flag| {
        flags
            | match flag {
                Flag::MpolFNumaBalancing => 1 << 13,
                Flag::MpolFRelativeNodes => 1 << 14,
                Flag::MpolFStaticNodes => 1 << 15,
            }
    });
    let list = policy.nodes().as_deref().unwrap_or_default();
    let takes_nodes = !matches!(policy.mode(), Mode::MpolDefault | Mode::MpolLocal);
    let nodes = &mut field.at("nodes");
    match (takes_nodes, list) {
        (false, "") => {}
        (false, _) => nodes.refuse(format_args!("{} takes none", policy.mode())),
        // set_mempolicy(2): preferred without nodes is local
        (true, "") if policy.mode() == Mode::MpolPreferred => {}
        (true, "") => nodes.refuse_and_hint(
            format_args!("{} needs some", policy.mode()),
            "for example 0-1",
        ),
        (true, _) => {}
    }
    let numbers = match takes_nodes && !list.is_empty() {
        true => plan_list(list, MAX_NODES, nodes),
        false => Vec::new(),
    };
    let last = numbers.iter().max();
    let mut words = vec![0_u64; last.map_or(0, |last| *last as usize / 64 + 1)];
    for number in numbers {
        words[number as usize / 64] |= 1 << (number % 64);
    }
    MemoryPolicy {
        mode: mode | flags,
        nodes: words,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::testing::{assert_refused, planned};

    #[test]
    fn in_the_kernels_numbers() {
        assert_eq!(planned(&[]).execution, Execution::default());
        let execution = planned(&[
            ("/linux/personality", json!({"domain": "LINUX32"})),
            (
                "/linux/memoryPolicy",
                json!({"mode": "MPOL_INTERLEAVE", "nodes": "0-1,65", "flags": ["MPOL_F_STATIC_NODES"]}),
            ),
        ])
        .execution;
        assert_eq!(execution.personality, Some(8));
        let policy = MemoryPolicy {
            mode: 3 | 1 << 15,
            nodes: vec![3, 2],
        };
        assert_eq!(execution.memory_policy, Some(policy));
    }

    #[test]
    fn every_name_that_is_listed_is_known() {
        for mode in MODES {
            let nodes = match mode {
                "MPOL_DEFAULT" | "MPOL_LOCAL" => "",
                _ => "0",
            };
            let policy = json!({"mode": mode, "nodes": nodes, "flags": FLAGS});
            planned(&[("/linux/memoryPolicy", policy)]);
        }
    }

    #[test]
    fn refused() {
        assert_refused(&[
            (
                "/linux/personality",
                json!({"domain": "LINUX", "flags": ["X"]}),
                "linux.personality.flags: are not known (the runtime-spec defines none)",
            ),
            (
                "/linux/memoryPolicy",
                json!({"mode": "MPOL_BIND"}),
                "linux.memoryPolicy.nodes: MPOL_BIND needs some (for example 0-1)",
            ),
            (
                "/linux/memoryPolicy",
                json!({"mode": "MPOL_LOCAL", "nodes": "0"}),
                "linux.memoryPolicy.nodes: MPOL_LOCAL takes none",
            ),
            (
                "/linux/memoryPolicy",
                json!({"mode": "MPOL_BIND", "nodes": "x"}),
                "linux.memoryPolicy.nodes: \"x\" is no list of numbers below 1024 (for example 0-3,7)",
            ),
        ]);
    }
}
