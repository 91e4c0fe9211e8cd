//! What the kernel says of a pod's processes, against what was planned: who shares which namespace, what each container
//! may do, and which volumes it can reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::container::container_id;
use super::data::Data;
use super::delete::first_pid;
use super::plan::{ContainerPlan, PodPlan, Shared, VolumeSource};
use crate::error::{Context, Error, Result};
use crate::state::Store;
use crate::sys::process::Child;

/// The namespaces that are looked at, by their names in `/proc/<pid>/ns`.
pub const NAMESPACES: [&str; 7] = ["net", "ipc", "uts", "pid", "mnt", "cgroup", "user"];

/// What was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// Pause, then the containers that run.
    pub processes: Vec<Process>,
    /// The containers that do not run: nothing can be said of them.
    pub not_running: Vec<String>,
    /// Where what is contradicts what was planned.
    pub contradictions: Vec<String>,
}

/// What the kernel says of one process.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// `pause`, or the container's name.
    pub name: String,
    /// In this pid namespace.
    pub pid: i32,
    /// Inode numbers.
    pub namespaces: BTreeMap<&'static str, u64>,
    /// Which of them are the host's.
    pub of_the_host: BTreeSet<&'static str>,
    /// The user that it runs as.
    pub uid: u32,
    /// The capabilities that it may ever have.
    pub bounding: BTreeSet<String>,
    /// `no_new_privs`.
    pub no_new_privileges: bool,
    /// A seccomp filter is installed.
    pub seccomp: bool,
    /// How many mounts it sees.
    pub mounts: usize,
    /// The pod's volumes that it reaches, and where.
    pub volumes: BTreeMap<String, Vec<PathBuf>>,
}

/// Looks at all processes of a pod.
///
/// # Errors
/// When something in `/proc` cannot be read of a process that is there.
pub fn prove(plan: &PodPlan, store: &Store, data: &Data, pause: Option<&Child>) -> Result<Proof> {
    let volumes = volumes(plan, data);
    let host = namespaces("self")?;
    let mut proof = Proof {
        processes: Vec::new(),
        not_running: Vec::new(),
        contradictions: Vec::new(),
    };
    if let Some(pause) = pause {
        let process = look("pause", pause.pid, &host, &volumes)?;
        proof.check_pause(&process);
        proof.processes.push(process);
    }
    for container in &plan.containers {
        let id = container_id(&plan.name, &container.name)?;
        let alive = super::delete::first_process(store, &id).is_some();
        match first_pid(store, &id).filter(|_| alive) {
            Some(pid) => {
                let process = look(&container.name, pid, &host, &volumes)?;
                proof.check(plan, container, &process);
                proof.processes.push(process);
            }
            None => proof.not_running.push(container.name.clone()),
        }
    }
    Ok(proof)
}

/// Device and inode of each volume's directory or file.
fn volumes(plan: &PodPlan, data: &Data) -> BTreeMap<String, (u64, u64)> {
    let found = plan.volumes.iter().filter_map(|volume| {
        let path = match &volume.source {
            VolumeSource::HostPath { path, .. } => path.clone(),
            VolumeSource::EmptyDir { .. } | VolumeSource::Files { .. } => {
                data.volumes().join(&volume.name)
            }
            _ => return None,
        };
        let metadata = fs::metadata(path).ok()?;
        Some((volume.name.clone(), (metadata.dev(), metadata.ino())))
    });
    found.collect()
}

fn namespaces(who: &str) -> Result<BTreeMap<&'static str, u64>> {
    let all = NAMESPACES.into_iter().map(|name| {
        let path = Path::new("/proc").join(who).join("ns").join(name);
        let inode = fs::metadata(&path).context(|| format!("stat {}", path.display()))?;
        Ok((name, inode.ino()))
    });
    all.collect()
}

fn look(
    name: &str,
    pid: i32,
    host: &BTreeMap<&'static str, u64>,
    volumes: &BTreeMap<String, (u64, u64)>,
) -> Result<Process> {
    let namespaces = namespaces(&pid.to_string())?;
    let of_the_host = namespaces
        .iter()
        .filter(|(name, inode)| host.get(*name) == Some(inode));
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).context(|| format!("read {path}"))?;
    let field = |name: &str| {
        let mut lines = status.lines().filter_map(|line| line.split_once(':'));
        let value = lines
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.trim());
        value.ok_or_else(|| Error::new(format!("{path} has no {name}")))
    };
    let set = u64::from_str_radix(field("CapBnd")?, 16).unwrap_or(u64::MAX);
    let uid = field("Uid")?
        .split_whitespace()
        .next()
        .and_then(|uid| uid.parse().ok());
    let path = format!("/proc/{pid}/mountinfo");
    let mounts = fs::read_to_string(&path).context(|| format!("read {path}"))?;
    let points: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        .collect();
    let mut reached: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for point in &points {
        let below = point.strip_prefix("/").unwrap_or(point);
        let Ok(metadata) = fs::symlink_metadata(
            Path::new("/proc")
                .join(pid.to_string())
                .join("root")
                .join(below),
        ) else {
            continue;
        };
        let is = |(_, id): &(&String, &(u64, u64))| **id == (metadata.dev(), metadata.ino());
        if let Some((volume, _)) = volumes.iter().find(is) {
            reached
                .entry(volume.clone())
                .or_default()
                .push(point.clone());
        }
    }
    Ok(Process {
        name: name.to_owned(),
        pid,
        of_the_host: of_the_host.map(|(name, _)| *name).collect(),
        namespaces,
        uid: uid.unwrap_or(u32::MAX),
        bounding: capabilities(set),
        no_new_privileges: field("NoNewPrivs")? == "1",
        seccomp: field("Seccomp")? == "2",
        mounts: points.len(),
        volumes: reached,
    })
}

