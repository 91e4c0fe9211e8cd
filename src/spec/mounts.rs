//! `mounts`, resolved: what is mounted, from where, with which attributes.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use libc::MOUNT_ATTR_RDONLY;
use oci_spec::runtime as oci;

use super::field::{Field, clean};
use super::mount_options::{self, Options, Takes};
use super::namespaces::plan_id_lines;
use super::plan::{BindSource, Mount, MountIdMap, MountIds, MountKind, Namespace, Namespaces};

/// File systems of which there is one instance, for the whole machine or for a namespace.
///
/// mount(2) with `MS_RDONLY`, which is what `ro` has always meant, makes both mount and superblock read-only. For a new
/// superblock that is right: nobody else sees it, and a disk that is itself read-only cannot be mounted in another way.
/// But these have a superblock that others use too, and whoever mounts one first decides for all: the first container
/// of a pod would make its neighbours' `/dev/mqueue` read-only. There `ro` is for the mount only.
const SHARED_SUPERBLOCK: &[&str] = &[
    "binfmt_misc",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devtmpfs",
    "efivarfs",
    "functionfs",
    "fusectl",
    "mqueue",
    "nfsd",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sysfs",
    "tracefs",
];

/// Files of procfs that lxcfs and the like replace by what holds for the container, as in runc.
const REPLACEABLE: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Resolves `mounts`; a relative source starts at `bundle`, `sources` are files that replace the source by index.
pub(crate) fn plan_mounts(
    mounts: &[oci::Mount],
    bundle: &Path,
    sources: &BTreeMap<usize, OwnedFd>,
    namespaces: &Namespaces,
    field: &mut Field<'_>,
) -> Vec<Mount> {
    let plans = mounts
        .iter()
        .enumerate()
        .map(|(index, mount)| {
            let file = sources
                .get(&index)
                .map(|fd| BindSource::Mount(fd.as_raw_fd()));
            plan_mount(mount, bundle, file, namespaces, &mut field.item(index))
        })
        .collect();
    for (index, _) in sources.range(mounts.len()..) {
        field.item(*index).refuse("has a source and does not exist");
    }
    plans
}

fn plan_mount(
    mount: &oci::Mount,
    bundle: &Path,
    file: Option<BindSource>,
    namespaces: &Namespaces,
    field: &mut Field<'_>,
) -> Mount {
    let destination = plan_destination(mount.destination(), &mut field.at("destination"));
    let (kind, options) = plan_kind(mount, bundle, file, field);
    let id_map = plan_id_map(mount, &kind, options.id_map, namespaces, field);
    check_ids(&kind, namespaces, &mut field.at("options"));
    if options.copy_up && !is_tmpfs(&kind) {
        field.at("options").refuse_and_hint(
            "\"tmpcopyup\" is for a tmpfs only",
            "it fills the new file system with what it covers",
        );
    }
    if let Err(reason) = over_proc(&destination, &kind) {
        field.at("destination").refuse_and_hint(
            reason,
            "a false /proc deceives whoever looks into it; CVE-2019-16884, CVE-2019-19921",
        );
    }
    Mount {
        destination,
        kind,
        attributes: options.attributes,
        recursive_attributes: options.recursive_attributes,
        propagation: options.propagation,
        id_map,
        copy_up: options.copy_up,
    }
}

fn is_tmpfs(kind: &MountKind) -> bool {
    matches!(kind, MountKind::FileSystem { fstype, .. } if fstype.as_c_str() == c"tmpfs")
}

fn plan_destination(destination: &Path, field: &mut Field<'_>) -> PathBuf {
    field.c_string(destination);
    let cleaned = clean(destination);
    if destination.as_os_str().is_empty() {
        field.refuse("is empty");
    } else if cleaned == Path::new("/") {
        field.refuse_and_hint(
            format_args!("{destination:?} is the root"),
            "the container's root is root.path",
        );
    } else if !destination.is_absolute() {
        log::warn!("mount destination {destination:?} is relative, taken as {cleaned:?}");
    }
    cleaned
}

