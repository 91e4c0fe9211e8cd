//! `containerd-shim-runp-v2`, asked by real containerds: Debian's 1.6 with `ctr`, and calls that no containerd would make.
//!
//! Each test is alone in pid and mount namespaces, and has a `/run/containerd` of its own, where the shim keeps its sockets
//! and containers.

mod bench;
mod checkpoint;
mod client;
mod cri;
mod kubelet;
mod many;
mod protocol;
mod robust;
mod streams;
mod systemd;
mod tasks;
mod users;
mod walk;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::callers::{Daemon, busybox, remove_parent_cgroups};
use crate::support::{Case, Done, eventually, eventually_or, process, requires};

pub(crate) const RUNTIME: &str = "io.containerd.runp.v2";
/// Where the shim keeps sockets and containers.
const ROOT: &str = "/run/containerd/runp";

/// The shim's binary: in the first of these directories, or the one that was built with the tests.
fn binary() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_containerd-shim-runp-v2"));
    match std::env::var_os("RUNP_TEST_SHIM") {
        Some(dirs) => {
            let dir = std::env::split_paths(&dirs).next().unwrap();
            dir.join(built.file_name().unwrap())
        }
        None => built.to_owned(),
    }
}

/// A PATH on which a containerd finds our shim, and that criu.
pub(crate) fn path() -> String {
    let path = std::env::var("PATH").unwrap();
    let ours = std::env::var("RUNP_TEST_SHIM").unwrap_or_else(|_| {
        let dir = binary().parent().unwrap().to_owned();
        dir.into_os_string().into_string().unwrap()
    });
    let criu = requires::criu().map(|criu| criu.parent().unwrap().display().to_string());
    format!("{ours}:{}:{path}", criu.unwrap_or_default())
}

/// An empty `/run/containerd`, for a test that is alone.
pub(crate) fn private_run_dir() {
    fs::create_dir_all("/run/containerd").unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("none", "/run/containerd", "tmpfs", flags, None).unwrap();
}

/// containerd, with our shim on its PATH.
struct Containerd<'a> {
    case: &'a Case,
    daemon: Option<Daemon>,
}

impl<'a> Containerd<'a> {
    fn new(case: &'a Case) -> Self {
        private_run_dir();
        let dir = case.dir().join("containerd");
        fs::create_dir(&dir).unwrap();
        // Kubernetes' part would want a network.
        let configuration = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
        fs::write(dir.join("config.toml"), configuration).unwrap();
        let mut containerd = Self { case, daemon: None };
        containerd.start();
        containerd
    }

    fn socket(&self) -> PathBuf {
        self.case.dir().join("containerd.sock")
    }

    /// Where containerd keeps the bundles of tasks.
    fn state(&self) -> PathBuf {
        self.case.dir().join("containerd/state")
    }

    /// Of a task.
    fn bundle(&self, id: &str) -> PathBuf {
        let tasks = self.state().join("io.containerd.runtime.v2.task");
        tasks.join("test").join(id)
    }

    fn start(&mut self) {
        self.start_as(Command::new("containerd"));
    }

    /// By another command, to which the arguments are added.
    fn start_as(&mut self, mut command: Command) {
        let dir = self.case.dir().join("containerd");
        command
            .arg("--config")
            .arg(dir.join("config.toml"))
            .arg("--address")
            .arg(self.socket())
            .arg("--root")
            .arg(dir.join("root"))
            .arg("--state")
            .arg(self.state())
            .env("PATH", path());
        let answers = || {
            let version = self.client(&["version"]).output();
            version.is_ok_and(|output| output.status.success())
        };
        self.daemon = Some(Daemon::start(self.case, command, answers));
    }

    /// It has no time to say anything to anybody.
    fn kill(&mut self) {
        self.daemon.take().unwrap().kill();
    }

    fn client(&self, args: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", "test"])
            .args(args)
            .env("RUNP_TEST", &self.case.token)
            .stdin(Stdio::null());
        command
    }

