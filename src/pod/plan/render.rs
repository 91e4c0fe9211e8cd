//! The plan as people and programs read it.

use std::fmt::Display;

use k8s_openapi::api::core::v1::Pod;
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Mount, Spec};
use serde_json::{Value, json};

use super::{ContainerPlan, PodPlan, Shared, SubPath, VolumePlan, VolumeSource};
use crate::pod::lifecycle::Kind;

/// As a text: what happens in which order, then each container.
pub fn render_text(plan: &PodPlan) -> String {
    let mut text = Text::default();
    text.line(format!("pod {}", plan.name));
    text.rows("  ", pod_rows(plan));
    text.section("volumes");
    let volumes = plan.volumes.iter();
    text.rows("  ", volumes.map(|v| (v.name.clone(), volume(v))).collect());
    text.section("order");
    text.rows("  ", order(plan));
    for container in &plan.containers {
        text.section(&format!(
            "{} container {}",
            kind(container.kind),
            container.name
        ));
        text.rows("  ", container_rows(container));
        text.line("  mounts");
        let mounts = container.spec.mounts().iter().flatten();
        text.rows("    ", mounts.map(mount).collect());
    }
    if !plan.warnings.is_empty() {
        text.section("warnings");
        for warning in &plan.warnings {
            text.line(format!("  {warning}"));
        }
    }
    text.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: impl Display) {
        self.0.push_str(line.to_string().trim_end());
        self.0.push('\n');
    }

    fn section(&mut self, title: &str) {
        self.line("");
        self.line(title);
    }

    /// Names and what is said of them, in two columns.
    fn rows(&mut self, indent: &str, rows: Vec<(String, String)>) {
        let lengths = rows.iter().map(|(name, _)| name.chars().count());
        let width = lengths.max().unwrap_or(0);
        for (name, value) in rows {
            self.line(format!("{indent}{name:width$}  {value}"));
        }
    }
}

fn row(name: &str, value: impl Display) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn pod_rows(plan: &PodPlan) -> Vec<(String, String)> {
    let sandbox = &plan.sandbox;
    let namespaces = [
        ("network", sandbox.network),
        ("ipc", sandbox.ipc),
        ("uts", sandbox.network),
        ("pid", sandbox.pid),
        ("user", sandbox.users.map_or(Shared::Host, |_| Shared::Pod)),
    ];
    let whose = |wanted: Shared| {
        let names = namespaces.iter().filter(|(_, shared)| *shared == wanted);
        let names: Vec<&str> = names.map(|(name, _)| *name).collect();
        match names.as_slice() {
            [] => "none".to_owned(),
            names => names.join(", "),
        }
    };
    vec![
        row(
            "restart policy",
            format!("{:?}", plan.lifecycle.restart_policy),
        ),
        row(
            "grace period",
            format!("{} s", plan.lifecycle.grace.as_secs()),
        ),
        row("QoS class", format!("{:?}", plan.qos)),
        row("hostname", &sandbox.hostname),
        row("network", sandbox.connection.describe()),
        row("pause holds", whose(Shared::Pod)),
        row("of the host", whose(Shared::Host)),
        row(
            "per container",
            format!(
                "mount, cgroup{}",
                match sandbox.pid {
                    Shared::Container => ", pid",
                    _ => "",
                }
            ),
        ),
        row("cgroup", &sandbox.cgroup),
        row("resources", resources(&sandbox.resources)),
    ]
}

/// Volumes, sandbox, inits one after the other, apps together.
fn order(plan: &PodPlan) -> Vec<(String, String)> {
    let mut steps = vec![
        "volumes".to_owned(),
        "sandbox: pause with its namespaces".to_owned(),
    ];
    steps.extend(plan.containers.iter().filter_map(|c| match c.kind {
        Kind::Init => Some(format!("init {}, to its end with success", c.name)),
        Kind::Sidecar => Some(format!("sidecar {}, until it has started", c.name)),
        Kind::App => None,
    }));
    let all = &plan.lifecycle.containers;
    let apps = all.iter().filter(|c| c.kind == Kind::App);
    let (first, later): (Vec<_>, Vec<_>) = apps.partition(|c| c.after.is_empty());
    let first: Vec<&str> = first.iter().map(|c| c.name.as_str()).collect();
    let how = match plan.lifecycle.kubelet_order {
        true => "one after the other",
        false => "together",
    };
    steps.push(format!("apps {}, {how}", first.join(", ")));
    steps.extend(later.into_iter().map(|app| {
        let after = app.after.iter().map(|j| all[j.0].name.as_str());
        let after: Vec<&str> = after.collect();
        format!("app {}, once started: {}", app.name, after.join(", "))
    }));
    let numbered = steps.into_iter().enumerate();
    numbered
        .map(|(index, step)| (format!("{}.", index + 1), step))
        .collect()
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Init => "init",
        Kind::Sidecar => "sidecar",
        Kind::App => "app",
    }
}

