//! What a test needs of the machine. Where it is missing the test is skipped; in strict mode it fails.

use std::path::Path;
use std::process::Command;

/// Something that a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Uid 0.
    Root,
    /// strace(1).
    Strace,
    /// The runtime under test is runp: the test is about what no other runtime has.
    Runp,
    /// A program on the PATH or where root has them.
    Program(&'static str),
    /// The v1 controllers memory, cpu and pids.
    CgroupV1,
    /// A cgroup controller, in whichever version.
    Controller(&'static str),
}

/// Says whether the test can run: `if !requires(&[Root]) { return; }`.
pub(crate) fn requires(needs: &[Need]) -> bool {
    for need in needs {
        if let Some(missing) = missing(*need) {
            assert!(
                !strict() || *need == Need::Runp,
                "this machine lacks {missing}"
            );
            eprintln!("skipped: needs {missing}");
            return false;
        }
    }
    true
}

/// Nothing may be skipped: in CI, or with `RUNP_TEST_STRICT`.
pub(crate) fn strict() -> bool {
    ["CI", "RUNP_TEST_STRICT"]
        .iter()
        .any(|variable| std::env::var_os(variable).is_some())
}

fn missing(need: Need) -> Option<String> {
    match need {
        Need::Root => (!rustix::process::geteuid().is_root()).then(|| "root".into()),
        Need::Strace => Command::new("strace")
            .arg("-V")
            .output()
            .is_err()
            .then(|| "strace".into()),
        Need::Runp => {
            std::env::var_os("RUNP_TEST_RUNTIME").map(|_| "runp as the runtime under test".into())
        }
        Need::Program(name) => {
            let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
            let found = std::env::split_paths(&path).any(|dir| dir.join(name).exists());
            (!found).then(|| name.into())
        }
        Need::CgroupV1 => {
            let has = |name| Path::new("/sys/fs/cgroup").join(name).is_dir();
            let has_all = ["memory", "cpu", "pids"].into_iter().all(has);
            (!has_all).then(|| "cgroup v1".into())
        }
        Need::Controller(name) => {
            let v1 = Path::new("/sys/fs/cgroup").join(name).is_dir();
            let v2 = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
                .is_ok_and(|list| list.split_whitespace().any(|c| c == name));
            (!v1 && !v2).then(|| format!("the cgroup controller {name}"))
        }
    }
}
