//! What all containers of a pod see of it: `/etc/hostname`, `/etc/hosts`, `/etc/resolv.conf` and `/dev/shm`.
//!
//! With its own sandbox controller containerd makes them; with the shim's nobody does but the shim. The files are in the
//! sandbox's bundle, which containerd removes; `/dev/shm` is a mount that is visible nowhere, and goes with the pod.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, MountBuilder, Spec};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::namespaces;
use super::plan::{Network, Plan};
use crate::error::{Context, Error, Result};
use crate::shim::proto::cri::DnsConfig;

const SHM: &str = "/dev/shm";

/// Those of one pod.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    /// `None` for the machine's own.
    shm: Option<OwnedFd>,
}

impl Files {
    /// Makes them in the sandbox's bundle.
    ///
    /// # Errors
    /// When one cannot be written.
    pub(super) fn make(bundle: &Path, plan: &Plan) -> Result<Self> {
        let host = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let resolv = match &plan.dns {
            Some(dns) if *dns != DnsConfig::default() => resolv_conf(dns)?,
            _ => host("/etc/resolv.conf"),
        };
        let hostname = match plan.network {
            Network::Host => host("/etc/hostname"),
            _ => format!("{}\n", plan.hostname),
        };
        for (name, text) in [
            ("hostname", hostname),
            ("hosts", host("/etc/hosts")),
            ("resolv.conf", resolv),
        ] {
            let path = bundle.join(name);
            std::fs::write(&path, text).context(|| format!("write {}", path.display()))?;
            // Whoever the containers' users are, and whatever the umask.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            std::fs::set_permissions(&path, mode)
                .context(|| format!("write {}", path.display()))?;
        }
        Ok(Self {
            dir: bundle.to_owned(),
            shm: plan.ipc.then(make_shm).transpose()?,
        })
    }

    /// Adds them to a container's mounts, where it has none of its own. What it returns are the mounts that are made already,
    /// by index. `pause` is the process, if it runs.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn complete(
        &self,
        spec: &mut Spec,
        pause: Option<i32>,
    ) -> Result<BTreeMap<usize, OwnedFd>> {
        let readonly = spec.root().as_ref().and_then(|root| root.readonly());
        let access = if readonly.unwrap_or(false) {
            "ro"
        } else {
            "rw"
        };
        let mut mounts = spec.mounts().clone().unwrap_or_default();
        let index_of = |mounts: &[Mount], destination: &str| {
            let is_there = |mount: &Mount| mount.destination() == Path::new(destination);
            mounts.iter().position(is_there)
        };
        for name in ["hostname", "hosts", "resolv.conf"] {
            let destination = format!("/etc/{name}");
            if index_of(&mounts, &destination).is_none() {
                mounts.push(bind(
                    &destination,
                    &self.dir.join(name),
                    &["rbind", "rprivate", access],
                )?);
            }
        }
        let mut made = BTreeMap::new();
        let shm = bind(
            SHM,
            Path::new(SHM),
            &["rbind", "rprivate", "rw", "nosuid", "nodev", "noexec"],
        )?;
        let index = match index_of(&mounts, SHM) {
            // The pod's own, which the kubelet has not been asked to replace.
            Some(index) if mounts[index].typ().as_deref() == Some("tmpfs") => {
                mounts[index] = shm;
                Some(index)
            }
            Some(_) => None,
            None => {
                mounts.push(shm);
                Some(mounts.len() - 1)
            }
        };
        if let Some((index, shm)) = index.zip(self.shm.as_ref()) {
            made.insert(index, clone(shm, pause).context(|| "clone /dev/shm")?);
        }
        spec.set_mounts(Some(mounts));
        Ok(made)
    }
}

