//! What programs decide: by an interpreter, for any architecture, and by the kernel itself.
#![allow(clippy::unwrap_used)]

use rustix::io::Errno;
use serde_json::{Value, json};

use super::compile::compile;
use super::evaluate::decide;
use super::*;
use crate::spec::testing::planned;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0;
const X32_CALL: u32 = 1 << 30;

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = X86_64;
#[cfg(not(target_arch = "x86_64"))]
const NATIVE: u32 = 0xc000_00b7;

const fn errno(errno: i32) -> u32 {
    0x5_0000 | errno as u32
}

fn program(profile: Value) -> Vec<u8> {
    let plan = planned(&[("/linux/seccomp", profile)]);
    compile(&plan.seccomp.unwrap()).unwrap()
}

fn number(architecture: u32, name: &str) -> u32 {
    let name = std::ffi::CString::new(name).unwrap();
    kernel::resolve(architecture, &name).unwrap() as u32
}

#[test]
fn a_filter_survives_its_file_and_a_torn_one_is_refused() {
    let filter = Filter {
        program: vec![b'\n'; 16],
        settings: Settings {
            flags: 8,
            listener: Some(Listener {
                path: "/l\n".into(),
                metadata: Some("m\n".into()),
            }),
        },
    };
    let bytes = filter.to_bytes().unwrap();
    assert_eq!(Filter::from_bytes(&bytes), Ok(filter));
    for length in (0..bytes.len()).filter(|length| length + 8 != bytes.len()) {
        Filter::from_bytes(&bytes[..length]).unwrap_err();
    }
}

#[test]
fn every_comparison_compares_64_bits() {
    const BIG: u64 = 0x1_0000_0005;
    for (op, value, two, holds, fails) in [
        ("SCMP_CMP_EQ", BIG, 0, vec![BIG], vec![5, 4, BIG + 1]),
        ("SCMP_CMP_NE", BIG, 0, vec![5, BIG - 1], vec![BIG]),
        (
            "SCMP_CMP_LT",
            BIG,
            0,
            vec![5, 6, BIG - 1],
            vec![BIG, 0x2_0000_0000],
        ),
        ("SCMP_CMP_LE", BIG, 0, vec![7, BIG], vec![BIG + 1, u64::MAX]),
        (
            "SCMP_CMP_GT",
            BIG,
            0,
            vec![BIG + 1, 0x2_0000_0000],
            vec![BIG, 6, u64::from(u32::MAX)],
        ),
        (
            "SCMP_CMP_GE",
            BIG,
            0,
            vec![BIG, 0x2_0000_0000],
            vec![BIG - 1, 6],
        ),
        (
            "SCMP_CMP_MASKED_EQ",
            0xff_0000_00ff,
            BIG,
            vec![BIG, 0xa1_0000_0005 & !0xa0_0000_0000, 0x1_ffff_ff05],
            vec![5, 0x1_0000_0006, 0x2_0000_0005],
        ),
    ] {
        let rule = json!({"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": 9,
            "args": [{"index": 1, "value": value, "valueTwo": two, "op": op}]});
        let program = program(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}));
        let lseek = number(NATIVE, "lseek");
        for argument in holds {
            assert_eq!(
                decide(&program, NATIVE, lseek, &[0, argument]),
                errno(9),
                "{op} {argument:#x}"
            );
        }
        for argument in fails {
            assert_eq!(
                decide(&program, NATIVE, lseek, &[0, argument]),
                ALLOW,
                "{op} {argument:#x}"
            );
        }
    }
}

/// GHSA-4q85-33p6-j5g6: rules that compare the same argument with different values, merged wrongly, allowed too much.
#[test]
fn many_comparisons_of_one_argument_stay_apart() {
    let large = [
        0x1_0000_0000_u64,
        0x2_0000_0000,
        0x1_0000_0007,
        7,
        0x7_0000_0001,
    ];
    // see refuse_wrong_merges
    let small = [3, 7, 0x1000, 0x8000_0000, u64::from(u32::MAX)];
    for (op, holds, values) in [
        (
            "SCMP_CMP_EQ",
            (|a, b| a == b) as fn(u64, u64) -> bool,
            large,
        ),
        ("SCMP_CMP_NE", |a, b| a != b, large),
        ("SCMP_CMP_GT", |a, b| a > b, large),
        ("SCMP_CMP_GE", |a, b| a >= b, large),
        ("SCMP_CMP_LT", |a, b| a < b, small),
        ("SCMP_CMP_LE", |a, b| a <= b, small),
    ] {
        for several in [
            &values[..1],
            &values[..2],
            &values[1..3],
            &values[..4],
            &values[2..],
        ] {
            let rule = |value: &u64| {
                json!({"names": ["lseek"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 1, "value": value, "op": op}]})
            };
            let rules: Vec<Value> = several.iter().map(rule).collect();
            let program = program(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}));
            for argument in
                values
                    .iter()
                    .flat_map(|v| [v - 1, *v, v + 1])
                    .chain([0, u64::MAX, 0x1_0000_0005])
            {
                let allowed = several.iter().any(|value| holds(argument, *value));
                let wanted = if allowed { ALLOW } else { errno(1) };
                let decided = decide(&program, NATIVE, number(NATIVE, "lseek"), &[0, argument]);
                assert_eq!(decided, wanted, "{op} {several:x?} {argument:#x}");
            }
        }
    }
}

