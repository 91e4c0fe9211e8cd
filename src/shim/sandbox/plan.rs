//! What a sandbox is made of, as decided from the kubelet's configuration. Pure.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxBuilder;

use crate::cgroup::{self, Maker};
use crate::error::{Error, Result};
use crate::shim::proto::cri::{DnsConfig, IdMapping, NamespaceOption, PodSandboxConfig, mode};
use crate::spec::plan::{Namespace, Namespaces};
use crate::spec::{Field, plan_sysctl};
use crate::state::ContainerId;

/// Linux' limit, in bytes.
const MAX_HOSTNAME: usize = 64;

/// A sandbox.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) network: Network,
    /// An IPC namespace, and a `/dev/shm` for all containers.
    pub(super) ipc: bool,
    /// A pid namespace, whose first process pause is.
    pub(super) pid: bool,
    /// The user namespace that its network belongs to holds the others, too: its root, on the node.
    pub(super) users: Option<u32>,
    /// With a network of its own it has a name of its own.
    pub(super) hostname: String,
    /// Paths below `/proc/sys`, and values.
    pub(super) sysctls: Vec<(String, String)>,
    pub(super) cgroup: cgroup::Plan,
    /// The pod's, around pause's own and those of the containers; empty if nobody has made one.
    pub(super) cgroup_parent: String,
    pub(super) dns: Option<DnsConfig>,
}

/// Which network a pod has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Network {
    Host,
    /// One that somebody has set up.
    Join(PathBuf),
    /// Its own loopback.
    New,
}

impl Plan {
    /// Decides. `hostname` is the machine's.
    ///
    /// # Errors
    /// All that is wrong, or cannot be done.
    pub(super) fn new(
        id: &ContainerId,
        config: &PodSandboxConfig,
        netns: &str,
        systemd: bool,
        hostname: &str,
    ) -> Result<Self> {
        let linux = config.linux.clone().unwrap_or_default();
        let security = linux.security_context.unwrap_or_default();
        let namespaces = security.namespace_options.unwrap_or_default();
        let mut errors = Vec::new();
        let network = match (namespaces.network, netns) {
            (mode::POD, "") => Network::New,
            (mode::POD, path) => Network::Join(path.into()),
            (mode::NODE, _) => Network::Host,
            (other, _) => {
                errors.push(Error::new(format!(
                    "namespace_options.network: mode {other}: it is the pod's or the node's"
                )));
                Network::Host
            }
        };
        let (ipc, pid) = check(&namespaces, &mut errors);
        let users = check_users(&namespaces, &network, &mut errors);
        let of = |own: bool| {
            if own {
                Namespace::New
            } else {
                Namespace::Inherit
            }
        };
        let owned = Namespaces {
            network: of(network != Network::Host),
            uts: of(network != Network::Host),
            ipc: of(ipc),
            pid: of(pid),
            mount: Namespace::New,
            user: of(users.is_some()),
            cgroup: Namespace::New,
            time: Namespace::Inherit,
            uid_map: Vec::new(),
            gid_map: Vec::new(),
            time_offsets: Vec::new(),
        };
        let sysctls = plan_sysctl(
            Some(&linux.sysctls),
            &owned,
            &mut Field::new("sysctls", &mut errors),
        );
        let hostname = match config.hostname.as_str() {
            "" => hostname,
            given => given,
        };
        if hostname.len() > MAX_HOSTNAME || hostname.contains(char::is_whitespace) {
            errors.push(Error::new(format!("hostname: {hostname:?} is none")));
        }
        let cgroup = plan_cgroup(id, &linux.cgroup_parent, systemd, &mut errors);
        Error::all("sandbox", errors)?;
        Ok(Self {
            network,
            ipc,
            pid,
            users,
            hostname: hostname.to_owned(),
            sysctls,
            cgroup,
            cgroup_parent: linux.cgroup_parent,
            dns: config.dns_config.clone(),
        })
    }
}

/// Whether it has an IPC and a pid namespace.
fn check(namespaces: &NamespaceOption, errors: &mut Vec<Error>) -> (bool, bool) {
    let ipc = match namespaces.ipc {
        mode::POD => true,
        mode::NODE => false,
        other => {
            errors.push(Error::new(format!(
                "namespace_options.ipc: mode {other}: it is the pod's or the node's"
            )));
            false
        }
    };
    let pid = match namespaces.pid {
        mode::POD => true,
        mode::CONTAINER | mode::NODE => false,
        other => {
            errors.push(Error::new(format!(
                "namespace_options.pid: mode {other}: is for containers"
            )));
            false
        }
    };
    (ipc, pid)
}

