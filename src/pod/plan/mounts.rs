//! What each container mounts.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Container;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount, Spec};
use rustix::fs::{major, minor};

use super::{Context, Propagation, Shared, VOLUMES, VolumeMountPlan, VolumeSource, env};

/// Where POSIX shared memory is: every container of a pod sees the same.
const SHM: &str = "/dev/shm";

/// A mount with the volume that it binds.
struct Planned {
    mount: Mount,
    volume: Option<Bound>,
}

struct Bound {
    volume: usize,
    sub_path: Option<SubPath>,
    propagation: Propagation,
}

/// What is mounted of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubPath {
    /// This.
    Known(PathBuf),
    /// A `subPathExpr` with variables that are known only when the container starts.
    Late(String),
}

impl SubPath {
    /// The path, with these variables of the container.
    ///
    /// # Errors
    /// A variable that it does not have, or a path that leaves the volume, in the kubelet's words.
    pub fn resolve(&self, variables: &[String]) -> Result<PathBuf, String> {
        match self {
            Self::Known(path) => Ok(path.clone()),
            Self::Late(text) => sub_path(text, variables).map(PathBuf::from),
        }
    }
}

/// Sets `spec.mounts`: the image's, then the volumes, outer ones before those inside them. `late`: some of its variables are
/// known only when it starts.
///
/// # Errors
/// A `subPathExpr` that cannot be expanded, in the kubelet's words.
pub(super) fn plan(
    context: &Context<'_>,
    spec: &mut Spec,
    container: &Container,
    privileged: bool,
    late: bool,
) -> Result<Vec<VolumeMountPlan>, String> {
    let process = spec.process().as_ref();
    let variables = process.and_then(|process| process.env().as_deref());
    let mut volumes = volume_mounts(context, container, variables.unwrap_or_default(), late)?;
    if !volumes
        .iter()
        .any(|v| v.mount.destination() == Path::new(SHM))
    {
        volumes.extend(shm(context));
    }
    let read_only = spec.root().as_ref().and_then(|root| root.readonly()) == Some(true);
    let taken = |path: &Path| {
        let mut own = spec.mounts().iter().flatten().map(Mount::destination);
        own.any(|own| own == path) || volumes.iter().any(|v| v.mount.destination() == path)
    };
    let etc: Vec<Planned> = etc(context, read_only)
        .filter(|planned| !taken(planned.mount.destination()))
        .collect();
    volumes.extend(etc);
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
        if let Some(bound) = planned.volume {
            plans.push(VolumeMountPlan {
                mount: first + index,
                volume: bound.volume,
                sub_path: bound.sub_path,
                propagation: bound.propagation,
            });
        }
    }
    spec.set_mounts(Some(mounts));
    Ok(plans)
}

fn volume_mounts(
    context: &Context<'_>,
    container: &Container,
    variables: &[String],
    late: bool,
) -> Result<Vec<Planned>, String> {
    let mut planned = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        // Validated: every name is that of a volume.
        let Some(index) = context.volumes.iter().position(|v| v.name == mount.name) else {
            continue;
        };
        let recursive = matches!(
            mount.recursive_read_only.as_deref(),
            Some("Enabled" | "IfPossible")
        );
        let volume = &context.volumes[index];
        let access = match mount.read_only == Some(true) || volume.read_only {
            true if recursive => "rro",
            true => "ro",
            false => "rw",
        };
        let (propagation, option) = match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => (Propagation::HostToContainer, "rslave"),
            Some("Bidirectional") => (Propagation::Bidirectional, "rshared"),
            _ => (Propagation::None, "rprivate"),
        };
        let mut options = vec![option, access];
        options.extend(
            mount
                .bind_mount_options
                .iter()
                .flatten()
                .map(String::as_str),
        );
        // The kubelet takes a relative path as one from the root.
        let destination = Path::new("/").join(&mount.mount_path);
        let sub_path = match mount.sub_path_expr.as_deref() {
            None | Some("") => {
                let path = mount.sub_path.as_ref().filter(|path| !path.is_empty());
                path.map(|path| SubPath::Known(path.into()))
            }
            Some(text) if late => Some(SubPath::Late(text.to_owned())),
            Some(text) => Some(SubPath::Known(sub_path(text, variables)?.into())),
        };
        planned.push(Planned {
            mount: bind(context.source(index), destination, &options),
            volume: Some(Bound {
                volume: index,
                sub_path,
                propagation,
            }),
        });
    }
    Ok(planned)
}

/// `subPathExpr` with the container's variables in it.
fn sub_path(text: &str, variables: &[String]) -> Result<String, String> {
    let missing = RefCell::new(BTreeSet::new());
    let path = env::expand(text, &|name| {
        let mut all = variables.iter().filter_map(|entry| entry.split_once('='));
        let found = all.find(|(n, value)| *n == name && !value.is_empty());
        if found.is_none() {
            missing.borrow_mut().insert(name.to_owned());
        }
        found.map(|(_, value)| value)
    });
    let missing: Vec<String> = missing.into_inner().into_iter().collect();
    if !missing.is_empty() {
        return Err(format!("missing value for {}", missing.join(", ")));
    }
    if path.starts_with('/') {
        return Err(format!(
            "error SubPath `{path}` must not be an absolute path"
        ));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(format!(
            "unable to provision SubPath `{path}`: must not contain '..'"
        ));
    }
    Ok(path)
}

/// The pod's `/dev/shm`, or the host's with the host's IPC.
fn shm(context: &Context<'_>) -> Option<Planned> {
    if context.sandbox.ipc == Shared::Host {
        return Some(Planned {
            mount: bind(SHM.into(), SHM.into(), &["rprivate", "rw"]),
            volume: None,
        });
    }
    let mut volumes = context.volumes.iter();
    let index = volumes.rposition(|v| matches!(v.source, VolumeSource::EmptyDir { .. }))?;
    Some(Planned {
        mount: bind(
            context.source(index),
            SHM.into(),
            &["rprivate", "rw", "nosuid", "noexec", "nodev"],
        ),
        volume: Some(Bound {
            volume: index,
            sub_path: None,
            propagation: Propagation::None,
        }),
    })
}

/// The files in `/etc` that all containers share; a root that is read-only has them read-only.
fn etc<'a>(context: &'a Context<'_>, read_only: bool) -> impl Iterator<Item = Planned> + 'a {
    let volumes = context.volumes.iter().enumerate();
    let files = volumes.filter_map(|(index, volume)| match &volume.source {
        VolumeSource::Etc(files) => Some((index, files)),
        _ => None,
    });
    files.flat_map(move |(index, files)| {
        files.keys().map(move |name| Planned {
            mount: bind(
                context.source(index),
                Path::new("/etc").join(name),
                &["rprivate", if read_only { "ro" } else { "rw" }],
            ),
            volume: Some(Bound {
                volume: index,
                sub_path: Some(SubPath::Known(name.into())),
                propagation: Propagation::None,
            }),
        })
    })
}

impl Context<'_> {
    fn source(&self, volume: usize) -> PathBuf {
        let name = self.volumes.get(volume).map(|v| v.name.as_str());
        Path::new(VOLUMES).join(name.unwrap_or_default())
    }
}

fn bind(source: PathBuf, destination: PathBuf, options: &[&str]) -> Mount {
    let all = ["rbind"].iter().chain(options);
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
