//! The parent's side of making a container: decides everything, records it, makes one process, and lets it go.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use jiff::Timestamp;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};
use rustix::process::Pid;

use super::conversation::{Conversation, Task, end};
use super::gate::Gate;
use super::hooks::{self, HookState};
use super::protocol::{self, Go};
use super::remove::{self, Made};
use super::{Created, Request, child, id_maps, listener, namespaces, net_devices, notify};
use crate::cgroup::{Cgroup, Layout};
use crate::error::{Context, Error, Result};
use crate::rootfs::Trees;
use crate::security::labels;
use crate::security::scheduling;
use crate::security::seccomp::Filter;
use crate::spec::plan::{Namespace, Plan, Process};
use crate::spec::{recorded_hooks, validate};
use crate::state::{Entry, Identity, Record, Status, Store, boot_id};
use crate::sys::ns;
use crate::sys::process::Child;

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
pub fn create(store: &Store, request: &Request<'_>, launch: Launch) -> Result<Made> {
    create_meanwhile(store, request, launch, &mut || {})
}

/// As [`create`]; `meanwhile` is called while the first process sets itself up, on a processor of its own if there is one.
///
/// # Errors
/// As [`create`].
pub fn create_meanwhile(
    store: &Store,
    request: &Request<'_>,
    launch: Launch,
    meanwhile: &mut dyn FnMut(),
) -> Result<Made> {
    let step = || format!("create container {:?}", request.id.as_str());
    let mut plan = validate::plan(request)?;
    plan.process.add_env(&request.options.env);
    plan.cgroup.resolve().context(step)?;
    labels::check(&plan.process, plan.mount_label).context(step)?;
    check_root(&plan).context(step)?;
    let layout = Layout::detect().context(step)?;
    let namespaces =
        namespaces::open(&plan.namespaces, request.options.holder.as_ref()).context(step)?;
    let trees = Trees::open(&plan, request.root.as_ref(), &request.sources).context(step)?;
    let filter = plan.seccomp.as_ref();
    let filter = filter.map(|profile| Filter::of(profile, store.root()));
    let filter = filter.transpose().context(step)?;
    let mut intent = intent(request, &plan)?;
    let mut entry = store.create(request.id, &intent).context(step)?;
    let cgroup = match make_cgroup(&layout, request, &plan) {
        Ok(cgroup) => cgroup,
        // One that is in use is somebody else's: only what was made here is removed.
        Err(e) => return Err(e.and_cleanup(entry.remove()).step(step())),
    };
    intent.cgroup = cgroup.path().to_owned();
    // Bound from the host, the cgroups of a container that has none would be the host's.
    let none = Layout::none();
    let has_none = cgroup.path().as_os_str().is_empty();
    let shows_none = has_none && plan.namespaces.cgroup == Namespace::Inherit;
    let prepared = Prepared {
        request,
        plan: &plan,
        layout: if shows_none { &none } else { &layout },
        trees,
        namespaces,
        cgroup: &cgroup,
        filter: filter.as_ref(),
        intent: &intent,
    };
    let made = listen(request, &entry, launch)
        .and_then(|notify| Ok((notify, make(&prepared, &entry, launch, meanwhile)?)))
        .and_then(|(notify, process)| match entry.unlock() {
            Ok(()) => Ok((notify, process)),
            Err(e) => Err(end(&process.pidfd, e)),
        });
    match made {
        Ok((notify, process)) => Ok(Made {
            process,
            notify,
            entry,
            cgroup,
            intent,
        }),
        Err(e) => {
            let removed = remove::remove(entry, &cgroup, None);
            hooks::poststop(&intent);
            Err(e.and_cleanup(removed).step(step()))
        }
    }
}

/// The container's cgroup; an empty one for a plain user who may not make any and has not asked for one, as in runc.
fn make_cgroup(layout: &Layout, request: &Request<'_>, plan: &Plan) -> Result<Cgroup> {
    let linux = request.spec.linux().as_ref();
    let named = linux.and_then(|linux| linux.cgroups_path().as_deref());
    let is_named = named.is_some_and(|path| !path.as_os_str().is_empty());
    let denied = [libc::EACCES, libc::EPERM, libc::EROFS];
    layout.create(&plan.cgroup).or_else(|e| {
        let denied = e.errno().is_some_and(|errno| denied.contains(&errno));
        let rootless = || request.options.rootless.unwrap_or_else(ns::is_rootless);
        let unlimited = plan.cgroup.limits.table().is_empty();
        if !denied || is_named || !unlimited || !rootless() {
            return Err(e);
        }
        log::debug!("the container gets no cgroup of its own: {e}");
        layout.open(Path::new(""))
    })
}

/// The socket for what the container notifies of: now, or else at its start, when somebody listens.
fn listen(request: &Request<'_>, entry: &Entry, launch: Launch) -> Result<Option<OwnedFd>> {
    if !request.options.notify {
        return Ok(None);
    }
    entry.make_notify_dir()?;
    match launch {
        Launch::Now => notify::bind_in(entry),
        Launch::AtGate => Ok(None),
    }
}

/// What the first process finds ready in its copy of the parent's memory.
#[derive(Debug)]
pub(super) struct Prepared<'a> {
    pub(super) cgroup: &'a Cgroup,
    pub(super) request: &'a Request<'a>,
    pub(super) plan: &'a Plan,
    pub(super) layout: &'a Layout,
    pub(super) trees: Trees,
    pub(super) namespaces: namespaces::Entry<'a>,
    pub(super) filter: Option<&'a Filter>,
    pub(super) intent: &'a Record,
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
pub(super) fn intent(request: &Request<'_>, plan: &Plan) -> Result<Record> {
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
        unit: plan.cgroup.scope.as_ref().map(|scope| scope.unit.clone()),
        init: None,
        process: process.ok_or_else(|| Error::new("config.json: process: required"))?,
        resources: spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.resources().clone()),
        annotations: spec.annotations().clone().unwrap_or_default(),
        joined: joined(spec),
        seccomp: plan.seccomp.is_some(),
        execution: plan.execution.clone(),
        hooks: recorded_hooks(spec.hooks().as_ref()),
    })
}

