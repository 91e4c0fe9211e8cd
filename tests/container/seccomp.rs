//! Filters of system calls.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixListener;
use std::{fs, thread};

use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};
use serde_json::{Value, json};

use crate::support::{Bundle, Case, process};

/// Everything is allowed but what the rules say.
fn allowing_but(rules: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
}

/// mkdir, in whichever way the C library makes it.
fn mkdir(action: &str) -> Value {
    json!({"names": ["mkdir", "mkdirat"], "action": action})
}

fn bundle<'a>(case: &'a Case, name: &str, profile: Value) -> Bundle<'a> {
    case.bundle(name).with("/linux/seccomp", profile)
}

#[test]
fn each_action_does_what_it_says() {
    let Some(case) = Case::new(&[]) else { return };
    let script = "( mkdir /dev/shm/a ) 2>&1; echo $?";
    for (action, seen) in [
        ("SCMP_ACT_ALLOW", "0\n"),
        ("SCMP_ACT_LOG", "0\n"),
        ("SCMP_ACT_ERRNO", "Operation not permitted\n1\n"),
        // without a tracer there is no such call
        ("SCMP_ACT_TRACE", "Function not implemented\n1\n"),
        ("SCMP_ACT_TRAP", "159\n"),
        ("SCMP_ACT_KILL", "159\n"),
        ("SCMP_ACT_KILL_THREAD", "159\n"),
        ("SCMP_ACT_KILL_PROCESS", "159\n"),
    ] {
        let default = match action {
            "SCMP_ACT_ALLOW" => "SCMP_ACT_LOG", // a rule that does what is done anyway would be none
            _ => "SCMP_ACT_ALLOW",
        };
        let profile = json!({"defaultAction": default, "syscalls": [mkdir(action)]});
        let c = bundle(&case, &action.to_lowercase(), profile).sh(script);
        let out = c.prints();
        assert!(out.ends_with(seen), "{action}: {out}");
    }
}

#[test]
fn errors_are_the_ones_asked_for_and_by_default_eperm() {
    let Some(case) = Case::new(&[]) else { return };
    let mut rule = mkdir("SCMP_ACT_ERRNO");
    rule["errnoRet"] = json!(28);
    let c = bundle(&case, "rule", allowing_but(json!([rule])));
    let out = c.sh("mkdir /dev/shm/a 2>&1").run().stdout;
    assert!(out.contains("No space left"), "{out}");

    // What is needed to get as far as mkdir is more than a list here should know: all that busybox has besides.
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 71, "syscalls": [
        {"names": everything_but_mkdir(), "action": "SCMP_ACT_ALLOW"}]});
    let c = bundle(&case, "default", profile);
    let out = c.sh("mkdir /dev/shm/a 2>&1").run().stdout;
    assert!(out.contains("Protocol error"), "{out}");
}

fn everything_but_mkdir() -> Vec<&'static str> {
    "accept4 access arch_prctl brk capget capset chdir clone clone3 close close_range dup dup2 dup3 execve execveat exit
     exit_group faccessat faccessat2 fchdir fchown fcntl fstat fstatfs futex getcwd getdents64 getegid geteuid getgid
     getgroups getpgrp getpid getppid getrandom getrlimit gettid getuid ioctl listxattr lseek lstat memfd_create mmap mprotect
     mremap munmap newfstatat open openat openat2 pipe pipe2 poll ppoll prctl pread64 prlimit64 read readlink
     readlinkat recvmsg rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield sendmsg sendto
     set_robust_list set_tid_address setgid setgroups setresgid setresuid setsid setuid sigaltstack stat statfs statx
     tgkill umask uname unshare vfork wait4 waitid write writev epoll_create1 epoll_ctl epoll_pwait eventfd2 nanosleep
     clock_nanosleep madvise sysinfo getsid recvfrom pidfd_open pidfd_send_signal rt_sigreturn restart_syscall"
        .split_whitespace()
        .collect()
}

