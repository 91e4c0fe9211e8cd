//! Files of the image and the profile of the configuration may be anything: that costs neither time nor memory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Bundle, Case, Need, at_most};

/// The runtime, and the process that it makes, with at most 32 MiB of memory: prlimit(1).
fn in_32_mib(case: &Case, arguments: &[&str]) -> Command {
    let runtime = case.runtime();
    let mut prlimit = Command::new("prlimit");
    prlimit.arg("--data=33554432").arg(runtime.get_program());
    prlimit.args(runtime.get_args()).args(arguments);
    prlimit
}

fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

fn zero(path: &Path) {
    let kind = rustix::fs::FileType::CharacterDevice;
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    let device = rustix::fs::makedev(1, 5);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, device).unwrap();
}

fn sparse(path: &Path) {
    let file = fs::File::create(path).unwrap();
    file.set_len(8 << 30).unwrap();
}

type Hostile = (&'static str, fn(&Path));

/// What stands there instead of a file of some lines.
const HOSTILE: [Hostile; 6] = [
    ("a fifo", fifo),
    ("an endless device", zero),
    ("8 GiB of nothing", sparse),
    ("a link to an endless device", |path| {
        symlink("/dev/zero", path).unwrap()
    }),
    ("a link to itself", |path| {
        symlink("/etc/passwd", path).unwrap()
    }),
    ("a directory", |path| fs::create_dir(path).unwrap()),
];

/// `run` and `exec`, as users whom the image may know, print this as their home.
#[track_caller]
fn home_is(case: &Case, c: &Bundle<'_>, running: &Bundle<'_>, home: &str, what: &str) {
    let run = ["run", "--bundle", c.path.to_str().unwrap(), &c.id];
    let exec = [
        "exec",
        "--user",
        "1000:1000",
        &running.id,
        "/bin/sh",
        "-c",
        "echo $HOME",
    ];
    for arguments in [&run[..], &exec] {
        let begin = Instant::now();
        let done = case.finish(in_32_mib(case, arguments)).ok();
        let took = begin.elapsed();
        assert_eq!(done.stdout, format!("{home}\n"), "{what}");
        let limit = Duration::from_secs(1);
        assert!(
            took < limit || took < at_most(limit),
            "{what} took {took:?}"
        );
    }
}

#[test]
fn users_and_groups_of_the_image_may_be_anything() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let user = json!({"uid": 1000, "gid": 1000});
    let c = case
        .bundle("c")
        .sh("echo $HOME")
        .with("/process/user", user);
    let running = case.bundle("running").sh("sleep 1000");
    let running = running.with("/root/path", json!(c.rootfs()));
    running.run_detached().ok();

    let passwd = c.rootfs().join("etc/passwd");
    fs::write(&passwd, "somebody:x:1000:1000::/home/somebody:/bin/sh\n").unwrap();
    home_is(
        &case,
        &c,
        &running,
        "/home/somebody",
        "the control: it is read",
    );
    for (what, make) in HOSTILE {
        for name in ["passwd", "group"] {
            let path = c.rootfs().join("etc").join(name);
            let _ = fs::remove_file(&path);
            make(&path);
        }
        home_is(&case, &c, &running, "/", what);
        for name in ["passwd", "group"] {
            let path = c.rootfs().join("etc").join(name);
            let _ = fs::remove_file(&path);
            let _ = fs::remove_dir(&path);
        }
    }
    running.delete_force().ok();
}

/// Over some profiles libseccomp computes for ever.
#[test]
fn a_seccomp_profile_that_takes_for_ever_is_refused() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let comparisons = ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_GT"];
    let rule = |i: usize| {
        let condition = |a: usize| json!({"index": a, "op": comparisons[(i * 7 + a * 5) % 3], "value": (i * 5 + a * 3) % 4});
        let args: Vec<_> = (0..6).map(condition).collect();
        json!({"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": args})
    };
    let profile = |rules: std::ops::Range<usize>| json!({"defaultAction": "SCMP_ACT_LOG", "syscalls": rules.map(rule).collect::<Vec<_>>()});
    let c = case.bundle("c").sh("true");
    let c = c.with("/linux/seccomp", profile(0..2));
    c.run().ok();
    let c = c.with("/linux/seccomp", profile(0..32));
    c.run()
        .fails_saying(&["linux.seccomp", "took more than 5 s", "use fewer rules"]);
    case.assert_nothing_left();
}
