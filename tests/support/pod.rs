//! A pod of one test.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Case, Done, bundle, eventually, eventually_or, process};

/// A pod: its manifest in a directory with the image `busybox` beside it.
#[derive(Debug)]
pub(crate) struct Pod<'a> {
    case: &'a Case,
    /// `metadata.name`, unique on the machine.
    pub(crate) name: String,
    /// The directory of the manifest.
    pub(crate) dir: PathBuf,
    manifest: PathBuf,
    options: Vec<String>,
}

impl<'a> Pod<'a> {
    /// A pod with this `spec`. Each container gets `image: busybox` unless it says otherwise.
    pub(crate) fn new(case: &'a Case, name: &str, mut spec: Value) -> Self {
        for list in ["initContainers", "containers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                let container = container.as_object_mut().unwrap();
                container.entry("image").or_insert(json!("busybox"));
            }
        }
        if spec["initContainers"].is_null() {
            spec.as_object_mut().unwrap().remove("initContainers");
        }
        let name = case.id(name);
        let manifest =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
        Self::from_text(
            case,
            &name,
            &serde_json::to_string_pretty(&manifest).unwrap(),
        )
    }

    /// A pod whose only container, `app`, runs and does nothing.
    pub(crate) fn sleeping(case: &'a Case) -> Self {
        let app = sh("app", "exec sleep 1000");
        let pod = Self::new(
            case,
            "p",
            json!({"terminationGracePeriodSeconds": 0, "containers": [app]}),
        );
        pod.run_detached();
        pod.until_running("app");
        pod
    }

    /// A pod from the text of a manifest; `name` is its full name.
    pub(crate) fn from_text(case: &'a Case, name: &str, text: &str) -> Self {
        let dir = case.dir().join("manifests").join(name);
        fs::create_dir_all(&dir).unwrap();
        bundle::make_rootfs(&dir.join("images/busybox"));
        let manifest = dir.join("pod.yaml");
        fs::write(&manifest, text).unwrap();
        Self {
            case,
            name: name.into(),
            dir,
            manifest,
            options: Vec::new(),
        }
    }

    /// One of the sample pods or test manifests, under a name of our own.
    pub(crate) fn from_file(case: &'a Case, name: &str, manifest: &Path) -> Self {
        Self {
            case,
            name: case.id(name),
            dir: manifest.parent().unwrap().into(),
            manifest: manifest.into(),
            options: Vec::new(),
        }
    }

    /// More options for what starts from the manifest.
    pub(crate) fn with(mut self, options: &[&str]) -> Self {
        self.options
            .extend(options.iter().map(|option| (*option).to_owned()));
        self
    }

    fn on_manifest(&self, command: &[&str]) -> Done {
        let manifest = self.manifest.to_str().unwrap();
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        self.case
            .pod([command, &["--name", &self.name, manifest], &options].concat())
    }

    fn on_name(&self, command: &[&str], rest: &[&str]) -> Done {
        self.case.pod([command, &[&self.name], rest].concat())
    }

    /// `pod run`, in the foreground to its end.
    pub(crate) fn run(&self) -> Done {
        self.on_manifest(&["run"])
    }

    /// `pod run --detach`.
    #[track_caller]
    pub(crate) fn run_detached(&self) {
        self.on_manifest(&["run", "--detach"]).ok();
    }

    /// `pod create`.
    pub(crate) fn create(&self) -> Done {
        self.on_manifest(&["create"])
    }

    /// `pod plan`.
    pub(crate) fn plan(&self) -> Done {
        self.on_manifest(&["plan"])
    }

    /// `pod start`.
    pub(crate) fn start(&self) -> Done {
        self.on_name(&["start"], &[])
    }

    /// `pod stop`.
    pub(crate) fn stop(&self, options: &[&str]) -> Done {
        self.on_name(&["stop"], options)
    }

    /// `pod delete`.
    pub(crate) fn delete(&self) -> Done {
        self.on_name(&["delete"], &[])
    }

    /// `pod delete --force`.
    pub(crate) fn delete_force(&self) -> Done {
        self.on_name(&["delete", "--force"], &[])
    }

    /// `pod logs -c`, with more options.
    pub(crate) fn logs(&self, container: &str, options: &[&str]) -> Done {
        self.on_name(&["logs"], &[&["-c", container], options].concat())
    }

    /// What a container has printed.
    #[track_caller]
    pub(crate) fn log(&self, container: &str) -> String {
        self.logs(container, &[]).ok().stdout
    }

    /// `pod exec -c`.
    pub(crate) fn exec(&self, container: &str, command: &[&str]) -> Done {
        self.on_name(&["exec"], &[&["-c", container, "--"], command].concat())
    }

    /// `pod status` as people see it.
    #[track_caller]
    pub(crate) fn table(&self) -> String {
        self.on_name(&["status"], &[]).ok().stdout
    }

    /// `pod status -o json`, also if it fails.
    pub(crate) fn try_status(&self) -> Done {
        self.on_name(&["status"], &["-o", "json"])
    }

    /// `pod status -o json`.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        let done = self.try_status().ok();
        serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done:#?}"))
    }

    /// Waits until the status is so; returns it.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        eventually_or(
            || Some(self.status()).filter(&is_so),
            || format!("{what}; status {:#}", self.status()["status"]),
        )
    }

    /// Waits for this phase.
    #[track_caller]
    pub(crate) fn until_phase(&self, phase: &str) -> Value {
        self.until(&format!("the phase is {phase}"), |pod| {
            pod["status"]["phase"] == phase
        })
    }

    /// Waits until the container runs; its first process.
    #[track_caller]
    pub(crate) fn until_running(&self, container: &str) -> i32 {
        self.until(&format!("{container} is running"), |pod| {
            is_running(pod, container)
        });
        eventually("the container has a pid", || self.try_pid(container))
    }

    /// The first process of a container, an ordinary OCI container with the id `<pod>.<container>`.
    pub(crate) fn try_pid(&self, container: &str) -> Option<i32> {
        let state = self
            .case
            .run(["state", &format!("{}.{container}", self.name)]);
        let state: Value = serde_json::from_str(&state.stdout).ok()?;
        let pid = state["pid"].as_i64()? as i32;
        (state["status"] == "running").then_some(pid)
    }

    /// The pause process: holds the pod's network namespace, and is no container.
    #[track_caller]
    pub(crate) fn pause(&self, container: &str) -> i32 {
        let pid = self.until_running(container);
        let net = process::namespace(pid, "net");
        let containers: Vec<i32> = self.pids();
        process::all()
            .find(|p| {
                !containers.contains(p)
                    && process::namespace(*p, "net") == net
                    && fs::read_to_string(format!("/proc/{p}/cgroup"))
                        .is_ok_and(|c| c.contains("pause"))
            })
            .expect("a pause process in the pod's network namespace")
    }

    /// Its directory below the state root.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.case.state_root().join("pods").join(&self.name)
    }

    /// What its journal holds by now.
    pub(crate) fn journal(&self) -> String {
        fs::read_to_string(self.state_dir().join("journal")).unwrap_or_default()
    }

    /// The process that supervises it, as its journal tells. Not any process of the test's that looks like it: one that
    /// made a container for it, or detached it, may still be about to end.
    #[track_caller]
    pub(crate) fn supervisor(&self) -> i32 {
        let journal = self.journal();
        let entries = journal
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut pids = entries.filter_map(|entry| entry["supervisor"]["pid"].as_i64());
        pids.next_back().unwrap().try_into().unwrap()
    }

    /// The first processes of all running containers of the pod, as `list` tells.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let list: Value =
            serde_json::from_str(&self.case.run(["list", "--format", "json"]).ok().stdout).unwrap();
        let prefix = format!("{}.", self.name);
        list.as_array()
            .into_iter()
            .flatten()
            .filter(|c| c["id"].as_str().unwrap().starts_with(&prefix))
            .map(|c| c["pid"].as_i64().unwrap() as i32)
            .filter(|pid| *pid > 0)
            .collect()
    }
}

