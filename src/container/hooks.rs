//! Hooks: the caller's programs at points of a container's life, with its state on their standard input.
//!
//! | hooks | who calls them, where | when | if one fails |
//! | --- | --- | --- | --- |
//! | prestart, createRuntime | `create`, in the caller's namespaces | everything is mounted, `/` is still the host's | nothing is created |
//! | createContainer | the first process, in the container's | right after those | nothing is created |
//! | startContainer | the first process, in the container's root | `start` was called | the container is stopped |
//! | poststart | `start`, in the caller's | the program was executed | the container is stopped |
//! | poststop | `delete`, in the caller's | everything was removed | a warning |
//!
//! A hook has nothing open but its standard input, output and error; what it writes is kept for the error. Both are files in
//! memory: nobody waits for a hook that does not read, nor for what a hook leaves running.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Signal, pidfd_send_signal};
use serde::Serialize;

use super::console;
use crate::error::{Context, Error, Result};
use crate::spec::plan::Hook;
use crate::spec::plan_recorded_hooks;
use crate::state::{ContainerId, Record, Status};
use crate::sys::process::{self, Exit, StringArray};

/// In bytes: so much of what a failed hook wrote last is told.
const TAIL: u64 = 1024;
/// Bit n - 1 is signal n: runp ignores SIGPIPE, programs do not expect that.
const SIGPIPE: u32 = 1 << (libc::SIGPIPE - 1);

/// The state of a container as hooks and seccomp listeners get it: runtime-spec, runtime.md, "State".
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HookState<'a> {
    oci_version: &'a str,
    id: &'a ContainerId,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    annotations: &'a HashMap<String, String>,
}

impl<'a> HookState<'a> {
    /// `pid` as who calls the hook sees it; `None` for a container that has ended.
    pub(super) fn new(record: &'a Record, status: Status, pid: Option<i32>) -> Self {
        Self {
            oci_version: &record.oci_version,
            id: &record.id,
            status,
            pid,
            bundle: &record.bundle,
            annotations: &record.annotations,
        }
    }

    /// The version of the runtime-spec that the container was made by.
    pub(super) fn oci_version(&self) -> &'a str {
        self.oci_version
    }
}

/// Calls hooks one after the other, each in `directory`, or where the caller is. `kind` is their name in config.json.
///
/// # Errors
/// The first one that cannot be executed, ends with another status than 0, or takes longer than its timeout; those after it
/// are not called.
pub(super) fn run(
    kind: &str,
    hooks: &[Hook],
    state: &HookState<'_>,
    directory: Option<&Path>,
) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, state, directory).context(|| format!("hooks.{kind}[{index}]"))?;
    }
    Ok(())
}

/// Calls all poststop hooks of a container that is no more. What fails is a warning: there is nothing left to undo.
pub(super) fn poststop(record: &Record) {
    let Some(hooks) = &record.hooks else { return };
    let hooks = plan_recorded_hooks(hooks).poststop;
    let state = HookState::new(record, Status::Stopped, None);
    for (index, hook) in hooks.iter().enumerate() {
        if let Err(e) = run_one(hook, &state, directory(record).as_deref()) {
            log::warn!("hooks.poststop[{index}]: {e}");
        }
    }
}

/// Calls the poststart hooks of a container whose program was executed.
///
/// # Errors
/// As [`run`]; then the container is to be stopped (runtime-spec 1.3, runtime.md, "Lifecycle", step 9).
pub(super) fn poststart(record: &Record) -> Result<()> {
    let Some(hooks) = &record.hooks else {
        return Ok(());
    };
    let hooks = plan_recorded_hooks(hooks).poststart;
    let pid = record.init.map(|init| init.pid);
    let state = HookState::new(record, Status::Running, pid);
    run("poststart", &hooks, &state, directory(record).as_deref())
}

/// The bundle, as long as it is there.
pub(super) fn directory(record: &Record) -> Option<PathBuf> {
    Some(record.bundle.clone()).filter(|bundle| bundle.is_dir())
}

fn run_one(hook: &Hook, state: &HookState<'_>, directory: Option<&Path>) -> Result<()> {
    let step = || format!("run {}", hook.path.to_string_lossy());
    let json = serde_json::to_vec(state).map_err(|e| Error::new(format!("{}: {e}", step())))?;
    let input = memory(&json).context(step)?;
    let output = memory(b"").context(step)?;
    let args = StringArray::new(hook.args.clone());
    let env = StringArray::new(hook.env.clone());
    let child = process::fork(|| {
        let error = become_hook(hook, &args, &env, [&input, &output], directory);
        // It is told as the hook's own last words.
        let _ = rustix::io::write(&output, error.to_string().as_bytes());
        process::exit(127)
    })
    .context(step)?;
    let exit = wait(&child.pidfd, hook.timeout).context(step)?;
    match exit {
        Some(Exit::Code(0)) => Ok(()),
        Some(Exit::Code(code)) => Err(told(format!("{}: exit status {code}", step()), output)),
        Some(Exit::Signal(signal)) => Err(told(
            format!("{}: killed by signal {signal}", step()),
            output,
        )),
        None => {
            let seconds = hook.timeout.unwrap_or_default().as_secs();
            Err(told(
                format!("{}: took more than its timeout, {seconds} s", step()),
                output,
            ))
        }
    }
}

/// A file in memory with these contents, to be read from the start.
fn memory(contents: &[u8]) -> rustix::io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("hook", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(contents)
        .and_then(|()| file.rewind())
        .map_err(|e| rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO))?;
    Ok(file.into())
}

/// In the hook's process. Returns only what went wrong.
fn become_hook(
    hook: &Hook,
    args: &StringArray,
    env: &StringArray,
    [input, output]: [&OwnedFd; 2],
    directory: Option<&Path>,
) -> Error {
    let prepared = || -> Result<Infallible> {
        process::reset_signals(SIGPIPE).context(|| "reset signals")?;
        console::set_stdio([input.as_fd(), output.as_fd(), output.as_fd()])?;
        // That of a container's first process is not the caller's.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        process::close_on_exec_from(3).context(|| "close_range")?;
        if let Some(directory) = directory {
            rustix::process::chdir(directory)
                .context(|| format!("enter {}", directory.display()))?;
        }
        Err(Error::sys("exec", process::execve(&hook.path, args, env)))
    };
    match prepared() {
        Ok(never) => match never {},
        Err(e) => e,
    }
}

/// How it ended; `None` if it took too long, and was killed.
fn wait(pidfd: &OwnedFd, timeout: Option<Duration>) -> Result<Option<Exit>> {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let mut files = [PollFd::new(pidfd, PollFlags::IN)];
    let ended =
        rustix::io::retry_on_intr(|| poll(&mut files, timeout.as_ref())).context(|| "poll")?;
    if ended == 0 {
        // It may end by itself in this moment.
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
    }
    let exit = process::wait(pidfd).context(|| "wait for the hook")?;
    Ok((ended != 0).then_some(exit))
}

fn told(what: String, output: OwnedFd) -> Error {
    let mut file = File::from(output);
    let mut text = Vec::new();
    let from = file.metadata().map_or(0, |m| m.len().saturating_sub(TAIL));
    // What cannot be read is not told.
    let _ = file
        .seek(SeekFrom::Start(from))
        .and_then(|_| file.take(TAIL).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    match text.trim() {
        "" => Error::new(what),
        text => Error::new(what).hint(format!("it wrote: {}", text.escape_debug())),
    }
}
