//! Volumes, and what each container mounts.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount, Spec};
use rustix::fs::{major, minor};

use super::{Context, HostPathKind, Shared, VOLUMES, VolumeMountPlan, VolumePlan, VolumeSource};
use crate::pod::quantity::Quantity;

/// The size of a pod's `/dev/shm` in bytes, as containerd makes it.
const SHM_SIZE: u64 = 64 << 20;

/// Where POSIX shared memory is: every container of a pod sees the same.
const SHM: &str = "/dev/shm";

/// The pod's volumes in the manifest's order, then its `/dev/shm` unless it uses the host's.
pub(super) fn volumes(spec: &PodSpec) -> Vec<VolumePlan> {
    let named = spec.volumes.iter().flatten();
    let mut volumes: Vec<VolumePlan> = named.map(volume).collect();
    if spec.host_ipc != Some(true) {
        volumes.push(VolumePlan {
            name: shm_name(&volumes),
            source: VolumeSource::EmptyDir {
                memory: true,
                size_limit: Some(SHM_SIZE),
                mode: 0o1777,
            },
        });
    }
    volumes
}

/// `dev-shm`, or with as many dashes as it takes to be the only one.
fn shm_name(volumes: &[VolumePlan]) -> String {
    let mut name = "dev-shm".to_owned();
    while volumes.iter().any(|v| v.name == name) {
        name = name.replacen('-', "--", 1);
    }
    name
}

fn volume(volume: &Volume) -> VolumePlan {
    let source = match (&volume.host_path, &volume.empty_dir) {
        (Some(host_path), _) => VolumeSource::HostPath {
            path: host_path.path.clone().into(),
            kind: host_path_kind(host_path.type_.as_deref().unwrap_or_default()),
        },
        (None, empty_dir) => VolumeSource::EmptyDir {
            memory: empty_dir
                .as_ref()
                .is_some_and(|e| e.medium.as_deref() == Some("Memory")),
            size_limit: empty_dir
                .as_ref()
                .and_then(|e| Quantity::parse(&e.size_limit.as_ref()?.0).ok())
                // Zero is no limit.
                .filter(|limit| *limit > Quantity::ZERO)
                .and_then(|limit| limit.value().try_into().ok()),
            mode: 0o777,
        },
    };
    VolumePlan {
        name: volume.name.clone(),
        source,
    }
}

fn host_path_kind(name: &str) -> HostPathKind {
    match name {
        "DirectoryOrCreate" => HostPathKind::DirectoryOrCreate,
        "Directory" => HostPathKind::Directory,
        "FileOrCreate" => HostPathKind::FileOrCreate,
        "File" => HostPathKind::File,
        "Socket" => HostPathKind::Socket,
        "CharDevice" => HostPathKind::CharDevice,
        "BlockDevice" => HostPathKind::BlockDevice,
        // The only other one that is valid is "".
        _ => HostPathKind::Unchecked,
    }
}

/// A mount with the volume that it binds.
struct Planned {
    mount: Mount,
    volume: Option<(usize, Option<PathBuf>)>,
}

/// Sets `spec.mounts`: the image's, then the volumes, outer ones before those inside them.
pub(super) fn plan(
    context: &Context<'_>,
    spec: &mut Spec,
    container: &Container,
    privileged: bool,
) -> Vec<VolumeMountPlan> {
    let mut volumes = volume_mounts(context, container);
    if !volumes
        .iter()
        .any(|v| v.mount.destination() == Path::new(SHM))
    {
        volumes.extend(shm(context));
    }
    volumes.sort_by_key(|planned| planned.mount.destination().components().count());

    let hidden = |mount: &Mount| {
        let mut destinations = volumes.iter().map(|v| v.mount.destination());
        destinations.any(|destination| destination == mount.destination())
    };
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.retain(|mount| !hidden(mount));
    if privileged {
        mounts.iter_mut().for_each(make_writable);
    }
    let first = mounts.len();
    let mut plans = Vec::new();
    for (index, planned) in volumes.into_iter().enumerate() {
        mounts.push(planned.mount);
        if let Some((volume, sub_path)) = planned.volume {
            plans.push(VolumeMountPlan {
                mount: first + index,
                volume,
                sub_path,
            });
        }
    }
    spec.set_mounts(Some(mounts));
    plans
}

