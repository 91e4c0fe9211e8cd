//! The namespaces of a container: which are made, which are joined, and in which order.
//!
//! The parent opens what is to be joined before anything exists, sets what only its children get (the pid namespace),
//! makes the child in the new namespaces with one clone3, and goes back. The child joins the rest. Only where a user
//! namespace comes between them, a process between parent and child joins what the child could not.

use std::cell::Cell;
use std::convert::Infallible;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, pidfd_open, set_dumpable_behavior};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags, move_into_link_name_space,
    move_into_thread_name_spaces,
};

use crate::error::{Context, Error, Result};
use crate::spec::plan::{Namespace, Namespaces};
use crate::sys::ns;
use crate::sys::process::{self, Child};

/// A namespace to join.
#[derive(Debug)]
struct Join {
    kind: LinkNameSpaceType,
    file: OwnedFd,
    path: String,
    /// This process, or the one that it was cloned from, is in it.
    joined: Cell<bool>,
}

/// Namespaces of one process to join at once: `CLONE_NEW*`.
#[derive(Debug)]
struct Held<'a> {
    holder: &'a Child,
    kinds: ThreadNameSpaceType,
}

/// What to do to get a process into its namespaces.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    plan: &'a Namespaces,
    /// `CLONE_NEW*` for clone3.
    new: u64,
    user: Option<Join>,
    pid: Option<Join>,
    held: Option<Held<'a>>,
    /// Joined in this order, the mount namespace last.
    others: Vec<Join>,
}

/// Opens the namespaces to join, and checks that they are what they are said to be. Those of `holder`, which lives, are there
/// without that.
pub(super) fn open<'a>(plan: &'a Namespaces, holder: Option<&'a Child>) -> Result<Entry<'a>> {
    use LinkNameSpaceType as Type;
    let mut new = 0;
    let mut kinds = ThreadNameSpaceType::empty();
    // With a user namespace in between, it depends on each one who may join it.
    let holder = holder.filter(|_| plan.user == Namespace::Inherit);
    let own_turn = [Type::ProcessID, Type::Mount];
    let prefix = holder.map(|holder| format!("/proc/{}/ns/", holder.pid));
    let mut join = |namespace: &Namespace, kind: Type| -> Result<Option<Join>> {
        match namespace {
            Namespace::Inherit => Ok(None),
            Namespace::New => {
                new |= clone_flag(kind);
                Ok(None)
            }
            Namespace::Join(path) => {
                let file = prefix.as_ref().and_then(|it| path.strip_prefix(it).ok());
                match file.and_then(Path::to_str).and_then(kind_of_file) {
                    Some(held) if held.bits() == kind as u32 && !own_turn.contains(&kind) => {
                        kinds |= held;
                        Ok(None)
                    }
                    _ => open_one(path, kind).map(Some),
                }
            }
        }
    };
    let user = join(&plan.user, Type::User)?;
    let pid = join(&plan.pid, Type::ProcessID)?;
    let others = [
        join(&plan.network, Type::Network)?,
        join(&plan.ipc, Type::InterProcessCommunication)?,
        join(&plan.uts, Type::HostNameAndNISDomainName)?,
        join(&plan.time, Type::Time)?,
        join(&plan.cgroup, Type::ControlGroup)?,
        join(&plan.mount, Type::Mount)?,
    ];
    Ok(Entry {
        plan,
        new,
        user,
        pid,
        held: holder
            .filter(|_| !kinds.is_empty())
            .map(|holder| Held { holder, kinds }),
        others: others.into_iter().flatten().collect(),
    })
}

/// The flag that makes a new one at the clone. A cgroup namespace is made by the child, once it is in its cgroup, and a time
/// namespace too, which must get its offsets while it is empty.
fn clone_flag(kind: LinkNameSpaceType) -> u64 {
    match kind {
        LinkNameSpaceType::ControlGroup | LinkNameSpaceType::Time => 0,
        kind => u64::from(kind as u32),
    }
}

