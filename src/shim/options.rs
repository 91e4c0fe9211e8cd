//! What containerd's configuration, or a client, asks of the runtime.

use std::path::{Path, PathBuf};

use prost::Message;

use super::proto::Any;
use super::proto::options::{RuncOptions, RuntimeOptions};
use super::ttrpc::Status;
use crate::container;

/// Below which containerd's containers are, a directory for each of its namespaces.
pub(super) const ROOT: &str = "/run/containerd/runp";

/// The options of one task.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Options {
    pub(super) no_pivot_root: bool,
    pub(super) no_new_keyring: bool,
    pub(super) systemd_cgroup: bool,
    /// The owner of its fifos: root in its user namespace.
    pub(super) io_owner: (u32, u32),
    /// Instead of [`ROOT`].
    pub(super) root: Option<PathBuf>,
    /// The cgroup that the shim moves to.
    pub(super) shim_cgroup: String,
    /// Found on the PATH without one.
    pub(super) criu_path: Option<PathBuf>,
    /// The images that the container is made of, if the request does not say.
    pub(super) criu_image_path: Option<PathBuf>,
    /// Where criu's logs go.
    pub(super) criu_work_path: Option<PathBuf>,
}

impl Options {
    /// Reads them from whichever message containerd has sent.
    ///
    /// # Errors
    /// A message that is not known, or an option that cannot be followed.
    pub(super) fn read(any: Option<&Any>) -> Result<Self, Status> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
            return Ok(Self::default());
        };
        let bad = |e: prost::DecodeError| Status::invalid(format!("options: {e}"));
        match any.name() {
            "containerd.runc.v1.Options" => {
                Self::from_runc(RuncOptions::decode(&*any.value).map_err(bad)?)
            }
            "runtimeoptions.v1.Options" | "runtimeoptions.v1alpha1.Options" => {
                let options = RuntimeOptions::decode(&*any.value).map_err(bad)?;
                let body = String::from_utf8_lossy(&options.config_body).into_owned();
                Self::from_runc(read_table(&body)?)
            }
            // The sandbox's own, which the sandbox reads.
            "runtime.v1.PodSandboxConfig" => Ok(Self::default()),
            other => Err(Status::invalid(format!("options of type {other:?}"))),
        }
    }

    fn from_runc(options: RuncOptions) -> Result<Self, Status> {
        if !options.binary_name.is_empty() {
            return Err(Status::invalid(format!(
                "options: BinaryName {:?}: runp's shim executes no runtime (leave it out)",
                options.binary_name
            )));
        }
        let path = |text: &str, name: &str| match text {
            "" => Ok(None),
            text if text.starts_with('/') => Ok(Some(PathBuf::from(text))),
            text => Err(Status::invalid(format!(
                "options: {name} {text:?}: not an absolute path"
            ))),
        };
        Ok(Self {
            no_pivot_root: options.no_pivot_root,
            no_new_keyring: options.no_new_keyring,
            systemd_cgroup: options.systemd_cgroup,
            io_owner: (options.io_uid, options.io_gid),
            root: path(&options.root, "Root")?,
            criu_path: path(&options.criu_path, "CriuPath")?,
            criu_image_path: path(&options.criu_image_path, "CriuImagePath")?,
            criu_work_path: path(&options.criu_work_path, "CriuWorkPath")?,
            shim_cgroup: options.shim_cgroup,
        })
    }

    /// Where the containers of a namespace are.
    pub(super) fn root(&self, namespace: &str) -> PathBuf {
        let root = self.root.as_deref().unwrap_or(Path::new(ROOT));
        root.join(namespace)
    }

    /// As the library takes them.
    pub(super) fn for_container(&self) -> container::Options {
        container::Options {
            no_pivot: self.no_pivot_root,
            no_new_keyring: self.no_new_keyring,
            systemd_cgroup: self.systemd_cgroup,
            ..container::Options::default()
        }
    }
}

/// The table `options` of containerd's configuration, as containerd writes it down again: a line `key = value` each.
fn read_table(toml: &str) -> Result<RuncOptions, Status> {
    let mut options = RuncOptions::default();
    for line in toml.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = || Status::invalid(format!("options: {line:?}: not understood"));
        let (key, value) = line.split_once('=').ok_or_else(wrong)?;
        let (key, value) = (key.trim(), value.trim());
        let text = || {
            let unquoted = ['"', '\'']
                .iter()
                .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
            let plain = unquoted.filter(|text| !text.contains(['\\', '"', '\'']));
            plain.map(str::to_owned).ok_or_else(wrong)
        };
        let flag = || value.parse::<bool>().map_err(|_| wrong());
        let number = || value.parse::<u32>().map_err(|_| wrong());
        match key {
            "SystemdCgroup" => options.systemd_cgroup = flag()?,
            "NoPivotRoot" => options.no_pivot_root = flag()?,
            "NoNewKeyring" => options.no_new_keyring = flag()?,
            "IoUid" => options.io_uid = number()?,
            "IoGid" => options.io_gid = number()?,
            "ShimCgroup" => options.shim_cgroup = text()?,
            "BinaryName" => options.binary_name = text()?,
            "Root" => options.root = text()?,
            "CriuWorkPath" => options.criu_work_path = text()?,
            "CriuPath" => options.criu_path = text()?,
            "CriuImagePath" => options.criu_image_path = text()?,
            _ => {
                return Err(Status::invalid(format!(
                    "options: {key:?}: runp's shim does not know it"
                )));
            }
        }
    }
    Ok(options)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn containerds_options_table_says_the_same_as_the_message() {
        let runc = RuncOptions {
            systemd_cgroup: true,
            root: "/run/x".into(),
            io_uid: 7,
            ..RuncOptions::default()
        };
        let table = RuntimeOptions {
            config_body: b"Root = \"/run/x\"\nSystemdCgroup = true\n\nIoUid = 7\n".to_vec(),
            ..RuntimeOptions::default()
        };
        let read = |name, message: &dyn Fn() -> Any| {
            let any = message();
            assert_eq!(any.name(), name);
            Options::read(Some(&any)).unwrap()
        };
        let a = read("containerd.runc.v1.Options", &|| {
            Any::of("containerd.runc.v1.Options", &runc)
        });
        let b = read("runtimeoptions.v1.Options", &|| {
            Any::of("runtimeoptions.v1.Options", &table)
        });
        assert_eq!(a, b);
        assert_eq!(a.root("k8s.io"), Path::new("/run/x/k8s.io"));
        assert_eq!(
            Options::default().root("n"),
            Path::new("/run/containerd/runp/n")
        );
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_name() {
        let refused = |body: &str| {
            let options = RuntimeOptions {
                config_body: body.as_bytes().to_vec(),
                ..RuntimeOptions::default()
            };
            let any = Any::of("runtimeoptions.v1.Options", &options);
            Options::read(Some(&any)).unwrap_err().message
        };
        assert!(refused("BinaryName = \"crun\"").contains("BinaryName"));
        assert!(refused("Nonsense = 1").contains("Nonsense"));
        assert!(refused("Root = \"relative\"").contains("absolute"));
        assert!(refused("SystemdCgroup = \"yes\"").contains("SystemdCgroup"));
        let other = Any::of("example.Options", &RuncOptions::default());
        assert!(Options::read(Some(&other)).is_err());
    }
}
