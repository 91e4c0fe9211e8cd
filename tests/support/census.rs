//! What a test has left on the machine, found by its token: no process, mount, cgroup, namespace or directory may stay.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::process;

/// Everything that carries `token`, or is in one of `namespaces`; `dir` is the test's own directory.
pub(crate) fn of(token: &str, dir: &Path, namespaces: &BTreeSet<String>) -> Vec<String> {
    let mut left = Vec::new();
    processes(token, namespaces, &mut left);
    mounts(token, namespaces, &mut left);
    cgroups(Path::new("/sys/fs/cgroup"), token, 0, &mut left);
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

fn processes(token: &str, namespaces: &BTreeSet<String>, left: &mut Vec<String>) {
    for pid in process::all() {
        let read = |file: &str| {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\0', " ")
        };
        let why = ["cgroup", "cmdline", "environ"]
            .into_iter()
            .find(|file| read(file).contains(token))
            .map(str::to_owned)
            .or_else(|| {
                process::namespaces(pid)
                    .into_values()
                    .find(|inode| namespaces.contains(inode))
            });
        if let Some(why) = why {
            left.push(format!(
                "process {pid} by its {why}: {}[{}]",
                read("cmdline"),
                read("comm").trim()
            ));
        }
    }
}

fn mounts(token: &str, namespaces: &BTreeSet<String>, left: &mut Vec<String>) {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    left.extend(
        mountinfo
            .lines()
            .filter(|line| line.contains(token) || namespaces.iter().any(|ns| line.contains(ns)))
            .map(|line| format!("mount {line}")),
    );
}

fn cgroups(dir: &Path, token: &str, depth: usize, left: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().contains(token) {
            left.push(format!("cgroup {}", entry.path().display()));
        } else if depth < 4 {
            cgroups(&entry.path(), token, depth + 1, left);
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

/// In the private state and data roots, every file counts, and every directory with the token in its name.
fn files_and_tokens(dir: &Path, token: &str, left: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.contains(token) || (!is_dir && !name.contains("lock")) {
            left.push(format!("directory {}", entry.path().display()));
        } else if is_dir {
            files_and_tokens(&entry.path(), token, left);
        }
    }
}
