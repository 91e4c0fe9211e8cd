//! The namespaces of a sandbox: the shim itself, which has one thread, enters them, makes pause, and comes back.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::plan::{Network, Plan};
use crate::error::{Context, Error, Result};
use crate::sys::process::Child;
use crate::sys::{net, ns, process, socket};

/// Does something where pause is to be: in its network, IPC and UTS namespaces, which are made before.
///
/// # Errors
/// What the kernel refuses, and what `act` returns.
pub(super) fn within<T>(plan: &Plan, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let _back = Back::remember(&[
        ("net", LinkNameSpaceType::Network),
        ("ipc", LinkNameSpaceType::InterProcessCommunication),
        ("uts", LinkNameSpaceType::HostNameAndNISDomainName),
    ])?;
    enter(plan)?;
    act()
}

/// Makes pause in the user namespace that the pod's network belongs to, and in the other ones of the sandbox, which then belong
/// to it, too. Who has joined a user namespace cannot come back, so another process does, and leaves pause to this one.
///
/// # Errors
/// What the kernel refuses, and what `start` returns.
pub(super) fn start_within_users(
    plan: &Plan,
    start: impl FnOnce() -> Result<Child>,
) -> Result<(i32, OwnedFd)> {
    let users = users(plan)?;
    let (ours, theirs) = socket::pair().context(|| "socketpair")?;
    let join = || {
        let kind = Some(LinkNameSpaceType::User);
        move_into_link_name_space(users.as_fd(), kind).context(|| "join the user namespace")
    };
    let helper = process::fork(|| {
        let made = join().and_then(|()| enter(plan)).and_then(|()| start());
        let made = made.map(|pause| pause.pid);
        let message = serde_json::to_vec(&made).unwrap_or_default();
        let sent = socket::send(&theirs, &message, None);
        process::exit(i32::from(sent.is_err()))
    })
    .context(|| "fork")?;
    drop(theirs);
    let received = socket::receive(&ours);
    process::wait(&helper.pidfd).context(|| "wait for who makes pause")?;
    let message = received.context(|| "receive")?.map(|(message, _)| message);
    let broken = |_| Error::new("make pause: who was to do it has ended");
    let pid = serde_json::from_slice::<Result<i32>>(&message.unwrap_or_default());
    let pid = pid.map_err(broken)??;
    let raw = Pid::from_raw(pid).ok_or_else(|| Error::new("make pause: it has no pid"))?;
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).context(|| "pidfd_open")?;
    Ok((pid, pidfd))
}

/// The user namespace of the network.
fn users(plan: &Plan) -> Result<OwnedFd> {
    let Network::Join(path) = &plan.network else {
        return Err(Error::new("a user namespace without a network"));
    };
    let step = || format!("find the user namespace of {}", path.display());
    let users = open(path).and_then(ns::owner).context(step)?;
    let inode = |file: &OwnedFd| rustix::fs::fstat(file).map(|stat| stat.st_ino);
    let own = open("/proc/self/ns/user".as_ref()).context(step)?;
    match inode(&users) == inode(&own) {
        false => Ok(users),
        true => Err(Error::new(step()).hint("it is the node's: containerd 2.0 or newer makes one")),
    }
}

/// Does something in the mount namespace of another process, in whose root it is then.
///
/// # Errors
/// What the kernel refuses, and what `act` returns.
pub(super) fn within_mounts_of<T>(pid: i32, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let kind = LinkNameSpaceType::Mount;
    let path = format!("/proc/{pid}/ns/mnt");
    let theirs = open(path.as_ref()).context(|| format!("open {path}"))?;
    let _back = Back::remember(&[("mnt", kind)])?;
    move_into_link_name_space(theirs.as_fd(), Some(kind)).context(|| format!("enter {path}"))?;
    act()
}

fn enter(plan: &Plan) -> Result<()> {
    let mut new = UnshareFlags::empty();
    new.set(UnshareFlags::NEWIPC, plan.ipc);
    new.set(UnshareFlags::NEWUTS, plan.network != Network::Host);
    new.set(UnshareFlags::NEWNET, plan.network == Network::New);
    ns::unshare(new).context(|| "make namespaces")?;
    match &plan.network {
        Network::Host => return Ok(()),
        Network::New => net::loopback_up().context(|| "bring lo up")?,
        Network::Join(path) => {
            let step = || format!("join network namespace {}", path.display());
            let file = open(path).context(step)?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(
                |e| Error::sys(step(), e).hint("netns_path names a file like /run/netns/NAME"),
            )?;
        }
    }
    let name = &plan.hostname;
    rustix::system::sethostname(name.as_bytes()).context(|| format!("sethostname {name:?}"))
}

/// The way back. It is taken whatever happens.
struct Back(Vec<(LinkNameSpaceType, OwnedFd)>);

impl Back {
    fn remember(kinds: &[(&str, LinkNameSpaceType)]) -> Result<Self> {
        let own = |(name, kind): &(&str, LinkNameSpaceType)| {
            let path = format!("/proc/self/ns/{name}");
            let file = open(path.as_ref()).context(|| format!("open {path}"))?;
            Ok((*kind, file))
        };
        kinds.iter().map(own).collect::<Result<_>>().map(Self)
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        for (kind, file) in &self.0 {
            if let Err(e) = move_into_link_name_space(file.as_fd(), Some(*kind)) {
                // Nothing that it did from there would be right.
                log::error!(
                    "go back to the own {} namespace: {e}",
                    ns::name(*kind as u32)
                );
                process::exit(1);
            }
        }
    }
}

fn open(path: &std::path::Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}
