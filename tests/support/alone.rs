//! A test in pid and mount namespaces of its own: every process, namespace and mount that it sees there is its own, so that
//! what is left of a runtime can be counted exactly, however many tests run beside it.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};

use super::process;
use super::requires::{Need, requires};

/// Set for a test that is alone.
const ALONE: &str = "RUNP_TEST_ALONE";

/// Whether the calling test, whose full name this is, is alone. If it is not, it is run once more, alone, and must pass.
#[track_caller]
pub(crate) fn alone(test: &str) -> bool {
    in_namespaces(
        test,
        &["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"],
    )
}

/// The same with the machine's pids, which are those that systemd knows.
#[track_caller]
pub(crate) fn alone_with_mounts(test: &str) -> bool {
    in_namespaces(test, &["--mount"])
}

#[track_caller]
fn in_namespaces(test: &str, namespaces: &[&str]) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    if !requires(&[Need::Root]) {
        return false;
    }
    let output = Command::new("unshare")
        .args(namespaces)
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    eprintln!("{said}");
    assert!(output.status.success(), "{test}, alone: {said}");
    let ran = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert!(ran, "no test has the name {test}");
    false
}

/// What there was when the test began, being alone.
#[derive(Debug)]
pub(crate) struct Baseline {
    namespaces: BTreeSet<String>,
    mounts: BTreeSet<String>,
}

impl Baseline {
    pub(crate) fn now() -> Self {
        Self {
            namespaces: namespaces(),
            mounts: mounts(),
        }
    }

    /// Every process beside the test's own, and every namespace and mount that was not there. While no child of the test's
    /// runs: orphans that have ended are reaped, as the first process of a pid namespace must.
    pub(crate) fn left_behind(&self) -> Vec<String> {
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_)) | Err(Errno::INTR)) {}
        let processes = process::all().map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("process {pid} [{}]", name.trim())
        });
        let new = |now: BTreeSet<String>, before: &BTreeSet<String>| -> Vec<String> {
            now.difference(before).cloned().collect()
        };
        processes
            .chain(new(namespaces(), &self.namespaces))
            .chain(new(mounts(), &self.mounts))
            .collect()
    }
}

/// All namespaces that something holds: a process by being in one or by its children's, a descriptor, or a mount.
fn namespaces() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let own = std::process::id().cast_signed();
    for pid in process::all().chain([own]) {
        for of in ["ns", "fd"] {
            let links = fs::read_dir(format!("/proc/{pid}/{of}"));
            let links = links.into_iter().flatten().flatten();
            let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
            let targets = targets.map(|target| target.to_string_lossy().into_owned());
            found.extend(targets.filter(|target| is_namespace(target)));
        }
        let mountinfo = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        let roots = mountinfo.lines().filter_map(|line| line.split(' ').nth(3));
        found.extend(roots.filter(|root| is_namespace(root)).map(str::to_owned));
    }
    found
}

/// `net:[4026531840]`, unlike `pipe:[1234]`.
fn is_namespace(link: &str) -> bool {
    const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let kind = link.split_once(":[").map(|(kind, _)| kind);
    kind.is_some_and(|kind| KINDS.contains(&kind))
}

/// The mount points of the test's mount namespace.
fn mounts() -> BTreeSet<String> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points.map(|point| format!("mount {point}")).collect()
}
