//! Podman, with conmon between it and the runtime.

use std::fs;
use std::process::Command;

use super::{archive, assert_limits, busybox, first_line, runtime, under_a_terminal};
use crate::support::{Case, Done, Need, eventually};

/// Podman with everything that it keeps in the test's directory.
#[derive(Debug)]
pub(super) struct Podman<'a> {
    case: &'a Case,
}

/// What it must be told on any machine: it makes no bridges, and the limits that it would set may be above the machine's.
const CONFIGURATION: &str = r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
netns = "none"
[engine]
events_logger = "none"
runtime_supports_json = ["runp", "runc"]
"#;

impl<'a> Podman<'a> {
    fn new(case: &'a Case) -> Self {
        fs::write(case.dir().join("containers.conf"), CONFIGURATION).unwrap();
        let podman = Self { case };
        let archive = archive(case);
        podman
            .run(&["import", archive.to_str().unwrap(), "busybox"])
            .ok();
        podman
    }

    fn command(&self, args: &[&str]) -> Command {
        let dir = self.case.dir().join("podman");
        let mut command = Command::new("podman");
        command
            .arg("--root")
            .arg(dir.join("root"))
            .arg("--runroot")
            .arg(dir.join("run"))
            .arg("--tmpdir")
            .arg(dir.join("tmp"))
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"])
            .arg("--runtime")
            .arg(runtime())
            .args(args)
            .env("CONTAINERS_CONF", self.case.dir().join("containers.conf"))
            .env("RUNP_TEST", &self.case.token)
            // Without systemd's timers a check runs when it is called.
            .env("DISABLE_HC_SYSTEMD", "true")
            .stdin(std::process::Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Done {
        self.case.finish(self.command(args))
    }

    /// A container that waits, whose name is `c`.
    fn start(&self, options: &[&str], script: &str) {
        let run = [
            &["run", "--detach", "--name", "c"],
            options,
            &["busybox", "sh", "-c", script],
        ];
        self.run(&run.concat()).ok();
    }

    fn remove(&self) {
        self.run(&["rm", "--force", "--time", "0", "c"]).ok();
    }

    fn inspect(&self, what: &str) -> String {
        let done = self.run(&["inspect", "--format", what, "c"]).ok();
        first_line(&done).to_owned()
    }
}

const NEEDS: &[Need] = &[Need::Program("podman"), Need::Feature("/linux/seccomp")];

#[test]
fn run_gives_output_and_exit_status() {
    let Some(case) = Case::new(NEEDS) else { return };
    let podman = Podman::new(&case);
    let run = |args: &[&str]| podman.run(&[&["run", "--rm", "busybox"], args].concat());
    let done = run(&["sh", "-c", "echo out; echo err >&2; exit 42"]).code(42);
    assert_eq!((&*done.stdout, &*done.stderr), ("out\n", "err\n"));
    // As a shell says it: 127 if there is no such program, 126 if it is none.
    let done = run(&["nosuch"]).code(127);
    assert!(done.stderr.contains("nosuch"), "{done:?}");
    run(&["/etc/passwd"]).code(126);
    run(&["/etc"]).code(126);
}

#[test]
fn run_with_a_terminal() {
    let Some(case) = Case::new(NEEDS) else { return };
    let podman = Podman::new(&case);
    let script = "tty; read line; echo got $line; exit 5";
    let run = podman.command(&["run", "--rm", "-it", "busybox", "sh", "-c", script]);
    let done = under_a_terminal(&case, &run, "hello\n").code(5);
    assert!(done.stdout.contains("/dev/pts/0"), "{done:?}");
    assert!(done.stdout.contains("got hello"), "{done:?}");
}

#[test]
fn a_containers_life_exec_logs_stop() {
    let Some(case) = Case::new(NEEDS) else { return };
    let podman = Podman::new(&case);
    podman.start(
        &[],
        "echo started; trap 'echo bye; exit 3' TERM; while :; do sleep 0.1; done",
    );

    let script = "id -u; id -g; pwd; echo $A; echo err >&2; exit 7";
    let options = [
        "exec",
        "--user",
        "1000:1001",
        "--workdir",
        "/tmp",
        "--env",
        "A=b",
    ];
    let done = podman
        .run(&[&options[..], &["c", "sh", "-c", script]].concat())
        .code(7);
    assert_eq!(
        (&*done.stdout, &*done.stderr),
        ("1000\n1001\n/tmp\nb\n", "err\n")
    );
    let exec = podman.command(&["exec", "-it", "c", "sh", "-c", "tty; exit 6"]);
    let done = under_a_terminal(&case, &exec, "").code(6);
    assert!(done.stdout.contains("/dev/pts/"), "{done:?}");
    podman.run(&["exec", "c", "nosuch"]).code(127);
    let top = podman.run(&["top", "c"]).ok();
    assert!(top.stdout.contains("sleep 0.1"), "{top:?}");

    podman.run(&["pause", "c"]).ok();
    assert_eq!(podman.inspect("{{.State.Status}}"), "paused");
    podman.run(&["unpause", "c"]).ok();
    assert_eq!(podman.inspect("{{.State.Status}}"), "running");

    podman.run(&["stop", "--time", "20", "c"]).ok();
    assert_eq!(podman.run(&["logs", "c"]).ok().stdout, "started\nbye\n");
    assert_eq!(
        podman.inspect("{{.State.Status}} {{.State.ExitCode}}"),
        "exited 3"
    );
    podman.run(&["start", "c"]).ok();
    assert_eq!(podman.inspect("{{.State.Status}}"), "running");
    podman.run(&["kill", "c"]).ok();
    eventually("it ends", || {
        (podman.inspect("{{.State.Status}}") == "exited").then_some(())
    });
    assert_eq!(podman.inspect("{{.State.ExitCode}}"), "137");
    podman.remove();
}

#[test]
fn limits_and_update() {
    let controllers = ["memory", "pids", "cpu"].map(Need::Controller);
    let Some(case) = Case::new(&[NEEDS, &controllers].concat()) else {
        return;
    };
    let podman = Podman::new(&case);
    podman.start(
        &["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5"],
        "sleep 1000",
    );
    let read = |file: &str| {
        let file = format!("/sys/fs/cgroup/{file}");
        podman
            .run(&["exec", "c", "cat", &file])
            .ok()
            .stdout
            .trim()
            .to_owned()
    };
    assert_limits(read, 64, 50_000);
    podman
        .run(&["update", "--memory", "128m", "--cpus", "0.25", "c"])
        .ok();
    assert_limits(read, 128, 25_000);
    podman.remove();
}

#[test]
fn volumes() {
    let Some(case) = Case::new(NEEDS) else { return };
    let podman = Podman::new(&case);
    let directory = case.dir().join("volume");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("in"), "in\n").unwrap();
    let path = directory.display();
    let (rw, ro) = (format!("{path}:/rw"), format!("{path}:/ro:ro"));
    let script = "cat /rw/in; echo out >/rw/out; cat /ro/out; echo x >/ro/x || echo refused; \
        echo kept >/named/file; df /tmp | tail -n 1 | cut -d ' ' -f 1";
    let mounts = [
        "--volume",
        &rw,
        "--volume",
        &ro,
        "--volume",
        "named:/named",
        "--tmpfs",
        "/tmp",
    ];
    let run = [
        &["run", "--rm"],
        &mounts[..],
        &["busybox", "sh", "-c", script],
    ]
    .concat();
    let done = podman.run(&run).ok();
    assert_eq!(done.stdout, "in\nout\nrefused\ntmpfs\n");
    assert_eq!(fs::read_to_string(directory.join("out")).unwrap(), "out\n");
    let run = [
        "run", "--rm", "--volume", "named:/n", "busybox", "cat", "/n/file",
    ];
    assert_eq!(podman.run(&run).ok().stdout, "kept\n");
}

#[test]
fn a_health_check_runs_in_the_container() {
    let Some(case) = Case::new(NEEDS) else { return };
    let podman = Podman::new(&case);
    podman.start(
        &["--health-cmd", "test -e /tmp/well", "--health-retries", "1"],
        "sleep 1000",
    );
    podman.run(&["healthcheck", "run", "c"]).code(1);
    podman.run(&["exec", "c", "touch", "/tmp/well"]).ok();
    podman.run(&["healthcheck", "run", "c"]).ok();
    assert_eq!(podman.inspect("{{.State.Health.Status}}"), "healthy");
    podman.remove();
}

#[test]
fn a_root_file_system_without_an_image() {
    let Some(case) = Case::new(NEEDS) else { return };
    let podman = Podman::new(&case);
    let root = busybox();
    let run = [
        "run",
        "--rm",
        "--read-only",
        "--rootfs",
        root.to_str().unwrap(),
        "echo",
        "hi",
    ];
    assert_eq!(podman.run(&run).ok().stdout, "hi\n");
}

#[test]
fn build_runs_its_steps() {
    let Some(case) = Case::new(NEEDS) else { return };
    let podman = Podman::new(&case);
    let context = case.dir().join("context");
    fs::create_dir(&context).unwrap();
    let steps = "FROM localhost/busybox\nRUN echo built >/built && test $(id -u) = 0\nCMD [\"cat\", \"/built\"]\n";
    fs::write(context.join("Containerfile"), steps).unwrap();
    let build = [
        "build",
        "--pull-never",
        "--tag",
        "built",
        context.to_str().unwrap(),
    ];
    podman.run(&build).ok();
    assert_eq!(podman.run(&["run", "--rm", "built"]).ok().stdout, "built\n");
}