/// `idmap` and `ridmap` take the container's own map, unless the mount has one. A map without such an option is not
/// recursive, as in runc.
fn plan_id_map(
    mount: &oci::Mount,
    kind: &MountKind,
    option: Option<bool>,
    namespaces: &Namespaces,
    field: &mut Field<'_>,
) -> Option<MountIdMap> {
    let lines = |map: &Option<Vec<oci::LinuxIdMapping>>| map.clone().unwrap_or_default();
    let (uid, gid) = (lines(mount.uid_mappings()), lines(mount.gid_mappings()));
    let has_own = !uid.is_empty() || !gid.is_empty();
    if !has_own && option.is_none() {
        return None;
    }
    if !matches!(kind, MountKind::Bind { .. }) {
        field.refuse_and_hint(
            "only a bind mount can be id-mapped",
            "its own options (uid=, gid=) give the files of a new file system their owners",
        );
    }
    let ids = if has_own {
        MountIds::Maps {
            uid: plan_id_lines(&uid, &mut field.at("uidMappings")),
            gid: plan_id_lines(&gid, &mut field.at("gidMappings")),
        }
    } else {
        match &namespaces.user {
            Namespace::Join(path) => MountIds::Namespace(path.clone()),
            Namespace::New => MountIds::Maps {
                uid: namespaces.uid_map.clone(),
                gid: namespaces.gid_map.clone(),
            },
            Namespace::Inherit => {
                field.at("options").refuse_and_hint(
                    "there is no user namespace whose map the mount could have",
                    "give the mount uidMappings and gidMappings, or add {\"type\": \"user\"} to linux.namespaces",
                );
                return None;
            }
        }
    };
    Some(MountIdMap {
        ids,
        recursive: option.unwrap_or(false),
    })
}

/// The kernel reads `uid=` and `gid=` in the container's user namespace, and knows no others there.
fn check_ids(kind: &MountKind, namespaces: &Namespaces, field: &mut Field<'_>) {
    let MountKind::FileSystem { parameters, .. } = kind else {
        return;
    };
    if namespaces.user != Namespace::New {
        return;
    }
    for (key, value) in parameters {
        let (map, name) = match key.to_bytes() {
            b"uid" => (&namespaces.uid_map, "linux.uidMappings"),
            b"gid" => (&namespaces.gid_map, "linux.gidMappings"),
            _ => continue,
        };
        let value = value.as_ref().and_then(|value| value.to_str().ok());
        let Some(id) = value.and_then(|value| value.parse().ok()) else {
            continue;
        };
        if !map.iter().any(|line| line.contains(id)) {
            let key = key.to_string_lossy();
            field.refuse_and_hint(
                format_args!("\"{key}={id}\": {id} is not in {name}"),
                "map it, or leave the option out",
            );
        }
    }
}

fn plan_kind(
    mount: &oci::Mount,
    bundle: &Path,
    file: Option<BindSource>,
    field: &mut Field<'_>,
) -> (MountKind, Options) {
    let fstype = mount.typ().as_deref().unwrap_or_default();
    let options = mount.options().as_deref().unwrap_or_default();
    let parse = |takes, field: &mut Field<'_>| {
        mount_options::parse(options, takes, &mut field.at("options"))
    };
    let bind = mount_options::bind(options).or((fstype == "bind").then_some(false));
    let remount = mount_options::is_remount(options);
    if (bind.is_none() || remount) && file.is_some() {
        field.refuse("has an open source and is no bind mount");
    }
    if remount {
        let takes = bind.map_or(Takes::Everything, |_| Takes::Attributes("a bind mount"));
        let mut options = parse(takes, field);
        let parameters = std::mem::take(&mut options.parameters);
        return (MountKind::Remount { parameters }, options);
    }
    match (bind, fstype) {
        (Some(recursive), _) => {
            let source = file.unwrap_or_else(|| bind_source(mount, bundle, field));
            let kind = MountKind::Bind { source, recursive };
            (kind, parse(Takes::Attributes("a bind mount"), field))
        }
        (None, "cgroup" | "cgroup2") => {
            let options = parse(Takes::Attributes("a cgroup mount"), field);
            (MountKind::Cgroup, options)
        }
        (None, fstype) => {
            let mut options = parse(Takes::Everything, field);
            let parameters = std::mem::take(&mut options.parameters);
            let kind = MountKind::FileSystem {
                fstype: plan_fstype(fstype, &mut field.at("type")),
                source: file_system_source(mount, &mut field.at("source")),
                parameters: read_only(fstype, &options, parameters),
            };
            (kind, options)
        }
    }
}