/// `\040` is a space: proc(5), mountinfo.
fn unescape(text: &str) -> String {
    let mut out = text.to_owned();
    for (code, c) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        out = out.replace(code, c);
    }
    out
}

fn capabilities(set: u64) -> BTreeSet<String> {
    let known = caps::all().into_iter();
    let has = known.filter(|capability| set & capability.bitmask() != 0);
    has.map(|capability| capability.to_string()).collect()
}

impl Proof {
    fn contradict(&mut self, name: &str, what: String) {
        self.contradictions.push(format!("{name}: {what}"));
    }

    fn check_pause(&mut self, pause: &Process) {
        if !pause.bounding.is_empty() {
            self.contradict("pause", format!("it may have {:?}", pause.bounding));
        }
        if pause.uid == 0 || !pause.seccomp || !pause.no_new_privileges {
            self.contradict("pause", "it has rights that it does not need".into());
        }
        if !pause.volumes.is_empty() {
            self.contradict("pause", format!("it reaches {:?}", pause.volumes));
        }
    }

    fn check(&mut self, plan: &PodPlan, container: &ContainerPlan, process: &Process) {
        let name = container.name.as_str();
        let sandbox = &plan.sandbox;
        let shared = [
            ("net", sandbox.network),
            ("uts", sandbox.network),
            ("ipc", sandbox.ipc),
            ("pid", sandbox.pid),
            ("mnt", Shared::Container),
            ("cgroup", Shared::Container),
        ];
        for (kind, shared) in shared {
            let own = process.namespaces.get(kind);
            let others: Vec<Process> = self.processes.clone();
            let with: Vec<&str> = others
                .iter()
                .filter(|other| other.namespaces.get(kind) == own)
                .map(|other| other.name.as_str())
                .collect();
            let host = process.of_the_host.contains(kind);
            let wrong = match shared {
                Shared::Host => !host,
                Shared::Pod => host || with.len() != others.len(),
                Shared::Container => host || !with.is_empty(),
            };
            if wrong {
                let with = match host {
                    true => "the host".to_owned(),
                    false => format!("{with:?}"),
                };
                self.contradict(
                    name,
                    format!("it shares {kind} with {with}, and {shared:?} was planned"),
                );
            }
        }
        self.check_rights(container, process);
        self.check_volumes(plan, container, process);
    }

    fn check_rights(&mut self, container: &ContainerPlan, process: &Process) {
        let name = container.name.as_str();
        let Some(planned) = container.spec.process() else {
            return;
        };
        let bounding = planned
            .capabilities()
            .as_ref()
            .and_then(|c| c.bounding().as_ref());
        let bounding: BTreeSet<String> = bounding
            .into_iter()
            .flatten()
            .filter_map(|c| serde_json::to_value(c).ok()?.as_str().map(str::to_owned))
            .collect();
        let more: Vec<&String> = process.bounding.difference(&bounding).collect();
        if !more.is_empty() {
            self.contradict(name, format!("it may have {more:?}, which was not planned"));
        }
        let uid = planned.user().uid();
        let mapped = process.of_the_host.contains("user");
        if mapped && process.uid != uid {
            self.contradict(
                name,
                format!("it runs as user {}, and {uid} was planned", process.uid),
            );
        }
        if planned.no_new_privileges() == Some(true) && !process.no_new_privileges {
            self.contradict(name, "it may get new privileges".into());
        }
        let linux = container.spec.linux().as_ref();
        if linux.is_some_and(|linux| linux.seccomp().is_some()) && !process.seccomp {
            self.contradict(name, "it has no seccomp filter".into());
        }
    }

    fn check_volumes(&mut self, plan: &PodPlan, container: &ContainerPlan, process: &Process) {
        let planned: BTreeSet<&str> = container
            .volume_mounts
            .iter()
            .map(|mount| plan.volumes[mount.volume].name.as_str())
            .collect();
        for (volume, points) in &process.volumes {
            if !planned.contains(volume.as_str()) {
                let what =
                    format!("it reaches volume {volume:?} at {points:?}, which was not planned");
                self.contradict(&container.name, what);
            }
        }
        let mounts = container.spec.mounts().as_ref();
        for mount in &container.volume_mounts {
            let point = mounts.and_then(|mounts| mounts.get(mount.mount));
            let point = point
                .map(|point| point.destination().clone())
                .unwrap_or_default();
            let path = point.strip_prefix("/").unwrap_or(&point);
            let root = Path::new("/proc")
                .join(process.pid.to_string())
                .join("root");
            if fs::symlink_metadata(root.join(path)).is_err() {
                let volume = &plan.volumes[mount.volume].name;
                let what = format!("volume {volume:?} is not at {}", point.display());
                self.contradict(&container.name, what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_named_by_their_bits() {
        let some: Vec<String> = capabilities(1 | 1 << 21).into_iter().collect();
        assert_eq!(some, ["CAP_CHOWN", "CAP_SYS_ADMIN"]);
        assert_eq!(unescape("/a\\040b"), "/a b");
    }
}
