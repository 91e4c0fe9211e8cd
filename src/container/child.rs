//! The container's first process, from the clone to execve. It runs on a copy of its parent's memory and never returns.

use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use super::console;
use super::create::Prepared;
use super::gate::Gate;
use super::hooks::{self, HookState};
use super::program::Program;
use super::protocol::{self, ChildEnd, ParentEnd};
use super::{Stdio, namespaces, sysctl};
use crate::error::{Context, Error, Result};
use crate::rootfs::Rootfs;
use crate::security::labels::{self, Labels};
use crate::security::seccomp::Filter;
use crate::security::{credentials, scheduling};
use crate::spec::plan::{Execution, Hook, Namespace, Plan, Process};
use crate::state::{ContainerId, Status};
use crate::sys::{keyring, net, process};

/// Becomes the container; ends the process if that is not possible.
pub(super) fn run(
    prepared: &Prepared<'_>,
    parent: &ParentEnd,
    channel: &ChildEnd,
    gate: Option<&Gate>,
) -> Infallible {
    match set_up(prepared, parent, channel, gate) {
        Ok(program) => {
            let last = Last {
                program: &program,
                process: &prepared.plan.process,
                filter: prepared.filter,
            };
            last.execute(channel, gate, || call_start_hooks(prepared))
        }
        Err(e) => fail(channel, &e),
    }
}

/// Tells the parent, and ends.
pub(super) fn fail(channel: &ChildEnd, error: &Error) -> Infallible {
    protocol::fail(channel, error);
    process::exit(1)
}

fn set_up(
    prepared: &Prepared<'_>,
    parent: &ParentEnd,
    channel: &ChildEnd,
    gate: Option<&Gate>,
) -> Result<Program> {
    let plan = prepared.plan;
    parent.close_in_child();
    if plan.waits_to_begin() {
        begin(channel)?;
    }
    // From here on its limits hold, and whoever empties the cgroup ends this process.
    prepared.cgroup.join()?;
    let future = Future {
        process: &plan.process,
        execution: &plan.execution,
        filter: prepared.filter,
        labels: Labels::open(&plan.process)?,
        files: prepared.request.options.files,
    };
    if !prepared.request.options.no_new_keyring {
        join_keyring(prepared.request.id, &plan.process)?;
    }
    rustix::process::umask(rustix::fs::Mode::empty());

    prepared.namespaces.enter()?;
    name_host(plan)?;
    if plan.namespaces.network == Namespace::New {
        net::loopback_up().context(|| "bring up the loopback interface")?;
    }
    enter_root(prepared, channel)?;
    let stdio = &prepared.request.stdio;
    let announce = prepared.request.options.announce_terminal.as_ref();
    set_stdio(stdio, &plan.process, channel, announce, true)?;
    scheduling::set_scheduler(None, &plan.process)?;
    become_user(&future, channel, gate)
}

/// Waits for what the parent gives this process, and takes back what a program must not inherit.
pub(super) fn begin(channel: &ChildEnd) -> Result<()> {
    let go = channel.wait_for_go()?;
    process::reset_signals(go.ignored).context(|| "reset signals")
}

/// A session keyring of the container's own: the caller's keys are not for it.
pub(super) fn join_keyring(id: &ContainerId, process: &Process) -> Result<()> {
    labels::label_keyring(process)?;
    let name = std::ffi::CString::new(format!("_ses.{id}"))
        .map_err(|_| Error::new("name the session keyring"))?;
    keyring::join_session(&name).context(|| "join a session keyring")
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
fn enter_root(prepared: &Prepared<'_>, channel: &ChildEnd) -> Result<()> {
    let plan = prepared.plan;
    let rootfs = match plan.namespaces.mount {
        Namespace::New => {
            let root = prepared.request.root.as_ref().map(AsRawFd::as_raw_fd);
            Some(Rootfs::open(plan, root, &prepared.trees)?)
        }
        Namespace::Join(_) | Namespace::Inherit => None,
    };
    if prepared.namespaces.has_user_namespace() {
        // From here on with the rights of the namespace's root. Until here the caller's uid, which the new namespace
        // does not know, still opened the host's directories.
        credentials::become_root()?;
    }
    sysctl::write("linux.sysctl", &plan.sysctl, None)?;
    let hooks = || call_create_hooks(prepared, channel);
    match rootfs {
        Some(rootfs) => rootfs.enter(prepared.layout, hooks),
        None => hooks(),
    }
}

/// The hooks that are called before the root is entered; their paths are the host's. Before any, the container is recorded
/// and restricted.
fn call_create_hooks(prepared: &Prepared<'_>, channel: &ChildEnd) -> Result<()> {
    if !prepared.plan.waits_to_begin() {
        begin(channel)?;
    }
    channel.wait_for_go()?;
    let hooks = &prepared.plan.hooks;
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        channel.mounted()?;
        channel.wait_for_go()?;
    }
    let list = &hooks.create_container;
    let directory = Some(&*prepared.intent.bundle);
    call_hooks(
        "createContainer",
        list,
        Status::Creating,
        prepared,
        directory,
    )
}

/// The hooks that are called by `start`; their paths are the container's, and so is the directory that they are in.
fn call_start_hooks(prepared: &Prepared<'_>) -> Result<()> {
    let list = &prepared.plan.hooks.start_container;
    call_hooks("startContainer", list, Status::Created, prepared, None)
}

