//! Programs that call a runtime, with ours in runc's place: what their users do must work as with runc.
//!
//! Each has its state in the test's directory, and daemons of its own, which are ended by their pids. Where a program is not
//! installed its test is skipped. `RUNP_TEST_RUNTIME=runc` proves the tests.

mod buildah;
mod containerd;
mod docker;
mod podman;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::requires::pure_v2;
use crate::support::{Case, Done, binary, eventually};

/// A root file system with a shell: `scripts/rootfs` makes it.
pub(crate) fn busybox() -> PathBuf {
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/images/busybox");
    assert!(image.join("bin/busybox").exists(), "run scripts/rootfs");
    image
}

/// The same as an archive.
fn archive(case: &Case) -> PathBuf {
    let archive = case.dir().join("busybox.tar");
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file").arg(&archive);
    tar.arg("--directory").arg(busybox()).arg(".");
    case.finish(tar).ok();
    archive
}

/// The runtime by its full path, which callers want.
fn runtime() -> PathBuf {
    let binary = binary();
    if binary.is_absolute() {
        return binary;
    }
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path)
        .map(|dir| dir.join(&binary))
        .find(|path| path.exists())
        .unwrap()
}

/// Runs a shell script under a terminal of its own, script(1), into which `input` is typed.
pub(crate) fn under_a_terminal(case: &Case, command: &Command, input: &str) -> Done {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| format!("'{}'", word.to_str().unwrap().replace('\'', "'\\''")));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command"]);
    script
        .arg(words.collect::<Vec<_>>().join(" "))
        .arg("/dev/null");
    for (name, value) in command.get_envs() {
        script.env(name, value.unwrap_or_default());
    }
    let typed = case.dir().join("typed");
    std::fs::write(&typed, input).unwrap();
    script.stdin(File::open(typed).unwrap());
    case.finish(script)
}

/// A daemon of a test; ended with it.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it, and waits until `answers` says that it serves.
    pub(crate) fn start(case: &Case, mut command: Command, answers: impl Fn() -> bool) -> Self {
        let log = case.dir().join("daemon.log");
        let output = File::create(&log).unwrap();
        command
            .env("RUNP_TEST", &case.token)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let mut daemon = Self {
            child: command.spawn().unwrap(),
            log,
        };
        eventually("the daemon answers", || {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", daemon.log());
            answers().then_some(())
        });
        daemon
    }

    /// Ends it without a warning.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// The first line of what was printed, without what a terminal adds.
fn first_line(done: &Done) -> &str {
    done.stdout.lines().next().unwrap_or_default().trim()
}

/// `--memory`, `--pids-limit 50` and `--cpus`, as a program in the container reads them in the files of its cgroup version.
fn assert_limits(read: impl Fn(&str) -> String, mebibytes: u64, quota: u64) {
    let memory = (mebibytes << 20).to_string();
    let files = match pure_v2() {
        true => [
            ("memory.max", memory),
            ("pids.max", "50".into()),
            ("cpu.max", format!("{quota} 100000")),
        ],
        false => [
            ("memory/memory.limit_in_bytes", memory),
            ("pids/pids.max", "50".into()),
            ("cpu/cpu.cfs_quota_us", quota.to_string()),
        ],
    };
    for (file, value) in files {
        assert_eq!(read(file), value, "{file}");
    }
}

/// runc and its callers leave the parent cgroup that they were told, and so do we: it is not a container's.
pub(crate) fn remove_parent_cgroups(case: &Case) {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    for root in hierarchies
        .map(|entry| entry.path())
        .chain(["/sys/fs/cgroup".into()])
    {
        let _ = std::fs::remove_dir(root.join(&case.token));
    }
}
