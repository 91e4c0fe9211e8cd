//! `linux.seccomp`: which system calls are allowed, checked and in the kernel's numbers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime as oci;
use oci_spec::runtime::{
    LinuxSeccompAction as Action, LinuxSeccompFilterFlag as Flag, LinuxSeccompOperator as Operator,
};
use serde::{Deserialize, Serialize};

use super::field::Field;

/// seccomp(2): `SECCOMP_FILTER_FLAG_LOG`, `SECCOMP_FILTER_FLAG_SPEC_ALLOW`, `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`.
const LOG: u32 = 1 << 1;
const SPEC_ALLOW: u32 = 1 << 2;
const WAIT_KILLABLE_RECV: u32 = 1 << 5;
/// The largest errno that the kernel returns from a system call; above, it is not seen as an error.
const MAX_ERRNO: u32 = 4095;
/// A system call has at most six arguments.
const ARGUMENTS: usize = 6;
/// The call with which the container's first process hands the listener over: nobody could answer for it yet.
const HANDS_OVER: &str = "sendmsg";

/// A profile of system calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seccomp {
    /// `SECCOMP_RET_*` with its data, for calls that no rule is about.
    pub default_action: u32,
    /// `SCMP_ARCH_*` beside the machine's own.
    pub architectures: Vec<u32>,
    /// `SECCOMP_FILTER_FLAG_*` of seccomp(2).
    pub flags: u32,
    /// In the order of config.json.
    pub rules: Vec<Rule>,
    /// Who is asked about calls with `SCMP_ACT_NOTIFY`; there if any rule has that.
    #[serde(skip)]
    pub listener: Option<Listener>,
}

/// What is done about a system call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// As in syscalls(2). A name that libseccomp does not know is passed over, as in runc.
    pub name: String,
    /// `SECCOMP_RET_*` with its data.
    pub action: u32,
    /// All must hold.
    pub conditions: Vec<Condition>,
}

/// A comparison of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// 0 to 5.
    pub argument: u32,
    /// `SCMP_CMP_*`.
    pub comparison: u32,
    /// What it is compared with; for `SCMP_CMP_MASKED_EQ` the mask.
    pub value: u64,
    /// For `SCMP_CMP_MASKED_EQ` what the rest is compared with.
    pub value_two: u64,
}

/// A process outside the container that decides about system calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The Unix stream socket that it listens on.
    pub path: PathBuf,
    /// `listenerMetadata`, handed on as it is.
    pub metadata: Option<String>,
}

/// What `features` lists: the actions, by their names in config.json.
pub const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
/// What `features` lists: the comparisons.
pub const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];
/// What `features` lists: the architectures. Those that this machine cannot execute need no filter.
pub const ARCHITECTURES: [&str; 23] = [
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];
/// What `features` lists: the flags. `TSYNC` has no effect, as the container's first process has one thread.
pub const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// Plans a profile; `field` is `linux.seccomp`.
pub(super) fn plan_seccomp(seccomp: &oci::LinuxSeccomp, field: &mut Field<'_>) -> Seccomp {
    let default_action = plan_action(
        seccomp.default_action(),
        seccomp.default_errno_ret(),
        &mut field.at("defaultErrnoRet"),
    );
    if seccomp.default_action() == Action::ScmpActNotify {
        field.at("defaultAction").refuse_and_hint(
            "SCMP_ACT_NOTIFY cannot be the default",
            format!("{HANDS_OVER} must work without being asked about"),
        );
    }
    let mut rules = Vec::new();
    let mut notifies = false;
    let syscalls = seccomp.syscalls().as_deref().unwrap_or_default();
    for (index, syscall) in syscalls.iter().enumerate() {
        notifies |= syscall.action() == Action::ScmpActNotify;
        let mut field = field.at("syscalls");
        plan_rules(syscall, &mut field.item(index), &mut rules);
    }
    refuse_wrong_merges(syscalls, &mut field.at("syscalls"));
    let listener = plan_listener(seccomp, notifies, field);
    Seccomp {
        default_action,
        architectures: plan_architectures(seccomp),
        flags: plan_flags(seccomp, notifies),
        rules,
        listener,
    }
}

