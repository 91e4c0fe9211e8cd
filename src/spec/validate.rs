//! The checks of a configuration: all errors at once, before anything exists.

use std::path::{Path, PathBuf};

use oci_spec::runtime as oci;

use super::devices::plan_devices;
use super::execution::plan_execution;
use super::field::Field;
use super::hooks::plan_hooks;
use super::mount_label::label_mounts;
use super::mounts::plan_mounts;
use super::namespaces::plan_namespaces;
use super::net_devices::plan_net_devices;
use super::plan::{IdMap, Namespace, Namespaces, Plan, Process, Propagation, Root};
use super::process::plan_process;
use super::seccomp::plan_seccomp;
use super::sysctl::plan_sysctl;
use super::unsupported;
use crate::cgroup::{self, Maker};
use crate::container::Request;
use crate::error::{Error, Result};
use crate::sys::ns;

/// The newest version of the runtime-spec that we know: `1.MINOR`.
pub const VERSION: &str = "1.3.0";
const MINOR: u64 = 3;
/// sethostname(2), in bytes.
const MAX_HOSTNAME: usize = 64;

/// Decides everything about a container that can be decided before anything exists.
///
/// # Errors
/// All that is wrong with the configuration, each with its JSON path.
pub fn plan(request: &Request<'_>) -> Result<Plan> {
    let spec = request.spec;
    let linux = spec.linux().as_ref();
    let mut errors = Vec::new();
    let field = &mut Field::new("", &mut errors);

    check_version(spec.version(), &mut field.at("ociVersion"));
    unsupported::refuse_in_spec(spec, field);
    let hooks = plan_hooks(spec.hooks().as_ref(), &mut field.at("hooks"));
    let root = plan_root(request, field);
    let namespaces = plan_namespaces(linux, &mut field.at("linux"));
    let mut mounts = plan_mounts(
        spec.mounts().as_deref().unwrap_or_default(),
        &request.bundle,
        &request.sources,
        &namespaces,
        &mut field.at("mounts"),
    );
    let hostname = plan_hostname(spec.hostname(), &namespaces, &mut field.at("hostname"));
    let domainname = plan_hostname(spec.domainname(), &namespaces, &mut field.at("domainname"));

    let field = &mut field.at("linux");
    let devices = linux.and_then(|linux| linux.devices().as_deref());
    let devices = plan_devices(
        devices.unwrap_or_default(),
        &mounts,
        &mut field.at("devices"),
    );
    let sysctl = linux.and_then(|linux| linux.sysctl().as_ref());
    let sysctl = plan_sysctl(sysctl, &namespaces, &mut field.at("sysctl"));
    let net_devices = linux.and_then(|linux| linux.net_devices().as_ref());
    let net_devices = plan_net_devices(
        net_devices,
        &namespaces.network,
        &mut field.at("netDevices"),
    );
    let masked_paths = linux.and_then(|linux| linux.masked_paths().as_deref());
    let masked_paths = plan_paths(masked_paths, &mut field.at("maskedPaths"));
    let readonly_paths = linux.and_then(|linux| linux.readonly_paths().as_deref());
    let readonly_paths = plan_paths(readonly_paths, &mut field.at("readonlyPaths"));

    let execution = plan_execution(linux, field);
    let mount_label = linux.and_then(|linux| linux.mount_label().as_deref());
    let mount_label = label_mounts(mount_label, &mut mounts, &mut field.at("mountLabel"));
    let seccomp = linux.and_then(|linux| linux.seccomp().as_ref());
    let seccomp = seccomp.map(|seccomp| plan_seccomp(seccomp, &mut field.at("seccomp")));

    let process = plan_first_process(spec, &namespaces, &mut errors);
    let maker = match request.options.systemd_cgroup {
        false => Maker::Cgroupfs,
        true => Maker::Systemd {
            annotations: spec.annotations().as_ref(),
            user: ns::is_rootless(),
        },
    };
    let cgroup = cgroup::plan(request.id, linux, maker, &mut errors);
    Error::all("config.json", errors)?;
    // Without errors there is a process.
    let process = process.ok_or_else(|| Error::new("config.json: process: is missing"))?;
    Ok(Plan {
        namespaces,
        root,
        mounts,
        devices,
        masked_paths,
        readonly_paths,
        hostname,
        domainname,
        net_devices,
        sysctl,
        cgroup,
        process,
        seccomp,
        hooks,
        execution,
        mount_label,
    })
}

/// 1.x, of semver.org. What is newer than we know can only have added fields, which we ignore as unknown ones.
fn check_version(version: &str, field: &mut Field<'_>) {
    let hint = "runp implements 1.0 to 1.3 of the runtime-spec";
    match semver::Version::parse(version) {
        Err(e) => field.refuse_and_hint(format_args!("{version:?} is no version: {e}"), hint),
        Ok(version) if version.major != 1 => {
            field.refuse_and_hint(format_args!("\"{version}\" is not supported"), hint);
        }
        Ok(version) if version.minor > MINOR => {
            log::warn!("ociVersion {version} is newer than 1.{MINOR}: its new fields are ignored");
        }
        Ok(_) => {}
    }
}

