//! `hostPort`: ports of the host that lead into a pod.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, PodSpec};

/// A port of the host and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Else all addresses of the host.
    pub host_ip: Option<IpAddr>,
    /// Of the host.
    pub host: u16,
    /// In the pod.
    pub container: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

impl Port {
    /// Whether both cannot be had at once.
    pub fn clashes(&self, other: &Self) -> bool {
        let any = |ip: Option<IpAddr>| ip.is_none_or(|ip| ip.is_unspecified());
        let same_address = any(self.host_ip) || any(other.host_ip) || self.host_ip == other.host_ip;
        same_address && (self.host, &self.protocol) == (other.host, &other.protocol)
    }
}

/// The ports of the containers that stay: apps and sidecars, as with the kubelet.
pub fn ports(spec: &PodSpec) -> Vec<Port> {
    let stays = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(stays);
    let all = sidecars.chain(&spec.containers);
    let ports = all.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = |number: i32| u16::try_from(number).ok().filter(|number| *number > 0);
            Some(Port {
                host_ip: port.host_ip.as_ref().and_then(|ip| ip.parse().ok()),
                host: number(port.host_port?)?,
                container: number(port.container_port)?,
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            })
        })
        .collect()
}