/// The status of one container, init or app.
#[track_caller]
pub(crate) fn container_status<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let status = &pod["status"];
    ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(|list| status[list].as_array().into_iter().flatten())
        .find(|c| c["name"] == name)
        .unwrap_or(&Value::Null)
}

/// How a container ended that does not run any more.
#[track_caller]
pub(crate) fn terminated<'a>(pod: &'a Value, name: &str) -> &'a Value {
    &container_status(pod, name)["state"]["terminated"]
}

/// Whether a container runs.
#[track_caller]
pub(crate) fn is_running(pod: &Value, name: &str) -> bool {
    !container_status(pod, name)["state"]["running"].is_null()
}

/// The status of a condition: `True` or `False`.
pub(crate) fn condition<'a>(pod: &'a Value, kind: &str) -> &'a Value {
    pod["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|c| c["type"] == kind)
        .unwrap_or(&Value::Null)
}

/// A time of the status, in nanoseconds.
#[track_caller]
pub(crate) fn time(value: &Value) -> i128 {
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}"));
    text.parse::<jiff::Timestamp>().unwrap().as_nanosecond()
}

/// A directory of the host that containers of a pod share with the test.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Where it is on the host.
    pub(crate) path: PathBuf,
}

impl Shared {
    /// Makes it.
    pub(crate) fn new(case: &Case) -> Self {
        let path = case.dir().join("shared");
        fs::create_dir_all(&path).unwrap();
        Self { path }
    }

    /// For `spec.volumes`.
    pub(crate) fn volume(&self) -> Value {
        json!({"name": "shared", "hostPath": {"path": self.path}})
    }

    /// A container that runs a shell script and has the directory at `/shared`.
    pub(crate) fn container(&self, name: &str, script: &str) -> Value {
        json!({
            "name": name,
            "command": ["/bin/sh", "-c", script],
            "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
        })
    }

    /// The lines that containers have appended to a file.
    pub(crate) fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// A container that runs a shell script.
pub(crate) fn sh(name: &str, script: &str) -> Value {
    json!({"name": name, "command": ["/bin/sh", "-c", script]})
}