    fn ctr(&self, args: &[&str]) -> Done {
        self.case.finish(self.client(args))
    }

    /// `ctr run` of a directory, so that no image is needed.
    fn run(&self, options: &[&str], id: &str, command: &[&str]) -> Command {
        let cgroup = format!("/{}/{id}", self.case.token);
        let fixed = [
            "run",
            "--runtime",
            RUNTIME,
            "--cgroup",
            &cgroup,
            "--env",
            "PATH=/bin",
        ];
        let root = busybox();
        let root = ["--rootfs", root.to_str().unwrap(), id];
        self.client(&[&fixed, options, &root, command].concat())
    }

    fn detached(&self, options: &[&str], id: &str, command: &[&str]) {
        let options = [&["--detach"], options].concat();
        self.case.finish(self.run(&options, id, command)).ok();
    }

    fn status(&self, id: &str) -> String {
        let tasks = self.ctr(&["task", "list"]).ok().stdout;
        let mut lines = tasks
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = lines.find(|line| line.first() == Some(&id));
        line.map_or_else(|| "none".into(), |line| line[2].to_owned())
    }

    fn wait_for_status(&self, id: &str, status: &str) {
        eventually(&format!("{id} is {status}"), || {
            (self.status(id) == status).then_some(())
        });
    }

    /// A task that has ended, and its container.
    fn remove(&self, id: &str) {
        self.ctr(&["task", "delete", id]);
        self.ctr(&["container", "delete", id]).ok();
    }

    /// The end of a test: the shims have gone, and have left nothing.
    #[track_caller]
    fn leaves_nothing(mut self) {
        eventually_or(|| shims().is_empty().then_some(()), report);
        assert_eq!(left_in_root(), Vec::<String>::new());
        self.daemon.take();
        remove_parent_cgroups(self.case);
    }
}

/// What `ctr events` prints.
struct Events {
    listener: Child,
    log: PathBuf,
}

impl Events {
    fn new(containerd: &Containerd<'_>) -> Self {
        let log = containerd.case.dir().join("events");
        let mut listener = containerd.client(&["events"]);
        listener.stdout(fs::File::create(&log).unwrap());
        listener.stderr(Stdio::null());
        let events = Self {
            listener: listener.spawn().unwrap(),
            log,
        };
        // That it listens shows when it hears of something.
        eventually("ctr listens", || {
            containerd.ctr(&["namespace", "label", "test", "a=b"]).ok();
            events.text().contains("/namespaces/").then_some(())
        });
        events
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// All that has been said, once this has.
    fn wait_for(&self, what: &str) -> String {
        eventually(what, || {
            Some(self.text()).filter(|text| text.contains(what))
        })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.listener.kill().unwrap();
        self.listener.wait().unwrap();
    }
}

/// All processes, and what the shims keep.
fn report() -> String {
    let processes = process::all().filter(|pid| process::runs(*pid)).map(|pid| {
        let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        format!("{pid} {}", words.replace('\0', " "))
    });
    let lines: Vec<_> = processes.chain(left_in_root()).collect();
    lines.join("\n")
}

/// The pids of all shims.
pub(crate) fn shims() -> Vec<i32> {
    let is_shim = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "containerd-shim" && process::runs(*pid)
    };
    process::all().filter(is_shim).collect()
}

/// Sockets, and containers of whichever namespace.
pub(crate) fn left_in_root() -> Vec<String> {
    let names = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let is_container = |path: &PathBuf| !path.ends_with("@seccomp") && !path.ends_with(".cache");
    let below = |path: PathBuf| match path.is_dir() {
        true => names(&path).into_iter().filter(is_container).collect(),
        false => vec![path],
    };
    let left = names(Path::new(ROOT)).into_iter().flat_map(below);
    left.map(|path| path.display().to_string()).collect()
}
