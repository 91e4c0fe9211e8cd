//! The parent's side of making a container: decides everything, records it, makes one process, and lets it go.

use std::convert::Infallible;
use std::os::fd::OwnedFd;

use jiff::Timestamp;
use rustix::process::{Signal, pidfd_send_signal};

use super::gate::Gate;
use super::protocol::{self, ChildEnd, ParentEnd, Report};
use super::{Created, Request, child, namespaces, remove};
use crate::cgroup::{Cgroup, Layout};
use crate::error::{Context, Error, Result};
use crate::spec::plan::Plan;
use crate::spec::validate;
use crate::state::{Entry, Identity, Record, Store, boot_id};
use crate::sys::process::{self, Child, Exit};

/// When a container's program is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launch {
    /// At once: when [`create`] returns it has been.
    Now,
    /// When [`super::start`] says so.
    AtGate,
}

/// Makes a container. When it returns, its first process exists, and its program runs or waits for `start`.
///
/// # Errors
/// All that is wrong with its configuration, before anything exists; afterwards the step that the kernel refused, and then
/// nothing of the container is left.
pub fn create(store: &Store, request: &Request<'_>, launch: Launch) -> Result<Created> {
    let step = || format!("create container {:?}", request.id.as_str());
    let plan = validate::plan(request)?;
    check_root(&plan).context(step)?;
    let layout = Layout::detect().context(step)?;
    let namespaces = namespaces::open(&plan.namespaces).context(step)?;
    let intent = intent(request, &plan)?;
    let entry = store.create(request.id, &intent).context(step)?;
    let prepared = Prepared {
        request,
        plan: &plan,
        layout: &layout,
        namespaces,
    };
    make(&prepared, &entry, intent, launch)
        .map_err(|e| {
            let removed = layout
                .open(&plan.cgroup.path)
                .and_then(|cgroup| remove::remove(entry, &cgroup, None));
            e.and_cleanup(removed)
        })
        .context(step)
}

/// What the first process finds ready in its copy of the parent's memory.
#[derive(Debug)]
pub(super) struct Prepared<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) plan: &'a Plan,
    pub(super) layout: &'a Layout,
    pub(super) namespaces: namespaces::Entry<'a>,
}

fn check_root(plan: &Plan) -> Result<()> {
    let path = &plan.root.path;
    let stat = rustix::fs::stat(path).map_err(|e| {
        Error::sys(
            format!("config.json: root.path: open {}", path.display()),
            e,
        )
        .hint("it names the directory that holds the container's root file system")
    })?;
    match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::Directory => Ok(()),
        _ => Err(Error::new(format!(
            "config.json: root.path: {} is not a directory",
            path.display()
        ))),
    }
}

/// Written before the first side effect: from it everything that may exist can be found again.
fn intent(request: &Request<'_>, plan: &Plan) -> Result<Record> {
    let spec = request.spec;
    let process = spec.process().clone();
    Ok(Record {
        version: Record::VERSION,
        id: request.id.clone(),
        oci_version: spec.version().clone(),
        bundle: request.bundle.clone(),
        rootfs: plan.root.path.clone(),
        created: Timestamp::now().to_string(),
        owner: owner(),
        boot_id: boot_id()?,
        cgroup: plan.cgroup.path.clone(),
        init: None,
        process: process.ok_or_else(|| Error::new("config.json: process: required"))?,
        annotations: spec.annotations().clone().unwrap_or_default(),
    })
}

/// `root`, or the number of a user: names would have to be looked up.
fn owner() -> String {
    match rustix::process::getuid().as_raw() {
        0 => "root".into(),
        uid => uid.to_string(),
    }
}