fn joined(spec: &Spec) -> Vec<LinuxNamespaceType> {
    let namespaces = spec
        .linux()
        .as_ref()
        .and_then(|it| it.namespaces().as_ref());
    let joined = namespaces
        .into_iter()
        .flatten()
        .filter(|it| it.path().is_some());
    joined.map(LinuxNamespace::typ).collect()
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
    launch: Launch,
    meanwhile: &mut dyn FnMut(),
) -> Result<Created> {
    if let Some(filter) = prepared.filter {
        entry.write_seccomp(&filter.to_bytes()?)?;
    }
    let gate = match launch {
        Launch::Now => None,
        Launch::AtGate => Some(Gate::bind(&entry.gate())?),
    };
    let (parent, child) = protocol::channel()?;
    let run = || -> Infallible { child::run(prepared, &parent, &child, gate.as_ref()) };
    let first = prepared.namespaces.clone(prepared.cgroup.clone_fd(), run)?;
    // The child's copy is the only one from now on: its end is the end of the conversation.
    drop(child);
    let mut record = prepared.intent.clone();
    let created = Conversation::new(parent, prepared.cgroup, first).follow(
        launch,
        |process, task| match task {
            Task::Begin => {
                let (identity, go) = begin(process, prepared)?;
                record.init = Some(identity);
                Ok(go)
            }
            Task::Record => {
                entry.write(&record)?;
                prepared.cgroup.restrict_devices(&prepared.plan.cgroup)?;
                Ok(Go::default())
            }
            Task::Meanwhile => {
                meanwhile();
                Ok(Go::default())
            }
            task => serve(process.pid, task, prepared),
        },
    )?;
    if launch == Launch::Now {
        hooks::poststart(&record).map_err(|e| end(&created.pidfd, e))?;
    }
    Ok(created)
}

/// What the first process cannot do for itself, and what must be known of it before its program runs.
fn begin(process: &Child, prepared: &Prepared<'_>) -> Result<(Identity, Go)> {
    let (pid, plan) = (process.pid, prepared.plan);
    prepared.cgroup.adopt(&plan.cgroup, pid)?;
    id_maps::write(pid, &plan.namespaces)?;
    net_devices::move_all(plan, pid)?;
    set_oom_score_adj(pid, plan.process.oom_score_adj)?;
    if plan.namespaces.user != Namespace::Inherit {
        raise_hard_limits(pid, &plan.process)?;
    }
    let (identity, ignored) = Identity::with_ignored_signals(pid)?;
    announce(process, prepared.request)?;
    Ok((identity, Go { ignored }))
}

/// Before its program runs: from then on it may end at any time.
fn announce(process: &Child, request: &Request<'_>) -> Result<()> {
    let Some((socket, message)) = &request.options.announce else {
        return Ok(());
    };
    protocol::announce(socket, message, process.pidfd.as_fd())
        .context(|| format!("announce process {}", process.pid))
}

/// In the user namespace it could not.
pub(super) fn raise_hard_limits(pid: i32, process: &Process) -> Result<()> {
    let pid = Pid::from_raw(pid).ok_or_else(|| Error::new("prlimit: no process"))?;
    scheduling::raise_hard_limits(pid, process)
}

/// What others do for the container in between.
fn serve(pid: i32, task: Task, prepared: &Prepared<'_>) -> Result<Go> {
    match task {
        Task::Begin | Task::Record | Task::Meanwhile | Task::TakeOver => {}
        Task::CallHooks => call_runtime_hooks(prepared.plan, prepared.intent, pid)?,
        Task::HandOver(fd) => {
            if let Some(listener) = prepared.filter.and_then(Filter::listener) {
                let state = HookState::new(prepared.intent, Status::Creating, Some(pid));
                listener::send(listener, pid, state, &fd)?;
            }
        }
    }
    Ok(Go::default())
}

/// The hooks that are called in this process's namespaces while the container, whose first process is `pid`, has its own and no
/// code of its own runs.
pub(super) fn call_runtime_hooks(plan: &Plan, intent: &Record, pid: i32) -> Result<()> {
    let state = HookState::new(intent, Status::Creating, Some(pid));
    let (hooks, directory) = (&plan.hooks, Some(&*intent.bundle));
    hooks::run("prestart", &hooks.prestart, &state, directory)?;
    hooks::run("createRuntime", &hooks.create_runtime, &state, directory)
}

/// Writes `process.oomScoreAdj`, proc(5).
pub(super) fn set_oom_score_adj(pid: i32, score: Option<i32>) -> Result<()> {
    let Some(score) = score else { return Ok(()) };
    let path = format!("/proc/{pid}/oom_score_adj");
    let text = score.to_string();
    match std::fs::write(&path, &text) {
        // A plain user's process that may not be looked into any more: it has inherited it from the one before.
        Err(e) if e.raw_os_error() == Some(libc::EACCES) && is_in(&path, &text) => Ok(()),
        written => written.map_err(|e| {
            Error::sys(format!("set process.oomScoreAdj to {score}"), e)
                .hint("lowering it needs CAP_SYS_RESOURCE")
        }),
    }
}

fn is_in(path: &str, text: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|there| there.trim_end() == text)
}
