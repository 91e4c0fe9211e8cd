//! What a pod is called, and the files in `/etc` that its containers share: as the kubelet and containerd write them.
//!
//! Source: `pkg/kubelet/kubelet_pods.go` (`managedHostsFileContent`), `pkg/kubelet/network/dns` of Kubernetes;
//! `internal/cri` (`parseDNSOptions`) of containerd.

use std::fmt::Write as _;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostAlias, PodDNSConfig, PodSpec};

use super::Node;
use crate::error::{Error, Result};
use crate::pod::network::{Dns, Network, RESOLVER};

/// What the kubelet calls a cluster that nobody has named.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// sethostname(2): the longest name that the kernel takes.
const LONGEST: usize = 64;

/// What a pod is called.
#[derive(Debug)]
pub(super) struct Names {
    /// A DNS label, or what `hostnameOverride` says.
    pub(super) hostname: String,
    /// `SUBDOMAIN.NAMESPACE.svc.CLUSTER`, or nothing.
    pub(super) domain: String,
    /// What its UTS namespace is told.
    pub(super) kernel: String,
}

/// # Errors
/// A full name that is too long for the kernel, in the kubelet's words.
pub(super) fn names(name: &str, namespace: &str, spec: &PodSpec, node: &Node) -> Result<Names> {
    let given = |field: &Option<String>| field.clone().filter(|name| !name.is_empty());
    if spec.host_network == Some(true) {
        let hostname = node.hostname.clone();
        return Ok(Names {
            kernel: hostname.clone(),
            hostname,
            domain: String::new(),
        });
    }
    if let Some(hostname) = given(&spec.hostname_override) {
        return Ok(Names {
            kernel: hostname.clone(),
            hostname,
            domain: String::new(),
        });
    }
    let hostname = given(&spec.hostname).unwrap_or_else(|| short(name));
    let domain = given(&spec.subdomain)
        .map(|subdomain| format!("{subdomain}.{namespace}.svc.{CLUSTER_DOMAIN}"))
        .unwrap_or_default();
    let kernel = match spec.set_hostname_as_fqdn {
        Some(true) if !domain.is_empty() => format!("{hostname}.{domain}"),
        _ => hostname.clone(),
    };
    if kernel.len() > LONGEST {
        return Err(Error::new(format!(
            "spec.setHostnameAsFQDN: failed to construct FQDN from pod hostname and cluster domain, FQDN {kernel} is \
             too long ({LONGEST} characters is the max, {} characters requested)",
            kernel.len()
        )));
    }
    Ok(Names {
        hostname,
        domain,
        kernel,
    })
}

/// The pod's name as a host name: a DNS label has at most 63 characters and does not end in a dash or dot.
fn short(name: &str) -> String {
    let short: String = name.chars().take(63).collect();
    short.trim_end_matches(['-', '.']).to_owned()
}

