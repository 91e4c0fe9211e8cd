//! What each volume is made of.
//!
//! Source: `pkg/volume/{configmap,secret,downwardapi,projected}` of Kubernetes.

use std::path::{Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, EmptyDirVolumeSource, KeyToPath, ProjectedVolumeSource,
    Volume, VolumeProjection,
};

use super::{Context, FsGroup, HostPathKind, VolumePlan, VolumeSource, host};
use crate::error::Result;
use crate::pod::images;
use crate::pod::manifest::Keys;
use crate::pod::quantity::Quantity;
use crate::pod::volumes::payload::{Payload, Planned};

/// The size of a pod's `/dev/shm` in bytes, as containerd makes it.
const SHM_SIZE: u64 = 64 << 20;

impl Context<'_> {
    /// The pod's volumes in the manifest's order, then its `/dev/shm` unless it uses the host's, and its files in `/etc`.
    ///
    /// # Errors
    /// An image without a root file system, a claim that is not in the manifest.
    pub(super) fn volumes(&self) -> (Vec<VolumePlan>, Vec<crate::error::Error>) {
        let named = self.spec.volumes.iter().flatten().enumerate();
        let (mut volumes, mut errors) = (Vec::new(), Vec::new());
        for (index, volume) in named {
            match self.source_of(&format!("spec.volumes[{index}]"), volume) {
                Ok(source) => volumes.push(VolumePlan {
                    name: volume.name.clone(),
                    fs_group: self.fs_group(&source),
                    read_only: is_read_only(volume),
                    label: None,
                    source,
                }),
                Err(error) => errors.push(error),
            }
        }
        if self.spec.host_ipc != Some(true) {
            volumes.push(VolumePlan {
                name: unique("dev-shm", &volumes),
                source: VolumeSource::EmptyDir {
                    memory: true,
                    size_limit: Some(SHM_SIZE),
                    mode: 0o1777,
                },
                read_only: false,
                fs_group: None,
                label: None,
            });
        }
        let files = [
            ("hostname", format!("{}\n", self.sandbox.hostname)),
            (
                "hosts",
                host::hosts(self.names, &self.addresses(), self.spec, &self.options.node),
            ),
            (
                "resolv.conf",
                host::resolv_conf(
                    self.spec,
                    &self.options.node,
                    &self.sandbox.connection,
                    self.options.attachment.as_ref().map(|made| &made.dns),
                ),
            ),
        ];
        volumes.push(VolumePlan {
            name: unique("etc", &volumes),
            source: VolumeSource::Etc(files.into()),
            read_only: false,
            fs_group: None,
            label: None,
        });
        (volumes, errors)
    }

    fn source_of(&self, path: &str, volume: &Volume) -> Result<VolumeSource> {
        let missing = |why: String| {
            let name = &volume.name;
            VolumeSource::Missing(format!(
                "MountVolume.SetUp failed for volume {name:?} : {why}"
            ))
        };
        let files = |memory, payload: std::result::Result<Payload, String>| match payload {
            Ok(payload) => VolumeSource::Files { memory, payload },
            Err(why) => missing(why),
        };
        if let Some(host_path) = &volume.host_path {
            return Ok(VolumeSource::HostPath {
                path: host_path.path.clone().into(),
                kind: host_path_kind(host_path.type_.as_deref().unwrap_or_default()),
            });
        }
        if let Some(source) = &volume.config_map {
            let modes = Modes::new(source.default_mode, source.default_user);
            let keys = self.config_map(
                &source.name,
                source.items.as_deref(),
                source.optional,
                modes,
            );
            return Ok(files(false, keys));
        }
        if let Some(source) = &volume.secret {
            let modes = Modes::new(source.default_mode, source.default_user);
            let name = source.secret_name.as_deref().unwrap_or_default();
            let keys = self.secret(name, source.items.as_deref(), source.optional, modes);
            return Ok(files(true, keys));
        }
        if let Some(source) = &volume.downward_api {
            let modes = Modes::new(source.default_mode, source.default_user);
            let items = source.items.as_deref().unwrap_or_default();
            return Ok(files(true, self.downward(items, modes)));
        }
        if let Some(source) = &volume.projected {
            return Ok(files(true, self.projected(source)));
        }
        // A claim that lives as long as the pod.
        if volume.ephemeral.is_some() {
            return Ok(empty_dir(None));
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            return self.claim(path, &claim.claim_name);
        }
        if let Some(image) = &volume.image {
            let name = image.reference.as_deref().unwrap_or_default();
            let field = format!("{path}.image.reference");
            let root =
                images::directory(&field, name, &self.manifest.directory, &self.options.rootfs)?;
            return Ok(VolumeSource::Image { root });
        }
        Ok(empty_dir(volume.empty_dir.as_ref()))
    }

    /// A PersistentVolume's directory, or one that is kept for the claim.
    fn claim(&self, path: &str, name: &str) -> Result<VolumeSource> {
        let objects = &self.manifest.objects;
        let error = |what: String, hint: &str| {
            let error = crate::error::Error::new(format!("{path}.persistentVolumeClaim: {what}"));
            Err(error.hint(hint))
        };
        match objects.claims.get(name) {
            None => error(
                format!("persistentvolumeclaim {name:?} not found"),
                "put the PersistentVolumeClaim into the manifest, as a further document",
            ),
            Some(Some(volume)) => match objects.volumes.get(volume) {
                Some(path) => Ok(VolumeSource::Claim {
                    path: path.clone(),
                    ours: false,
                }),
                None => error(
                    format!("persistentvolume {volume:?} not found"),
                    "put the PersistentVolume into the manifest, too, or leave its name out of the claim",
                ),
            },
            Some(None) => {
                let namespace = self.manifest.pod.metadata.namespace.as_deref();
                let claims = self.options.claims.join(namespace.unwrap_or_default());
                Ok(VolumeSource::Claim {
                    path: claims.join(name),
                    ours: true,
                })
            }
        }
    }

    fn projected(&self, projected: &ProjectedVolumeSource) -> std::result::Result<Payload, String> {
        let modes = Modes::new(projected.default_mode, projected.default_user);
        let mut all = Payload::new();
        for source in projected.sources.iter().flatten() {
            let VolumeProjection {
                config_map,
                secret,
                downward_api,
                ..
            } = source;
            if let Some(s) = config_map {
                all.extend(self.config_map(&s.name, s.items.as_deref(), s.optional, modes)?);
            }
            if let Some(s) = secret {
                all.extend(self.secret(&s.name, s.items.as_deref(), s.optional, modes)?);
            }
            if let Some(s) = downward_api {
                all.extend(self.downward(s.items.as_deref().unwrap_or_default(), modes)?);
            }
        }
        Ok(all)
    }

    fn config_map(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        modes: Modes,
    ) -> std::result::Result<Payload, String> {
        let Some(found) = self.manifest.objects.config_maps.get(name) else {
            return match optional {
                Some(true) => Ok(Payload::new()),
                _ => Err(format!("configmap {name:?} not found")),
            };
        };
        let text = |value: &String| ByteString(value.clone().into_bytes());
        let data = found
            .data
            .iter()
            .map(|(key, value)| (key.clone(), text(value)));
        let mut keys: Keys = data.collect();
        keys.extend(
            found
                .binary_data
                .iter()
                .map(|(k, v)| (k.clone(), ByteString(v.0.clone()))),
        );
        project(&keys, items, optional, modes, "config")
    }

    fn secret(
        &self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        modes: Modes,
    ) -> std::result::Result<Payload, String> {
        match self.manifest.objects.secrets.get(name) {
            Some(keys) => project(keys, items, optional, modes, "secret"),
            None if optional == Some(true) => Ok(Payload::new()),
            None => Err(format!("secret {name:?} not found")),
        }
    }

    fn downward(
        &self,
        items: &[DownwardAPIVolumeFile],
        modes: Modes,
    ) -> std::result::Result<Payload, String> {
        let nobody = Container::default();
        let file = |item: &DownwardAPIVolumeFile| {
            let content = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => self.field(&field.field_path),
                (None, Some(selector)) => self.resource(&nobody, selector)?,
                (None, None) => String::new(),
            };
            let planned = modes.file(content.into_bytes(), item.mode, item.user);
            Ok((PathBuf::from(&item.path), planned))
        };
        items.iter().map(file).collect()
    }

    /// Which volumes `fsGroup` is for: not what belongs to the host or an image.
    fn fs_group(&self, source: &VolumeSource) -> Option<FsGroup> {
        let context = self.spec.security_context.as_ref()?;
        let gid = u32::try_from(context.fs_group?).ok()?;
        let on_root_mismatch = context.fs_group_change_policy.as_deref() == Some("OnRootMismatch");
        let (read_only, on_root_mismatch) = match source {
            VolumeSource::EmptyDir { .. } => (false, false),
            VolumeSource::Files { .. } => (true, false),
            VolumeSource::Claim { .. } => (false, on_root_mismatch),
            VolumeSource::HostPath { .. }
            | VolumeSource::Image { .. }
            | VolumeSource::Etc(_)
            | VolumeSource::Missing(_) => return None,
        };
        Some(FsGroup {
            gid,
            read_only,
            on_root_mismatch,
        })
    }
}