/// `SECCOMP_RET_*`, with the errno of those that have one: EPERM unless it says otherwise.
fn plan_action(action: Action, errno: Option<u32>, field: &mut Field<'_>) -> u32 {
    let max = match action {
        Action::ScmpActErrno => MAX_ERRNO,
        Action::ScmpActTrace => u16::MAX.into(),
        _ => 0,
    };
    match errno {
        Some(_) if max == 0 => field.refuse(format_args!("{action} has none")),
        Some(errno) if errno > max => field.refuse(format_args!("{errno} is more than {max}")),
        _ => {}
    }
    action.as_u32(errno)
}

fn plan_rules(syscall: &oci::LinuxSyscall, field: &mut Field<'_>, rules: &mut Vec<Rule>) {
    let action = plan_action(
        syscall.action(),
        syscall.errno_ret(),
        &mut field.at("errnoRet"),
    );
    let arguments = syscall.args().as_deref().unwrap_or_default();
    let conditions: Vec<Condition> = arguments
        .iter()
        .enumerate()
        .map(|(index, argument)| plan_condition(argument, &mut field.at("args").item(index)))
        .collect();
    for (index, name) in syscall.names().iter().enumerate() {
        let mut field = field.at("names");
        let mut field = field.item(index);
        field.c_string(name);
        if name.is_empty() {
            field.refuse_and_hint("is empty", "the name of a system call");
        }
        if syscall.action() == Action::ScmpActNotify && name == HANDS_OVER {
            field.refuse_and_hint(
                format_args!("SCMP_ACT_NOTIFY cannot be used for {HANDS_OVER}"),
                "the container's first process hands the listener over with it",
            );
        }
        rules.push(Rule {
            name: name.clone(),
            action,
            conditions: conditions.clone(),
        });
    }
}

fn plan_condition(argument: &oci::LinuxSeccompArg, field: &mut Field<'_>) -> Condition {
    let index = argument.index();
    if index >= ARGUMENTS {
        field.at("index").refuse_and_hint(
            format_args!("{index} is no argument"),
            "a system call has at most six, from 0 to 5",
        );
    }
    Condition {
        argument: u32::try_from(index).unwrap_or(0),
        comparison: argument.op() as u32,
        value: argument.value(),
        value_two: argument.value_two().unwrap_or(0),
    }
}

/// libseccomp, 2.6.1 too, merges several rules of one call wrongly if one of them asks whether an argument is less than a
/// number above 32 bits: the program then lets through, or refuses, what no rule says. (Found by comparing all pairs of
/// comparisons with what they mean; smaller numbers and the other comparisons are right.)
fn refuse_wrong_merges(syscalls: &[oci::LinuxSyscall], field: &mut Field<'_>) {
    let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
    for syscall in syscalls {
        let conditions = syscall.args().as_ref().map_or(0, Vec::len);
        for name in syscall.names() {
            *rules.entry(name).or_default() += conditions;
        }
    }
    for (index, syscall) in syscalls.iter().enumerate() {
        let arguments = syscall.args().iter().flatten().enumerate();
        let is_less = |op| matches!(op, Operator::ScmpCmpLt | Operator::ScmpCmpLe);
        let merged = syscall.names().iter().find(|name| rules[name.as_str()] > 1);
        let Some(name) = merged else { continue };
        for (at, argument) in arguments {
            if is_less(argument.op()) && u32::try_from(argument.value()).is_err() {
                let mut field = field.item(index);
                let mut field = field.at("args");
                field.item(at).at("value").refuse_and_hint(
                    format_args!(
                        "{} {} cannot be combined with another comparison for {name}",
                        argument.op(),
                        argument.value()
                    ),
                    "libseccomp compiles that wrongly: use SCMP_CMP_GE with the opposite action, or a number of 32 bits",
                );
            }
        }
    }
}

/// Those that this machine can execute, apart from its own, which is always there.
fn plan_architectures(seccomp: &oci::LinuxSeccomp) -> Vec<u32> {
    use oci::Arch::*;
    let foreign: &[oci::Arch] = if cfg!(target_arch = "x86_64") {
        &[ScmpArchX86, ScmpArchX32]
    } else {
        &[ScmpArchArm]
    };
    let asked = seccomp.architectures().as_deref().unwrap_or_default();
    let asked = foreign.iter().filter(|arch| asked.contains(arch));
    asked.map(|&arch| arch as u32).collect()
}