/// `/etc/hosts`: the pod's own names, or the host's file with its network; then the aliases.
pub(super) fn hosts(names: &Names, addresses: &[IpAddr], spec: &PodSpec, node: &Node) -> String {
    let mut text = String::new();
    if spec.host_network == Some(true) {
        text.push_str("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(&node.hosts);
    } else {
        text.push_str(
            "# Kubernetes-managed hosts file.\n\
             127.0.0.1\tlocalhost\n\
             ::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\n\
             fe00::0\tip6-mcastprefix\n\
             fe00::1\tip6-allnodes\n\
             fe00::2\tip6-allrouters\n",
        );
        let Names {
            hostname, domain, ..
        } = names;
        let known = match domain.as_str() {
            "" => hostname.clone(),
            domain => format!("{hostname}.{domain}\t{hostname}"),
        };
        for address in addresses {
            let _ = writeln!(text, "{address}\t{known}");
        }
    }
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for HostAlias { hostnames, ip } in aliases {
        let hostnames = hostnames.as_deref().unwrap_or_default().join("\t");
        let _ = writeln!(text, "{ip}\t{hostnames}");
    }
    text
}

/// What `/etc/resolv.conf` says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Resolver {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// The most nameservers that resolvers use, resolv.conf(5).
const NAMESERVERS: usize = 3;

/// `/etc/resolv.conf`: what the network says, or else the host's, unless `dnsPolicy` is `None`; and what `dnsConfig` adds.
/// A cluster's DNS is not to be had: there the kubelet, too, takes the host's.
pub(super) fn resolv_conf(
    spec: &PodSpec,
    node: &Node,
    connection: &Network,
    dns: Option<&Dns>,
) -> String {
    let own = dns.filter(|dns| !dns.nameservers.is_empty());
    let mut resolver = match (spec.dns_policy.as_deref(), own) {
        (Some("None"), _) => Resolver::default(),
        (_, Some(own)) => Resolver::of(own),
        (_, None) => Resolver::parse(&node.resolv_conf),
    };
    if matches!(connection, Network::Pasta { .. }) {
        resolver.replace_loopback();
    }
    if let Some(config) = &spec.dns_config {
        resolver.add(config);
    }
    resolver.nameservers.truncate(NAMESERVERS);
    let mut text = String::new();
    if !resolver.searches.is_empty() {
        let _ = writeln!(text, "search {}", resolver.searches.join(" "));
    }
    for nameserver in &resolver.nameservers {
        let _ = writeln!(text, "nameserver {nameserver}");
    }
    if !resolver.options.is_empty() {
        let _ = writeln!(text, "options {}", resolver.options.join(" "));
    }
    text
}

impl Resolver {
    /// resolv.conf(5): the last `search` or `options` counts.
    fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines().map(str::trim) {
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut words = line.split_whitespace();
            let keyword = words.next();
            let rest = || words.clone().map(str::to_owned).collect();
            match keyword {
                Some("nameserver") => resolver.nameservers.extend(words.next().map(str::to_owned)),
                Some("search") => resolver.searches = rest(),
                Some("options") => resolver.options = rest(),
                _ => {}
            }
        }
        resolver
    }

    fn of(dns: &Dns) -> Self {
        let Dns {
            nameservers,
            domain,
            search,
            options,
        } = dns;
        let mut searches = search.clone();
        if searches.is_empty() && !domain.is_empty() {
            searches.push(domain.clone());
        }
        Self {
            nameservers: nameservers.clone(),
            searches,
            options: options.clone(),
        }
    }

    /// What listens on the host's loopback no pod reaches, but [`RESOLVER`] leads there.
    fn replace_loopback(&mut self) {
        let is_loopback = |text: &String| {
            let address: Option<IpAddr> = text.parse().ok();
            address.is_some_and(|address| address.is_loopback())
        };
        if self.nameservers.iter().any(is_loopback) {
            self.nameservers.retain(|text| !is_loopback(text));
            self.nameservers.insert(0, RESOLVER.to_owned());
        }
    }

    fn add(&mut self, config: &PodDNSConfig) {
        for nameserver in config.nameservers.iter().flatten() {
            add_once(&mut self.nameservers, nameserver);
        }
        for search in config.searches.iter().flatten() {
            add_once(&mut self.searches, search);
        }
        for option in config.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            let text = match option.value.as_deref() {
                None | Some("") => name.to_owned(),
                Some(value) => format!("{name}:{value}"),
            };
            // The pod's word counts.
            self.options
                .retain(|old| old.split(':').next() != Some(name));
            self.options.push(text);
        }
    }
}

