//! What a pod is called, whom it asks for names, and what it sets of the kernel.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostAlias, PodDNSConfig, PodSpec, Sysctl};

use super::field::{Errors, Path};
use super::names;

/// What Kubernetes says of anything that is no address.
const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

pub(super) fn validate(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    if let Some(hostname) = spec.hostname.as_deref().filter(|h| !h.is_empty()) {
        errors.each(
            &path.child("hostname"),
            hostname,
            names::dns_label(hostname),
        );
    }
    if let Some(subdomain) = spec.subdomain.as_deref().filter(|s| !s.is_empty()) {
        errors.each(
            &path.child("subdomain"),
            subdomain,
            names::dns_label(subdomain),
        );
    }
    hostname_override(errors, &path.child("hostnameOverride"), spec);
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        host_alias(errors, &path.child("hostAliases").index(index), alias);
    }
    errors.one_of(
        &path.child("dnsPolicy"),
        spec.dns_policy.as_deref(),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    let none = spec.dns_policy.as_deref() == Some("None");
    let path = path.child("dnsConfig");
    match &spec.dns_config {
        None if none => errors.required(&path, "must provide `dnsConfig` when `dnsPolicy` is None"),
        None => {}
        Some(config) => {
            let nameservers = config.nameservers.iter().flatten();
            if none && nameservers.count() == 0 {
                errors.required(
                    &path.child("nameservers"),
                    "must provide at least one DNS nameserver when `dnsPolicy` is None",
                );
            }
            dns_config(errors, &path, config);
        }
    }
}

fn hostname_override(errors: &mut Errors, path: &Path, spec: &PodSpec) {
    let Some(name) = spec.hostname_override.as_deref() else {
        return;
    };
    if spec.set_hostname_as_fqdn == Some(true) {
        errors.forbidden(path, "may not be set when `setHostnameAsFQDN` is true");
    }
    if spec.host_network == Some(true) {
        errors.forbidden(path, "may not be set when `hostNetwork` is true");
    }
    errors.each(path, name, names::dns_subdomain(name));
    if name.len() > 64 {
        errors.invalid(path, name, "must be no more than 64 bytes");
    }
}

fn host_alias(errors: &mut Errors, path: &Path, alias: &HostAlias) {
    if alias.ip.parse::<IpAddr>().is_err() {
        errors.invalid(&path.child("ip"), &alias.ip, NO_ADDRESS);
    }
    let path = path.child("hostnames");
    for (index, name) in alias.hostnames.iter().flatten().enumerate() {
        errors.each(&path.index(index), name, names::dns_subdomain(name));
    }
}

fn dns_config(errors: &mut Errors, path: &Path, config: &PodDNSConfig) {
    let nameservers = config.nameservers.as_deref().unwrap_or_default();
    let field = path.child("nameservers");
    if nameservers.len() > 3 {
        errors.invalid(
            &field,
            &shown(nameservers),
            "must not have more than 3 nameservers",
        );
    }
    for (index, nameserver) in nameservers.iter().enumerate() {
        if nameserver.parse::<IpAddr>().is_err() {
            errors.invalid(&field.index(index), nameserver, NO_ADDRESS);
        }
    }
    let searches = config.searches.as_deref().unwrap_or_default();
    let field = path.child("searches");
    if searches.len() > 32 {
        errors.invalid(
            &field,
            &shown(searches),
            "must not have more than 32 search paths",
        );
    }
    if searches.join(" ").len() > 2048 {
        let why = "must not have more than 2048 characters (including spaces) in the search list";
        errors.invalid(&field, &shown(searches), why);
    }
    for (index, search) in searches.iter().enumerate() {
        let name = search.strip_suffix('.').unwrap_or(search);
        // `.` alone, and underscores, are fine in a search path.
        if !name.is_empty() {
            errors.each(
                &field.index(index),
                search,
                names::dns_subdomain(&name.replace('_', "-")),
            );
        }
    }
    let field = path.child("options");
    for (index, option) in config.options.iter().flatten().enumerate() {
        if option.name.as_deref().is_none_or(str::is_empty) {
            errors.required(&field.index(index), "must not be empty");
        }
    }
}

fn shown(list: &[String]) -> serde_json::Value {
    serde_json::json!(list)
}

pub(super) fn sysctls(errors: &mut Errors, path: &Path, sysctls: &[Sysctl]) {
    let mut seen = BTreeSet::new();
    for (index, sysctl) in sysctls.iter().enumerate() {
        let path = path.index(index).child("name");
        match sysctl.name.as_str() {
            "" => errors.required(&path, ""),
            name if !seen.insert(name.replace('/', ".")) => errors.duplicate(&path, name),
            _ => {}
        }
    }
}