fn open_one(path: &Path, kind: LinkNameSpaceType) -> Result<Join> {
    let shown = path.display().to_string();
    let step = || format!("open {} namespace {shown}", ns::name(kind as u32));
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| {
        Error::sys(step(), e).hint("linux.namespaces[].path names a file like /proc/PID/ns/net")
    })?;
    match ns::kind(&file) {
        Ok(found) if found == kind as u32 => {}
        Ok(found) => {
            let found = ns::name(found);
            return Err(Error::new(step()).hint(format!("it is a {found} namespace")));
        }
        Err(e) => return Err(Error::sys(step(), e).hint("it is not a namespace")),
    }
    Ok(Join {
        kind,
        file,
        path: shown,
        joined: Cell::new(false),
    })
}

impl Entry<'_> {
    /// Makes the container's first process, which runs `child` in the new namespaces.
    pub(super) fn clone(
        &self,
        cgroup: Option<BorrowedFd<'_>>,
        child: impl FnOnce() -> Infallible,
    ) -> Result<Child> {
        let _dumpable = match self.plan.user {
            Namespace::New => Dumpable::for_user()?,
            Namespace::Inherit | Namespace::Join(_) => None,
        };
        match self.needs_process_between() {
            true => self.clone_between(cgroup, child),
            false => {
                let _pid = self.pid.as_ref().map(ChildrensPid::join).transpose()?;
                process::clone3(self.new, cgroup, child).map_err(explain_clone)
            }
        }
    }

    /// A process in a user namespace has no rights over the namespaces that belong to another one, and those that it makes
    /// belong to its own.
    fn needs_process_between(&self) -> bool {
        match self.plan.user {
            Namespace::Inherit => false,
            Namespace::New => !self.others.is_empty(),
            Namespace::Join(_) => true,
        }
    }

    /// Makes the container's first process by way of one that joins namespaces first and is gone then. The first process
    /// still is the caller's child (`CLONE_PARENT`).
    fn clone_between(
        &self,
        cgroup: Option<BorrowedFd<'_>>,
        child: impl FnOnce() -> Infallible,
    ) -> Result<Child> {
        let (from, to) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context(|| "pipe")?;
        // A cgroup namespace that is joined hides cgroups beside it, also from the kernel's check whether a process may be
        // born there (`nsdelegate` of cgroups(7)): then the one between is born in the container's cgroup, and its child
        // inherits that.
        let hides = self
            .others
            .iter()
            .any(|join| join.kind == LinkNameSpaceType::ControlGroup);
        let (first, second) = if hides {
            (cgroup, None)
        } else {
            (None, cgroup)
        };
        let between = process::clone3(0, first, || {
            let child = || {
                // Otherwise the parent would wait for what the child says, too.
                process::close_inherited(to.as_fd());
                child()
            };
            let made = self.join_around_user().and_then(|()| {
                let flags = self.new | libc::CLONE_PARENT as u64;
                process::clone3(flags, second, child).map_err(explain_clone)
            });
            let message = serde_json::to_vec(&made.map(|child| child.pid)).unwrap_or_default();
            // Shorter than PIPE_BUF, so it is written whole.
            let told = rustix::io::write(&to, &message);
            process::exit(i32::from(told.is_err()))
        })
        .map_err(explain_clone)?;
        drop(to);
        let mut message = Vec::new();
        let read = File::from(from).read_to_end(&mut message);
        process::wait(&between.pidfd).context(|| "wait for the process that joins namespaces")?;
        read.context(|| "read from the process that joins namespaces")?;
        let made: Result<i32> = serde_json::from_slice(&message)
            .map_err(|e| Error::new(format!("make a process in the namespaces: {e}")))?;
        let pid = made?;
        let pidfd = Pid::from_raw(pid)
            .ok_or(Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .context(|| format!("pidfd_open {pid}"))?;
        Ok(Child { pid, pidfd })
    }

    /// Joins what belongs to the caller's user namespace with the rights in that, then the container's user namespace, then
    /// what belongs to that one. The mount namespace is left for the child, which finds its cgroup in the caller's.
    fn join_around_user(&self) -> Result<()> {
        let mut inside = Vec::new();
        let early = |join: &&Join| join.kind != LinkNameSpaceType::Mount;
        for join in self.pid.iter().chain(&self.others).filter(early) {
            match (join.attempt(), &self.user) {
                (Err(Errno::PERM), Some(_)) => inside.push(join),
                (result, _) => join.explain(result)?,
            }
        }
        if let Some(user) = &self.user {
            user.join()?;
        }
        inside.into_iter().try_for_each(Join::join)
    }

    /// In the child: makes its time and cgroup namespace, and joins what is left to join, the mount namespace last: it takes
    /// the way to the host's files away.
    pub(super) fn enter(&self) -> Result<()> {
        if self.plan.time == Namespace::New {
            enter_new_time(&self.plan.time_offsets)?;
        }
        if self.plan.cgroup == Namespace::New {
            ns::unshare(UnshareFlags::NEWCGROUP).context(|| "make a cgroup namespace")?;
        }
        if let Some(Held { holder, kinds }) = &self.held {
            move_into_thread_name_spaces(holder.pidfd.as_fd(), *kinds)
                .context(|| format!("join the namespaces of process {}", holder.pid))?;
        }
        for join in self.others.iter().filter(|join| !join.joined.get()) {
            join.join()?;
        }
        match self.plan.user {
            Namespace::New => Dumpable::end_for_user(),
            Namespace::Inherit | Namespace::Join(_) => Ok(()),
        }
    }

    /// Whether the child is in a user namespace that is not the caller's.
    pub(super) fn has_user_namespace(&self) -> bool {
        self.plan.user != Namespace::Inherit
    }
}