/// Who is root in its user namespace, if it has one. containerd makes it, with the network.
fn check_users(
    namespaces: &NamespaceOption,
    network: &Network,
    errors: &mut Vec<Error>,
) -> Option<u32> {
    let users = namespaces.userns_options.as_ref()?;
    let mut refuse = |why: &str| {
        let field = "namespace_options.userns_options";
        errors.push(Error::new(format!("{field}: {why}")));
    };
    match users.mode {
        mode::NODE => return None,
        mode::POD => {}
        other => refuse(&format!("mode {other}: it is the pod's or the node's")),
    }
    let root = |ids: &[IdMapping]| {
        let mut maps = ids
            .iter()
            .filter(|ids| ids.container_id == 0 && ids.length > 0);
        maps.next().map(|ids| ids.host_id)
    };
    let owner = root(&users.uids);
    if owner.is_none() || root(&users.gids).is_none() {
        refuse("id 0 of the containers is no id of the node");
    }
    if !matches!(network, Network::Join(_)) {
        refuse("netns_path: it belongs to the network that containerd has made");
    }
    owner
}

/// Pause's own cgroup, below the pod's: named as CRI names those of containers.
fn plan_cgroup(
    id: &ContainerId,
    parent: &str,
    systemd: bool,
    errors: &mut Vec<Error>,
) -> cgroup::Plan {
    let path = match (parent, systemd) {
        ("", _) => None,
        (parent, false) => Some(Path::new(parent).join(id.as_str())),
        (parent, true) => {
            let slice = Path::new(parent).file_name().unwrap_or(parent.as_ref());
            let slice = slice.to_string_lossy();
            Some(PathBuf::from(format!("{slice}:cri-containerd:{id}")))
        }
    };
    let linux = LinuxBuilder::default();
    let linux = match path {
        Some(path) => linux.cgroups_path(path),
        None => linux,
    };
    let maker = match systemd {
        true => Maker::Systemd {
            annotations: None,
            user: false,
        },
        false => Maker::Cgroupfs,
    };
    let plan = match linux.build() {
        Ok(linux) => cgroup::plan(id, Some(&linux), maker, errors),
        Err(e) => {
            errors.push(Error::new(format!("cgroup_parent: {e}")));
            cgroup::plan(id, None, maker, errors)
        }
    };
    // Pause has no way to open a device, nor anything else.
    cgroup::Plan {
        devices: None,
        limits: cgroup::Limits::default(),
        ..plan
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::shim::proto::cri::{LinuxPodSandboxConfig, SecurityContext, UserNamespace};

    fn config(namespaces: NamespaceOption, sysctls: &[(&str, &str)]) -> PodSandboxConfig {
        let sysctls = sysctls.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        PodSandboxConfig {
            hostname: "web-0".into(),
            dns_config: None,
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: "/kubepods/pod1".into(),
                security_context: Some(SecurityContext {
                    namespace_options: Some(namespaces),
                }),
                sysctls: sysctls.collect(),
            }),
        }
    }

    fn plan(config: &PodSandboxConfig, netns: &str) -> Result<Plan> {
        Plan::new(&"abc".parse().unwrap(), config, netns, false, "node")
    }

    #[test]
    fn a_pod_has_its_own_of_everything_that_is_not_the_nodes() {
        let own = plan(&config(NamespaceOption::default(), &[]), "/run/netns/x").unwrap();
        assert_eq!(own.network, Network::Join("/run/netns/x".into()));
        assert!(own.ipc && own.pid);
        assert_eq!(own.hostname, "web-0");
        assert_eq!(own.cgroup.path, Path::new("/kubepods/pod1/abc"));
        let host = NamespaceOption {
            network: mode::NODE,
            pid: mode::CONTAINER,
            ipc: mode::NODE,
            userns_options: Some(UserNamespace {
                mode: mode::NODE,
                ..UserNamespace::default()
            }),
        };
        let host = plan(&config(host, &[]), "").unwrap();
        assert_eq!(host.network, Network::Host);
        assert!(!host.ipc && !host.pid);
        let nothing = plan(&PodSandboxConfig::default(), "").unwrap();
        assert_eq!(nothing.network, Network::New);
        assert_eq!(nothing.hostname, "node");
    }

    #[test]
    fn all_that_cannot_be_given_is_refused_at_once() {
        let wrong = NamespaceOption {
            network: mode::NODE,
            pid: 3,
            ipc: mode::CONTAINER,
            userns_options: Some(UserNamespace::default()),
        };
        let sysctls = [("net.ipv4.ip_forward", "1"), ("kernel.core_pattern", "x")];
        let error = plan(&config(wrong, &sysctls), "").unwrap_err().to_string();
        for part in ["pid", "ipc", "userns", "ip_forward", "core_pattern"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
