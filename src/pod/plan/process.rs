//! What a container runs, with which environment, and as whom.

use std::collections::BTreeMap;
use std::str::FromStr;

use k8s_openapi::api::core::v1::{Container, EnvVar};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process, Spec};

use super::{Context, resources};
use crate::error::{Error, Result};

/// containerd's, for an image without one.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Context<'_> {
    /// Plans the process. Gives why the container cannot be started, if so.
    pub(super) fn process(
        &self,
        spec: &mut Spec,
        path: &str,
        container: &Container,
        from_bundle: bool,
    ) -> Result<Option<String>> {
        let Some(process) = spec.process_mut() else {
            return Err(Error::new(format!(
                "{path}: the bundle's config.json has no process section"
            )));
        };
        let variables = self.variables(container.env.as_deref().unwrap_or_default());
        let lookup = |name: &str| {
            let found = variables.iter().find(|(n, _)| n == name);
            found.map(|(_, value)| value.as_str())
        };
        let entrypoint = process.args().as_deref().unwrap_or_default();
        let args = argv(path, container, entrypoint, from_bundle)?;
        let args = args.iter().map(|arg| expand(arg, &lookup)).collect();
        let env = self.environment(process.env().as_deref().unwrap_or_default(), &variables);
        process.set_args(Some(args)).set_env(Some(env));
        if let Some(directory) = container.working_dir.as_deref().filter(|d| !d.is_empty()) {
            if !directory.starts_with('/') {
                return Err(Error::new(format!(
                    "{path}.workingDir: Invalid value: {directory:?}: must be an absolute path"
                )));
            }
            process.set_cwd(directory.into());
        }
        process.set_terminal(Some(false)).set_console_size(None);
        process.set_oom_score_adj(resources::oom_score_adj(
            self.spec,
            container,
            self.options.node.memory,
        ));
        security(process, path, container)?;
        Ok(self.user(process, container))
    }

    /// The container's own variables, later ones of a name in place of earlier ones.
    fn variables(&self, env: &[EnvVar]) -> Vec<(String, String)> {
        let mut variables: Vec<(String, String)> = Vec::new();
        for variable in env {
            let value = match &variable.value_from {
                Some(from) => from
                    .field_ref
                    .as_ref()
                    .map(|field| self.field(&field.field_path))
                    .unwrap_or_default(),
                None => expand(variable.value.as_deref().unwrap_or_default(), &|name| {
                    let found = variables.iter().find(|(n, _)| n == name);
                    found.map(|(_, value)| value.as_str())
                }),
            };
            match variables.iter_mut().find(|(n, _)| *n == variable.name) {
                Some((_, old)) => *old = value,
                None => variables.push((variable.name.clone(), value)),
            }
        }
        variables
    }

    /// `valueFrom.fieldRef`; a label or annotation that is not there is empty.
    fn field(&self, path: &str) -> String {
        let metadata = &self.manifest.pod.metadata;
        let entry = |map: &Option<BTreeMap<String, String>>, key: &str| {
            map.as_ref().and_then(|map| map.get(key)).cloned()
        };
        let value = match path {
            "metadata.name" => metadata.name.clone(),
            "metadata.namespace" => metadata.namespace.clone(),
            "metadata.uid" => Some(self.options.uid.clone()),
            _ => match path.strip_suffix("']").and_then(|p| p.split_once("['")) {
                Some(("metadata.labels", key)) => entry(&metadata.labels, key),
                Some((_, key)) => entry(&metadata.annotations, key),
                None => None,
            },
        };
        value.unwrap_or_default()
    }

    /// The image's environment, `HOSTNAME`, then the manifest's on top.
    fn environment(&self, image: &[String], variables: &[(String, String)]) -> Vec<String> {
        let mut environment: Vec<String> = image.to_vec();
        let name_of = |entry: &str| entry.split('=').next().map(str::to_owned);
        if !image.iter().any(|entry| entry.starts_with("PATH=")) {
            environment.insert(0, PATH.to_owned());
        }
        let hostname = ("HOSTNAME".to_owned(), self.sandbox.hostname.clone());
        for (name, value) in std::iter::once(&hostname).chain(variables) {
            let entry = format!("{name}={value}");
            match environment
                .iter_mut()
                .find(|e| name_of(e).as_deref() == Some(name))
            {
                Some(old) => *old = entry,
                None => environment.push(entry),
            }
        }
        environment
    }

    /// The user: the container's, else the pod's, else the image's.
    fn user(&self, process: &mut Process, container: &Container) -> Option<String> {
        let own = container.security_context.as_ref();
        let pod = self.spec.security_context.as_ref();
        // Validated to be within 0..2^31.
        let id = |id: Option<i64>| id.and_then(|id| u32::try_from(id).ok());
        let asked = id(own
            .and_then(|c| c.run_as_user)
            .or(pod.and_then(|c| c.run_as_user)));
        let group = id(own
            .and_then(|c| c.run_as_group)
            .or(pod.and_then(|c| c.run_as_group)));
        let user = process.user_mut();
        if let Some(uid) = asked {
            user.set_uid(uid);
        }
        if let Some(gid) = group {
            user.set_gid(gid);
        }
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        let more = pod.and_then(|c| c.supplemental_groups.clone());
        for group in more.into_iter().flatten().filter_map(|g| id(Some(g))) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        user.set_additional_gids(Some(groups).filter(|groups| !groups.is_empty()));

        let non_root = own
            .and_then(|c| c.run_as_non_root)
            .or(pod.and_then(|c| c.run_as_non_root));
        if non_root != Some(true) || user.uid() != 0 {
            return None;
        }
        let metadata = &self.manifest.pod.metadata;
        let pod = format!(
            "{}_{}({})",
            metadata.name.as_deref().unwrap_or_default(),
            metadata.namespace.as_deref().unwrap_or_default(),
            self.options.uid
        );
        let why = match asked {
            Some(_) => "container's runAsUser breaks non-root policy",
            None => "container has runAsNonRoot and image will run as root",
        };
        Some(format!(
            "{why} (pod: {pod:?}, container: {})",
            container.name
        ))
    }
}

