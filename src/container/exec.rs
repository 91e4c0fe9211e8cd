//! Another process in a running container: `runp exec`.
//!
//! A process outside joins everything of the container, drops its rights and its files, and only then makes the one that
//! appears in the container's pid namespace: whoever watches `/proc` in there, with CAP_SYS_PTRACE too, never finds a
//! process that has anything of the host (CVE-2016-9962).

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;

use super::child::{
    Future, Last, become_user, begin, fail, join_keyring, move_and_execute, set_stdio,
};
use super::conversation::{Conversation, Task};
use super::create::{raise_hard_limits, set_oom_score_adj};
use super::hooks::HookState;
use super::namespaces::{self, Dumpable};
use super::program::Program;
use super::protocol::{self, ChildEnd, Go, ParentEnd};
use super::status::status;
use super::{Created, Launch, Stdio, listener, remove};
use crate::cgroup::{Below, Cgroup, Layout};
use crate::error::{Context, Error, Result};
use crate::security::labels::{self, Labels};
use crate::security::seccomp::Filter;
use crate::security::{credentials, scheduling};
use crate::spec::plan::Process;
use crate::state::{ContainerId, Entry, Identity, Record, Status, Store};
use crate::sys::process;

/// What to run in a container.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// In which container.
    pub id: &'a ContainerId,
    /// The program and its credentials.
    pub process: &'a Process,
    /// Where standard input, output and error go.
    pub stdio: Stdio,
    /// Even if the container is paused: it runs once the container is resumed.
    pub ignore_paused: bool,
    /// How many descriptors of the caller from 3 on it inherits.
    pub files: u16,
    /// Into which cgroups below the container's own, which exist.
    pub cgroup: Option<Below>,
}

/// Runs a program in a running container. When it returns, the program has been executed.
///
/// # Errors
/// When the container does not run, or with the step that the kernel refused; then nothing was started.
pub fn exec(store: &Store, request: &ExecRequest<'_>) -> Result<Created> {
    let step = || format!("exec in container {:?}", request.id.as_str());
    labels::check(request.process, false).context(step)?;
    let entry = store.look(request.id)?;
    let record = entry.record()?;
    let cgroup = Layout::detect()
        .and_then(|layout| layout.open(&record.cgroup))
        .context(step)?;
    match status(&entry, &record, || cgroup.is_frozen())? {
        Status::Running | Status::Created => {}
        Status::Paused if request.ignore_paused => {}
        Status::Paused => {
            return Err(Error::new(step()).hint("it is paused: resume it, or use --ignore-paused"));
        }
        status => return Err(Error::new(step()).hint(format!("it is {}", status.as_str()))),
    }
    let Some(init) = remove::first_process(&record)? else {
        return Err(Error::new(step()).hint("it is stopped"));
    };
    let pid = record.init.map_or(0, |init| init.pid);
    let below = request.cgroup.as_ref();
    let cgroup = cgroup.at(below).context(step)?;
    let cgroup = cgroup.or_where(pid).context(step)?;
    let container = Container {
        init,
        pid,
        cgroup: &cgroup,
        has_user_namespace: has_own_user_namespace(pid).context(step)?,
        filter: match record.seccomp {
            true => filter(&entry).map(Some).context(step)?,
            false => None,
        },
        record: &record,
    };
    run(request, &container).context(step)
}

/// The container that a process joins.
struct Container<'a> {
    init: OwnedFd,
    /// Of `init`.
    pid: i32,
    cgroup: &'a Cgroup,
    has_user_namespace: bool,
    filter: Option<Filter>,
    record: &'a Record,
}

fn filter(entry: &Entry) -> Result<Filter> {
    let bytes = entry.read_seccomp()?;
    let bytes = bytes.ok_or_else(|| Error::new("the container's seccomp filter is missing"))?;
    Filter::from_bytes(&bytes)
}

fn has_own_user_namespace(pid: i32) -> Result<bool> {
    let inode = |who: &str| {
        let path = format!("/proc/{who}/ns/user");
        std::fs::metadata(&path)
            .map(|metadata| metadata.ino())
            .context(|| format!("stat {path}"))
    };
    Ok(inode("self")? != inode(&pid.to_string())?)
}