fn volume(volume: &VolumePlan) -> String {
    match &volume.source {
        VolumeSource::EmptyDir {
            memory,
            size_limit,
            mode,
        } => {
            let medium = if *memory { "in memory" } else { "on disk" };
            let limit = match size_limit {
                Some(limit) => format!(", at most {}", bytes(*limit)),
                None => String::new(),
            };
            format!("emptyDir {medium}, mode {mode:04o}{limit}")
        }
        VolumeSource::HostPath { path, kind } => format!("hostPath {} ({kind:?})", path.display()),
        VolumeSource::Files { memory, payload } => {
            let medium = if *memory { "in memory" } else { "on disk" };
            let names = payload.keys().map(|path| path.display().to_string());
            format!("files {medium}: {}", names.collect::<Vec<_>>().join(", "))
        }
        VolumeSource::Claim { path, .. } => format!("claim, kept in {}", path.display()),
        VolumeSource::Image { root } => format!("image {}", root.display()),
        VolumeSource::Etc(files) => {
            let names: Vec<&str> = files.keys().copied().collect();
            format!("files in /etc: {}", names.join(", "))
        }
        VolumeSource::Missing(why) => why.clone(),
    }
}

fn container_rows(container: &ContainerPlan) -> Vec<(String, String)> {
    let spec = &container.spec;
    let mut rows = Vec::new();
    if let Some(process) = spec.process() {
        let args: Vec<String> = process.args().iter().flatten().map(|a| quoted(a)).collect();
        rows.push(row("runs", args.join(" ")));
        rows.push(row("in", process.cwd().display()));
        let user = process.user();
        rows.push(row("as", format!("{}:{}", user.uid(), user.gid())));
    }
    if let Some(root) = spec.root() {
        let access = match root.readonly() {
            Some(true) => ", read-only",
            _ => ", writes go to an overlay",
        };
        rows.push(row("root", format!("{}{access}", root.path().display())));
    }
    rows.push(row("namespaces", namespaces(spec)));
    let linux = spec.linux().as_ref();
    if let Some(limits) = linux.and_then(|l| l.resources().as_ref()) {
        rows.push(row("resources", resources(limits)));
    }
    if let Some(error) = &container.config_error {
        rows.push(row("error", format!("CreateContainerConfigError: {error}")));
    }
    rows
}

