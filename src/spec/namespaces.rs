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
    if namespaces.user == Namespace::New
        && let Namespace::Join(path) = &namespaces.mount
    {
        field.at("namespaces").refuse_and_hint(
            format_args!("a new user namespace has no rights over the mount namespace {path:?}"),
            "make a mount namespace too, or join the user namespace that it belongs to",
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

/// The names of all kinds.
pub(super) fn names() -> [&'static str; 8] {
    use Type::*;
    [Cgroup, Ipc, Mount, Network, Pid, Time, User, Uts].map(name)
}

/// All kinds, as config.json writes them: `features` lists them.
pub const KINDS: [&str; 8] = [
    "cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts",
];

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
    let map = plan_lines(map, field);
    if !map.iter().any(|line| line.contains(0)) {
        field.refuse_and_hint(
            "does not map 0",
            "the container is set up by its root; map containerID 0",
        );
    }
    map
}

/// The map of an id-mapped mount.
pub(super) fn plan_id_lines(map: &[oci::LinuxIdMapping], field: &mut Field<'_>) -> Vec<IdMap> {
    if map.is_empty() {
        field.refuse_and_hint("is missing", "a map of user ids goes with one of group ids");
    }
    plan_lines(map, field)
}

fn plan_lines(map: &[oci::LinuxIdMapping], field: &mut Field<'_>) -> Vec<IdMap> {
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::testing::{
        assert_refused, plan, planned, refusals, refusals_of, rootless, set,
    };

    #[test]
    fn every_kind_has_a_plan() {
        for kind in KINDS {
            let list = json!([{"type": "mount"}, {"type": kind, "path": "/proc/7/ns/x"}]);
            let list = match kind {
                "mount" => json!([{"type": "mount", "path": "/proc/7/ns/x"}]),
                _ => list,
            };
            let namespaces = planned(&[("/linux/namespaces", list), ("/hostname", json!(""))]);
            let namespaces = namespaces.namespaces;
            let joined = Namespace::Join("/proc/7/ns/x".into());
            let all = [
                &namespaces.cgroup,
                &namespaces.ipc,
                &namespaces.mount,
                &namespaces.network,
                &namespaces.pid,
                &namespaces.time,
                &namespaces.user,
                &namespaces.uts,
            ];
            let found = all.iter().position(|namespace| **namespace == joined);
            assert_eq!(found.map(|index| KINDS[index]), Some(kind));
        }
    }

    #[test]
    fn new_joined_and_kept() {
        let list = json!([
            {"type": "mount", "path": ""}, {"type": "network", "path": "/proc/7/ns/net"}, {"type": "time"},
            {"type": "cgroup"}
        ]);
        let offsets = json!({"monotonic": {"secs": -5}, "boottime": {"nanosecs": 1}});
        let namespaces = planned(&[
            ("/linux/namespaces", list),
            ("/linux/timeOffsets", offsets),
            ("/hostname", json!("")),
        ])
        .namespaces;
        assert_eq!(namespaces.mount, Namespace::New);
        assert_eq!(namespaces.network, Namespace::Join("/proc/7/ns/net".into()));
        assert_eq!(namespaces.cgroup, Namespace::New);
        assert_eq!(namespaces.time, Namespace::New);
        for kept in [
            &namespaces.pid,
            &namespaces.ipc,
            &namespaces.uts,
            &namespaces.user,
        ] {
            assert_eq!(*kept, Namespace::Inherit);
        }
        assert_eq!(
            namespaces.time_offsets,
            [("boottime", 0, 1), ("monotonic", -5, 0)]
        );
    }

    #[test]
    fn a_joined_user_namespace_has_its_map() {
        let mut config = rootless();
        let user = json!({"type": "user", "path": "/proc/7/ns/user"});
        set(&mut config, "/linux/namespaces/4", Some(user));
        let namespaces = plan(&config).unwrap().namespaces;
        assert_eq!(namespaces.user, Namespace::Join("/proc/7/ns/user".into()));
        assert_eq!((namespaces.uid_map, namespaces.gid_map), (vec![], vec![]));
    }

    #[test]
    fn refused_namespaces() {
        let add = "/linux/namespaces/-";
        assert_refused(&[
            (
                add,
                json!({"type": "pid"}),
                "linux.namespaces[5].type: \"pid\" is there twice",
            ),
            (
                add,
                json!({"type": "network", "path": "/x"}),
                "linux.namespaces[5].type: \"network\" is there twice",
            ),
            (
                add,
                json!({"type": "time", "path": "x"}),
                "linux.namespaces[5].path: \"x\" is not an absolute path",
            ),
            (
                "/linux/namespaces/4",
                json!({"type": "time"}),
                "linux.namespaces: there is no mount namespace (the container's mounts would be the host's; add \
                 {\"type\": \"mount\"})",
            ),
            (
                "/linux/uidMappings",
                json!([{"containerID": 0, "hostID": 0, "size": 1}]),
                "linux.uidMappings: there is no user namespace to map ids for (add {\"type\": \"user\"} to \
                 linux.namespaces)",
            ),
            (
                "/linux/timeOffsets",
                json!({"monotonic": {"secs": 1}}),
                "linux.timeOffsets: there is no new time namespace (offsets are set before the first process enters; \
                 add {\"type\": \"time\"} without a path to linux.namespaces)",
            ),
        ]);
    }

    #[test]
    fn a_new_user_namespace_has_no_rights_over_another_mount_namespace() {
        let mut config = rootless();
        let namespaces = config.pointer_mut("/linux/namespaces").unwrap();
        let mount = namespaces.as_array_mut().unwrap();
        let mount = mount.iter_mut().find(|n| n["type"] == "mount").unwrap();
        mount["path"] = json!("/proc/7/ns/mnt");
        assert_eq!(
            refusals_of(&config),
            [
                "linux.namespaces: a new user namespace has no rights over the mount namespace \"/proc/7/ns/mnt\" \
                 (make a mount namespace too, or join the user namespace that it belongs to)"
            ]
        );
    }

    #[test]
    fn refused_time_offsets() {
        let refused = |offsets: Value| {
            refusals(&[
                ("/linux/namespaces/-", json!({"type": "time"})),
                ("/linux/timeOffsets", offsets),
            ])
        };
        assert_eq!(
            refused(json!({"realtime": {"secs": 1}})),
            [
                "linux.timeOffsets[\"realtime\"]: is no clock of a time namespace; there are monotonic and boottime"
            ]
        );
        assert_eq!(
            refused(json!({"boottime": {"nanosecs": 1_000_000_000}})),
            ["linux.timeOffsets.boottime.nanosecs: 1000000000 is not below 1000000000"]
        );
    }

    #[test]
    fn refused_id_maps() {
        let line =
            |container, host, size| json!({"containerID": container, "hostID": host, "size": size});
        let many: Vec<Value> = (0..341u32).map(|n| line(n, n, 1)).collect();
        let wide: Vec<Value> = (0..300u32).map(|n| line(n, 4_000_000_000 + n, 1)).collect();
        for (map, message) in [
            (json!([]), ": is missing (a new user namespace needs it)"),
            (json!([line(0, 9, 1), line(1, 7, 0)]), "[1].size: is 0"),
            (
                json!([line(0, 9, 1), line(1, u32::MAX - 1, 2)]),
                "[1].hostID: 4294967294 and 2 more are beyond the last id, 4294967294",
            ),
            (
                json!([line(0, 9, 1), line(u32::MAX, 1, 1)]),
                "[1].containerID: 4294967295 and 1 more are beyond the last id, 4294967294",
            ),
            (
                json!([line(0, 100, 10), line(9, 200, 1)]),
                "[1]: overlaps element 0 in the container",
            ),
            (
                json!([line(0, 100, 10), line(10, 91, 10)]),
                "[1]: overlaps element 0 on the host",
            ),
            (
                json!(many),
                ": has 341 lines of 3190 bytes (the kernel takes 340 lines of less than 4096 bytes)",
            ),
            (
                json!(wide),
                ": has 300 lines of 4990 bytes (the kernel takes 340 lines of less than 4096 bytes)",
            ),
        ] {
            let mut config = rootless();
            set(&mut config, "/linux/gidMappings", Some(map.clone()));
            let refused = refusals_of(&config);
            assert_eq!(refused[0], format!("linux.gidMappings{message}"));
        }
    }

    #[test]
    fn the_root_of_the_container_is_mapped() {
        let mut config = rootless();
        let map = json!([{"containerID": 1, "hostID": 100, "size": 10}]);
        set(&mut config, "/linux/gidMappings", Some(map));
        assert_eq!(
            refusals_of(&config),
            [
                "linux.gidMappings: does not map 0 (the container is set up by its root; map containerID 0)",
                "process.user.gid: 0 is not in linux.gidMappings"
            ]
        );
    }

    #[test]
    fn the_last_id_can_be_mapped() {
        let mut config = rootless();
        let map = json!([{"containerID": 0, "hostID": 0, "size": u32::MAX}]);
        set(&mut config, "/linux/uidMappings", Some(map));
        assert_eq!(plan(&config).unwrap().namespaces.uid_map[0].size, u32::MAX);
    }

    #[test]
    fn ids_of_the_process_must_be_mapped() {
        let mut config = rootless();
        let user = json!({"uid": 1, "gid": 2, "additionalGids": [0, 3]});
        set(&mut config, "/process/user", Some(user));
        assert_eq!(
            refusals_of(&config),
            [
                "process.user.uid: 1 is not in linux.uidMappings",
                "process.user.gid: 2 is not in linux.gidMappings",
                "process.user.additionalGids[1]: 3 is not in linux.gidMappings"
            ]
        );
    }
}
