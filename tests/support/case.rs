//! A throwaway world for one test: a directory, a state root, names that nobody else uses; checked empty at the end.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::requires::{Need, requires};
use super::{Bundle, PATIENCE, census};

/// One test's world. When it goes out of scope, everything in it is deleted by force and nothing may be left.
#[derive(Debug)]
pub(crate) struct Case {
    /// In every name that the test makes: ids, pods, cgroups, directories.
    pub(crate) token: String,
    dir: tempfile::TempDir,
}

impl Case {
    /// A world, if the machine has what the test needs; root is always needed.
    pub(crate) fn new(needs: &[Need]) -> Option<Self> {
        if !requires(&[Need::Root]) || !requires(needs) {
            return None;
        }
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let token = format!("rp{:x}", now ^ (u64::from(std::process::id()) << 40));
        let dir = tempfile::Builder::new().prefix(&token).tempdir().unwrap();
        for private in ["state", "data", "output"] {
            fs::create_dir(dir.path().join(private)).unwrap();
        }
        Some(Self { token, dir })
    }

    /// The test's directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `--root`.
    pub(crate) fn state_root(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// `--data-root`.
    pub(crate) fn data_root(&self) -> PathBuf {
        self.dir().join("data")
    }

    /// A name that is unique on the machine.
    pub(crate) fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.token)
    }

    /// A new bundle, as `spec` writes it, with a small root file system, without a terminal.
    pub(crate) fn bundle(&self, name: &str) -> Bundle<'_> {
        Bundle::new(self, name)
    }

    /// The runtime with its global options.
    pub(crate) fn runtime(&self) -> Command {
        let mut command = Command::new(binary());
        command.arg("--root").arg(self.state_root());
        command.env("RUNP_TEST", &self.token).stdin(Stdio::null());
        command
    }

    /// The runtime with its global options for pods, and `pod`.
    pub(crate) fn pod_runtime(&self) -> Command {
        let mut command = self.runtime();
        command.arg("--data-root").arg(self.data_root()).arg("pod");
        command
    }

    /// Runs the runtime with these arguments to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Done {
        let mut command = self.runtime();
        command.args(args);
        self.finish(command)
    }

    /// Runs `pod` with these arguments to its end.
    pub(crate) fn pod<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Done {
        let mut command = self.pod_runtime();
        command.args(args);
        self.finish(command)
    }

    /// Runs a command to its end. Its output goes to files: what it leaves running cannot hold us up.
    pub(crate) fn finish(&self, command: Command) -> Done {
        self.begin(command).end()
    }

    /// Begins to run a command, with its output in files.
    pub(crate) fn begin(&self, mut command: Command) -> Begun {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let output = ["out", "err"].map(|what| {
            let name = format!("{number}.{what}");
            self.dir().join("output").join(name)
        });
        command
            .stdout(File::create(&output[0]).unwrap())
            .stderr(File::create(&output[1]).unwrap());
        Begun {
            child: command.spawn().unwrap(),
            command: format!("{command:?}"),
            output,
        }
    }

    /// What is left of the test on the machine, now.
    pub(crate) fn left_behind(&self) -> Vec<String> {
        census::of(&self.token, self.dir())
    }

    /// Nothing is left; what the kernel is still taking down gets a moment.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let deadline = std::time::Instant::now() + Duration::from_secs(2);
        loop {
            let left = self.left_behind();
            if left.is_empty() {
                return;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "left behind:\n  {}",
                left.join("\n  ")
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Deletes by force whatever the test made.
    fn sweep(&self) {
        let names = |dir: PathBuf| -> Vec<String> {
            fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect()
        };
        if is_runp() {
            for pod in names(self.state_root().join("pods")) {
                self.pod(["delete", "--force", &pod]);
            }
        }
        for id in names(self.state_root()) {
            if id.starts_with(&self.token) {
                self.run(["delete", "--force", &id]);
            }
        }
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        self.sweep();
        if std::thread::panicking() {
            census::end(&self.token); // whatever the runtime does not know any more
        } else {
            self.assert_nothing_left();
        }
    }
}

/// The runtime under test.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("RUNP_TEST_RUNTIME")
        .map_or_else(|| env!("CARGO_BIN_EXE_runp").into(), PathBuf::from)
}

/// Whether it is ours.
pub(crate) fn is_runp() -> bool {
    std::env::var_os("RUNP_TEST_RUNTIME").is_none()
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Begun {
    child: Child,
    command: String,
    /// Of its standard output and standard error.
    output: [PathBuf; 2],
}

impl Begun {
    /// Its process.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Whether it ends within [`PATIENCE`], twice.
    fn wait_for_end(&self) -> bool {
        let pidfd = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).unwrap();
        let patience = Timespec::try_from(PATIENCE * 2).unwrap();
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&patience)).unwrap() == 1
    }

    /// Waits until it ends.
    #[track_caller]
    pub(crate) fn end(mut self) -> Done {
        let ended = self.has_ended() || self.wait_for_end();
        if !ended {
            self.child.kill().unwrap();
        }
        let status = self.child.wait().unwrap();
        let [stdout, stderr] = self.output.map(|path| {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            fs::remove_file(path).unwrap();
            text
        });
        let done = Done {
            command: self.command,
            status,
            stdout,
            stderr,
        };
        assert!(ended, "does not end: {done:#?}");
        assert!(!done.stderr.contains("panicked"), "panic: {done:#?}");
        done
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    /// For the report.
    #[allow(dead_code)] // read by Debug
    pub(crate) command: String,
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Done {
    /// It ended with 0.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.success(), "{self:#?}");
        self
    }

    /// It ended with this exit code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        self
    }

    /// It failed by itself, with something to say: that.
    #[track_caller]
    pub(crate) fn fails(self) -> String {
        assert!(
            !self.status.success() && self.status.signal().is_none() && !self.stderr.is_empty(),
            "{self:#?}"
        );
        self.stderr
    }

    /// It failed, and its message has all of this in it. (Only runp's wording is ours to check.)
    #[track_caller]
    pub(crate) fn fails_saying(self, parts: &[&str]) {
        let message = self.fails();
        for part in parts {
            assert!(
                !is_runp() || message.contains(part),
                "{part:?} is not in: {message}"
            );
        }
    }
}
