//! containerd with its runc shim, which is told another binary: `BinaryName`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{Daemon, busybox, remove_parent_cgroups, runtime, under_a_terminal};
use crate::support::{Case, Done, Need, eventually};

#[derive(Debug)]
struct Containerd<'a> {
    case: &'a Case,
    _daemon: Daemon,
}

fn socket(case: &Case) -> PathBuf {
    case.dir().join("containerd.sock")
}

fn client(case: &Case) -> Command {
    let mut command = Command::new("ctr");
    command
        .arg("--address")
        .arg(socket(case))
        .args(["--namespace", "test"]);
    command
        .env("RUNP_TEST", &case.token)
        .stdin(std::process::Stdio::null());
    command
}

fn daemon(case: &Case) -> Command {
    let dir = case.dir().join("containerd");
    fs::create_dir(&dir).unwrap();
    // Kubernetes' part would want a network.
    let configuration = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";
    fs::write(dir.join("config.toml"), configuration).unwrap();
    let mut command = Command::new("containerd");
    command
        .arg("--config")
        .arg(dir.join("config.toml"))
        .arg("--address")
        .arg(socket(case))
        .arg("--root")
        .arg(dir.join("root"))
        .arg("--state")
        .arg(dir.join("state"));
    command
}

impl<'a> Containerd<'a> {
    fn new(case: &'a Case) -> Self {
        let answers = || {
            client(case)
                .arg("version")
                .output()
                .is_ok_and(|o| o.status.success())
        };
        Self {
            case,
            _daemon: Daemon::start(case, daemon(case), answers),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = client(self.case);
        command.args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Done {
        self.case.finish(self.command(args))
    }

    /// `ctr run` of a directory, so that no image is needed.
    fn container(&self, options: &[&str], id: &str, command: &[&str]) -> Command {
        let (runtime, root) = (runtime(), busybox());
        let (runtime, root) = (runtime.to_str().unwrap(), root.to_str().unwrap());
        let run = [
            "run",
            "--runc-binary",
            runtime,
            "--cgroup",
            &format!("/{}/{id}", self.case.token),
            "--env",
            "PATH=/bin",
        ];
        self.command(&[&run, options, &["--rootfs", root, id], command].concat())
    }

    fn once(&self, options: &[&str], command: &[&str]) -> Done {
        let options = [&["--rm"], options].concat();
        self.case.finish(self.container(&options, "once", command))
    }

    fn status(&self, id: &str) -> String {
        let tasks = self.run(&["task", "list"]).ok().stdout;
        let mut lines = tasks
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = lines.find(|line| line.first() == Some(&id));
        line.map_or_else(|| "none".into(), |line| line[2].to_owned())
    }
}

#[test]
fn containerds_shim_does_not_notice() {
    let Some(case) = Case::new(&[Need::Program("containerd"), Need::Feature("/linux/seccomp")])
    else {
        return;
    };
    let containerd = Containerd::new(&case);
    run(&containerd);
    a_terminal(&containerd);
    a_tasks_life(&containerd);
    drop(containerd);
    remove_parent_cgroups(&case);
}

fn run(containerd: &Containerd<'_>) {
    let done = containerd
        .once(
            &["--env", "A=b"],
            &["sh", "-c", "echo $A; echo err >&2; exit 9"],
        )
        .code(9);
    assert_eq!((&*done.stdout, &*done.stderr), ("b\n", "err\n"));
    let failed = containerd.once(&[], &["nosuch"]).fails();
    assert!(
        failed.contains("OCI runtime create failed") && failed.contains("nosuch"),
        "{failed}"
    );
    // With the daemon's own seccomp profile, capabilities dropped, and a root that is not written.
    let options = ["--seccomp", "--cap-drop", "CAP_CHOWN", "--read-only"];
    containerd
        .once(&options, &["sh", "-c", "! chown 1 /tmp && ! touch /x"])
        .ok();
}

fn a_terminal(containerd: &Containerd<'_>) {
    let script = "tty; read line; echo got $line; exit 5";
    let run = containerd.container(&["--rm", "--tty"], "tty", &["sh", "-c", script]);
    let done = under_a_terminal(containerd.case, &run, "hello\n").code(5);
    assert!(done.stdout.contains("/dev/pts/0"), "{done:?}");
    assert!(done.stdout.contains("got hello"), "{done:?}");
}

fn a_tasks_life(containerd: &Containerd<'_>) {
    let options = ["--detach", "--memory-limit", "33554432"];
    let run = containerd.container(&options, "life", &["sleep", "1000"]);
    containerd.case.finish(run).ok();
    assert_eq!(containerd.status("life"), "RUNNING");
    let task = |args: &[&str]| containerd.run(&[&["task"], args].concat());
    let exec = [
        "exec",
        "--exec-id",
        "e",
        "--user",
        "1000",
        "--cwd",
        "/tmp",
        "life",
    ];
    let done = task(&[&exec[..], &["sh", "-c", "id -u; pwd; exit 4"]].concat()).code(4);
    assert_eq!(done.stdout, "1000\n/tmp\n");
    let exec = [
        "task",
        "exec",
        "--tty",
        "--exec-id",
        "t",
        "life",
        "sh",
        "-c",
        "sleep 0.3; tty; exit 6",
    ];
    let done = under_a_terminal(containerd.case, &containerd.command(&exec), "").code(6);
    assert!(done.stdout.contains("/dev/pts/"), "{done:?}");
    assert!(task(&["ps", "life"]).ok().stdout.lines().count() > 1);
    let metrics = task(&["metrics", "life"]).ok().stdout;
    assert!(metrics.contains("33554432"), "{metrics}");

    task(&["pause", "life"]).ok();
    assert_eq!(containerd.status("life"), "PAUSED");
    task(&["resume", "life"]).ok();
    assert_eq!(containerd.status("life"), "RUNNING");

    task(&["kill", "--signal", "KILL", "life"]).ok();
    eventually("it ends", || {
        (containerd.status("life") == "STOPPED").then_some(())
    });
    task(&["delete", "life"]);
    assert_eq!(containerd.status("life"), "none");
    containerd.run(&["container", "delete", "life"]).ok();
}