impl Join {
    fn attempt(&self) -> rustix::io::Result<()> {
        move_into_link_name_space(self.file.as_fd(), Some(self.kind))?;
        self.joined.set(true);
        Ok(())
    }

    fn join(&self) -> Result<()> {
        self.explain(self.attempt())
    }

    fn explain(&self, joined: rustix::io::Result<()>) -> Result<()> {
        joined.map_err(|e| {
            let name = ns::name(self.kind as u32);
            let error = Error::sys(format!("join {name} namespace {}", self.path), e);
            match e {
                Errno::PERM => error.hint(
                    "it needs CAP_SYS_ADMIN in the user namespace that this namespace belongs to",
                ),
                _ => error,
            }
        })
    }
}

/// As long as it lives other processes of the same user may look into the caller and its new children.
///
/// procfs gives the files of a process that cannot be dumped to root: a plain user could write neither the id maps nor the
/// oom_score_adj of its child. The child calls [`Self::end_for_user`] before anybody of a container could see it.
#[derive(Debug)]
pub(super) struct Dumpable;

impl Dumpable {
    /// Root needs it for nothing.
    pub(super) fn for_user() -> Result<Option<Self>> {
        if rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        set_dumpable_behavior(DumpableBehavior::Dumpable).context(|| "prctl PR_SET_DUMPABLE")?;
        Ok(Some(Self))
    }

    /// In the child, whose copy is never dropped.
    pub(super) fn end_for_user() -> Result<()> {
        match rustix::process::geteuid().is_root() {
            true => Ok(()),
            false => set_dumpable_behavior(DumpableBehavior::NotDumpable)
                .context(|| "prctl PR_SET_DUMPABLE"),
        }
    }
}

