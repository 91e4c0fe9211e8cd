//! What a test has left on the machine, found by its token: no process, mount, cgroup or directory may stay. (A namespace
//! lives by a process, a mount or a descriptor; those that cycles leave are counted in `faults::leaks`.)

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use super::process;

/// Everything that carries `token`; `dir` is the test's own directory.
pub(crate) fn of(token: &str, dir: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for (pid, why) in processes(token) {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        left.push(format!("process {pid} [{}] by its {why}", name.trim()));
    }
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mountinfo.lines().filter(|line| line.contains(token));
    left.extend(mounts.map(|line| format!("mount {line}")));
    let cgroups = cgroups(token).into_iter();
    left.extend(cgroups.map(|dir| format!("cgroup {}", dir.display())));
    for directory in [
        "/run",
        "/run/runp",
        "/run/runp/pods",
        "/var/lib/runp",
        "/var/lib/runp/pods",
        "/dev/shm",
    ] {
        entries_named(Path::new(directory), token, &mut left);
    }
    for private in ["state", "data"] {
        files_and_tokens(&dir.join(private), token, &mut left);
    }
    left
}

/// Ends what a failed test has left, so that it is in nobody's way.
pub(crate) fn end(token: &str) {
    for (pid, _) in processes(token) {
        let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
    }
    for dir in cgroups(token) {
        let _ = fs::remove_dir(dir);
    }
}

fn processes(token: &str) -> Vec<(i32, &'static str)> {
    let carries = |pid: i32, file: &&str| {
        fs::read(format!("/proc/{pid}/{file}"))
            .is_ok_and(|text| String::from_utf8_lossy(&text).contains(token))
    };
    // A zombie whose parent is the machine's first process is that one's to reap, whenever it pleases.
    process::all()
        .filter(|pid| process::runs(*pid))
        .filter_map(|pid| {
            let files = ["cgroup", "cmdline", "environ"];
            let why = files.into_iter().find(|file| carries(pid, file))?;
            Some((pid, why))
        })
        .collect()
}

/// Deepest first.
fn cgroups(token: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    directories_with(Path::new("/sys/fs/cgroup"), token, 0, &mut found);
    found
}

fn directories_with(dir: &Path, token: &str, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if depth > 5 || !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        directories_with(&entry.path(), token, depth + 1, found);
        if entry.path().to_string_lossy().contains(token) {
            found.push(entry.path());
        }
    }
}

fn entries_named(dir: &Path, token: &str, left: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains(token) {
            left.push(format!("directory {}", entry.path().display()));
        }
    }
}

/// In the private state and data roots, every file counts, and every directory with the token in its name; not what is kept
/// for the next container.
fn files_and_tokens(dir: &Path, token: &str, left: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
        let name = entry.file_name().to_string_lossy().into_owned();
        if ["@seccomp", ".cache"].contains(&name.as_str()) {
            continue;
        }
        if name.contains(token) || (!is_dir && !name.contains("lock")) {
            left.push(format!("directory {}", entry.path().display()));
        } else if is_dir {
            files_and_tokens(&entry.path(), token, left);
        }
    }
}
