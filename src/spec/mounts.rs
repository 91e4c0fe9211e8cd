//! `mounts`, resolved: what is mounted, from where, with which attributes.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use libc::MOUNT_ATTR_RDONLY;
use oci_spec::runtime as oci;

use super::field::{Field, clean};
use super::mount_options::{self, Options, Takes};
use super::plan::{BindSource, Mount, MountKind};

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
    field: &mut Field<'_>,
) -> Vec<Mount> {
    let plans = mounts
        .iter()
        .enumerate()
        .map(|(index, mount)| {
            let file = sources
                .get(&index)
                .map(|fd| BindSource::Mount(fd.as_raw_fd()));
            plan_mount(mount, bundle, file, &mut field.item(index))
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
    field: &mut Field<'_>,
) -> Mount {
    let destination = plan_destination(mount.destination(), &mut field.at("destination"));
    refuse_id_maps(mount, field);
    let (kind, options) = plan_kind(mount, bundle, file, field);
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
    }
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

fn refuse_id_maps(mount: &oci::Mount, field: &mut Field<'_>) {
    for (name, map) in [
        ("uidMappings", mount.uid_mappings()),
        ("gidMappings", mount.gid_mappings()),
    ] {
        if map.as_ref().is_some_and(|map| !map.is_empty()) {
            field.at(name).refuse("is not supported yet");
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
    if bind.is_none() && file.is_some() {
        field.refuse("has an open source and is no bind mount");
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
    let Ok(below) = destination.strip_prefix("/proc") else {
        return Ok(());
    };
    if below.as_os_str().is_empty() {
        let allowed = match kind {
            MountKind::FileSystem { fstype, .. } => fstype.as_c_str() == c"proc",
            // The host's own: for a container that shares its pid namespace.
            MountKind::Bind { source, .. } => *source == BindSource::Path("/proc".into()),
            MountKind::Cgroup => false,
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
    use crate::spec::testing::{
        assert_refused, plan, plan_with_sources, planned, refusals, rootless, with,
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
                "mounts[0].uidMappings: is not supported yet",
            ),
            row(
                json!({"destination": "/a", "source": "/b", "options": ["bind"],
                    "gidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]}),
                "mounts[0].gidMappings: is not supported yet",
            ),
        ]);
    }
}
