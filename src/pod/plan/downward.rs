//! What a container learns of its own pod: `fieldRef` and `resourceFieldRef`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::{Container, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource;

use super::{Attachment, Context, Network, Node, PlanOptions};
use crate::pod::quantity::Quantity;

impl Context<'_> {
    /// `fieldRef`; a label or annotation that is not there is empty.
    pub(super) fn field(&self, path: &str) -> String {
        let metadata = &self.manifest.pod.metadata;
        let spec = self.spec;
        let value = match path {
            "metadata.name" => metadata.name.clone(),
            "metadata.namespace" => metadata.namespace.clone(),
            "metadata.uid" => Some(self.options.uid.clone()),
            "metadata.labels" => metadata.labels.as_ref().map(lines),
            "metadata.annotations" => metadata.annotations.as_ref().map(lines),
            "spec.nodeName" => Some(self.options.node.hostname.clone()),
            "spec.serviceAccountName" => spec.service_account_name.clone(),
            "status.hostIP" => joined(self.options.node.addresses().get(..1)),
            "status.hostIPs" => joined(Some(self.options.node.addresses())),
            "status.podIP" | "status.podIPs" if self.is_unconnected() => Some("<pod IP>".into()),
            "status.podIP" => joined(self.addresses().get(..1)),
            "status.podIPs" => joined(Some(&self.addresses())),
            _ => match path.strip_suffix("']").and_then(|p| p.split_once("['")) {
                Some(("metadata.labels", key)) => entry(metadata.labels.as_ref(), key),
                Some((_, key)) => entry(metadata.annotations.as_ref(), key),
                None => None,
            },
        };
        value.unwrap_or_default()
    }

    /// `status.podIPs`: see [`addresses`].
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let PlanOptions {
            node, attachment, ..
        } = self.options;
        match self.is_unconnected() {
            true => Vec::new(),
            false => addresses(&self.sandbox.connection, attachment.as_ref(), node),
        }
    }

    /// Whether its network is to be made yet, and it will have addresses that nobody knows now.
    fn is_unconnected(&self) -> bool {
        let made = self.options.attachment.as_ref();
        self.sandbox.connection.is_attached() && made.is_none_or(|made| made.addresses.is_empty())
    }

    /// Where probes go that say of no host, unless that is the loopback.
    pub(super) fn own_address(&self) -> Option<IpAddr> {
        let first = self.addresses().first().copied();
        first.filter(|address| !address.is_loopback())
    }

    /// `resourceFieldRef`, in units of its divisor, rounded up. What has no limit may use all of the machine.
    ///
    /// # Errors
    /// A container that the pod does not have, in the kubelet's words.
    pub(super) fn resource(
        &self,
        container: &Container,
        selector: &ResourceFieldSelector,
    ) -> Result<String, String> {
        let container = match selector.container_name.as_deref() {
            None | Some("") => container,
            Some(name) => super::containers_of(self.spec)
                .map(|(_, _, container)| container)
                .find(|container| container.name == name)
                .ok_or_else(|| format!("container {name} not found"))?,
        };
        let (which, name) = selector.resource.split_once('.').unwrap_or_default();
        let resources = container.resources.as_ref();
        let given = match which {
            "limits" => resources.and_then(|r| r.limits.as_ref()),
            _ => resources.and_then(|r| r.requests.as_ref()),
        };
        let parsed = |q: &resource::Quantity| Quantity::parse(&q.0).ok();
        let given = given.and_then(|all| parsed(all.get(name)?));
        let given = given.filter(|quantity| *quantity > Quantity::ZERO);
        let divisor = selector.divisor.as_ref().and_then(parsed);
        let divisor = divisor.filter(|divisor| *divisor > Quantity::ZERO);
        let node = &self.options.node;
        let all = match (which, name) {
            ("limits", "cpu") => node.cpus,
            ("limits", "memory") => node.memory,
            ("limits", "ephemeral-storage") => node.disk,
            _ => 0,
        };
        let all = i64::try_from(all).unwrap_or(i64::MAX);
        let (amount, unit) = match name {
            "cpu" => (
                given.map_or(all.saturating_mul(1000), Quantity::milli_value),
                divisor.map_or(1000, Quantity::milli_value),
            ),
            _ => (
                given.map_or(all, Quantity::value),
                divisor.map_or(1, Quantity::value),
            ),
        };
        let unit = unit.max(1);
        Ok((amount / unit + i64::from(amount % unit > 0)).to_string())
    }
}

/// The addresses of a pod: the host's with its network, else what it is connected to has given it. A pod whose network is
/// just a loopback has that.
pub fn addresses(network: &Network, attachment: Option<&Attachment>, node: &Node) -> Vec<IpAddr> {
    match (network, attachment) {
        (Network::Host, _) => node.addresses().to_vec(),
        (_, Some(made)) if !made.addresses.is_empty() => made.addresses.clone(),
        _ => vec![Ipv4Addr::LOCALHOST.into()],
    }
}

fn joined(addresses: Option<&[IpAddr]>) -> Option<String> {
    let addresses = addresses?.iter().map(IpAddr::to_string);
    Some(addresses.collect::<Vec<_>>().join(","))
}

fn entry(map: Option<&BTreeMap<String, String>>, key: &str) -> Option<String> {
    map?.get(key).cloned()
}

/// `key="value"`, a line for each.
fn lines(map: &BTreeMap<String, String>) -> String {
    let lines = map.iter().map(|(key, value)| format!("{key}={value:?}"));
    lines.collect::<Vec<_>>().join("\n")
}