fn volume_mounts(context: &Context<'_>, container: &Container) -> Vec<Planned> {
    let mut planned = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        // Validated: every name is that of a volume.
        let Some(index) = context.volumes.iter().position(|v| v.name == mount.name) else {
            continue;
        };
        let access = match mount.read_only {
            Some(true) => "ro",
            _ => "rw",
        };
        // The kubelet takes a relative path as one from the root.
        let destination = Path::new("/").join(&mount.mount_path);
        let sub_path = mount.sub_path.as_ref().filter(|path| !path.is_empty());
        planned.push(Planned {
            mount: bind(context.source(index), destination, &[access]),
            volume: Some((index, sub_path.map(PathBuf::from))),
        });
    }
    planned
}

/// The pod's `/dev/shm`, or the host's with the host's IPC.
fn shm(context: &Context<'_>) -> Option<Planned> {
    if context.sandbox.ipc == Shared::Host {
        return Some(Planned {
            mount: bind(SHM.into(), SHM.into(), &["rw"]),
            volume: None,
        });
    }
    let index = context.volumes.len().checked_sub(1)?;
    Some(Planned {
        mount: bind(
            context.source(index),
            SHM.into(),
            &["rw", "nosuid", "noexec", "nodev"],
        ),
        volume: Some((index, None)),
    })
}

impl Context<'_> {
    fn source(&self, volume: usize) -> PathBuf {
        let name = self.volumes.get(volume).map(|v| v.name.as_str());
        Path::new(VOLUMES).join(name.unwrap_or_default())
    }
}

fn bind(source: PathBuf, destination: PathBuf, options: &[&str]) -> Mount {
    let all = ["rbind", "rprivate"].iter().chain(options);
    let mut mount = Mount::default();
    mount
        .set_source(Some(source))
        .set_destination(destination)
        .set_typ(Some("bind".to_owned()))
        .set_options(Some(all.map(|o| (*o).to_owned()).collect()));
    mount
}

/// A privileged container may write to sysfs and its cgroups.
fn make_writable(mount: &mut Mount) {
    if !matches!(mount.typ().as_deref(), Some("sysfs" | "cgroup")) {
        return;
    }
    for option in mount.options_mut().iter_mut().flatten() {
        if option == "ro" {
            *option = "rw".to_owned();
        }
    }
}

/// What a privileged container gets: every device node below the host's `/dev`, except terminals and what is mounted
/// there by itself. What cannot be read is left out.
pub(super) fn host_devices() -> Vec<LinuxDevice> {
    const OWN: [&str; 7] = [
        "pts",
        "shm",
        "fd",
        "mqueue",
        "console",
        "ptmx",
        ".lxd-mounts",
    ];
    let mut devices = Vec::new();
    let mut directories = vec![PathBuf::from("/dev")];
    while let Some(directory) = directories.pop() {
        let entries = std::fs::read_dir(directory).into_iter().flatten();
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let kind = metadata.file_type();
            if OWN.iter().any(|own| entry.file_name() == *own) {
                continue;
            } else if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_char_device() {
                devices.push(device(entry.path(), LinuxDeviceType::C, &metadata));
            } else if kind.is_block_device() {
                devices.push(device(entry.path(), LinuxDeviceType::B, &metadata));
            }
        }
    }
    devices.sort_by(|a, b| a.path().cmp(b.path()));
    devices
}

fn device(path: PathBuf, kind: LinuxDeviceType, metadata: &std::fs::Metadata) -> LinuxDevice {
    let mut device = LinuxDevice::default();
    device
        .set_path(path)
        .set_typ(kind)
        .set_major(major(metadata.rdev()).into())
        .set_minor(minor(metadata.rdev()).into())
        .set_file_mode(Some(metadata.mode() & 0o7777))
        .set_uid(Some(metadata.uid()))
        .set_gid(Some(metadata.gid()));
    device
}