fn run(request: &ExecRequest<'_>, container: &Container<'_>) -> Result<Created> {
    let (parent, child) = protocol::channel()?;
    let _dumpable = Dumpable::for_user()?;
    let run = || match set_up(request, container, &parent, &child) {
        Ok(program) => {
            let last = Last {
                program: &program,
                process: request.process,
                filter: container.filter.as_ref(),
            };
            move_and_execute(&last, &child)
        }
        Err(e) => fail(&child, &e),
    };
    // Its child has it from the beginning, before it is in the container's cgroup.
    let affinity = &request.process.scheduling.affinity;
    scheduling::set_affinity(None, affinity.initial.as_deref(), "initial")?;
    let mut first = process::clone3(0, container.cgroup.clone_fd(), run);
    // The container has cgroups below its own, with controllers: then only those may hold processes.
    if let Err(Errno::BUSY) = first
        && request.cgroup.is_none()
    {
        let cgroup = container.cgroup.v2_of(container.pid)?;
        first = process::clone3(0, Some(cgroup.as_fd()), run);
    }
    // A plain user's process that is outside of what is delegated to that user: systemd moves it in.
    let unit = container.record.unit.as_ref();
    let unit = unit.filter(|_| matches!(first, Err(Errno::ACCESS)));
    if unit.is_some() {
        first = process::clone3(0, None, run);
    }
    let first = first.map_err(explain_clone)?;
    drop(child);
    let conversation = Conversation::new(parent, container.cgroup, first).with_one_that_moves();
    conversation.follow(Launch::Now, |process, task| match task {
        Task::Begin => {
            if let Some(unit) = unit {
                unit.attach(container.cgroup.path(), process.pid)?;
            }
            set_oom_score_adj(process.pid, request.process.oom_score_adj)?;
            if container.has_user_namespace {
                raise_hard_limits(process.pid, request.process)?;
            }
            let (_, ignored) = Identity::with_ignored_signals(process.pid)?;
            Ok(Go { ignored })
        }
        Task::TakeOver => {
            let pid = rustix::process::Pid::from_raw(process.pid);
            let affinity = &request.process.scheduling.affinity;
            scheduling::set_affinity(pid, affinity.last.as_deref(), "final")?;
            scheduling::set_scheduler(pid, request.process)?;
            Ok(Go::default())
        }
        Task::HandOver(fd) => hand_over(process.pid, &fd, container),
        Task::Record | Task::Meanwhile | Task::CallHooks => Ok(Go::default()),
    })
}

fn explain_clone(errno: Errno) -> Error {
    match errno {
        Errno::ACCESS => namespaces::explain_clone(errno).hint(
            "this process is outside of the cgroups that are delegated to you: run it in systemd-run --user --scope",
        ),
        _ => namespaces::explain_clone(errno),
    }
}

fn hand_over(pid: i32, fd: &OwnedFd, container: &Container<'_>) -> Result<Go> {
    if let Some(listener) = container.filter.as_ref().and_then(Filter::listener) {
        let init = container.record.init.map(|init| init.pid);
        let state = HookState::new(container.record, Status::Running, init);
        listener::send(listener, pid, state, fd)?;
    }
    Ok(Go::default())
}

/// The child's side, outside the container's pid namespace: in there nobody sees it.
fn set_up(
    request: &ExecRequest<'_>,
    container: &Container<'_>,
    parent: &ParentEnd,
    channel: &ChildEnd,
) -> Result<Program> {
    parent.close_in_child();
    begin(channel)?;
    Dumpable::end_for_user()?;
    container.cgroup.join_beside(container.pid)?;
    container.cgroup.join_below(request.cgroup.as_ref())?;
    let future = Future {
        process: request.process,
        execution: &container.record.execution,
        filter: container.filter.as_ref(),
        labels: Labels::open(request.process)?,
        files: request.files,
    };
    join_keyring(request.id, request.process)?;
    namespaces::join_process(
        container.init.as_fd(),
        container.pid,
        container.has_user_namespace,
    )?;
    if container.has_user_namespace {
        credentials::become_root()?;
    }
    set_stdio(&request.stdio, request.process, channel, None, false)?;
    become_user(&future, channel, None)
}