/// The permissions and owner of files that have none of their own.
#[derive(Clone, Copy)]
struct Modes {
    mode: u32,
    user: Option<u32>,
}

impl Modes {
    fn new(mode: Option<i32>, user: Option<i64>) -> Self {
        Self {
            mode: mode.and_then(|mode| mode.try_into().ok()).unwrap_or(0o644),
            user: user.and_then(|user| user.try_into().ok()),
        }
    }

    fn file(self, content: Vec<u8>, mode: Option<i32>, user: Option<i64>) -> Planned {
        let user = user.and_then(|user| user.try_into().ok());
        Planned {
            content,
            mode: mode
                .and_then(|mode| mode.try_into().ok())
                .unwrap_or(self.mode),
            user: user.or(self.user),
        }
    }
}

/// All keys under their own names, or just the listed ones under the names that they are given.
fn project(
    keys: &Keys,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    modes: Modes,
    kind: &str,
) -> std::result::Result<Payload, String> {
    let items = items.unwrap_or_default();
    if items.is_empty() {
        let all = keys.iter();
        return Ok(all
            .map(|(key, value)| (key.into(), modes.file(value.0.clone(), None, None)))
            .collect());
    }
    let mut payload = Payload::new();
    for item in items {
        match keys.get(&item.key) {
            Some(value) => {
                let file = modes.file(value.0.clone(), item.mode, item.user);
                payload.insert(Path::new(&item.path).into(), file);
            }
            None if optional == Some(true) => {}
            None => return Err(format!("references non-existent {kind} key: {}", item.key)),
        }
    }
    Ok(payload)
}

fn is_read_only(volume: &Volume) -> bool {
    let claim = volume.persistent_volume_claim.as_ref();
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
        || volume.image.is_some()
        || claim.is_some_and(|claim| claim.read_only == Some(true))
}

/// The name, or with as many dashes in front as it takes to be the only one.
fn unique(name: &str, volumes: &[VolumePlan]) -> String {
    let mut name = name.to_owned();
    while volumes.iter().any(|v| v.name == name) {
        name.insert(0, '-');
    }
    name
}

fn empty_dir(empty_dir: Option<&EmptyDirVolumeSource>) -> VolumeSource {
    let limit = empty_dir.and_then(|e| Quantity::parse(&e.size_limit.as_ref()?.0).ok());
    VolumeSource::EmptyDir {
        memory: empty_dir.is_some_and(|e| e.medium.as_deref() == Some("Memory")),
        // Zero is no limit.
        size_limit: limit
            .filter(|limit| *limit > Quantity::ZERO)
            .and_then(|limit| limit.value().try_into().ok()),
        mode: empty_dir
            .and_then(|e| e.mode?.try_into().ok())
            .unwrap_or(0o777),
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