fn plan_root(request: &Request<'_>, field: &mut Field<'_>) -> Root {
    let (spec, bundle) = (request.spec, request.bundle.as_path());
    let root = spec.root().as_ref();
    let path = root.map_or(Path::new(""), |root| root.path());
    if !bundle.is_absolute() {
        field
            .at("root")
            .refuse(format_args!("the bundle's path {bundle:?} is not absolute"));
    }
    if root.is_none() {
        field
            .at("root")
            .refuse_and_hint("is missing", "a container needs a root file system");
    } else if path.as_os_str().is_empty() {
        field
            .at("root")
            .at("path")
            .refuse_and_hint("is empty", "the directory of the root file system");
    }
    field.at("root").at("path").c_string(path);
    let propagation = spec.linux().as_ref();
    let propagation = propagation.and_then(|linux| linux.rootfs_propagation().as_deref());
    let name = propagation.unwrap_or_default();
    let field = &mut field.at("linux");
    let field = &mut field.at("rootfsPropagation");
    let propagation = plan_propagation(name, field);
    if request.options.no_pivot && propagation == Propagation::Private {
        field.refuse_and_hint(
            format_args!("{name:?} is not safe without pivot_root"),
            "the host's mounts would stay busy in the container as long as it lives: use slave, or leave --no-pivot out",
        );
    }
    Root {
        path: bundle.join(path),
        readonly: root.and_then(|root| root.readonly()).unwrap_or(false),
        propagation,
        recursive_propagation: name.starts_with('r'),
        no_pivot: request.options.no_pivot,
    }
}

/// runtime-spec, config-linux.md, "Rootfs Mount Propagation"; the recursive names are runc's.
fn plan_propagation(name: &str, field: &mut Field<'_>) -> Propagation {
    match name {
        "private" | "rprivate" => Propagation::Private,
        "" | "slave" | "rslave" => Propagation::Slave,
        "shared" | "rshared" => Propagation::Shared,
        "unbindable" | "runbindable" => Propagation::Unbindable,
        other => {
            field.refuse_and_hint(
                format_args!("{other:?} is no propagation"),
                "one of private, slave, shared, unbindable",
            );
            Propagation::Slave
        }
    }
}

fn plan_hostname(
    name: &Option<String>,
    namespaces: &Namespaces,
    field: &mut Field<'_>,
) -> Option<String> {
    let name = name.as_ref().filter(|name| !name.is_empty())?;
    if namespaces.uts == Namespace::Inherit {
        field.refuse_and_hint(
            "would be the host's",
            "add {\"type\": \"uts\"} to linux.namespaces",
        );
    }
    if name.len() > MAX_HOSTNAME || name.chars().any(char::is_control) {
        field.refuse(format_args!(
            "{name:?} is no name of at most {MAX_HOSTNAME} bytes without control characters"
        ));
    }
    Some(name.clone())
}

fn plan_paths(paths: Option<&[String]>, field: &mut Field<'_>) -> Vec<PathBuf> {
    let paths = paths.unwrap_or_default().iter().enumerate();
    paths
        .map(|(index, path)| field.item(index).absolute(Path::new(path)))
        .collect()
}

fn plan_first_process(
    spec: &oci::Spec,
    namespaces: &Namespaces,
    errors: &mut Vec<Error>,
) -> Option<Process> {
    let Some(process) = spec.process() else {
        Field::new("process", errors).refuse_and_hint("is missing", "a container needs a program");
        return None;
    };
    let process = plan_process(process, "process", errors);
    check_ids_are_mapped(
        &process,
        namespaces,
        &mut Field::new("process.user", errors),
    );
    Some(process)
}

