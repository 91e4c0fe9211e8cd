//! The namespaces of a container: which are made, which are joined, and in which order.
//!
//! The parent opens what is to be joined before anything exists, sets what only its children get (pid and time
//! namespace), makes the child in the new namespaces with one clone3, and goes back. The child joins the rest.

use std::convert::Infallible;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags, move_into_link_name_space,
};

use crate::error::{Context, Error, Result};
use crate::spec::plan::{IdMap, Namespace, Namespaces};
use crate::sys::ns;
use crate::sys::process::{self, Child};

/// A namespace to join.
#[derive(Debug)]
struct Join {
    kind: LinkNameSpaceType,
    file: OwnedFd,
    path: String,
}

/// What to do to get a process into its namespaces.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    plan: &'a Namespaces,
    /// `CLONE_NEW*` for clone3.
    new: u64,
    user: Option<Join>,
    pid: Option<Join>,
    /// Joined by the child in this order, the mount namespace last: it takes the way to the host's files away.
    others: Vec<Join>,
}

/// Opens the namespaces to join, and checks that they are what they are said to be.
pub(super) fn open(plan: &Namespaces) -> Result<Entry<'_>> {
    use LinkNameSpaceType as Type;
    let mut new = 0;
    let mut join = |namespace: &Namespace, kind: Type| -> Result<Option<Join>> {
        match namespace {
            Namespace::Inherit => Ok(None),
            Namespace::New => {
                new |= clone_flag(kind);
                Ok(None)
            }
            Namespace::Join(path) => open_one(path, kind).map(Some),
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
        others: others.into_iter().flatten().collect(),
    })
}

/// The flag that makes a new one at the clone. A cgroup namespace is made by the child, once it is in its cgroup, and a time
/// namespace by the parent, which must set its offsets while it is empty.
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
    })
}

impl Entry<'_> {
    /// Makes the container's first process, which runs `child` in the new namespaces.
    pub(super) fn clone(
        &self,
        cgroup: Option<BorrowedFd<'_>>,
        child: impl FnOnce() -> Infallible,
    ) -> Result<Child> {
        let time = self.plan.time == Namespace::New;
        let offsets = &self.plan.time_offsets;
        let _time = time.then(|| ChildrensTime::new(offsets)).transpose()?;
        match &self.user {
            Some(user) => self.clone_inside(user, cgroup, child),
            None => {
                let _pid = self.pid.as_ref().map(ChildrensPid::join).transpose()?;
                process::clone3(self.new, cgroup, child).map_err(explain_clone)
            }
        }
    }

    /// New namespaces of a container that joins a user namespace must belong to that one, so a process that has joined it
    /// makes the container's first process, as the caller's child (`CLONE_PARENT`), and is gone.
    fn clone_inside(
        &self,
        user: &Join,
        cgroup: Option<BorrowedFd<'_>>,
        child: impl FnOnce() -> Infallible,
    ) -> Result<Child> {
        let (from, to) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context(|| "pipe")?;
        let between = process::fork(|| {
            let made = user
                .join()
                .and_then(|()| self.pid.as_ref().map_or(Ok(()), Join::join))
                .and_then(|()| {
                    let flags = self.new | libc::CLONE_PARENT as u64;
                    process::clone3(flags, cgroup, child).map_err(explain_clone)
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
        process::wait(&between.pidfd).context(|| "wait for the process in the user namespace")?;
        read.context(|| "read from the process in the user namespace")?;
        let made: Result<i32> = serde_json::from_slice(&message)
            .map_err(|e| Error::new(format!("make a process in the user namespace: {e}")))?;
        let pid = made?;
        let pidfd = Pid::from_raw(pid)
            .ok_or(rustix::io::Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .context(|| format!("pidfd_open {pid}"))?;
        Ok(Child { pid, pidfd })
    }

    /// In the child: joins what is left to join, and makes its cgroup namespace.
    pub(super) fn enter(&self) -> Result<()> {
        for join in &self.others {
            join.join()?;
        }
        if self.plan.cgroup == Namespace::New {
            ns::unshare(UnshareFlags::NEWCGROUP).context(|| "make a cgroup namespace")?;
        }
        Ok(())
    }

    /// Whether the child is in a user namespace that is not the caller's.
    pub(super) fn has_user_namespace(&self) -> bool {
        self.plan.user != Namespace::Inherit
    }
}

impl Join {
    fn join(&self) -> Result<()> {
        move_into_link_name_space(self.file.as_fd(), Some(self.kind)).context(|| {
            format!(
                "join {} namespace {}",
                ns::name(self.kind as u32),
                self.path
            )
        })
    }
}

fn explain_clone(errno: rustix::io::Errno) -> Error {
    let error = Error::sys("clone3", errno);
    match errno {
        rustix::io::Errno::NOSPC => {
            error.hint("a limit of namespaces is reached: see /proc/sys/user/max_*_namespaces")
        }
        rustix::io::Errno::AGAIN => {
            error.hint("a limit of processes is reached: pids.max or RLIMIT_NPROC")
        }
        rustix::io::Errno::PERM => error.hint("new namespaces need CAP_SYS_ADMIN"),
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

/// As long as it lives the caller's children are made in a new time namespace, time_namespaces(7).
struct ChildrensTime(OwnedFd);

impl ChildrensTime {
    fn new(offsets: &[(&str, i64, u32)]) -> Result<Self> {
        let own = own_namespace("time")?;
        ns::unshare(UnshareFlags::NEWTIME).context(|| "make a time namespace")?;
        let back = Self(own);
        for (clock, seconds, nanoseconds) in offsets {
            std::fs::write(
                "/proc/self/timens_offsets",
                format!("{clock} {seconds} {nanoseconds}\n"),
            )
            .context(|| format!("set linux.timeOffsets.{clock} to {seconds}s {nanoseconds}ns"))?;
        }
        Ok(back)
    }
}

impl Drop for ChildrensTime {
    fn drop(&mut self) {
        go_back(&self.0, LinkNameSpaceType::Time);
    }
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

/// Writes the id maps of a child in a new user namespace, user_namespaces(7).
pub(super) fn map_ids(pid: i32, plan: &Namespaces) -> Result<()> {
    if plan.user != Namespace::New {
        return Ok(());
    }
    for (name, map) in [("uid_map", &plan.uid_map), ("gid_map", &plan.gid_map)] {
        let path = format!("/proc/{pid}/{name}");
        let lines: String = map.iter().map(line).collect();
        std::fs::write(&path, &lines).map_err(|e| {
            Error::sys(format!("write {:?} to {path}", lines.trim_end()), e)
                .hint("see linux.uidMappings and linux.gidMappings, and user_namespaces(7)")
        })?;
    }
    Ok(())
}

fn line(map: &IdMap) -> String {
    format!("{} {} {}\n", map.container_id, map.host_id, map.size)
}

/// Joins all namespaces of the process that `pidfd` is, the pid namespace for the caller's children only.
pub(super) fn join_process(pidfd: BorrowedFd<'_>, user: bool) -> Result<()> {
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
    ns::join_process(pidfd, kinds).context(|| "join the container's namespaces")
}
