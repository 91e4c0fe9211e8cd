//! A container's variables, and what they are put into: the kubelet's order and messages.
//!
//! `envFrom` first, then `env` on top, then the variables of services that nobody has set; each may use those before it.
//!
//! Source: `makeEnvironmentVariables` in `pkg/kubelet/kubelet_pods.go`, `pkg/kubelet/envvars` of Kubernetes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVarSource};
use oci_spec::runtime::Process;

use super::Context;
use crate::pod::manifest::Service;

/// containerd's, for an image without one.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a container's variables and arguments are made of.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The image's own variables, and `HOSTNAME`.
    image: Vec<String>,
    variables: Vec<(String, Value)>,
    /// What services are told by, unless a variable of that name is set.
    services: Vec<(String, String)>,
    /// Before `$(NAME)` in them is replaced.
    args: Vec<String>,
}

/// What a variable is made of.
#[derive(Debug, Clone)]
enum Value {
    /// Just this.
    Taken(String),
    /// `$(NAME)` in it is replaced.
    Text(String),
    /// Read when the container starts.
    File(FileKey),
}

/// `fileKeyRef`: a variable in a file that another container of the pod has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileKey {
    /// The volume's name.
    pub volume: String,
    /// Relative, without `..`.
    pub path: PathBuf,
    /// The variable's name in the file.
    pub key: String,
    /// Whether the file and the key need not be there.
    pub optional: bool,
}

impl fmt::Display for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            volume, path, key, ..
        } = self;
        write!(f, "<{key} in {} of volume {volume}>", path.display())
    }
}

/// Reads a variable from a file; `None` if it is not there and need not be.
pub(crate) type Read<'a> = &'a mut dyn FnMut(&FileKey) -> Result<Option<String>, String>;

impl Environment {
    /// Whether [`Self::set`] has anything to read.
    pub fn reads_files(&self) -> bool {
        let mut variables = self.variables.iter();
        variables.any(|(_, value)| matches!(value, Value::File(_)))
    }

    /// Sets a process's arguments and variables.
    ///
    /// # Errors
    /// What `read` says.
    pub fn set(&self, process: &mut Process, read: Read<'_>) -> Result<(), String> {
        let mut known = BTreeMap::new();
        let mut order = Vec::new();
        let services: BTreeMap<_, _> = self.services.iter().map(|(n, v)| (&**n, v)).collect();
        for (name, value) in &self.variables {
            let value = match value {
                Value::Taken(value) => value.clone(),
                Value::Text(text) => expand(text, &|name| {
                    let known = known.get(name).or_else(|| services.get(name).copied());
                    known.map(String::as_str)
                }),
                Value::File(file) => match read(file)? {
                    Some(value) => value,
                    None => continue,
                },
            };
            if known.insert(name.as_str(), value).is_none() {
                order.push(name.as_str());
            }
        }
        for (name, value) in &self.services {
            if !known.contains_key(name.as_str()) {
                known.insert(name, value.clone());
                order.push(name);
            }
        }
        let lookup = |name: &str| known.get(name).map(String::as_str);
        let args = self.args.iter().map(|arg| expand(arg, &lookup)).collect();
        let own = order.iter().map(|name| format!("{name}={}", known[name]));
        let name_of = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
        let mut env: Vec<String> = self.image.clone();
        for entry in &mut env {
            let name = name_of(entry);
            if let Some(value) = known.get(name.as_str()) {
                *entry = format!("{name}={value}");
            }
        }
        let image: Vec<String> = env.iter().map(|entry| name_of(entry)).collect();
        env.extend(own.filter(|entry| !image.contains(&name_of(entry))));
        process.set_args(Some(args)).set_env(Some(env));
        Ok(())
    }
}

