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
mod tests;
