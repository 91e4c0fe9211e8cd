//! `linux.namespaces`, the id maps and the time offsets.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use oci_spec::runtime as oci;
use oci_spec::runtime::LinuxNamespaceType as Type;

use super::field::Field;
use super::plan::{IdMap, Namespace, Namespaces};

/// user_namespaces(7): lines of a map, since Linux 4.15.
const MAX_LINES: usize = 340;
/// In bytes: a map is written at once, and the kernel takes less than a page; no page is smaller than this.
const MAX_MAP: usize = 4096;

/// Which namespaces to make, join or keep. `field` is `linux`.
pub(crate) fn plan_namespaces(linux: Option<&oci::Linux>, field: &mut Field<'_>) -> Namespaces {
    let list = linux.and_then(|linux| linux.namespaces().as_deref());
    let mut wanted = collect(list.unwrap_or_default(), &mut field.at("namespaces"));
    let mut take = |kind| wanted.remove(&(kind as u32)).unwrap_or(Namespace::Inherit);
    let mut namespaces = Namespaces {
        mount: take(Type::Mount),
        pid: take(Type::Pid),
        network: take(Type::Network),
        ipc: take(Type::Ipc),
        uts: take(Type::Uts),
        user: take(Type::User),
        cgroup: take(Type::Cgroup),
        time: take(Type::Time),
        uid_map: Vec::new(),
        gid_map: Vec::new(),
        time_offsets: Vec::new(),
    };
    if namespaces.mount == Namespace::Inherit {
        field.at("namespaces").refuse_and_hint(
            "there is no mount namespace",
            "the container's mounts would be the host's; add {\"type\": \"mount\"}",
        );
    }
    let uid_map = linux.and_then(|linux| linux.uid_mappings().as_deref());
    let gid_map = linux.and_then(|linux| linux.gid_mappings().as_deref());
    for (name, map, plan) in [
        ("uidMappings", uid_map, &mut namespaces.uid_map),
        ("gidMappings", gid_map, &mut namespaces.gid_map),
    ] {
        let map = map.unwrap_or_default();
        *plan = plan_id_map(map, &namespaces.user, &mut field.at(name));
    }
    if let Some(offsets) = linux.and_then(|linux| linux.time_offsets().as_ref()) {
        let field = &mut field.at("timeOffsets");
        namespaces.time_offsets = plan_time_offsets(offsets, &namespaces.time, field);
    }
    namespaces
}

/// By the number of its clone flag, as oci-spec's type has no order.
fn collect(list: &[oci::LinuxNamespace], field: &mut Field<'_>) -> BTreeMap<u32, Namespace> {
    let mut wanted = BTreeMap::new();
    for (index, namespace) in list.iter().enumerate() {
        let field = &mut field.item(index);
        let plan = match namespace.path() {
            // runc takes an empty path as none, and callers write it.
            Some(path) if !path.as_os_str().is_empty() => Namespace::Join(nsfs(path, field)),
            _ => Namespace::New,
        };
        if wanted.insert(namespace.typ() as u32, plan).is_some() {
            let name = name(namespace.typ());
            field
                .at("type")
                .refuse(format_args!("\"{name}\" is there twice"));
        }
    }
    wanted
}

/// The path is not cleaned: `/proc/<pid>/ns/../..` means what the kernel makes of it.
fn nsfs(path: &std::path::Path, field: &mut Field<'_>) -> PathBuf {
    field.at("path").absolute(path);
    path.into()
}

/// As config.json writes it; oci-spec prints the names of /proc/pid/ns.
fn name(kind: Type) -> &'static str {
    match kind {
        Type::Mount => "mount",
        Type::Cgroup => "cgroup",
        Type::Uts => "uts",
        Type::Ipc => "ipc",
        Type::User => "user",
        Type::Pid => "pid",
        Type::Network => "network",
        Type::Time => "time",
    }
}