fn add_once(list: &mut Vec<String>, value: &String) {
    if !list.contains(value) {
        list.push(value.clone());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node() -> Node {
        Node {
            hostname: "machine".into(),
            hosts: "127.0.0.1 localhost machine\n".into(),
            resolv_conf: "# theirs\nsearch a.example b.example\nnameserver 10.0.0.1\n nameserver 10.0.0.2\noptions ndots:5 rotate\n".into(),
            ..Node::default()
        }
    }

    fn spec(json: serde_json::Value) -> PodSpec {
        serde_json::from_value(json).unwrap()
    }

    fn named(json: serde_json::Value) -> [String; 3] {
        let names = names("a-pod", "ns", &spec(json), &node()).unwrap();
        [names.hostname, names.domain, names.kernel]
    }

    #[test]
    fn a_pod_is_called_by_its_name_or_as_it_says() {
        use serde_json::json;
        for (fields, expected) in [
            (json!({"containers": []}), ["a-pod", "", "a-pod"]),
            (json!({"containers": [], "hostname": "h"}), ["h", "", "h"]),
            (
                json!({"containers": [], "hostname": "h", "subdomain": "s"}),
                ["h", "s.ns.svc.cluster.local", "h"],
            ),
            (
                json!({"containers": [], "subdomain": "s", "setHostnameAsFQDN": true}),
                [
                    "a-pod",
                    "s.ns.svc.cluster.local",
                    "a-pod.s.ns.svc.cluster.local",
                ],
            ),
            (
                json!({"containers": [], "setHostnameAsFQDN": true}),
                ["a-pod", "", "a-pod"],
            ),
            (
                json!({"containers": [], "hostname": "h", "subdomain": "s", "hostnameOverride": "o.example"}),
                ["o.example", "", "o.example"],
            ),
            (
                json!({"containers": [], "hostname": "h", "subdomain": "s", "hostNetwork": true}),
                ["machine", "", "machine"],
            ),
        ] {
            assert_eq!(named(fields.clone()), expected, "{fields}");
        }
        let long = spec(
            serde_json::json!({"containers": [], "subdomain": "s".repeat(40), "setHostnameAsFQDN": true}),
        );
        let error = names("a-pod", "ns", &long, &node())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("is too long (64 characters is the max, 67 characters requested)"),
            "{error}"
        );
    }

    #[test]
    fn the_hosts_file_is_the_kubelets() {
        let spec = spec(serde_json::json!({
            "containers": [], "subdomain": "s",
            "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["foo.local", "bar.local"]}, {"ip": "10.1.2.4", "hostnames": ["x"]}],
        }));
        let names = names("p", "ns", &spec, &node()).unwrap();
        let addresses = ["10.0.0.9".parse().unwrap(), "fd00::9".parse().unwrap()];
        let text = hosts(&names, &addresses, &spec, &node());
        let own = text.split_once("ip6-allrouters\n").unwrap().1;
        assert_eq!(
            own,
            "10.0.0.9\tp.s.ns.svc.cluster.local\tp\nfd00::9\tp.s.ns.svc.cluster.local\tp\n\n\
             # Entries added by HostAliases.\n10.1.2.3\tfoo.local\tbar.local\n10.1.2.4\tx\n"
        );
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"));
    }

    #[test]
    fn with_the_hosts_network_it_is_the_hosts_file() {
        let spec = spec(serde_json::json!({"containers": [], "hostNetwork": true}));
        let names = names("p", "ns", &spec, &node()).unwrap();
        assert_eq!(
            hosts(&names, &[], &spec, &node()),
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost machine\n"
        );
    }

    #[test]
    fn the_resolver_is_the_hosts_with_what_the_pod_adds() {
        let config = serde_json::json!({
            "nameservers": ["10.0.0.2", "1.1.1.1", "8.8.8.8"], "searches": ["b.example", "c.example"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
        });
        for (fields, expected) in [
            (
                serde_json::json!({"containers": [], "dnsPolicy": "ClusterFirst"}),
                "search a.example b.example\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:5 rotate\n",
            ),
            (
                serde_json::json!({"containers": [], "dnsPolicy": "Default", "dnsConfig": config}),
                "search a.example b.example c.example\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 1.1.1.1\noptions rotate ndots:2 edns0\n",
            ),
            (
                serde_json::json!({"containers": [], "dnsPolicy": "None", "dnsConfig": config}),
                "search b.example c.example\nnameserver 10.0.0.2\nnameserver 1.1.1.1\nnameserver 8.8.8.8\noptions ndots:2 edns0\n",
            ),
        ] {
            let text = resolv_conf(&spec(fields), &node(), &Network::None, None);
            assert_eq!(text, expected);
        }
    }
}
