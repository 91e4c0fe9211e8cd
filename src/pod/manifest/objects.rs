//! What a pod refers to by name: ConfigMaps, Secrets, PersistentVolumeClaims and PersistentVolumes, Services.
//!
//! Only what a pod can get from them is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde::{Deserialize, Serialize};

use super::object::{self, PersistentVolume, PersistentVolumeClaim};
use crate::pod::validate::names;

/// Keys with their values; in a record they are written as base64.
pub type Keys = BTreeMap<String, ByteString>;

/// A ConfigMap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// `data`: these can become variables.
    pub data: BTreeMap<String, String>,
    /// `binaryData`: these can become files only.
    pub binary_data: Keys,
}

/// A Service, as far as containers learn of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// `metadata.name`.
    pub name: String,
    /// `spec.clusterIP`, if it is an address.
    pub cluster_ip: Option<String>,
    /// Whether it has no address of its own: `clusterIP: None`, or `type: ExternalName`.
    pub headless: bool,
    /// `spec.selector`.
    pub selector: BTreeMap<String, String>,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
}

/// A Service's port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// `name`, or empty.
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// `port`.
    pub port: i32,
}

/// Everything beside the pod that a manifest holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Objects {
    /// By name.
    pub config_maps: BTreeMap<String, Config>,
    /// By name, `stringData` put on top of `data`.
    pub secrets: BTreeMap<String, Keys>,
    /// By name: the PersistentVolume that a claim names, if it names one.
    pub claims: BTreeMap<String, Option<String>>,
    /// By name: the directory of this machine that a volume is.
    pub volumes: BTreeMap<String, PathBuf>,
    /// In the manifest's order.
    pub services: Vec<Service>,
    /// Those with `immutable: true`, as `configmap/NAME` and `secret/NAME`.
    pub immutable: BTreeSet<String>,
}

/// A field that is wrong: its path, and why.
pub(super) type Wrong = (String, String);

impl Objects {
    pub(super) fn add_config_map(&mut self, object: ConfigMap) -> Vec<Wrong> {
        let name = object.metadata.name.unwrap_or_default();
        let mut wrong = named("configmaps", &name, self.config_maps.contains_key(&name));
        let data = object.data.unwrap_or_default();
        let binary_data = object.binary_data.unwrap_or_default();
        keys("data", data.keys(), &mut wrong);
        keys("binaryData", binary_data.keys(), &mut wrong);
        for key in binary_data.keys().filter(|key| data.contains_key(*key)) {
            let why = format!("Invalid value: {key:?}: duplicate of key present in binaryData");
            wrong.push((format!("data[{key}]"), why));
        }
        let sizes = data.values().map(String::len);
        too_long(
            sizes.chain(binary_data.values().map(|v| v.0.len())),
            &mut wrong,
        );
        if object.immutable == Some(true) {
            self.immutable.insert(format!("configmap/{name}"));
        }
        self.config_maps.insert(name, Config { data, binary_data });
        wrong
    }

    pub(super) fn add_secret(&mut self, object: Secret) -> Vec<Wrong> {
        let name = object.metadata.name.unwrap_or_default();
        let mut wrong = named("secrets", &name, self.secrets.contains_key(&name));
        let mut data = object.data.unwrap_or_default();
        let texts = object.string_data.unwrap_or_default();
        data.extend(
            texts
                .into_iter()
                .map(|(key, text)| (key, ByteString(text.into_bytes()))),
        );
        keys("data", data.keys(), &mut wrong);
        too_long(data.values().map(|v| v.0.len()), &mut wrong);
        if object.immutable == Some(true) {
            self.immutable.insert(format!("secret/{name}"));
        }
        self.secrets.insert(name, data);
        wrong
    }

    pub(super) fn add_claim(&mut self, mut object: PersistentVolumeClaim) -> Vec<Wrong> {
        let name = object.name();
        let mut wrong = named(
            "persistentvolumeclaims",
            &name,
            self.claims.contains_key(&name),
        );
        let spec = object.spec.unwrap_or_default();
        if spec.volume_mode.as_deref() == Some("Block") {
            let why = "not supported: a claim is a directory here, not a device";
            wrong.push(("spec.volumeMode".into(), why.into()));
        }
        self.claims
            .insert(name, spec.volume_name.filter(|name| !name.is_empty()));
        wrong
    }

    pub(super) fn add_volume(&mut self, mut object: PersistentVolume) -> Vec<Wrong> {
        let name = object.name();
        let mut wrong = named("persistentvolumes", &name, self.volumes.contains_key(&name));
        let spec = object.spec.unwrap_or_default();
        let local = spec.local.map(|local| local.path);
        match local.or(spec.host_path.map(|host_path| host_path.path)) {
            Some(path) if path.starts_with('/') && !path.split('/').any(|part| part == "..") => {
                self.volumes.insert(name, path.into());
            }
            Some(path) => {
                let why = format!("Invalid value: {path:?}: must be an absolute path without '..'");
                wrong.push(("spec.hostPath.path".into(), why));
            }
            None => {
                let why = "not supported: only hostPath and local are on one machine";
                wrong.push(("spec".into(), why.into()));
            }
        }
        wrong
    }

    pub(super) fn add_service(&mut self, mut object: object::Service) -> Vec<Wrong> {
        let name = object.name();
        let taken = self.services.iter().any(|service| service.name == name);
        let wrong = named("services", &name, taken);
        let spec = object.spec.unwrap_or_default();
        let cluster_ip = spec.cluster_ip.filter(|ip| !ip.is_empty());
        let ports = spec.ports.into_iter().flatten();
        self.services.push(Service {
            name,
            headless: cluster_ip.as_deref() == Some("None")
                || spec.type_.as_deref() == Some("ExternalName"),
            cluster_ip: cluster_ip.filter(|ip| ip != "None"),
            selector: spec.selector.unwrap_or_default(),
            ports: ports
                .map(|port| ServicePort {
                    name: port.name.unwrap_or_default(),
                    protocol: port.protocol.unwrap_or_else(|| "TCP".into()),
                    port: port.port,
                })
                .collect(),
        });
        wrong
    }
}

fn named(kind: &str, name: &str, taken: bool) -> Vec<Wrong> {
    let path = "metadata.name";
    let whys = match name {
        "" => vec!["Required value: name or generateName is required".to_owned()],
        _ if taken => vec![format!("{kind} {name:?} already exists")],
        _ => {
            let whys = names::dns_subdomain(name).into_iter();
            whys.map(|why| format!("Invalid value: {name:?}: {why}"))
                .collect()
        }
    };
    whys.into_iter().map(|why| (path.to_owned(), why)).collect()
}

fn keys<'a>(field: &str, keys: impl Iterator<Item = &'a String>, wrong: &mut Vec<Wrong>) {
    for key in keys {
        for why in names::config_key(key) {
            wrong.push((
                format!("{field}[{key}]"),
                format!("Invalid value: {key:?}: {why}"),
            ));
        }
    }
}

/// Kubernetes' `MaxSecretSize`, in bytes: also that of a ConfigMap.
const MOST: usize = 1 << 20;

fn too_long(sizes: impl Iterator<Item = usize>, wrong: &mut Vec<Wrong>) {
    if sizes.sum::<usize>() > MOST {
        let why = format!("Too long: may not be more than {MOST} bytes");
        wrong.push(("data".into(), why));
    }
}