fn plan_id_map(map: &[oci::LinuxIdMapping], user: &Namespace, field: &mut Field<'_>) -> Vec<IdMap> {
    match (user, map.is_empty()) {
        (Namespace::Inherit, true) => return Vec::new(),
        (Namespace::Inherit, false) => {
            field.refuse_and_hint(
                "there is no user namespace to map ids for",
                "add {\"type\": \"user\"} to linux.namespaces",
            );
            return Vec::new();
        }
        // containerd and CRI-O write the map of a namespace that exists beside its path. It has its map already.
        (Namespace::Join(_), _) => return Vec::new(),
        (Namespace::New, true) => {
            field.refuse_and_hint("is missing", "a new user namespace needs it");
            return Vec::new();
        }
        (Namespace::New, false) => {}
    }
    let map: Vec<IdMap> = map
        .iter()
        .map(|line| IdMap {
            container_id: line.container_id(),
            host_id: line.host_id(),
            size: line.size(),
        })
        .collect();
    check_id_map(&map, field);
    map
}

fn check_id_map(map: &[IdMap], field: &mut Field<'_>) {
    let bytes: usize = map.iter().map(|line| line.to_string().len()).sum();
    if map.len() > MAX_LINES || bytes >= MAX_MAP {
        field.refuse_and_hint(
            format_args!("has {} lines of {bytes} bytes", map.len()),
            format!("the kernel takes {MAX_LINES} lines of less than {MAX_MAP} bytes"),
        );
        return;
    }
    for (index, line) in map.iter().enumerate() {
        let field = &mut field.item(index);
        if line.size == 0 {
            field.at("size").refuse("is 0");
        }
        for (name, first) in [("containerID", line.container_id), ("hostID", line.host_id)] {
            if first.checked_add(line.size).is_none() {
                field.at(name).refuse(format_args!(
                    "{first} and {} more are beyond the last id, 4294967294",
                    line.size
                ));
            }
        }
        for (other, earlier) in map[..index].iter().enumerate() {
            if overlap(
                line.container_id,
                line.size,
                earlier.container_id,
                earlier.size,
            ) {
                field.refuse(format_args!("overlaps element {other} in the container"));
            }
            if overlap(line.host_id, line.size, earlier.host_id, earlier.size) {
                field.refuse(format_args!("overlaps element {other} on the host"));
            }
        }
    }
    if !map.iter().any(|line| line.contains(0)) {
        field.refuse_and_hint(
            "does not map 0",
            "the container is set up by its root; map containerID 0",
        );
    }
}

fn overlap(a: u32, a_size: u32, b: u32, b_size: u32) -> bool {
    let end = |first: u32, size: u32| u64::from(first) + u64::from(size);
    u64::from(a) < end(b, b_size) && u64::from(b) < end(a, a_size)
}

impl IdMap {
    /// Whether this id of the container has one on the host.
    pub fn contains(&self, container_id: u32) -> bool {
        container_id >= self.container_id && container_id - self.container_id < self.size
    }
}

/// A line of `/proc/<pid>/uid_map`, with its end.
impl std::fmt::Display for IdMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} {} {}", self.container_id, self.host_id, self.size)
    }
}

/// time_namespaces(7)
fn plan_time_offsets(
    offsets: &HashMap<String, oci::LinuxTimeOffset>,
    time: &Namespace,
    field: &mut Field<'_>,
) -> Vec<(&'static str, i64, u32)> {
    if !offsets.is_empty() && *time != Namespace::New {
        field.refuse_and_hint(
            "there is no new time namespace",
            "offsets are set before the first process enters; add {\"type\": \"time\"} without a path to \
             linux.namespaces",
        );
    }
    let mut names: Vec<&String> = offsets.keys().collect();
    names.sort();
    let mut plan = Vec::new();
    for name in names {
        let offset = &offsets[name];
        let Some(clock) = ["boottime", "monotonic"].into_iter().find(|c| c == name) else {
            field
                .key(name)
                .refuse("is no clock of a time namespace; there are monotonic and boottime");
            continue;
        };
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if nanoseconds > 999_999_999 {
            field
                .at(clock)
                .at("nanosecs")
                .refuse(format_args!("{nanoseconds} is not below 1000000000"));
        }
        plan.push((clock, offset.secs().unwrap_or(0), nanoseconds));
    }
    plan
}