fn call_hooks(
    kind: &str,
    list: &[Hook],
    status: Status,
    prepared: &Prepared<'_>,
    directory: Option<&Path>,
) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    // As a hook in there sees it, which is what runc says too.
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let state = HookState::new(prepared.intent, status, Some(pid));
    hooks::run(kind, list, &state, directory)
}

/// Sets standard input, output and error. `first` is the container's first process, whose terminal is `/dev/console`.
pub(super) fn set_stdio(
    stdio: &Stdio,
    process: &Process,
    channel: &ChildEnd,
    announce: Option<&(OwnedFd, Vec<u8>)>,
    first: bool,
) -> Result<()> {
    match stdio {
        Stdio::Inherit => {}
        Stdio::Files(files) => console::set_stdio(files.each_ref().map(AsFd::as_fd))?,
        Stdio::Terminal => console::open(channel, announce, process.console_size, first)?,
    }
    console::give_stdio(process.uid)
}

/// What a process becomes.
pub(super) struct Future<'a> {
    pub(super) process: &'a Process,
    pub(super) execution: &'a Execution,
    pub(super) filter: Option<&'a Filter>,
    /// Opened while `/proc` was the host's.
    pub(super) labels: Labels,
    /// How many descriptors of the caller from 3 on it keeps.
    pub(super) files: u16,
}

/// Lets go of everything that is the host's, becomes the user, and finds the program.
///
/// Without no_new_privs a filter needs CAP_SYS_ADMIN, so it is loaded while that is there, as late as possible: what comes
/// after it must be allowed by the profile.
pub(super) fn become_user(
    future: &Future<'_>,
    channel: &ChildEnd,
    gate: Option<&Gate>,
) -> Result<Program> {
    let process = future.process;
    // Before anything of the image is read: a link in it could lead through a descriptor (CVE-2024-21626).
    let mut keep = vec![0, 1, 2, channel.as_fd().as_raw_fd()];
    keep.extend(gate.map(|gate| gate.as_fd().as_raw_fd()));
    keep.extend(3..3 + i32::from(future.files));
    keep.extend(future.labels.descriptors());
    keep.sort_unstable();
    process::close_all_but(&keep).context(|| "close_range")?;
    future.labels.set(process)?;
    scheduling::apply(process, future.execution)?;
    credentials::change_user(process)?;
    let Some(filter) = future.filter.filter(|_| !process.no_new_privileges) else {
        credentials::give_up_rights(process)?;
        return Program::find(process);
    };
    credentials::keep_sys_admin(process)?;
    let program = Program::find(process)?;
    load(filter, channel)?;
    credentials::give_up_rights(process)?;
    Ok(program)
}

fn load(filter: &Filter, channel: &ChildEnd) -> Result<()> {
    match filter.load()? {
        Some(listener) => channel.listener(process::leak(listener)),
        None => Ok(()),
    }
}

/// Makes the process that executes the program, in the pid namespace that the caller's children get: only now, when it has
/// nothing of the host any more, it is seen in there.
pub(super) fn move_and_execute(last: &Last<'_>, channel: &ChildEnd) -> Infallible {
    let made = process::clone3(libc::CLONE_PARENT as u64, None, || {
        match channel.wait_for_go() {
            Ok(_) => last.execute(channel, None, || Ok(())),
            Err(e) => fail(channel, &e),
        }
    });
    let told = made
        .map_err(namespaces::explain_clone)
        .and_then(|child| channel.moved(child.pid));
    match told {
        Ok(()) => process::exit(0),
        Err(e) => fail(channel, &e),
    }
}

/// What is left to do when everything is set up.
pub(super) struct Last<'a> {
    pub(super) program: &'a Program,
    pub(super) process: &'a Process,
    pub(super) filter: Option<&'a Filter>,
}

impl Last<'_> {
    /// Makes a session of its own, tells that nothing else is left, and becomes the program; `before` is called right before
    /// that.
    fn execute(
        &self,
        channel: &ChildEnd,
        gate: Option<&Gate>,
        before: impl FnOnce() -> Result<()>,
    ) -> Infallible {
        match self.become_program(channel, gate, before) {
            Ok(never) => never,
            Err(e) => fail(channel, &e),
        }
    }

    fn become_program(
        &self,
        channel: &ChildEnd,
        gate: Option<&Gate>,
        before: impl FnOnce() -> Result<()>,
    ) -> Result<Infallible> {
        rustix::process::setsid().context(|| "setsid")?;
        if self.process.terminal {
            console::take()?;
        }
        let mut filter = self.filter.filter(|_| self.process.no_new_privileges);
        // The parent must get the listener as long as it is there.
        if let Some(filter) = filter.take_if(|filter| filter.listener().is_some()) {
            load(filter, channel)?;
        }
        channel.ready()?;
        let starter = gate.map(Gate::wait).transpose()?;
        let error = match before().and_then(|()| filter.map_or(Ok(()), |f| load(f, channel))) {
            Ok(()) => self.program.execute(),
            Err(e) => e,
        };
        if let Some(starter) = starter {
            protocol::fail(&starter, &error);
        }
        Err(error)
    }
}