impl Context<'_> {
    /// What a container's variables are made of.
    ///
    /// # Errors
    /// What is not there, as the kubelet says it.
    pub(super) fn environment(
        &self,
        container: &Container,
        mut image: Vec<String>,
        args: Vec<String>,
    ) -> Result<Environment, String> {
        if !image.iter().any(|entry| entry.starts_with("PATH=")) {
            image.insert(0, PATH.to_owned());
        }
        image.retain(|entry| !entry.starts_with("HOSTNAME="));
        image.push(format!("HOSTNAME={}", self.sandbox.hostname));
        let mut variables = Vec::new();
        for from in container.env_from.iter().flatten() {
            self.all_of(from, &mut variables)?;
        }
        for variable in container.env.iter().flatten() {
            let text = variable.value.clone().unwrap_or_default();
            let value = match &variable.value_from {
                Some(from) if text.is_empty() => self.value(container, from)?,
                _ => Some(Value::Text(text)),
            };
            variables.extend(value.map(|value| (variable.name.clone(), value)));
        }
        Ok(Environment {
            image,
            variables,
            services: match self.spec.enable_service_links {
                Some(false) => Vec::new(),
                _ => self.services(),
            },
            args,
        })
    }

    /// `envFrom`.
    fn all_of(&self, from: &EnvFromSource, to: &mut Vec<(String, Value)>) -> Result<(), String> {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let named = |key: &String| format!("{prefix}{key}");
        let objects = &self.manifest.objects;
        if let Some(source) = &from.config_map_ref {
            let found = objects.config_maps.get(&source.name);
            if found.is_none() && source.optional != Some(true) {
                return Err(format!("configmap {:?} not found", source.name));
            }
            let data = found.iter().flat_map(|config| &config.data);
            to.extend(data.map(|(key, value)| (named(key), Value::Taken(value.clone()))));
        }
        if let Some(source) = &from.secret_ref {
            let found = objects.secrets.get(&source.name);
            if found.is_none() && source.optional != Some(true) {
                return Err(format!("secret {:?} not found", source.name));
            }
            for (key, value) in found.into_iter().flatten() {
                to.push((named(key), Value::Taken(text(&source.name, key, &value.0)?)));
            }
        }
        Ok(())
    }

    /// `valueFrom`; `None` for what is not there and need not be.
    fn value(&self, container: &Container, from: &EnvVarSource) -> Result<Option<Value>, String> {
        let namespace = self
            .manifest
            .pod
            .metadata
            .namespace
            .as_deref()
            .unwrap_or_default();
        let objects = &self.manifest.objects;
        if let Some(field) = &from.field_ref {
            return Ok(Some(Value::Taken(self.field(&field.field_path))));
        }
        if let Some(selector) = &from.resource_field_ref {
            let value = self.resource(container, selector)?;
            return Ok(Some(Value::Taken(value)));
        }
        if let Some(source) = &from.config_map_key_ref {
            let found = objects.config_maps.get(&source.name);
            return match found.map(|config| config.data.get(&source.key)) {
                Some(Some(value)) => Ok(Some(Value::Taken(value.clone()))),
                _ if source.optional == Some(true) => Ok(None),
                None => Err(format!("configmap {:?} not found", source.name)),
                Some(None) => Err(format!(
                    "couldn't find key {} in ConfigMap {namespace}/{}",
                    source.key, source.name
                )),
            };
        }
        if let Some(source) = &from.secret_key_ref {
            let found = objects.secrets.get(&source.name);
            return match found.map(|keys| keys.get(&source.key)) {
                Some(Some(value)) => {
                    let value = text(&source.name, &source.key, &value.0)?;
                    Ok(Some(Value::Taken(value)))
                }
                _ if source.optional == Some(true) => Ok(None),
                None => Err(format!("secret {:?} not found", source.name)),
                Some(None) => Err(format!(
                    "couldn't find key {} in Secret {namespace}/{}",
                    source.key, source.name
                )),
            };
        }
        Ok(from.file_key_ref.as_ref().map(|file| {
            Value::File(FileKey {
                volume: file.volume_name.clone(),
                path: file.path.clone().into(),
                key: file.key.clone(),
                optional: file.optional == Some(true),
            })
        }))
    }

    /// What the pod is told of services.
    fn services(&self) -> Vec<(String, String)> {
        let mut variables = Vec::new();
        for service in &self.manifest.objects.services {
            if let Some(address) = self.address_of(service) {
                service_variables(service, &address, &mut variables);
            }
        }
        variables
    }

    /// Where a service is: at its `clusterIP`, or in this pod, if it selects it.
    pub(super) fn address_of(&self, service: &Service) -> Option<String> {
        let labels = self.manifest.pod.metadata.labels.as_ref();
        let has = |(key, value): (&String, &String)| {
            labels.is_some_and(|labels| labels.get(key) == Some(value))
        };
        let selects = !service.selector.is_empty() && service.selector.iter().all(has);
        match &service.cluster_ip {
            _ if service.headless => None,
            Some(address) => Some(address.clone()),
            None if selects => Some(self.field("status.podIP")),
            None => None,
        }
    }
}

/// As the kubelet and Docker's links name them.
fn service_variables(service: &Service, address: &str, variables: &mut Vec<(String, String)>) {
    let upper = |name: &str| name.replace('-', "_").to_uppercase();
    let prefix = upper(&service.name);
    let host = match address.contains(':') {
        true => format!("[{address}]"),
        false => address.to_owned(),
    };
    let mut set = |name: String, value: String| variables.push((name, value));
    let Some(first) = service.ports.first() else {
        return;
    };
    set(format!("{prefix}_SERVICE_HOST"), address.to_owned());
    set(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in service.ports.iter().filter(|port| !port.name.is_empty()) {
        let name = format!("{prefix}_SERVICE_PORT_{}", upper(&port.name));
        set(name, port.port.to_string());
    }
    for (index, port) in service.ports.iter().enumerate() {
        let protocol = port.protocol.to_lowercase();
        let url = format!("{protocol}://{host}:{}", port.port);
        if index == 0 {
            set(format!("{prefix}_PORT"), url.clone());
        }
        let link = format!(
            "{prefix}_PORT_{}_{}",
            port.port,
            port.protocol.to_uppercase()
        );
        set(link.clone(), url);
        set(format!("{link}_PROTO"), protocol);
        set(format!("{link}_PORT"), port.port.to_string());
        set(format!("{link}_ADDR"), address.to_owned());
    }
}

/// A Secret's value as a variable's.
fn text(name: &str, key: &str, value: &[u8]) -> Result<String, String> {
    String::from_utf8(value.to_vec()).map_err(|_| {
        format!("key {key} of secret {name:?} is not UTF-8 text: no variable can hold it")
    })
}

/// Replaces `$(NAME)` by what `lookup` knows; what it does not know stays, and `$$` is a `$`.
///
/// Source: `k8s.io/kubernetes/third_party/forked/golang/expansion`.
pub(super) fn expand<'a>(text: &str, lookup: &impl Fn(&str) -> Option<&'a str>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match lookup(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn variables_are_expanded_as_kubernetes_does() {
        let lookup = |name: &str| match name {
            "A" => Some("1"),
            "EMPTY" => Some(""),
            "REF" => Some("$(A)"),
            _ => None,
        };
        for (text, expanded) in [
            ("", ""),
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(EMPTY)", ""),
            ("$(NO)", "$(NO)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$$", "$"),
            ("$", "$"),
            ("a$", "a$"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$((A))", "$((A))"),
            ("$(REF)", "$(A)"),
            ("ü$(A)ü", "ü1ü"),
        ] {
            assert_eq!(expand(text, &lookup), expanded, "{text}");
        }
    }
}
