//! A planned pod as OCI bundles, which any OCI runtime can run: `pod plan --output DIR`.
//!
//! ```text
//! DIR/                          mode 0700: secrets may be in it
//!   <container>/config.json
//!   <container>/rootfs/         a copy of its image, which stays as it was
//!   volumes/<volume>/           what the containers share
//! ```
//!
//! What a pod adds to its containers is not in them: each has namespaces of its own where pause would hold them, and the
//! order, restarts, probes and hooks are the pod's.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Root, Spec};
use serde_json::Value;

use super::container::variables;
use super::plan::{self, ContainerPlan, PAUSE, PodPlan, Shared, VolumePlan, VolumeSource};
use super::volumes::Volumes;
use crate::error::{Context, Error, Result};
use crate::rootfs::copy_up;

/// Writes a pod into a directory that is not there yet, or empty. Nothing of the host is changed but that.
///
/// # Errors
/// When the directory is in use, the pod cannot be told in bundles, or something cannot be written or copied.
pub fn export(pod: &PodPlan, dir: &Path) -> Result<()> {
    if pod.sandbox.users.is_some() {
        return Err(Error::new(
            "spec.hostUsers: false cannot be told in bundles: \
             the ids of a pod's users are chosen when it is made",
        ));
    }
    let step = || format!("make directory {}", dir.display());
    match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => return Err(Error::new(step()).hint("it is there, and not empty")),
        Err(_) => fs::DirBuilder::new()
            .mode(0o700)
            .create(dir)
            .context(step)?,
    }
    let dir = fs::canonicalize(dir).context(step)?;
    make_volumes(pod, &dir.join("volumes"))?;
    pod.containers
        .iter()
        .try_for_each(|c| bundle(pod, c, &dir).context(|| format!("container {:?}", c.name)))
}

fn make_volumes(pod: &PodPlan, dir: &Path) -> Result<()> {
    fs::create_dir(dir).context(|| format!("make directory {}", dir.display()))?;
    let missing = pod
        .volumes
        .iter()
        .filter_map(|volume| match &volume.source {
            VolumeSource::Missing(why) => Some(Error::new(why.clone())),
            _ => None,
        });
    Error::all("the pod's volumes", missing.collect())?;
    let ours = pod
        .volumes
        .iter()
        .filter(|volume| volume.source.is_the_pods());
    let ours: Vec<VolumePlan> = ours.cloned().map(on_disk).collect();
    Volumes::open(dir.to_owned())?.make(&ours)
}

/// A bundle is files: what a pod would keep in memory, too.
fn on_disk(mut volume: VolumePlan) -> VolumePlan {
    match &mut volume.source {
        VolumeSource::EmptyDir { memory, .. } | VolumeSource::Files { memory, .. } => {
            *memory = false;
        }
        _ => {}
    }
    volume
}

fn bundle(pod: &PodPlan, container: &ContainerPlan, dir: &Path) -> Result<()> {
    if let Some(error) = &container.config_error {
        return Err(Error::new(error.clone()));
    }
    if container.late.is_some() {
        return Err(Error::new(
            "its variables come from files that another container writes (fileKeyRef)",
        ));
    }
    let bundle = dir.join(&container.name);
    let root = bundle.join("rootfs");
    fs::create_dir_all(&root).context(|| format!("make directory {}", root.display()))?;
    let mut spec = container.spec.clone();
    let image = container
        .bundle
        .join(spec.root().as_ref().map_or(Path::new(""), |r| r.path()));
    copy(&image, &root).context(|| format!("copy {}", image.display()))?;
    let readonly = spec.root().as_ref().and_then(Root::readonly);
    let mut own = Root::default();
    own.set_path("rootfs".into()).set_readonly(readonly);
    spec.set_root(Some(own));
    stand_alone(pod, &mut spec);
    mounts(pod, container, &mut spec, &dir.join("volumes"))?;
    let path = bundle.join("config.json");
    let config: Value = plan::config(&spec);
    let text = serde_json::to_string_pretty(&config).map_err(|e| Error::new(e.to_string()))?;
    fs::write(&path, text).context(|| format!("write {}", path.display()))
}

fn copy(image: &Path, root: &Path) -> Result<()> {
    let open = |path: &Path| fs::File::open(path).context(|| format!("open {}", path.display()));
    let (from, to) = (open(image)?, open(root)?);
    copy_up(from.as_fd(), to.as_fd()).context(|| "copy")?;
    let like = from.metadata().context(|| "stat")?;
    fs::set_permissions(root, fs::Permissions::from_mode(like.permissions().mode()))
        .context(|| "chmod")
}

/// What pause would hold is its own; where its cgroup is the runtime says.
fn stand_alone(pod: &PodPlan, spec: &mut Spec) {
    if pod.sandbox.network == Shared::Pod {
        spec.set_hostname(Some(pod.sandbox.hostname.clone()));
    }
    let Some(linux) = spec.linux_mut() else {
        return;
    };
    linux.set_cgroups_path(None);
    for namespace in linux.namespaces_mut().iter_mut().flatten() {
        let path = namespace.path().as_ref();
        if path.is_some_and(|path| path.to_string_lossy().contains(PAUSE)) {
            namespace.set_path(None);
        }
    }
    if !pod.sandbox.sysctls.is_empty() {
        let dotted = |path: &str| path.replace('/', ".");
        let sysctls = pod.sandbox.sysctls.iter();
        let sysctls = sysctls.map(|(path, value)| (dotted(path), value.clone()));
        linux.set_sysctl(Some(sysctls.collect()));
    }
}

fn mounts(pod: &PodPlan, container: &ContainerPlan, spec: &mut Spec, volumes: &Path) -> Result<()> {
    let variables = variables(spec).to_vec();
    let mounts = spec.mounts_mut().get_or_insert_default();
    for mount in &container.volume_mounts {
        let volume = &pod.volumes[mount.volume];
        let whole: PathBuf = match &volume.source {
            VolumeSource::HostPath { path, .. }
            | VolumeSource::Claim { path, .. }
            | VolumeSource::Image { root: path } => path.clone(),
            _ => volumes.join(&volume.name),
        };
        let source = match &mount.sub_path {
            Some(path) => whole.join(path.resolve(&variables).map_err(Error::new)?),
            None => whole,
        };
        if volume.source.is_the_pods() && !source.exists() {
            fs::create_dir_all(&source)
                .context(|| format!("make directory {}", source.display()))?;
        }
        mounts[mount.mount].set_source(Some(source));
    }
    Ok(())
}