fn plan_flags(seccomp: &oci::LinuxSeccomp, notifies: bool) -> u32 {
    let Some(flags) = seccomp.flags() else {
        // As runc: without a list of flags, not even an empty one, the filter costs no speculation.
        return SPEC_ALLOW;
    };
    flags.iter().fold(0, |flags, flag| {
        flags
            | match flag {
                Flag::SeccompFilterFlagLog => LOG,
                Flag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
                Flag::SeccompFilterFlagTsync => 0,
                // The kernel refuses it without a listener (EINVAL).
                Flag::SeccompFilterFlagWaitKillableRecv if notifies => WAIT_KILLABLE_RECV,
                Flag::SeccompFilterFlagWaitKillableRecv => 0,
            }
    })
}

fn plan_listener(
    seccomp: &oci::LinuxSeccomp,
    notifies: bool,
    field: &mut Field<'_>,
) -> Option<Listener> {
    let path = seccomp.listener_path().as_ref();
    let path = path.filter(|path| !path.as_os_str().is_empty());
    let metadata = seccomp.listener_metadata().clone();
    let Some(path) = path else {
        if notifies {
            field.at("listenerPath").refuse_and_hint(
                "is missing",
                "SCMP_ACT_NOTIFY needs the socket of who decides",
            );
        }
        if metadata.is_some_and(|metadata| !metadata.is_empty()) {
            field
                .at("listenerMetadata")
                .refuse("is for a listener, and there is no listenerPath");
        }
        return None;
    };
    let field = &mut field.at("listenerPath");
    let path = field.absolute(path);
    notifies.then_some(Listener { path, metadata })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::testing::{assert_refused, planned, refusals};

    fn profile(seccomp: Value) -> Seccomp {
        let plan = planned(&[("/linux/seccomp", seccomp)]);
        plan.seccomp.unwrap_or_else(|| panic!("no profile"))
    }

    #[test]
    fn actions_have_the_kernels_numbers_and_their_errno() {
        let syscall = |name: &str, action: &str| json!({"names": [name], "action": action});
        let profile = profile(json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [
                syscall("a", "SCMP_ACT_KILL"), syscall("b", "SCMP_ACT_KILL_THREAD"),
                syscall("c", "SCMP_ACT_KILL_PROCESS"), syscall("d", "SCMP_ACT_TRAP"),
                syscall("e", "SCMP_ACT_TRACE"), syscall("f", "SCMP_ACT_LOG"),
                syscall("g", "SCMP_ACT_ALLOW"),
                {"names": ["h"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                {"names": ["i"], "action": "SCMP_ACT_TRACE", "errnoRet": 7},
            ],
        }));
        assert_eq!(profile.default_action, 0x5_0001);
        let actions: Vec<u32> = profile.rules.iter().map(|rule| rule.action).collect();
        assert_eq!(
            actions,
            [
                0,
                0,
                0x8000_0000,
                0x3_0000,
                0x7ff0_0001,
                0x7ffc_0000,
                0x7fff_0000,
                0x5_0026,
                0x7ff0_0007
            ]
        );
    }

    #[test]
    fn flags() {
        let with = |flags: Value| {
            profile(json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags})).flags
        };
        assert_eq!(with(Value::Null), SPEC_ALLOW);
        assert_eq!(with(json!([])), 0);
        assert_eq!(with(json!(FLAGS)), LOG | SPEC_ALLOW);
        let notify = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": FLAGS, "listenerPath": "/l",
            "syscalls": [{"names": ["chdir"], "action": "SCMP_ACT_NOTIFY"}]});
        assert_eq!(profile(notify).flags, LOG | SPEC_ALLOW | WAIT_KILLABLE_RECV);
    }

    #[test]
    fn every_name_that_is_listed_is_known() {
        for action in ACTIONS {
            let errno = json!({"names": ["a"], "action": action});
            profile(
                json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [errno],
                "listenerPath": "/l"}),
            );
        }
        for op in OPERATORS {
            let argument = json!({"index": 5, "value": u64::MAX, "valueTwo": 1, "op": op});
            let syscall = json!({"names": ["a"], "action": "SCMP_ACT_LOG", "args": [argument]});
            let rules =
                profile(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [syscall]})).rules;
            assert_eq!(rules[0].conditions[0].argument, 5);
            assert_eq!(rules[0].conditions[0].value_two, 1);
        }
        let all =
            profile(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ARCHITECTURES}));
        if cfg!(target_arch = "x86_64") {
            assert_eq!(all.architectures, [0x4000_0003, 0x4000_003e]);
        }
    }

    #[test]
    fn a_listener_is_there_if_it_is_asked() {
        let silent = profile(json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/l"}));
        assert_eq!(silent.listener, None);
        let asked = profile(
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/a/../l",
            "listenerMetadata": "m", "syscalls": [{"names": ["chdir"], "action": "SCMP_ACT_NOTIFY"}]}),
        );
        assert_eq!(
            asked.listener,
            Some(Listener {
                path: "/l".into(),
                metadata: Some("m".into())
            })
        );
    }

    #[test]
    fn refused() {
        let with = |rest: Value| {
            let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW"});
            for (key, value) in rest.as_object().into_iter().flatten() {
                profile[key] = value.clone();
            }
            profile
        };
        let one = |syscall: Value| with(json!({"syscalls": [syscall]}));
        for (profile, message) in [
            (
                with(json!({"defaultErrnoRet": 1})),
                "defaultErrnoRet: SCMP_ACT_ALLOW has none",
            ),
            (
                with(json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/l"})),
                "defaultAction: SCMP_ACT_NOTIFY cannot be the default (sendmsg must work without being asked about)",
            ),
            (
                one(json!({"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096})),
                "syscalls[0].errnoRet: 4096 is more than 4095",
            ),
            (
                one(json!({"names": ["a"], "action": "SCMP_ACT_KILL", "errnoRet": 1})),
                "syscalls[0].errnoRet: SCMP_ACT_KILL has none",
            ),
            (
                one(json!({"names": ["a", ""], "action": "SCMP_ACT_KILL"})),
                "syscalls[0].names[1]: is empty (the name of a system call)",
            ),
            (
                one(json!({"names": ["a\0"], "action": "SCMP_ACT_KILL"})),
                "syscalls[0].names[0]: \"a\\0\" contains a NUL byte",
            ),
            (
                one(json!({"names": ["a"], "action": "SCMP_ACT_KILL",
                    "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]})),
                "syscalls[0].args[0].index: 6 is no argument (a system call has at most six, from 0 to 5)",
            ),
            (
                one(json!({"names": ["a"], "action": "SCMP_ACT_NOTIFY"})),
                "listenerPath: is missing (SCMP_ACT_NOTIFY needs the socket of who decides)",
            ),
            (
                with(
                    json!({"listenerPath": "/l", "syscalls": [{"names": ["sendmsg"], "action": "SCMP_ACT_NOTIFY"}]}),
                ),
                "syscalls[0].names[0]: SCMP_ACT_NOTIFY cannot be used for sendmsg (the container's first process hands \
                 the listener over with it)",
            ),
            (
                with(json!({"listenerMetadata": "m"})),
                "listenerMetadata: is for a listener, and there is no listenerPath",
            ),
            (
                with(json!({"listenerPath": "l"})),
                "listenerPath: \"l\" is not an absolute path",
            ),
        ] {
            let message = format!("linux.seccomp.{message}");
            assert_refused(&[("/linux/seccomp", profile, &message)]);
        }
        let less = |name: &str, value: u64| {
            json!({"names": [name], "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": value, "op": "SCMP_CMP_LE"}]})
        };
        let hint = "(libseccomp compiles that wrongly: use SCMP_CMP_GE with the opposite action, or a number of 32 bits)";
        let two = with(json!({"syscalls": [less("a", 1), less("b", 1 << 32), less("a", 1 << 32)]}));
        let message = format!(
            "linux.seccomp.syscalls[2].args[0].value: SCMP_CMP_LE 4294967296 cannot be combined with another comparison \
             for a {hint}"
        );
        assert_refused(&[("/linux/seccomp", two, &message)]);
        let nothing = refusals(&[("/linux/seccomp", with(json!({})))]);
        assert!(nothing.is_empty(), "{nothing:?}");
    }
}