#[test]
fn arguments_are_compared() {
    let Some(case) = Case::new(&[]) else { return };
    // The shell's kill(2), of a process that is not there: ESRCH where it is allowed.
    let refused = |name: &str, args: Value| -> Vec<u32> {
        let rule =
            json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": args});
        let c = bundle(&case, name, allowing_but(json!([rule])));
        let c = c.sh("for s in 1 2 3 4 5 10; do kill -$s 4242 2>&1; done");
        let done = c.run();
        let lines = done.stdout.lines().zip([1, 2, 3, 4, 5, 10]);
        lines
            .filter(|(line, _)| line.contains("not permitted"))
            .map(|(_, signal)| signal)
            .collect()
    };
    let is = |op: &str, value: u64| json!([{"index": 1, "value": value, "op": op}]);
    assert_eq!(refused("eq", is("SCMP_CMP_EQ", 3)), [3]);
    assert_eq!(refused("ne", is("SCMP_CMP_NE", 3)), [1, 2, 4, 5, 10]);
    assert_eq!(refused("lt", is("SCMP_CMP_LT", 3)), [1, 2]);
    assert_eq!(refused("le", is("SCMP_CMP_LE", 3)), [1, 2, 3]);
    assert_eq!(refused("gt", is("SCMP_CMP_GT", 3)), [4, 5, 10]);
    assert_eq!(refused("ge", is("SCMP_CMP_GE", 3)), [3, 4, 5, 10]);
    let masked = json!([{"index": 1, "value": 2, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]);
    assert_eq!(refused("masked", masked), [2, 3, 10]);
    let both = json!([{"index": 0, "value": 4242, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 4, "op": "SCMP_CMP_GE"}]);
    assert_eq!(refused("both", both), [4, 5, 10]);
    let either = json!([{"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}]);
    assert_eq!(refused("either", either), [1, 5]);
}

#[test]
fn a_filter_is_there_with_and_without_no_new_privileges_for_every_user() {
    let Some(case) = Case::new(&[]) else { return };
    let profile = allowing_but(json!([mkdir("SCMP_ACT_ERRNO")]));
    for nnp in [true, false] {
        for uid in [0, 1000] {
            let name = format!("c{nnp}{uid}");
            let c = bundle(&case, &name, profile.clone())
                .with("/process/noNewPrivileges", json!(nnp))
                .with("/process/user/uid", json!(uid))
                .sh("mkdir /dev/shm/a 2>&1; grep -E '^(NoNewPrivs|Seccomp|CapEff)' /proc/self/status");
            let out = c.run().stdout;
            assert!(out.contains("not permitted"), "{name}: {out}");
            assert!(out.contains("Seccomp:\t2"), "{name}: {out}");
            assert!(
                out.contains(&format!("NoNewPrivs:\t{}", u8::from(nnp))),
                "{name}: {out}"
            );
            let caps = if uid == 0 {
                "0000000020000420"
            } else {
                "0000000000000000"
            };
            assert!(out.contains(&format!("CapEff:\t{caps}")), "{name}: {out}");
        }
    }
}

/// The positive control of the others: nothing is filtered unless asked for.
#[test]
fn without_a_profile_nothing_is_filtered() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .sh("mkdir /dev/shm/a && grep ^Seccomp: /proc/self/status");
    // what this test runs under is not the container's doing
    let own = process::status(std::process::id().cast_signed(), "Seccomp");
    assert_eq!(c.prints(), format!("Seccomp:\t{own}\n"));
}

#[test]
fn create_start_and_exec_have_the_same_filter() {
    let Some(case) = Case::new(&[]) else { return };
    for nnp in [true, false] {
        let profile = allowing_but(json!([
            mkdir("SCMP_ACT_ERRNO"),
            // as in Docker's profile, whose author did not want new ways to clone
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        ]));
        let c = bundle(&case, &format!("c{nnp}"), profile)
            .with("/process/noNewPrivileges", json!(nnp))
            .sh("mkdir /dev/shm/a 2>/dev/shm/out; sleep 1000");
        c.create().ok();
        c.start().ok();
        let seen = c.exec(
            &[],
            &["sh", "-c", "mkdir /dev/shm/b 2>&1; cat /dev/shm/out"],
        );
        assert!(
            seen.stdout.matches("not permitted").count() >= 1,
            "{seen:?}"
        );
        assert_eq!(process::status(c.pid(), "Seccomp"), "2");
        crate::support::eventually("the first process has tried too", || {
            let out = c.exec(&[], &["cat", "/dev/shm/out"]).stdout;
            out.contains("not permitted").then_some(())
        });
        c.delete_force().ok();
    }
    case.assert_nothing_left();
}

#[test]
fn unknown_names_and_other_machines_architectures_are_passed_over() {
    let Some(case) = Case::new(&[]) else { return };
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "syscalls": [{"names": ["of_a_newer_kernel", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]});
    let c = bundle(&case, "c", profile).sh("mkdir /dev/shm/a 2>&1");
    assert!(c.run().stdout.contains("not permitted"));
}

#[test]
fn flags_are_taken() {
    // runc knows them since 1.1.6
    let Some(case) = Case::new(&[crate::support::Need::Runp]) else {
        return;
    };
    let status = "grep Speculation_Store_Bypass /proc/self/status";
    let before = case.bundle("before").sh(status).prints();
    let with = |name: &str, profile: &Value| bundle(&case, name, profile.clone()).sh(status);
    let mut profile = allowing_but(json!([mkdir("SCMP_ACT_ERRNO")]));
    for (name, flags) in [
        (
            "log",
            json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]),
        ),
        ("none", json!([])),
        ("speculate", json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"])),
    ] {
        profile["flags"] = flags;
        let out = with(name, &profile).prints();
        // The others may cost speculation, where the processor and the kernel's mode have it that way.
        assert!(name != "speculate" || out == before, "{out}");
    }
    profile["flags"] = json!(["SECCOMP_FILTER_FLAG_NO_SUCH"]);
    with("unknown", &profile)
        .run()
        .fails_saying(&["linux.seccomp.flags[0]"]);
}

#[test]
fn the_same_profile_is_compiled_once() {
    let Some(case) = Case::new(&[crate::support::Need::Runp]) else {
        return;
    };
    let profile = allowing_but(json!([mkdir("SCMP_ACT_ERRNO")]));
    for name in ["a", "b"] {
        let out = bundle(&case, name, profile.clone()).sh("mkdir /dev/shm/a 2>&1");
        assert!(out.run().stdout.contains("not permitted"));
        let kept = fs::read_dir(case.state_root().join("@seccomp")).unwrap();
        assert_eq!(kept.count(), 1);
    }
    assert_eq!(case.run(["list", "--quiet"]).ok().stdout, "");
}

/// What an agent gets of a container: the state, and the descriptor, by which it refuses what it is asked about.
#[test]
fn a_listener_is_told_and_decides() {
    let Some(case) = Case::new(&[]) else { return };
    for nnp in [true, false] {
        let path = case.dir().join(format!("agent{nnp}"));
        let agent = UnixListener::bind(&path).unwrap();
        let told = thread::spawn(move || {
            let (mut connection, _) = agent.accept().unwrap();
            let mut message = vec![0; 1 << 16];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut data = [IoSliceMut::new(&mut message)];
            let got = recvmsg(&connection, &mut data, &mut ancillary, RecvFlags::empty()).unwrap();
            // Dropped at once: who asks gets ENOSYS then, seccomp_unotify(2).
            let descriptors = ancillary.drain().count();
            message.truncate(got.bytes);
            connection.read_to_end(&mut message).unwrap();
            let state: Value = serde_json::from_slice(&message).unwrap();
            (descriptors, state)
        });
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "mine",
            "syscalls": [mkdir("SCMP_ACT_NOTIFY")]});
        let c = bundle(&case, &format!("c{nnp}"), profile)
            .with("/process/noNewPrivileges", json!(nnp))
            .with("/annotations", json!({"a": "b"}))
            .sh("mkdir /dev/shm/a 2>&1; true");
        let out = c.prints();
        assert!(out.contains("not implemented"), "{out}");
        let (descriptors, state) = told.join().unwrap();
        assert_eq!(descriptors, 1);
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["metadata"], "mine");
        assert!(state["pid"].as_i64().unwrap() > 1);
        assert_eq!(state["state"]["pid"], state["pid"]);
        assert_eq!(state["state"]["id"], c.id);
        assert_eq!(state["state"]["status"], "creating");
        assert_eq!(state["state"]["bundle"], c.path.to_str().unwrap());
        assert_eq!(state["state"]["annotations"], json!({"a": "b"}));
    }
}