#[test]
fn two_conditions_on_one_argument_are_two_rules() {
    let condition = |value, index| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let rule = json!({"names": ["lseek", "no_such_call"], "action": "SCMP_ACT_ALLOW",
        "args": [condition(1, 0), condition(2, 0)]});
    let either = program(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}));
    let lseek = number(NATIVE, "lseek");
    let allowed = |program: &[u8], args: &[u64]| decide(program, NATIVE, lseek, args) == ALLOW;
    assert!(allowed(&either, &[1]) && allowed(&either, &[2]) && !allowed(&either, &[3]));
    let rule = json!({"names": ["lseek"], "action": "SCMP_ACT_ALLOW",
        "args": [condition(1, 0), condition(2, 1)]});
    let both = program(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}));
    assert!(allowed(&both, &[1, 2]) && !allowed(&both, &[1, 1]) && !allowed(&both, &[2, 2]));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn calls_newer_than_the_profile_are_unknown_in_each_architecture() {
    let x32 = 0x4000_003e;
    let with = |default: &str, architectures: Value| {
        program(
            json!({"defaultAction": default, "architectures": architectures, "syscalls": [
            {"names": ["read", "memfd_create", "fadvise64_64"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["statx"], "action": "SCMP_ACT_ERRNO"}]}),
        )
    };
    let all = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    let program = with("SCMP_ACT_ERRNO", all);
    for (architecture, token) in [(X86_64, X86_64), (I386, I386), (x32, X86_64)] {
        let of = |name| decide(&program, token, number(architecture, name), &[]);
        assert_eq!(of("read"), ALLOW);
        assert_eq!(of("memfd_create"), ALLOW);
        assert_eq!(of("getcwd"), errno(libc::EPERM), "older, and not named");
        assert_eq!(
            of("statx"),
            errno(libc::EPERM),
            "named, with what is done by default"
        );
        assert_eq!(of("openat2"), errno(libc::ENOSYS), "newer");
    }
    let native = with("SCMP_ACT_KILL", json!([]));
    assert_eq!(
        decide(&native, X86_64, number(X86_64, "openat2"), &[]),
        errno(libc::ENOSYS)
    );
    // What is not listed is not let in by this.
    assert_eq!(decide(&native, I386, number(I386, "openat2"), &[]), KILL);
    assert_eq!(
        decide(&native, X86_64, number(X86_64, "openat2") | X32_CALL, &[]),
        KILL
    );
    for default in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"] {
        let program = with(default, json!([]));
        let decided = decide(&program, X86_64, number(X86_64, "openat2"), &[]);
        assert_ne!(decided, errno(libc::ENOSYS), "{default}");
    }
}

#[test]
fn a_program_that_is_too_large_is_refused_and_breaks_nothing() {
    let rule = |value: u64| {
        json!({"names": ["lseek"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 1, "value": value << 20, "op": "SCMP_CMP_EQ"},
                 {"index": 2, "value": value, "op": "SCMP_CMP_EQ"}]})
    };
    let rules: Vec<Value> = (0..3000).map(rule).collect();
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules});
    let plan = planned(&[("/linux/seccomp", profile)]);
    let error = compile(&plan.seccomp.unwrap()).unwrap_err().to_string();
    assert!(error.contains("4096 instructions"), "{error}");
}

/// The kernel takes the program, and does what it says to the thread that loads it.
#[test]
fn the_kernel_agrees() {
    let rules = json!([
        {"names": ["read", "write", "close", "mmap", "munmap", "mprotect", "madvise", "brk", "futex", "exit",
            "exit_group", "rt_sigprocmask", "sigaltstack", "sched_yield", "getrandom", "tgkill", "gettid"],
            "action": "SCMP_ACT_ALLOW"},
        {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]);
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules});
    let plan = planned(&[("/linux/seccomp", profile)]);
    let filter = Filter::new(&plan.seccomp.unwrap()).unwrap();
    let seen = std::thread::spawn(move || {
        let before = rustix::process::getcwd(Vec::new()).is_ok();
        rustix::thread::set_no_new_privs(true).unwrap();
        let listener = filter.load().unwrap();
        assert!(before && listener.is_none());
        (
            rustix::process::getcwd(Vec::new()).err(),
            rustix::process::getpriority_process(None).err(),
            rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).err(),
        )
    });
    let (older, named, newer) = seen.join().unwrap();
    assert_eq!(older, Some(Errno::PERM));
    assert_eq!(named.map(Errno::raw_os_error), Some(77));
    assert_eq!(newer, Some(Errno::NOSYS));
}