fn plan_fstype(fstype: &str, field: &mut Field<'_>) -> CString {
    if ["", "none"].contains(&fstype) {
        field.refuse_and_hint(
            "is missing",
            "a file system's name, or the option \"bind\" or \"rbind\"",
        );
    }
    field.c_string(fstype)
}

fn file_system_source(mount: &oci::Mount, field: &mut Field<'_>) -> Option<CString> {
    let source = mount.source().as_deref()?;
    (!source.as_os_str().is_empty()).then(|| field.c_string(source))
}

fn bind_source(mount: &oci::Mount, bundle: &Path, field: &mut Field<'_>) -> BindSource {
    let source = mount.source().as_deref().unwrap_or(Path::new(""));
    let field = &mut field.at("source");
    field.c_string(source);
    if source.as_os_str().is_empty() {
        field.refuse_and_hint("is missing", "a bind mount needs a file or directory");
    }
    BindSource::Path(bundle.join(source))
}

/// Adds `ro` for a superblock of the container's own, see [`SHARED_SUPERBLOCK`].
///
/// Not for a tmpfs, `/dev` among them: what is mounted and made in it comes first, the mount is made read-only afterwards.
fn read_only(
    fstype: &str,
    options: &Options,
    mut parameters: Vec<(CString, Option<CString>)>,
) -> Vec<(CString, Option<CString>)> {
    let readonly = options.attributes.set & MOUNT_ATTR_RDONLY != 0;
    if readonly && !SHARED_SUPERBLOCK.contains(&fstype) && fstype != "tmpfs" {
        parameters.insert(0, (c"ro".into(), None));
    }
    parameters
}