#[test]
fn without_who_decides_nothing_starts() {
    let Some(case) = Case::new(&[]) else { return };
    let path = case.dir().join("nobody");
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
        "syscalls": [mkdir("SCMP_ACT_NOTIFY")]});
    let c = bundle(&case, "c", profile).sh("true");
    c.run()
        .fails_saying(&["linux.seccomp.listenerPath", "ENOENT"]);
    case.assert_nothing_left();
}

/// As engines give it to every container: an error for all but a few hundred calls, three architectures, clone(2) without new
/// namespaces and no clone3(2).
fn like_an_engines() -> Option<Value> {
    let header = fs::read_to_string("/usr/include/x86_64-linux-gnu/asm/unistd_64.h").ok()?;
    let refused = [
        "acct",
        "add_key",
        "bpf",
        "clone",
        "clone3",
        "delete_module",
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "get_mempolicy",
        "init_module",
        "kexec_load",
        "keyctl",
        "mbind",
        "mount",
        "mount_setattr",
        "move_mount",
        "move_pages",
        "open_tree",
        "perf_event_open",
        "personality",
        "pivot_root",
        "ptrace",
        "quotactl",
        "reboot",
        "request_key",
        "set_mempolicy",
        "setns",
        "swapoff",
        "swapon",
        "syslog",
        "umount2",
        "unshare",
        "userfaultfd",
    ];
    let names: Vec<&str> = header
        .lines()
        .filter_map(|line| {
            line.strip_prefix("#define __NR_")?
                .split_whitespace()
                .next()
        })
        .filter(|name| !refused.contains(name))
        .collect();
    let personality = |value: u64| {
        json!({"names": ["personality"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]})
    };
    let mut rules = vec![
        json!({"names": names, "action": "SCMP_ACT_ALLOW"}),
        json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 0x7e02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}),
        json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}),
    ];
    rules.extend([0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff].map(personality));
    Some(
        json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": rules}),
    )
}

