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
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::host_program::{self, HostProgram};
use crate::error::{Context, Error, Result};
use crate::spec::plan::Hook;
use crate::spec::plan_recorded_hooks;
use crate::state::{ContainerId, Record, Status};
use crate::sys::process::Exit;

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
    let input = host_program::memory(&json).context(step)?;
    let output = host_program::memory(b"").context(step)?;
    let program = HostProgram {
        path: &hook.path,
        args: &hook.args,
        env: &hook.env,
        directory,
        timeout: hook.timeout,
        ends_with_us: false,
        cgroup: None,
        first: None,
    };
    let exit = program
        .run([input.as_fd(), output.as_fd(), output.as_fd()])
        .context(step)?;
    let wrote = host_program::tail(output);
    match exit {
        Some(Exit::Code(0)) => Ok(()),
        Some(Exit::Code(code)) => Err(told(format!("{}: exit status {code}", step()), &wrote)),
        Some(Exit::Signal(signal)) => Err(told(
            format!("{}: killed by signal {signal}", step()),
            &wrote,
        )),
        None => {
            let seconds = hook.timeout.unwrap_or_default().as_secs();
            Err(told(
                format!("{}: took more than its timeout, {seconds} s", step()),
                &wrote,
            ))
        }
    }
}

fn told(what: String, wrote: &str) -> Error {
    match wrote {
        "" => Error::new(what),
        wrote => Error::new(what).hint(format!("it wrote: {wrote}")),
    }
}
