//! What a container runs, with which environment, and as whom.

use std::path::Path;
use std::str::FromStr;

use k8s_openapi::api::core::v1::Container;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process as Planned, Spec};

use super::env::Environment;
use super::{Context, IDS, resources, users};
use crate::error::{Error, Result};
use crate::pod::apparmor;

/// What a process is planned on.
pub(super) struct Image<'a> {
    /// The root file system.
    pub(super) root: &'a Path,
    /// Whether its configuration is a bundle's.
    pub(super) from_bundle: bool,
}

/// What is decided of a process besides its configuration.
pub(super) struct Process {
    /// Why it cannot be started (`CreateContainerConfigError`).
    pub(super) config_error: Option<String>,
    /// Its variables, if some are known only when it starts.
    pub(super) late: Option<Environment>,
}

impl Context<'_> {
    /// Plans the process.
    pub(super) fn process(
        &self,
        spec: &mut Spec,
        path: &str,
        container: &Container,
        image: &Image<'_>,
    ) -> Result<Process> {
        let Some(process) = spec.process_mut() else {
            return Err(Error::new(format!(
                "{path}: the bundle's config.json has no process section"
            )));
        };
        let entrypoint = process.args().as_deref().unwrap_or_default();
        let args = argv(path, container, entrypoint, image.from_bundle)?;
        let mut env = process.env().clone().unwrap_or_default();
        let terminal = container.tty == Some(true);
        // As containerd: weaker than what the image and the manifest say.
        if terminal && !env.iter().any(|entry| entry.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
        }
        // What stays if the variables are not to be had: the container is not started then.
        process.set_args(Some(args.clone()));
        let environment = self.environment(container, env, args);
        if let Some(directory) = container.working_dir.as_deref().filter(|d| !d.is_empty()) {
            if !directory.starts_with('/') {
                return Err(Error::new(format!(
                    "{path}.workingDir: Invalid value: {directory:?}: must be an absolute path"
                )));
            }
            process.set_cwd(directory.into());
        }
        process.set_terminal(Some(terminal)).set_console_size(None);
        process.set_oom_score_adj(resources::oom_score_adj(
            self.spec,
            container,
            &self.options.node,
        ));
        security(process, path, container)?;
        self.apparmor(process, path, container)?;
        let not_allowed = self.user(process, container, image);
        let resolved = environment.and_then(|environment| {
            environment.set(process, &mut |file| Ok(Some(file.to_string())))?;
            Ok(environment)
        });
        Ok(match resolved {
            Ok(environment) => Process {
                config_error: not_allowed,
                late: environment.reads_files().then_some(environment),
            },
            Err(why) => Process {
                config_error: not_allowed.or(Some(why)),
                late: None,
            },
        })
    }

    /// `appArmorProfile`. Where AppArmor is off the kubelet does without a default one; the privileged have none, unless it
    /// is named.
    fn apparmor(&self, process: &mut Planned, path: &str, container: &Container) -> Result<()> {
        let own = container.security_context.as_ref();
        let pod = self.spec.security_context.as_ref();
        let profile = own
            .and_then(|c| c.app_armor_profile.as_ref())
            .or(pod.and_then(|c| c.app_armor_profile.as_ref()));
        let Some(profile) = profile else {
            return Ok(());
        };
        let field = || format!("{path}.securityContext.appArmorProfile: {}", profile.type_);
        let privileged = own.is_some_and(|c| c.privileged == Some(true));
        let node = &self.options.node;
        let on = node.apparmor;
        match profile.type_.as_str() {
            "Localhost" if !on => Err(Error::new(format!(
                "{}: AppArmor is not enabled on the host",
                field()
            ))),
            "Localhost" => {
                process.set_apparmor_profile(profile.localhost_profile.clone());
                Ok(())
            }
            "RuntimeDefault" if on && !privileged => {
                if !node.apparmor_parser {
                    return Err(apparmor::missing().step(field()));
                }
                process.set_apparmor_profile(Some(apparmor::PROFILE.to_owned()));
                Ok(())
            }
            _ => {
                process.set_apparmor_profile(None);
                Ok(())
            }
        }
    }

    /// The user: the container's, else the pod's, else the image's.
    fn user(
        &self,
        process: &mut Planned,
        container: &Container,
        image: &Image<'_>,
    ) -> Option<String> {
        let Image { root, from_bundle } = *image;
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
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        // A bundle says it all, unless the manifest says otherwise.
        if asked.is_some() || !from_bundle {
            let uid = asked.unwrap_or(user.uid());
            let passwd = self.texts.read(root, "/etc/passwd");
            let known = users::user(&passwd, uid);
            user.set_uid(uid);
            user.set_gid(known.map_or(0, |(_, gid)| gid));
            let strict =
                pod.is_some_and(|c| c.supplemental_groups_policy.as_deref() == Some("Strict"));
            groups = match known {
                Some((name, _)) if !strict => {
                    users::groups(&self.texts.read(root, "/etc/group"), name)
                }
                _ => Vec::new(),
            };
            groups.retain(|group| *group != user.gid());
        }
        if let Some(gid) = group {
            user.set_gid(gid);
        }
        let fs_group = pod.and_then(|c| c.fs_group);
        let more = pod
            .into_iter()
            .flat_map(|c| c.supplemental_groups.iter().flatten());
        for group in fs_group.iter().chain(more).filter_map(|g| id(Some(*g))) {
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        user.set_additional_gids(Some(groups).filter(|groups| !groups.is_empty()));

        let ids = [user.uid(), user.gid()].into_iter();
        let groups = user.additional_gids().iter().flatten().copied();
        if self.sandbox.users.is_some() && ids.chain(groups).any(|id| id >= IDS) {
            let last = IDS - 1;
            return Some(format!(
                "with hostUsers: false there are no users and groups above {last}"
            ));
        }

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

/// Capabilities and no_new_privs.
fn security(process: &mut Planned, path: &str, container: &Container) -> Result<()> {
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
fn set_capabilities(process: &mut Planned, set: Capabilities) {
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(Some(set.clone()))
        .set_effective(Some(set.clone()))
        .set_permitted(Some(set))
        .set_inheritable(None)
        .set_ambient(None);
    process.set_capabilities(Some(capabilities));
}
