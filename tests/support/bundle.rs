//! An OCI bundle for a test, and the container that is made of it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Case, Done, eventually, process};

/// A root file system that has busybox and the directories that a default config.json mounts on.
pub(crate) fn make_rootfs(root: &Path) {
    for dir in ["bin", "dev", "etc", "opt", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    fs::copy("/bin/busybox", root.join("bin/busybox"))
        .expect("/bin/busybox: install busybox-static");
    for applet in [
        "cat", "chmod", "cp", "date", "echo", "env", "false", "hostname", "id", "ip", "kill", "ln",
        "ls", "mkdir", "mkfifo", "mknod", "mount", "nc", "ps", "readlink", "rm", "sed", "sh",
        "sleep", "stat", "test", "touch", "true", "tty", "stty", "wc", "wget", "whoami",
    ] {
        fs::hard_link(root.join("bin/busybox"), root.join("bin").join(applet)).unwrap();
    }
}

/// A bundle of one test: config.json is written anew with each change.
#[derive(Debug)]
pub(crate) struct Bundle<'a> {
    case: &'a Case,
    /// The container's id.
    pub(crate) id: String,
    /// The bundle's directory.
    pub(crate) path: PathBuf,
    /// config.json.
    pub(crate) config: Value,
}

impl<'a> Bundle<'a> {
    pub(crate) fn new(case: &'a Case, name: &str) -> Self {
        let path = case.dir().join(name);
        make_rootfs(&path.join("rootfs"));
        case.run([OsStr::new("spec"), OsStr::new("--bundle"), path.as_os_str()])
            .ok();
        let config = fs::read(path.join("config.json")).unwrap();
        Self {
            case,
            id: case.id(name),
            path,
            config: serde_json::from_slice(&config).unwrap(),
        }
        .with("/process/terminal", json!(false))
        // Not below the caller's own cgroup, which is not ours to touch.
        .with("/linux/cgroupsPath", json!(format!("/{}", case.id(name))))
    }

    /// Sets a value by its JSON pointer; the last step is made if it is missing.
    pub(crate) fn with(mut self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        self.config
            .pointer_mut(parent)
            .unwrap_or_else(|| panic!("no {parent} in config.json"))[key] = value;
        self.write()
    }

    /// Takes a value out.
    pub(crate) fn without(mut self, pointer: &str) -> Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = self.config.pointer_mut(parent).unwrap();
        parent.as_object_mut().unwrap().remove(key).unwrap();
        self.write()
    }

    /// Appends to an array.
    pub(crate) fn push(mut self, pointer: &str, value: Value) -> Self {
        self.config
            .pointer_mut(pointer)
            .and_then(Value::as_array_mut)
            .unwrap_or_else(|| panic!("no array {pointer} in config.json"))
            .push(value);
        self.write()
    }

    /// The command of the container.
    pub(crate) fn args(self, args: &[&str]) -> Self {
        self.with("/process/args", json!(args))
    }

    /// A shell script as the command.
    pub(crate) fn sh(self, script: &str) -> Self {
        self.args(&["/bin/sh", "-c", script])
    }

    /// Replaces one of the namespaces: a path to join, or `None` for a new one.
    pub(crate) fn namespace(mut self, kind: &str, path: Option<&str>) -> Self {
        let namespaces = self.config.pointer_mut("/linux/namespaces").unwrap();
        let namespaces = namespaces.as_array_mut().unwrap();
        namespaces.retain(|n| n["type"] != kind);
        namespaces.push(match path {
            Some(path) => json!({"type": kind, "path": path}),
            None => json!({"type": kind}),
        });
        self.write()
    }

    /// Takes a kind of namespace out: the caller's is kept.
    pub(crate) fn no_namespace(mut self, kind: &str) -> Self {
        let namespaces = self.config.pointer_mut("/linux/namespaces").unwrap();
        let namespaces = namespaces.as_array_mut().unwrap();
        namespaces.retain(|n| n["type"] != kind);
        self.write()
    }

    fn write(self) -> Self {
        let text = serde_json::to_vec_pretty(&self.config).unwrap();
        fs::write(self.path.join("config.json"), text).unwrap();
        self
    }

    /// Its root file system.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    fn path_arg(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// `run`: to the end of the container.
    pub(crate) fn run(&self) -> Done {
        self.case
            .run(["run", "--bundle", self.path_arg(), &self.id])
    }

    /// `run` that must succeed, and what it printed.
    #[track_caller]
    pub(crate) fn prints(&self) -> String {
        self.run().ok().stdout
    }

    /// `run --detach`.
    pub(crate) fn run_detached(&self) -> Done {
        self.case
            .run(["run", "--detach", "--bundle", self.path_arg(), &self.id])
    }

    /// `create`.
    pub(crate) fn create(&self) -> Done {
        self.case
            .run(["create", "--bundle", self.path_arg(), &self.id])
    }

    /// `start`.
    pub(crate) fn start(&self) -> Done {
        self.case.run(["start", &self.id])
    }

    /// `kill`.
    pub(crate) fn kill(&self, signal: &str) -> Done {
        self.case.run(["kill", &self.id, signal])
    }

    /// `delete`.
    pub(crate) fn delete(&self) -> Done {
        self.case.run(["delete", &self.id])
    }

    /// `delete --force`.
    pub(crate) fn delete_force(&self) -> Done {
        self.case.run(["delete", "--force", &self.id])
    }

    /// `exec`, with options before the id.
    pub(crate) fn exec(&self, options: &[&str], command: &[&str]) -> Done {
        let args = [&["exec"], options, &[&self.id], command].concat();
        self.case.run(args)
    }

    /// `state`, parsed.
    #[track_caller]
    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.case.run(["state", &self.id]).ok().stdout).unwrap()
    }

    /// `status` of `state`.
    #[track_caller]
    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// Its first process.
    #[track_caller]
    pub(crate) fn pid(&self) -> i32 {
        self.state()["pid"].as_i64().unwrap() as i32
    }

    /// Waits until it has stopped.
    #[track_caller]
    pub(crate) fn wait_stopped(&self) {
        eventually("the container stops", || {
            (self.status() == "stopped").then_some(())
        });
    }

    /// The mounts that the container has, seen from the host.
    pub(crate) fn mounts(&self) -> Vec<process::Mount> {
        let text = fs::read_to_string(format!("/proc/{}/mountinfo", self.pid())).unwrap();
        process::parse_mountinfo(&text)
    }
}