#[test]
fn a_container_lives_under_an_engines_profile() {
    let Some(case) = Case::new(&[]) else { return };
    let Some(profile) = like_an_engines() else {
        return; // another architecture
    };
    for nnp in [false, true] {
        for uid in [0, 1000] {
            let hook = json!({"path": "/bin/touch", "args": ["touch", "/tmp/hooked"]});
            let c = bundle(&case, &format!("c{nnp}{uid}"), profile.clone())
                .with("/process/noNewPrivileges", json!(nnp))
                .with("/process/user/uid", json!(uid))
                .with("/hooks", json!({"startContainer": [hook]}))
                .with("/root/readonly", json!(false));
            let c = c.sh("umask; busybox unshare -U true; echo $?; sleep 1000");
            fs::set_permissions(
                c.rootfs().join("tmp"),
                std::os::unix::fs::PermissionsExt::from_mode(0o777),
            )
            .unwrap();
            c.create().ok();
            c.start().ok();
            assert!(c.rootfs().join("tmp/hooked").exists());
            let unshare = c.exec(&[], &["busybox", "unshare", "-U", "true"]);
            assert!(unshare.stderr.contains("not permitted"), "{unshare:?}");
            c.exec(&["--user", "7:7"], &["sh", "-c", "ls / | wc -l"])
                .ok();
            c.delete_force().ok();
            // the positive control: it is the profile that forbids it
            let free = c.without("/linux/seccomp").without("/hooks");
            free.run_detached().ok();
            free.exec(&[], &["busybox", "unshare", "-U", "true"]).ok();
            free.delete_force().ok();
        }
    }
    case.assert_nothing_left();
}