impl Drop for Dumpable {
    fn drop(&mut self) {
        // It was so before.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}

/// What is to be said of a process that cannot be made.
pub(super) fn explain_clone(errno: Errno) -> Error {
    let error = Error::sys("clone3", errno);
    match errno {
        Errno::NOSPC => {
            error.hint("a limit of namespaces is reached: see /proc/sys/user/max_*_namespaces")
        }
        Errno::AGAIN => error.hint("a limit of processes is reached: pids.max or RLIMIT_NPROC"),
        Errno::PERM => error.hint("new namespaces need CAP_SYS_ADMIN"),
        _ => error,
    }
}

/// As long as it lives the caller's children are made in another pid namespace. The first process of a container must be in
/// it from the beginning, because the procfs that it mounts is that of its own pid namespace.
struct ChildrensPid(OwnedFd);

impl ChildrensPid {
    fn join(join: &Join) -> Result<Self> {
        let own = own_namespace("pid_for_children")?;
        join.join()?;
        Ok(Self(own))
    }
}

impl Drop for ChildrensPid {
    fn drop(&mut self) {
        go_back(&self.0, LinkNameSpaceType::ProcessID);
    }
}

/// Does something in another network namespace, and comes back.
pub(crate) fn in_network<T>(network: BorrowedFd<'_>, act: impl FnOnce() -> T) -> Result<T> {
    let own = own_namespace("net")?;
    let kind = LinkNameSpaceType::Network;
    move_into_link_name_space(network, Some(kind)).map_err(|e| {
        Error::sys("enter the container's network namespace", e)
            .hint("it needs CAP_SYS_ADMIN on the host")
    })?;
    let done = act();
    move_into_link_name_space(own.as_fd(), Some(kind))
        .context(|| "go back to the own network namespace")?;
    Ok(done)
}

/// Makes a time namespace, sets its clocks while it is empty, and enters it: time_namespaces(7).
fn enter_new_time(offsets: &[(&str, i64, u32)]) -> Result<()> {
    let step = || "make a time namespace";
    ns::unshare(UnshareFlags::NEWTIME).context(step)?;
    for (clock, seconds, nanoseconds) in offsets {
        std::fs::write(
            "/proc/self/timens_offsets",
            format!("{clock} {seconds} {nanoseconds}\n"),
        )
        .map_err(|e| {
            let step = format!("set linux.timeOffsets.{clock} to {seconds}s {nanoseconds}ns");
            Error::sys(step, e).hint("no clock can go below zero or beyond 146 years")
        })?;
    }
    let made = own_namespace("time_for_children")?;
    move_into_link_name_space(made.as_fd(), Some(LinkNameSpaceType::Time)).context(step)
}

fn own_namespace(name: &str) -> Result<OwnedFd> {
    let path = format!("/proc/self/ns/{name}");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty()).context(|| format!("open {path}"))
}

/// The child drops its copy of the guard's frame never, the parent always: it came from there, so it may go back.
fn go_back(own: &OwnedFd, kind: LinkNameSpaceType) {
    if let Err(e) = move_into_link_name_space(own.as_fd(), Some(kind)) {
        log::error!(
            "go back to the own {} namespace: {e}",
            ns::name(kind as u32)
        );
    }
}

/// Joins all namespaces of the process that `pidfd` is, the pid namespace for the caller's children only.
pub(super) fn join_process(pidfd: BorrowedFd<'_>, pid: i32, user: bool) -> Result<()> {
    let mut kinds = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::TIME;
    if user {
        kinds |= ThreadNameSpaceType::USER;
    }
    match move_into_thread_name_spaces(pidfd, kinds) {
        // A plain user has no rights over those that the container shares with the host, and need not join them.
        Err(Errno::PERM) => move_into_thread_name_spaces(pidfd, kinds & differing(pid)?),
        joined => joined,
    }
    .context(|| "join the container's namespaces")
}

/// The files in `/proc/PID/ns`.
const FILES: [(&str, ThreadNameSpaceType); 8] = [
    ("mnt", ThreadNameSpaceType::MOUNT),
    ("pid", ThreadNameSpaceType::PROCESS_ID),
    ("cgroup", ThreadNameSpaceType::CONTROL_GROUP),
    ("uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
    ("ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
    ("net", ThreadNameSpaceType::NETWORK),
    ("time", ThreadNameSpaceType::TIME),
    ("user", ThreadNameSpaceType::USER),
];

fn kind_of_file(name: &str) -> Option<ThreadNameSpaceType> {
    let found = FILES.iter().find(|(file, _)| *file == name);
    found.map(|(_, kind)| *kind)
}

/// The kinds of namespaces in which this process and another one are not together.
fn differing(pid: i32) -> Result<ThreadNameSpaceType> {
    let mut kinds = ThreadNameSpaceType::empty();
    for (file, kind) in FILES {
        let inode = |who: &str| {
            let path = format!("/proc/{who}/ns/{file}");
            rustix::fs::stat(&path)
                .map(|stat| stat.st_ino)
                .context(|| format!("stat {path}"))
        };
        if inode("self")? != inode(&pid.to_string())? {
            kinds |= kind;
        }
    }
    Ok(kinds)
}