/// `command` replaces the image's entry point and arguments, `args` its arguments. Of a bundle's `process.args` the
/// first is the entry point; an image directory has neither.
fn argv(
    path: &str,
    container: &Container,
    image: &[String],
    from_bundle: bool,
) -> Result<Vec<String>> {
    let command = container.command.as_deref().unwrap_or_default();
    let args = container.args.as_deref().unwrap_or_default();
    let image = if from_bundle { image } else { &[] };
    let argv = match (command, args) {
        ([], []) => image.to_vec(),
        ([], args) => [image.get(..1).unwrap_or_default(), args].concat(),
        (command, args) => [command, args].concat(),
    };
    if argv.is_empty() {
        let what = match from_bundle {
            true => "neither the manifest nor the bundle's config.json says what to run",
            false => "an image directory has no entry point of its own",
        };
        return Err(
            Error::new(format!("{path}.command: Required value: {what}"))
                .hint("set command or args"),
        );
    }
    Ok(argv)
}

/// Replaces `$(NAME)` by what `lookup` knows; what it does not know stays, and `$$` is a `$`.
///
/// Source: `k8s.io/kubernetes/third_party/forked/golang/expansion`.
fn expand<'a>(text: &str, lookup: &impl Fn(&str) -> Option<&'a str>) -> String {
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

/// Capabilities and no_new_privs.
fn security(process: &mut Process, path: &str, container: &Container) -> Result<()> {
    let Some(context) = &container.security_context else {
        return Ok(());
    };
    if let Some(allowed) = context.allow_privilege_escalation {
        process.set_no_new_privileges(Some(!allowed));
    }
    let asked = context.capabilities.as_ref();
    let path = format!("{path}.securityContext.capabilities");
    let add = asked.and_then(|c| c.add.as_deref()).unwrap_or_default();
    let drop = asked.and_then(|c| c.drop.as_deref()).unwrap_or_default();
    if context.privileged == Some(true) {
        set_capabilities(process, every());
    } else if !add.is_empty() || !drop.is_empty() {
        let had = process.capabilities().as_ref();
        let mut set = had.and_then(|c| c.bounding().clone()).unwrap_or_default();
        if is_all(add) {
            set = every();
        }
        if is_all(drop) {
            set.clear();
        }
        for capability in parse(drop, &format!("{path}.drop"))? {
            set.remove(&capability);
        }
        set.extend(parse(add, &format!("{path}.add"))?);
        set_capabilities(process, set);
    }
    Ok(())
}

fn is_all(names: &[String]) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case("ALL"))
}

/// Names with or without `CAP_`, without `ALL`.
fn parse(names: &[String], path: &str) -> Result<Vec<Capability>> {
    let mut known = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match Capability::from_str(bare) {
            _ if bare == "ALL" => {}
            Ok(capability) => known.push(capability),
            Err(_) => {
                let what = format!("{path}[{index}]: unknown capability {name:?}");
                return Err(Error::new(what).hint("see capabilities(7)"));
            }
        }
    }
    Ok(known)
}

fn every() -> Capabilities {
    let names = caps::all().into_iter().map(|c| c.to_string());
    names
        .filter_map(|name| Capability::from_str(name.strip_prefix("CAP_")?).ok())
        .collect()
}

/// Inheritable and ambient stay empty (CVE-2022-29162).
fn set_capabilities(process: &mut Process, set: Capabilities) {
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(Some(set.clone()))
        .set_effective(Some(set.clone()))
        .set_permitted(Some(set))
        .set_inheritable(None)
        .set_ambient(None);
    process.set_capabilities(Some(capabilities));
}

#[cfg(test)]
mod tests {
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