/// Whether this may be mounted here without a false `/proc` or a part of it (CVE-2019-16884, CVE-2019-19921).
///
/// `destination` is an absolute path in the container. It is checked here as it is written, and must be checked again
/// when it is resolved: a link in the image may lead to `/proc`.
///
/// # Errors
/// Why not, to follow the name of the destination.
pub fn over_proc(destination: &Path, kind: &MountKind) -> std::result::Result<(), String> {
    if let MountKind::Remount { .. } = kind {
        // It shows nothing else than before.
        return Ok(());
    }
    let Ok(below) = destination.strip_prefix("/proc") else {
        return Ok(());
    };
    if below.as_os_str().is_empty() {
        let allowed = match kind {
            MountKind::FileSystem { fstype, .. } => fstype.as_c_str() == c"proc",
            // The host's own: for a container that shares its pid namespace.
            MountKind::Bind { source, .. } => *source == BindSource::Path("/proc".into()),
            MountKind::Cgroup | MountKind::Remount { .. } => false,
        };
        return allowed
            .then_some(())
            .ok_or_else(|| "only a file system of type proc can be mounted on /proc".into());
    }
    let replaceable = REPLACEABLE
        .iter()
        .any(|path| destination == Path::new(path));
    if replaceable && matches!(kind, MountKind::Bind { .. }) {
        return Ok(());
    }
    Err(format!("{destination:?} is inside /proc"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::plan::IdMap;
    use crate::spec::testing::{
        assert_refused, plan, plan_with_sources, planned, refusals, refusals_of, rootless, set,
        with,
    };

    fn mount(mount: Value) -> Mount {
        planned(&[("/mounts", json!([mount]))]).mounts.remove(0)
    }

    fn parameters(mount: &Mount) -> Vec<String> {
        let MountKind::FileSystem { parameters, .. } = &mount.kind else {
            panic!("{mount:?}");
        };
        let text = |(key, value): &(CString, Option<CString>)| match value {
            Some(value) => format!("{}={}", key.to_str().unwrap(), value.to_str().unwrap()),
            None => key.to_str().unwrap().into(),
        };
        parameters.iter().map(text).collect()
    }

    #[test]
    fn of_the_default_configuration() {
        let mounts = planned(&[]).mounts;
        let kinds: Vec<String> = mounts
            .iter()
            .map(|mount| match &mount.kind {
                MountKind::FileSystem { fstype, source, .. } => {
                    let parameters = parameters(mount).join(",");
                    format!(
                        "{} {fstype:?} {source:?} {parameters}",
                        mount.destination.display()
                    )
                }
                other => format!("{} {other:?}", mount.destination.display()),
            })
            .collect();
        assert_eq!(
            kinds,
            [
                "/proc \"proc\" Some(\"proc\") ",
                "/dev \"tmpfs\" Some(\"tmpfs\") mode=755,size=65536k",
                "/dev/pts \"devpts\" Some(\"devpts\") newinstance,ptmxmode=0666,mode=0620,gid=5",
                "/dev/shm \"tmpfs\" Some(\"shm\") mode=1777,size=65536k",
                "/dev/mqueue \"mqueue\" Some(\"mqueue\") ",
                "/sys \"sysfs\" Some(\"sysfs\") ",
                "/sys/fs/cgroup Cgroup",
            ]
        );
        let readonly: Vec<u64> = mounts.iter().map(|m| m.attributes.set & 1).collect();
        assert_eq!(readonly, [0, 0, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn of_the_rootless_configuration() {
        let mounts = plan(&rootless()).unwrap().mounts;
        let MountKind::Bind {
            source,
            recursive: true,
        } = &mounts[5].kind
        else {
            panic!("{:?}", mounts[5]);
        };
        assert_eq!(*source, BindSource::Path("/sys".into()));
    }

    #[test]
    fn a_bind_mount_by_option_or_type() {
        for (mount_json, path, recursive) in [
            (
                json!({"destination": "/a", "source": "/b", "options": ["bind"]}),
                "/b",
                false,
            ),
            (
                json!({"destination": "/a", "source": "/b", "type": "bind"}),
                "/b",
                false,
            ),
            (
                json!({"destination": "/a", "source": "b", "type": "bind", "options": ["rbind"]}),
                "/bundle/b",
                true,
            ),
            // any type is meaningless for a bind mount
            (
                json!({"destination": "/a", "source": "/b", "type": "tmpfs", "options": ["rbind"]}),
                "/b",
                true,
            ),
        ] {
            match mount(mount_json.clone()).kind {
                MountKind::Bind {
                    source,
                    recursive: planned,
                } => {
                    assert_eq!(
                        (source, planned),
                        (BindSource::Path(path.into()), recursive)
                    );
                }
                other => panic!("{mount_json}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_open_file_replaces_the_source() {
        let bind = json!({"destination": "/a", "source": "/b", "options": ["bind"]});
        let config = with(&[("/mounts", json!([bind]))]);
        let file = || OwnedFd::from(std::fs::File::open("/").unwrap());
        let fd = file();
        let raw = fd.as_raw_fd();
        let plan = plan_with_sources(&config, [(0, fd)].into()).unwrap();
        assert!(matches!(
            &plan.mounts[0].kind,
            MountKind::Bind { source: BindSource::Mount(fd), .. } if *fd == raw
        ));
        for (config, index, message) in [
            (
                config,
                1,
                "config.json: mounts[1]: has a source and does not exist",
            ),
            (
                with(&[]),
                0,
                "config.json: mounts[0]: has an open source and is no bind mount",
            ),
        ] {
            let error = plan_with_sources(&config, [(index, file())].into()).unwrap_err();
            assert_eq!(error.to_string().lines().next(), Some(message));
        }
    }

    #[test]
    fn read_only_superblocks_are_the_containers_own() {
        for (fstype, destination, options, expected) in [
            ("tmpfs", "/a", json!(["size=1k", "ro"]), vec!["size=1k"]),
            ("tmpfs", "/a", json!(["ro", "rw"]), vec![]),
            ("tmpfs", "/dev", json!(["ro"]), vec![]),
            ("ext4", "/a", json!(["sync", "ro"]), vec!["ro", "sync"]),
            ("ext4", "/a", json!(["ro"]), vec!["ro"]),
            ("sysfs", "/sys", json!(["ro"]), vec![]),
            (
                "proc",
                "/proc",
                json!(["ro", "hidepid=2"]),
                vec!["hidepid=2"],
            ),
            ("mqueue", "/a", json!(["ro"]), vec![]),
        ] {
            let mount =
                mount(json!({"destination": destination, "type": fstype, "options": options}));
            assert_eq!(parameters(&mount), expected, "{fstype} {options}");
        }
    }

    #[test]
    fn destinations_are_absolute_and_clean() {
        for (destination, cleaned) in [("a/b", "/a/b"), ("/a//./b/../c/", "/a/c"), ("/../x", "/x")]
        {
            let mount = mount(json!({"destination": destination, "type": "tmpfs"}));
            assert_eq!(mount.destination.to_str(), Some(cleaned));
        }
    }

    #[test]
    fn what_may_be_mounted_over_proc() {
        let bind = |source: &str| json!({"source": source, "options": ["bind"]});
        let tmpfs = json!({"type": "tmpfs"});
        let not_proc = "only a file system of type proc can be mounted on /proc";
        let inside = |path: &str| format!("\"{path}\" is inside /proc");
        for (destination, what, refused) in [
            ("/proc", json!({"type": "proc"}), None),
            ("/proc", bind("/proc"), None),
            ("/proc", bind("/proc/1/root"), Some(not_proc.into())),
            ("/proc", bind("/tmp"), Some(not_proc.into())),
            ("/proc", tmpfs.clone(), Some(not_proc.into())),
            ("proc/", tmpfs.clone(), Some(not_proc.into())),
            ("/x/../proc", tmpfs.clone(), Some(not_proc.into())),
            ("/proc", json!({"type": "cgroup"}), Some(not_proc.into())),
            (
                "/proc/self/attr",
                bind("/a"),
                Some(inside("/proc/self/attr")),
            ),
            ("/proc/sys", tmpfs.clone(), Some(inside("/proc/sys"))),
            (
                "/proc/self",
                json!({"type": "proc"}),
                Some(inside("/proc/self")),
            ),
            ("/proc/cpuinfo", bind("/a"), None),
            ("/proc/net/dev", bind("/a"), None),
            ("/proc/uptime", tmpfs.clone(), Some(inside("/proc/uptime"))),
            ("/proc/uptime/x", bind("/a"), Some(inside("/proc/uptime/x"))),
            ("/process", tmpfs, None),
            ("/sys", bind("/sys"), None),
        ] {
            let mut mount = what.clone();
            mount["destination"] = json!(destination);
            let hint =
                "(a false /proc deceives whoever looks into it; CVE-2019-16884, CVE-2019-19921)";
            let expected: Vec<String> = refused
                .map(|reason| format!("mounts[0].destination: {reason} {hint}"))
                .into_iter()
                .collect();
            assert_eq!(
                refusals(&[("/mounts", json!([mount]))]),
                expected,
                "{mount}"
            );
        }
    }

    #[test]
    fn refused() {
        let row = |mount: Value, message| ("/mounts", json!([mount]), message);
        let fstype = "mounts[0].type: is missing (a file system's name, or the option \"bind\" or \"rbind\")";
        assert_refused(&[
            row(
                json!({"destination": "", "type": "tmpfs"}),
                "mounts[0].destination: is empty",
            ),
            row(
                json!({"destination": "/a/..", "type": "tmpfs"}),
                "mounts[0].destination: \"/a/..\" is the root (the container's root is root.path)",
            ),
            row(
                json!({"destination": "/\0", "type": "tmpfs"}),
                "mounts[0].destination: \"/\\0\" contains a NUL byte",
            ),
            row(json!({"destination": "/a"}), fstype),
            row(
                json!({"destination": "/a", "type": "none", "source": "/b"}),
                fstype,
            ),
            row(
                json!({"destination": "/a", "type": "x\0"}),
                "mounts[0].type: \"x\\0\" contains a NUL byte",
            ),
            row(
                json!({"destination": "/a", "type": "tmpfs", "source": "\0"}),
                "mounts[0].source: \"\\0\" contains a NUL byte",
            ),
            row(
                json!({"destination": "/a", "options": ["bind"]}),
                "mounts[0].source: is missing (a bind mount needs a file or directory)",
            ),
            row(
                json!({"destination": "/a", "source": "/b", "options": ["bind", "bogusopt"]}),
                "mounts[0].options[1]: unknown option \"bogusopt\" for a bind mount (see mount(8))",
            ),
            row(
                json!({"destination": "/a", "type": "cgroup2", "options": ["nsdelegate"]}),
                "mounts[0].options[0]: unknown option \"nsdelegate\" for a cgroup mount (see mount(8))",
            ),
            row(
                json!({"destination": "/a", "source": "/b", "options": ["bind"],
                    "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]}),
                "mounts[0].gidMappings: is missing (a map of user ids goes with one of group ids)",
            ),
            row(
                json!({"destination": "/a", "source": "/b", "options": ["rbind", "ridmap"]}),
                "mounts[0].options: there is no user namespace whose map the mount could have (give the mount \
                 uidMappings and gidMappings, or add {\"type\": \"user\"} to linux.namespaces)",
            ),
            row(
                json!({"destination": "/a", "type": "tmpfs",
                    "uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}],
                    "gidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]}),
                "mounts[0]: only a bind mount can be id-mapped (its own options (uid=, gid=) give the files of a new \
                 file system their owners)",
            ),
            row(
                json!({"destination": "/a", "type": "ramfs", "options": ["tmpcopyup"]}),
                "mounts[0].options: \"tmpcopyup\" is for a tmpfs only (it fills the new file system with what it covers)",
            ),
        ]);
    }

    #[test]
    fn id_maps_of_the_container_and_of_the_mount() {
        let bind =
            |options: Value| json!({"destination": "/a", "source": "/b", "options": options});
        let mut config = rootless();
        let mut own = bind(json!(["bind"]));
        own["uidMappings"] = json!([{"containerID": 0, "hostID": 7, "size": 1}]);
        own["gidMappings"] = json!([{"containerID": 5, "hostID": 8, "size": 2}]);
        let mut both = own.clone();
        both["options"] = json!(["bind", "idmap", "ridmap"]);
        let mounts = json!([
            bind(json!(["rbind", "idmap"])),
            own,
            both,
            bind(json!(["bind"]))
        ]);
        set(&mut config, "/mounts", Some(mounts));
        let line = |container_id, host_id, size| {
            vec![IdMap {
                container_id,
                host_id,
                size,
            }]
        };
        let maps = |uid, gid, recursive| {
            let ids = MountIds::Maps { uid, gid };
            Some(MountIdMap { ids, recursive })
        };
        let planned: Vec<_> = plan(&config).unwrap().mounts;
        let planned: Vec<_> = planned.into_iter().map(|mount| mount.id_map).collect();
        assert_eq!(
            planned,
            [
                maps(line(0, 1000, 1), line(0, 1000, 1), false),
                maps(line(0, 7, 1), line(5, 8, 2), false),
                maps(line(0, 7, 1), line(5, 8, 2), true),
                None,
            ]
        );
        let user = json!({"type": "user", "path": "/proc/7/ns/user"});
        set(&mut config, "/linux/namespaces/4", Some(user));
        let planned = plan(&config).unwrap().mounts.remove(0).id_map.unwrap();
        assert_eq!(planned.ids, MountIds::Namespace("/proc/7/ns/user".into()));
    }

    #[test]
    fn ids_of_a_file_system_must_be_mapped() {
        let mut config = rootless();
        let options = json!(["newinstance", "gid=5", "uid=0"]);
        let pts = json!([{"destination": "/dev/pts", "type": "devpts", "options": options}]);
        set(&mut config, "/mounts", Some(pts));
        assert_eq!(
            refusals_of(&config),
            [
                "mounts[0].options: \"gid=5\": 5 is not in linux.gidMappings (map it, or leave the option out)"
            ]
        );
    }

    #[test]
    fn a_remount_changes_what_is_there() {
        let mount = |options: Value| mount(json!({"destination": "/proc/sys", "options": options}));
        for (options, expected) in [
            (json!(["remount", "bind", "ro"]), 0),
            (json!(["remount", "ro", "size=1k"]), 1),
        ] {
            let mount = mount(options);
            assert_eq!(mount.attributes.set, 1);
            match mount.kind {
                MountKind::Remount { parameters } => assert_eq!(parameters.len(), expected),
                other => panic!("{other:?}"),
            }
        }
    }
}