/// Another mount of the pod's `/dev/shm`. Before Linux 6.15 only one that is in a mount namespace can be had twice: there it is
/// put on top of pause's root, which neither sees anything of it nor looks.
fn clone(shm: &OwnedFd, pause: Option<i32>) -> Result<OwnedFd> {
    let once_more = || {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        open_tree(shm, c"", flags)
    };
    match (once_more(), pause) {
        (Err(Errno::INVAL), Some(pause)) => namespaces::within_mounts_of(pause, || {
            once_more()
                .or_else(|_| {
                    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                    move_mount(shm, "", CWD, "/", flags).and_then(|()| once_more())
                })
                .context(|| "in pause's mount namespace")
        }),
        (cloned, _) => cloned.context(|| "open_tree"),
    }
}

fn bind(destination: &str, source: &Path, options: &[&str]) -> Result<Mount> {
    MountBuilder::default()
        .destination(destination)
        .typ("bind")
        .source(source)
        .options(
            options
                .iter()
                .map(|option| option.to_string())
                .collect::<Vec<_>>(),
        )
        .build()
        .map_err(|e| Error::new(format!("mount {destination}: {e}")))
}

/// As CRI makes it: 64 MiB, for everybody.
fn make_shm() -> Result<OwnedFd> {
    let step = || "make the pod's /dev/shm";
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).context(step)?;
    for (key, value) in [("source", "shm"), ("mode", "1777"), ("size", "65536k")] {
        fsconfig_set_string(&context, key, value).context(step)?;
    }
    fsconfig_create(&context).context(step)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).context(step)
}

/// resolv.conf(5).
fn resolv_conf(dns: &DnsConfig) -> Result<String> {
    let mut text = String::new();
    let words = dns.searches.iter().chain(&dns.servers).chain(&dns.options);
    for word in words {
        if word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Error::new(format!(
                "dns_config: {word:?}: one word is expected"
            )));
        }
    }
    if !dns.searches.is_empty() {
        text += &format!("search {}\n", dns.searches.join(" "));
    }
    for server in &dns.servers {
        text += &format!("nameserver {server}\n");
    }
    if !dns.options.is_empty() {
        text += &format!("options {}\n", dns.options.join(" "));
    }
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn files() -> Files {
        Files {
            dir: "/bundle".into(),
            shm: None,
        }
    }

    fn completed(mounts: &str) -> Vec<Mount> {
        let json = format!(r#"{{"ociVersion": "1.0.0", "mounts": {mounts}}}"#);
        let mut spec: Spec = serde_json::from_str(&json).unwrap();
        files().complete(&mut spec, None).unwrap();
        spec.mounts().clone().unwrap()
    }

    #[test]
    fn what_a_container_has_itself_stays() {
        let kubelets = r#"[{"destination": "/etc/hosts", "type": "bind", "source": "/var/lib/kubelet/hosts"},
                          {"destination": "/dev/shm", "type": "tmpfs", "source": "shm"}]"#;
        let mounts = completed(kubelets);
        assert_eq!(
            mounts[0].source().as_deref(),
            Some(Path::new("/var/lib/kubelet/hosts"))
        );
        assert_eq!(
            mounts[1].typ().as_deref(),
            Some("bind"),
            "the pod's instead of its own"
        );
        assert_eq!(mounts.len(), 4);
        assert_eq!(
            mounts[3].source().as_deref(),
            Some(Path::new("/bundle/resolv.conf"))
        );
        let own = r#"[{"destination": "/dev/shm", "type": "bind", "source": "/volume"}]"#;
        assert_eq!(
            completed(own)[0].source().as_deref(),
            Some(Path::new("/volume"))
        );
    }

    #[test]
    fn names_are_looked_up_as_the_kubelet_says() {
        let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect();
        let dns = DnsConfig {
            servers: words(&["10.0.0.10", "10.0.0.11"]),
            searches: words(&["a.svc", "svc"]),
            options: words(&["ndots:5"]),
        };
        let text =
            "search a.svc svc\nnameserver 10.0.0.10\nnameserver 10.0.0.11\noptions ndots:5\n";
        assert_eq!(resolv_conf(&dns).unwrap(), text);
        let injected = DnsConfig {
            servers: words(&["1.1.1.1\nsearch evil"]),
            ..DnsConfig::default()
        };
        assert!(resolv_conf(&injected).is_err());
    }
}