fn make(
    prepared: &Prepared<'_>,
    entry: &Entry,
    mut record: Record,
    launch: Launch,
) -> Result<Created> {
    let gate = match launch {
        Launch::Now => None,
        Launch::AtGate => Some(Gate::bind(&entry.gate())?),
    };
    let cgroup = prepared.layout.create(&prepared.plan.cgroup)?;
    let (parent, child) = protocol::channel()?;
    let first = first_process(prepared, &cgroup, &parent, child, gate)?;
    let begun = begin(prepared, entry, &mut record, &first)
        .and_then(|()| parent.go())
        .and_then(|()| match launch {
            Launch::Now => receive_start(&parent, &first, &cgroup),
            Launch::AtGate => receive_ready(&parent, &first, &cgroup),
        });
    match begun {
        Ok(console) => Ok(Created {
            pid: first.pid,
            pidfd: first.pidfd,
            console,
            cgroup,
        }),
        Err(e) => Err(reap(&first, e)),
    }
}

/// Ends a first process whose start failed, and gives the error back.
pub(super) fn reap(first: &Child, error: Error) -> Error {
    // It may have ended by itself already, and it must be reaped either way.
    let _ = pidfd_send_signal(&first.pidfd, Signal::KILL);
    match process::wait(&first.pidfd) {
        Ok(_) | Err(rustix::io::Errno::CHILD) => error,
        Err(e) => error.and_cleanup(Err(Error::sys("wait for the first process", e))),
    }
}

fn first_process(
    prepared: &Prepared<'_>,
    cgroup: &Cgroup,
    parent: &ParentEnd,
    child: ChildEnd,
    gate: Option<Gate>,
) -> Result<Child> {
    let run = || -> Infallible { child::run(prepared, cgroup, parent, &child, gate.as_ref()) };
    prepared.namespaces.clone(cgroup.clone_fd(), run)
}

/// What the first process waits for.
fn begin(prepared: &Prepared<'_>, entry: &Entry, record: &mut Record, first: &Child) -> Result<()> {
    namespaces::map_ids(first.pid, &prepared.plan.namespaces)?;
    set_oom_score_adj(first.pid, prepared.plan.process.oom_score_adj)?;
    record.init = Some(Identity::of(first.pid)?);
    entry.write(record)
}

/// Writes `process.oomScoreAdj`, proc(5).
pub(super) fn set_oom_score_adj(pid: i32, score: Option<i32>) -> Result<()> {
    let Some(score) = score else { return Ok(()) };
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()).map_err(|e| {
        Error::sys(format!("set process.oomScoreAdj to {score}"), e)
            .hint("lowering it needs CAP_SYS_RESOURCE")
    })
}

/// Waits until only execve is left; returns the terminal's master end if there is one.
fn receive_ready(parent: &ParentEnd, first: &Child, cgroup: &Cgroup) -> Result<Option<OwnedFd>> {
    let mut console = None;
    loop {
        match parent.receive()? {
            Report::Console(master) => console = Some(master),
            Report::Ready => return Ok(console),
            Report::Failed(e) => return Err(e),
            Report::End => return Err(death(first, cgroup)),
        }
    }
}

/// Waits until the program has been executed.
pub(super) fn receive_start(
    parent: &ParentEnd,
    first: &Child,
    cgroup: &Cgroup,
) -> Result<Option<OwnedFd>> {
    let console = receive_ready(parent, first, cgroup)?;
    match parent.receive()? {
        Report::End => Ok(console),
        Report::Failed(e) => Err(e),
        other => Err(Error::new(format!(
            "unexpected message {other:?} after Ready"
        ))),
    }
}

/// What is to be said of a first process that ended before it could say anything itself.
fn death(first: &Child, cgroup: &Cgroup) -> Error {
    let exit = process::wait(&first.pidfd);
    let out_of_memory = cgroup.oom_kills().is_ok_and(|kills| kills > 0);
    match exit {
        Ok(Exit::Signal(9)) if out_of_memory => {
            Error::new("the kernel killed the container's first process: out of memory")
                .hint("linux.resources.memory.limit is too small to start the container: raise it")
        }
        Ok(exit) => Error::new(format!(
            "the container's first process ended before its program was executed: {exit:?}"
        )),
        Err(e) => Error::sys("wait for the container's first process", e),
    }
}
