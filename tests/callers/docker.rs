//! Docker: a private dockerd, with a containerd and shims of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Daemon, archive, assert_limits, first_line, remove_parent_cgroups, under_a_terminal};
use crate::shim;
use crate::support::alone::alone;
use crate::support::{Case, Done, Need, eventually};

/// A daemon and its client.
#[derive(Debug)]
struct Docker<'a> {
    case: &'a Case,
    /// Of all containers but those of builds.
    runtime: &'static str,
    // Ended before the directory goes.
    _daemon: Daemon,
}

fn socket(case: &Case) -> PathBuf {
    case.dir().join("docker.sock")
}

/// Debian 12's, or that of `scripts/docker`: another one may come first on the PATH.
fn program(runtime: &str, name: &str) -> PathBuf {
    match (runtime, name) {
        (shim::RUNTIME, name) => forky().join(name),
        (_, "dockerd") => "/usr/sbin/dockerd".into(),
        (_, name) => Path::new("/usr/bin").join(name),
    }
}

fn forky() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/docker/bin")
}

fn client(case: &Case, runtime: &str) -> Command {
    let mut command = Command::new(program(runtime, "docker"));
    command
        .arg("--host")
        .arg(format!("unix://{}", socket(case).display()))
        // No configuration of whoever runs the tests; and no build that needs more than the daemon.
        .env("DOCKER_CONFIG", case.dir())
        .env("DOCKER_BUILDKIT", "0")
        .env("RUNP_TEST", &case.token)
        .stdin(std::process::Stdio::null());
    command
}

fn daemon(case: &Case, runtime: &str) -> Command {
    let dir = case.dir().join("docker");
    let path = match runtime {
        shim::RUNTIME => format!("{}:{}", forky().display(), shim::path()),
        _ => std::env::var("PATH").unwrap(),
    };
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("daemon.json"), "{}").unwrap();
    let mut command = Command::new(program(runtime, "dockerd"));
    command
        .arg("--config-file")
        .arg(dir.join("daemon.json"))
        .arg("--data-root")
        .arg(dir.join("data"))
        .arg("--exec-root")
        .arg(dir.join("exec"))
        .arg("--pidfile")
        .arg(dir.join("pid"))
        .arg("--host")
        .arg(format!("unix://{}", socket(case).display()))
        .args(["--bridge", "none", "--iptables=false", "--ip6tables=false"])
        .args([
            "--storage-driver",
            "vfs",
            "--exec-opt",
            "native.cgroupdriver=cgroupfs",
        ])
        .arg("--cgroup-parent")
        .arg(format!("/{}", case.token))
        .arg("--add-runtime")
        .arg(format!("tested={}", super::runtime().display()))
        .args(["--default-runtime", "tested"])
        .env("PATH", path);
    command
}