fn namespaces(spec: &Spec) -> String {
    let linux = spec.linux().as_ref();
    let all = linux
        .and_then(|l| l.namespaces().as_ref())
        .into_iter()
        .flatten();
    let shown = all.map(|namespace| {
        let name = match namespace.typ() {
            // Written like the rest of them, not as in /proc/<pid>/ns.
            LinuxNamespaceType::Mount => "mount".to_owned(),
            LinuxNamespaceType::Network => "network".to_owned(),
            other => other.to_string(),
        };
        match namespace.path() {
            Some(_) => format!("{name} (pause)"),
            None => format!("{name} (new)"),
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn mount(mount: &Mount) -> (String, String) {
    let source = mount.source().as_ref().map(|s| s.display().to_string());
    let options = mount.options().as_deref().unwrap_or_default().join(",");
    let kind = mount.typ().as_deref().unwrap_or("bind");
    let what = match kind {
        "bind" => source.unwrap_or_default(),
        kind => kind.to_owned(),
    };
    let destination = mount.destination().display().to_string();
    (destination, format!("{what}  {options}"))
}

fn resources(resources: &LinuxResources) -> String {
    let mut shown = Vec::new();
    if let Some(cpu) = resources.cpu() {
        shown.extend(cpu.shares().map(|shares| format!("cpu shares {shares}")));
        let quota = cpu.quota().zip(cpu.period());
        shown.extend(quota.map(|(q, p)| format!("cpu quota {q}/{p} us")));
    }
    let limit = resources.memory().and_then(|memory| memory.limit());
    let limit = limit.and_then(|limit| u64::try_from(limit).ok());
    shown.extend(limit.map(|limit| format!("memory {}", bytes(limit))));
    shown.join(", ")
}

fn bytes(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let whole = units
        .iter()
        .find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    match whole {
        Some((name, unit)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} B"),
    }
}

/// As it could be typed.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+%@".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// As JSON, with the manifest that it was made from, and every container's config.json.
pub fn render_json(plan: &PodPlan, manifest: &Pod) -> Value {
    let sandbox = &plan.sandbox;
    let shared = |shared: Shared| match shared {
        Shared::Host => "host",
        Shared::Pod => "pod",
        Shared::Container => "container",
    };
    json!({
        "name": plan.name,
        "uid": plan.uid,
        "sandbox": {
            "hostname": sandbox.hostname,
            "network": shared(sandbox.network),
            "uts": shared(sandbox.network),
            "ipc": shared(sandbox.ipc),
            "pid": shared(sandbox.pid),
            "firstUser": sandbox.users,
            "cgroup": sandbox.cgroup,
            "resources": sandbox.resources,
            "sysctls": sandbox.sysctls.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        },
        "volumes": plan.volumes.iter().map(volume_json).collect::<Vec<_>>(),
        "containers": plan.containers.iter().map(|c| container_json(plan, c)).collect::<Vec<_>>(),
        "warnings": plan.warnings,
        "manifest": manifest,
    })
}

fn volume_json(volume: &VolumePlan) -> Value {
    let source = match &volume.source {
        VolumeSource::EmptyDir {
            memory,
            size_limit,
            mode,
        } => {
            json!({ "emptyDir": { "memory": memory, "sizeLimit": size_limit, "mode": format!("{mode:04o}") } })
        }
        VolumeSource::HostPath { path, kind } => {
            json!({ "hostPath": { "path": path, "type": format!("{kind:?}") } })
        }
        // What is in them is nobody's business here: secrets are among them.
        VolumeSource::Files { memory, payload } => {
            let modes = payload.iter().map(|(path, file)| {
                let mode = format!("{:04o}", file.mode);
                (path.display().to_string(), Value::from(mode))
            });
            json!({ "files": { "memory": memory, "modes": modes.collect::<serde_json::Map<_, _>>() } })
        }
        VolumeSource::Claim { path, .. } => json!({ "claim": { "path": path } }),
        VolumeSource::Image { root } => json!({ "image": { "path": root } }),
        VolumeSource::Etc(files) => json!({ "etc": files }),
        VolumeSource::Missing(why) => json!({ "missing": why }),
    };
    json!({ "name": volume.name, "source": source })
}

fn container_json(plan: &PodPlan, container: &ContainerPlan) -> Value {
    let mounts = container.volume_mounts.iter().map(|mount| {
        let volume = plan.volumes.get(mount.volume).map(|v| v.name.as_str());
        let sub_path = mount.sub_path.as_ref().map(|sub_path| match sub_path {
            SubPath::Known(path) => json!(path),
            SubPath::Late(expression) => json!(expression),
        });
        json!({ "mount": mount.mount, "volume": volume, "subPath": sub_path })
    });
    json!({
        "name": container.name,
        "kind": kind(container.kind),
        "bundle": container.bundle,
        "configError": container.config_error,
        "volumeMounts": mounts.collect::<Vec<_>>(),
        "config": config(&container.spec),
    })
}

/// A config.json.
pub fn config(spec: &Spec) -> Value {
    let mut config = serde_json::to_value(spec).unwrap_or_default();
    sort_capabilities(&mut config);
    config
}

/// They are sets; a plan is the same text each time.
fn sort_capabilities(config: &mut Value) {
    let sets = config.pointer_mut("/process/capabilities");
    for set in sets.and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(names) = set.1.as_array_mut() {
            names.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
}