/// setuid(2) and setgroups(2) know only ids of the user namespace (EINVAL). Of one that exists already we do not know
/// the map.
fn check_ids_are_mapped(process: &Process, namespaces: &Namespaces, field: &mut Field<'_>) {
    if namespaces.user != Namespace::New {
        return;
    }
    let check = |id: u32, map: &[IdMap], name: &str, field: &mut Field<'_>| {
        if !map.iter().any(|line| line.contains(id)) {
            field.refuse(format_args!("{id} is not in linux.{name}"));
        }
    };
    let (uids, gids) = (&namespaces.uid_map, &namespaces.gid_map);
    check(process.uid, uids, "uidMappings", &mut field.at("uid"));
    check(process.gid, gids, "gidMappings", &mut field.at("gid"));
    let groups = &mut field.at("additionalGids");
    for (index, gid) in process.additional_gids.iter().enumerate() {
        check(*gid, gids, "gidMappings", &mut groups.item(index));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::testing::{assert_refused, config, plan, planned, refusals, set};

    #[test]
    fn the_default_configuration() {
        let plan = plan(&config()).unwrap();
        assert_eq!(plan.root.path, Path::new("/bundle/rootfs"));
        assert!(plan.root.readonly);
        assert_eq!(plan.root.propagation, Propagation::Slave);
        assert_eq!(plan.hostname.as_deref(), Some("runc"));
        assert_eq!(plan.domainname, None);
        assert_eq!(
            (plan.masked_paths.len(), plan.readonly_paths.len()),
            (10, 5)
        );
        assert!(plan.sysctl.is_empty());
    }

    #[test]
    fn an_absolute_root_is_not_in_the_bundle() {
        let plan = planned(&[
            ("/root/path", json!("/images/a")),
            ("/linux/rootfsPropagation", json!("rslave")),
        ]);
        assert_eq!(plan.root.path, Path::new("/images/a"));
        assert_eq!(plan.root.propagation, Propagation::Slave);
    }

    #[test]
    fn versions() {
        for version in ["1.0.0", "1.0.2-dev", "1.2.1+dev", "1.3.0", "1.9.0"] {
            planned(&[("/ociVersion", json!(version))]);
        }
        let hint = "(runp implements 1.0 to 1.3 of the runtime-spec)";
        for (version, reason) in [
            ("2.0.0", "\"2.0.0\" is not supported"),
            ("0.5.0-dev", "\"0.5.0-dev\" is not supported"),
            (
                "",
                "\"\" is no version: empty string, expected a semver version",
            ),
            (
                "1.0",
                "\"1.0\" is no version: unexpected end of input while parsing minor version number",
            ),
            (
                "v1.0.0",
                "\"v1.0.0\" is no version: unexpected character 'v' while parsing major version number",
            ),
        ] {
            let message = format!("ociVersion: {reason} {hint}");
            assert_refused(&[("/ociVersion", json!(version), &message)]);
        }
    }

    #[test]
    fn refused() {
        let long = "x".repeat(65);
        let no_name = "is no name of at most 64 bytes without control characters";
        assert_refused(&[
            (
                "/root",
                json!(null),
                "root: is missing (a container needs a root file system)",
            ),
            (
                "/root",
                json!({}),
                "root.path: is empty (the directory of the root file system)",
            ),
            (
                "/root/path",
                json!("a\0"),
                "root.path: \"a\\0\" contains a NUL byte",
            ),
            (
                "/process",
                json!(null),
                "process: is missing (a container needs a program)",
            ),
            (
                "/hostname",
                json!("a\nb"),
                &format!("hostname: \"a\\nb\" {no_name}"),
            ),
            (
                "/domainname",
                json!("a\0"),
                &format!("domainname: \"a\\0\" {no_name}"),
            ),
            (
                "/hostname",
                json!(long),
                &format!("hostname: {long:?} {no_name}"),
            ),
            (
                "/linux/namespaces/3",
                json!({"type": "time"}),
                "hostname: would be the host's (add {\"type\": \"uts\"} to linux.namespaces)",
            ),
            (
                "/linux/maskedPaths/1",
                json!("proc"),
                "linux.maskedPaths[1]: \"proc\" is not an absolute path",
            ),
            (
                "/linux/readonlyPaths/4",
                json!("/a\0"),
                "linux.readonlyPaths[4]: \"/a\\0\" contains a NUL byte",
            ),
            (
                "/linux/rootfsPropagation",
                json!("public"),
                "linux.rootfsPropagation: \"public\" is no propagation (one of private, slave, shared, unbindable)",
            ),
        ]);
    }

    #[test]
    fn all_errors_are_told_at_once() {
        let changes = [
            ("/ociVersion", json!("9.9.9")),
            ("/root", json!(null)),
            ("/linux", json!(null)),
            ("/process/args", json!([])),
            ("/mounts/0/destination", json!("/proc/self")),
        ];
        let refused = refusals(&changes);
        let fields: Vec<&str> = refused.iter().filter_map(|e| e.split(':').next()).collect();
        assert_eq!(
            fields,
            [
                "ociVersion",
                "root",
                "linux.namespaces",
                "mounts[0].destination",
                "hostname",
                "process.args"
            ]
        );
    }

    #[test]
    fn an_empty_configuration_is_refused() {
        let mut empty = json!({});
        set(&mut empty, "/annotations", Some(json!({"a": "b"})));
        let error = plan(&empty).unwrap_err().to_string();
        assert!(error.starts_with("config.json: 4 errors:\n"), "{error}");
    }

    #[test]
    fn the_bundle_must_be_known() {
        let spec = serde_json::from_value(config()).unwrap();
        let request = Request {
            id: &"c".parse().unwrap(),
            bundle: "bundle".into(),
            spec: &spec,
            root: None,
            sources: Default::default(),
            stdio: crate::container::Stdio::Inherit,
            options: crate::container::Options::default(),
        };
        assert_eq!(
            super::plan(&request).unwrap_err().to_string(),
            "config.json: root: the bundle's path \"bundle\" is not absolute"
        );
    }
}