impl<'a> Docker<'a> {
    fn new(case: &'a Case, runtime: &'static str) -> Self {
        let answers = || {
            client(case, runtime)
                .arg("version")
                .output()
                .is_ok_and(|o| o.status.success())
        };
        let docker = Self {
            case,
            runtime,
            _daemon: Daemon::start(case, daemon(case, runtime), answers),
        };
        let archive = archive(case);
        docker
            .run(&["import", archive.to_str().unwrap(), "busybox"])
            .ok();
        docker
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = client(self.case, self.runtime);
        command.args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Done {
        self.case.finish(self.command(args))
    }

    fn once(&self, options: &[&str], command: &[&str]) -> Done {
        self.run(
            &[
                &[
                    "run",
                    "--rm",
                    "--network",
                    NETWORK,
                    "--runtime",
                    self.runtime,
                ],
                options,
                &["busybox"],
                command,
            ]
            .concat(),
        )
    }

    /// A container that waits.
    fn start(&self, name: &str, options: &[&str], script: &str) {
        let run = ["run", "--detach", "--network", NETWORK, "--name", name];
        let runtime = ["--runtime", self.runtime];
        self.run(
            &[
                &run[..],
                &runtime,
                options,
                &["busybox", "sh", "-c", script],
            ]
            .concat(),
        )
        .ok();
    }

    fn inspect(&self, name: &str, what: &str) -> String {
        let done = self.run(&["inspect", "--format", what, name]).ok();
        first_line(&done).to_owned()
    }
}

const NETWORK: &str = "none";

/// One daemon for all: its start takes longer than the rest.
#[test]
fn dockers_users_do_not_notice() {
    let Some(case) = Case::new(&[
        Need::Program("dockerd"),
        Need::Controller("memory"),
        Need::Controller("pids"),
        Need::Controller("cpu"),
        Need::Feature("/hooks"),
    ]) else {
        return;
    };
    let docker = Docker::new(&case, "tested");
    containers(&docker);
    a_build(&docker);
    nothing_is_left(docker, &case);
}

/// The same with `--runtime io.containerd.runp.v2`, which nobody has configured: containerd finds the shim on its PATH.
#[test]
fn the_shim_is_a_runtime_of_dockers() {
    if !alone("callers::docker::the_shim_is_a_runtime_of_dockers") {
        return;
    }
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    if !forky().exists() {
        eprintln!("skipped: needs scripts/docker");
        return;
    }
    shim::private_run_dir();
    let docker = Docker::new(&case, shim::RUNTIME);
    containers(&docker);
    eventually("all shims end", || shim::shims().is_empty().then_some(()));
    assert_eq!(shim::left_in_root(), Vec::<String>::new());
    nothing_is_left(docker, &case);
}

fn containers(docker: &Docker<'_>) {
    output_and_exit_status(docker);
    a_terminal(docker);
    a_containers_life(docker);
    limits(docker);
    volumes(docker);
    a_health_check(docker);
}

fn nothing_is_left(docker: Docker<'_>, case: &Case) {
    let left = docker.run(&["ps", "--all", "--quiet"]).ok();
    assert_eq!(left.stdout, "");
    drop(docker);
    remove_parent_cgroups(case);
}

fn output_and_exit_status(docker: &Docker<'_>) {
    let done = docker
        .once(&[], &["sh", "-c", "echo out; echo err >&2; exit 42"])
        .code(42);
    assert_eq!((&*done.stdout, &*done.stderr), ("out\n", "err\n"));
    docker.once(&[], &["nosuch"]).code(127);
    docker.once(&[], &["/no/such"]).code(127);
    docker.once(&[], &["/etc/passwd"]).code(126);
    docker.once(&[], &["/etc"]).code(126);
}

fn a_terminal(docker: &Docker<'_>) {
    let script = "tty; read line; echo got $line; exit 5";
    let run = [
        "run",
        "--rm",
        "-it",
        "--network",
        NETWORK,
        "--runtime",
        docker.runtime,
        "busybox",
        "sh",
        "-c",
        script,
    ];
    let done = under_a_terminal(docker.case, &docker.command(&run), "hello\n").code(5);
    assert!(done.stdout.contains("/dev/pts/0"), "{done:?}");
    assert!(done.stdout.contains("got hello"), "{done:?}");
}

fn a_containers_life(docker: &Docker<'_>) {
    let script = "echo started; trap 'echo bye; exit 3' TERM; while :; do sleep 0.1; done";
    docker.start("life", &[], script);
    let script = "id -u; id -g; pwd; echo $A; echo err >&2; exit 7";
    let exec = [
        "exec",
        "--user",
        "1000:1001",
        "--workdir",
        "/tmp",
        "--env",
        "A=b",
        "life",
    ];
    let done = docker
        .run(&[&exec[..], &["sh", "-c", script]].concat())
        .code(7);
    assert_eq!(
        (&*done.stdout, &*done.stderr),
        ("1000\n1001\n/tmp\nb\n", "err\n")
    );
    let exec = docker.command(&["exec", "-it", "life", "sh", "-c", "tty; exit 6"]);
    let done = under_a_terminal(docker.case, &exec, "").code(6);
    assert!(done.stdout.contains("/dev/pts/"), "{done:?}");
    let top = docker.run(&["top", "life"]).ok();
    assert!(top.stdout.contains("sleep 0.1"), "{top:?}");

    docker.run(&["pause", "life"]).ok();
    assert_eq!(docker.inspect("life", "{{.State.Status}}"), "paused");
    docker.run(&["unpause", "life"]).ok();
    assert_eq!(docker.inspect("life", "{{.State.Status}}"), "running");

    docker.run(&["stop", "--time", "20", "life"]).ok();
    assert_eq!(docker.run(&["logs", "life"]).ok().stdout, "started\nbye\n");
    assert_eq!(
        docker.inspect("life", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 3"
    );
    docker.run(&["start", "life"]).ok();
    docker.run(&["kill", "life"]).ok();
    assert_eq!(docker.run(&["wait", "life"]).ok().stdout, "137\n");
    docker.run(&["rm", "life"]).ok();
}

fn limits(docker: &Docker<'_>) {
    docker.start(
        "limits",
        &["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5"],
        "sleep 1000",
    );
    let read = |file: &str| {
        let file = format!("/sys/fs/cgroup/{file}");
        docker
            .run(&["exec", "limits", "cat", &file])
            .ok()
            .stdout
            .trim()
            .to_owned()
    };
    assert_limits(read, 64, 50_000);
    let update = [
        "update",
        "--memory",
        "128m",
        "--memory-swap",
        "128m",
        "--cpus",
        "0.25",
        "limits",
    ];
    docker.run(&update).ok();
    assert_limits(read, 128, 25_000);
    docker.run(&["rm", "--force", "limits"]).ok();
}

fn volumes(docker: &Docker<'_>) {
    let directory = docker.case.dir().join("volume");
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
    let done = docker.once(&mounts, &["sh", "-c", script]).ok();
    assert_eq!(done.stdout, "in\nout\nrefused\ntmpfs\n");
    assert_eq!(fs::read_to_string(directory.join("out")).unwrap(), "out\n");
    let done = docker
        .once(&["--volume", "named:/n"], &["cat", "/n/file"])
        .ok();
    assert_eq!(done.stdout, "kept\n");
}

fn a_health_check(docker: &Docker<'_>) {
    let options = [
        "--health-cmd",
        "test -e /tmp/well",
        "--health-interval",
        "200ms",
        "--health-retries",
        "1",
    ];
    docker.start("health", &options, "sleep 1000");
    let becomes = |wanted: &str| {
        eventually(wanted, || {
            (docker.inspect("health", "{{.State.Health.Status}}") == wanted).then_some(())
        });
    };
    becomes("unhealthy");
    docker.run(&["exec", "health", "touch", "/tmp/well"]).ok();
    becomes("healthy");
    docker.run(&["rm", "--force", "health"]).ok();
}

fn a_build(docker: &Docker<'_>) {
    let context = docker.case.dir().join("context");
    fs::create_dir(&context).unwrap();
    let steps =
        "FROM busybox\nRUN echo built >/built && test $(id -u) = 0\nCMD [\"cat\", \"/built\"]\n";
    fs::write(context.join("Dockerfile"), steps).unwrap();
    docker
        .run(&[
            "build",
            "--network",
            NETWORK,
            "--tag",
            "built",
            context.to_str().unwrap(),
        ])
        .ok();
    let done = docker
        .run(&["run", "--rm", "--network", NETWORK, "built"])
        .ok();
    assert_eq!(done.stdout, "built\n");
}
