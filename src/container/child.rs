//! The container's first process, from the clone to execve. It runs on a copy of its parent's memory and never returns.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd};

use super::console;
use super::create::Prepared;
use super::gate::Gate;
use super::program::Program;
use super::protocol::{self, ChildEnd, ParentEnd};
use super::{Stdio, sysctl};
use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};
use crate::rootfs::Rootfs;
use crate::security::credentials;
use crate::spec::plan::{Namespace, Plan};
use crate::sys::{net, process};

/// Becomes the container; ends the process if that is not possible.
pub(super) fn run(
    prepared: &Prepared<'_>,
    cgroup: &Cgroup,
    parent: &ParentEnd,
    channel: &ChildEnd,
    gate: Option<&Gate>,
) -> Infallible {
    let error = match set_up(prepared, cgroup, parent, channel) {
        Ok(program) => execute(&program, channel, gate),
        Err(e) => {
            protocol::fail(channel, &e);
            e
        }
    };
    log::debug!("{error}");
    process::exit(1)
}

fn set_up(
    prepared: &Prepared<'_>,
    cgroup: &Cgroup,
    parent: &ParentEnd,
    channel: &ChildEnd,
) -> Result<Program> {
    let plan = prepared.plan;
    // Otherwise its death would not end the conversation.
    parent.close_in_child();
    channel.wait_for_go()?;
    // From here on its limits hold, and whoever empties the cgroup ends this process.
    cgroup.join()?;
    process::reset_signals().context(|| "reset signals")?;
    rustix::process::setsid().context(|| "setsid")?;
    rustix::process::umask(rustix::fs::Mode::empty());

    prepared.namespaces.enter()?;
    name_host(plan)?;
    if plan.namespaces.network == Namespace::New {
        net::loopback_up().context(|| "bring up the loopback interface")?;
    }
    enter_root(prepared)?;
    sysctl::write(&plan.sysctl)?;
    match &prepared.request.stdio {
        Stdio::Inherit => {}
        Stdio::Files(files) => console::stdio(files.each_ref().map(AsFd::as_fd))?,
        Stdio::Terminal => console::attach(channel, plan.process.console_size, true)?,
    }
    credentials::apply(&plan.process)?;
    Program::find(&plan.process)
}

fn name_host(plan: &Plan) -> Result<()> {
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes())
            .context(|| format!("set hostname {name:?}"))?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes())
            .context(|| format!("set domainname {name:?}"))?;
    }
    Ok(())
}

/// Makes the root and enters it; a mount namespace that is joined has a root already.
fn enter_root(prepared: &Prepared<'_>) -> Result<()> {
    let plan = prepared.plan;
    let rootfs = match plan.namespaces.mount {
        Namespace::New => Some(Rootfs::open(plan, prepared.request.overlay.as_ref())?),
        Namespace::Join(_) | Namespace::Inherit => None,
    };
    if prepared.namespaces.has_user_namespace() {
        // From here on with the rights of the namespace's root. Until here the caller's uid, which the new namespace
        // does not know, still opened the host's directories.
        credentials::become_root()?;
    }
    rootfs.map_or(Ok(()), |rootfs| rootfs.enter(prepared.layout))
}

/// Tells that nothing else is left, and becomes the program; returns why that failed, after telling who waits.
fn execute(program: &Program, channel: &ChildEnd, gate: Option<&Gate>) -> Error {
    let become_program = || -> Result<Infallible> {
        close_files(channel, gate)?;
        channel.ready()?;
        let Some(gate) = gate else {
            return Err(program.execute());
        };
        let starter = gate.wait()?;
        let error = program.execute();
        protocol::fail(&starter, &error);
        Err(error)
    };
    match become_program() {
        Ok(never) => match never {},
        Err(e) => {
            protocol::fail(channel, &e);
            e
        }
    }
}

/// Closes everything but the standard three and the two that lead out, which execve closes.
fn close_files(channel: &ChildEnd, gate: Option<&Gate>) -> Result<()> {
    let mut keep = vec![0, 1, 2, channel.as_fd().as_raw_fd()];
    keep.extend(gate.map(|gate| gate.as_fd().as_raw_fd()));
    keep.sort_unstable();
    process::close_all_but(&keep).context(|| "close_range")
}
