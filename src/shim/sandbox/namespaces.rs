//! The namespaces of a sandbox: the shim itself, which has one thread, enters them, makes pause, and comes back.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::plan::{Network, Plan};
use crate::error::{Context, Error, Result};
use crate::sys::{net, ns, process};

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
