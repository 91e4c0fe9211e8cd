//! Another process in a running container: `runp exec`.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use super::console;
use super::create::{reap, receive_start, set_oom_score_adj};
use super::program::Program;
use super::protocol::{self, ChildEnd, ParentEnd};
use super::{Created, Stdio, namespaces, remove};
use crate::cgroup::{Cgroup, Layout};
use crate::error::{Context, Error, Result};
use crate::security::credentials;
use crate::spec::plan::Process;
use crate::state::{ContainerId, Status, Store};
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
}

/// Runs a program in a running container. When it returns, the program has been executed.
///
/// # Errors
/// When the container does not run, or with the step that the kernel refused; then nothing was started.
pub fn exec(store: &Store, request: &ExecRequest<'_>) -> Result<Created> {
    let step = || format!("exec in container {:?}", request.id.as_str());
    let entry = store.look(request.id)?;
    let record = entry.record()?;
    let layout = Layout::detect().context(step)?;
    let cgroup = layout.open(&record.cgroup)?;
    let status = entry.status(&record, || cgroup.is_frozen())?;
    match status {
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
    let user = has_own_user_namespace(pid).context(step)?;
    let (parent, child) = protocol::channel()?;
    let first = namespaces::clone_beside(init.as_fd(), cgroup.clone_fd(), || {
        run(request, &init, user, &cgroup, &parent, &child)
    })
    .context(step)?;
    drop(child);
    let started = set_oom_score_adj(first.pid, request.process.oom_score_adj)
        .and_then(|()| parent.go())
        .and_then(|()| receive_start(&parent, &first, &cgroup));
    match started {
        Ok(console) => Ok(Created {
            pid: first.pid,
            pidfd: first.pidfd,
            console,
            cgroup,
        }),
        Err(e) => Err(reap(&first, e).step(step())),
    }
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

/// The child's side.
fn run(
    request: &ExecRequest<'_>,
    init: &OwnedFd,
    user: bool,
    cgroup: &Cgroup,
    parent: &ParentEnd,
    channel: &ChildEnd,
) -> Infallible {
    let error = match set_up(request, init, user, cgroup, parent, channel) {
        Ok(program) => program.execute(),
        Err(e) => e,
    };
    protocol::fail(channel, &error);
    process::exit(1)
}

fn set_up(
    request: &ExecRequest<'_>,
    init: &OwnedFd,
    user: bool,
    cgroup: &Cgroup,
    parent: &ParentEnd,
    channel: &ChildEnd,
) -> Result<Program> {
    parent.close_in_child();
    channel.wait_for_go()?;
    cgroup.join()?;
    process::reset_signals().context(|| "reset signals")?;
    rustix::process::setsid().context(|| "setsid")?;
    namespaces::enter_beside(init.as_fd(), user)?;
    if user {
        credentials::become_root()?;
    }
    match &request.stdio {
        Stdio::Inherit => {}
        Stdio::Files(files) => console::stdio(files.each_ref().map(AsFd::as_fd))?,
        Stdio::Terminal => console::attach(channel, request.process.console_size, false)?,
    }
    credentials::apply(request.process)?;
    let program = Program::find(request.process)?;
    process::close_all_but(&[0, 1, 2, channel.as_fd().as_raw_fd()]).context(|| "close_range")?;
    channel.ready()?;
    Ok(program)
}
