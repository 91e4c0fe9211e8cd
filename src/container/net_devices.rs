//! `linux.netDevices`: interfaces of the host are moved into the container's network namespace, with their addresses.
//!
//! The kernel takes the addresses away when an interface moves; those that were set for good are set again. When the
//! container's network namespace goes, the kernel gives hardware back to the host and removes virtual interfaces.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::namespaces;
use crate::error::{Context, Error, Result};
use crate::spec::plan::{Namespace, NetDevice, Plan};
use crate::sys::netlink::{self, Address, Ask, Body, Netlink};

/// Moves the devices into the network namespace of the container, whose first process is `pid`.
pub(super) fn move_all(plan: &Plan, pid: i32) -> Result<()> {
    if plan.net_devices.is_empty() {
        return Ok(());
    }
    let target = target(&plan.namespaces.network, pid)?;
    let host = Netlink::open().context(|| "open a netlink socket")?;
    let inside = namespaces::in_network(target.as_fd(), Netlink::open)?
        .context(|| "open a netlink socket in the container's network namespace")?;
    for device in &plan.net_devices {
        let name = &device.name;
        move_one(device, &host, &inside, target.as_fd())
            .context(|| format!("linux.netDevices[{name:?}]"))?;
    }
    Ok(())
}

fn target(network: &Namespace, pid: i32) -> Result<OwnedFd> {
    let path = match network {
        Namespace::Join(path) => path.clone(),
        Namespace::New | Namespace::Inherit => format!("/proc/{pid}/ns/net").into(),
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty()).context(|| format!("open {}", path.display()))
}

fn move_one(
    device: &NetDevice,
    host: &Netlink,
    inside: &Netlink,
    target: BorrowedFd<'_>,
) -> Result<()> {
    let (index, flags) = find(host, &device.name)?;
    if flags & libc::IFF_LOOPBACK as u32 != 0 {
        return Err(Error::new("it is the loopback interface")
            .hint("every network namespace has one of its own"));
    }
    let addresses = addresses(host, index)?;
    let up = libc::IFF_UP as u32;
    // An interface in use keeps its name.
    set(host, Body::of_link(index, 0, up), "take it down")?;
    let body = Body::of_link(index, 0, 0)
        .attribute(libc::IFLA_NET_NS_FD, &target.as_raw_fd().to_ne_bytes())
        .and_then(|body| body.attribute(libc::IFLA_IFNAME, &c_name(&device.new_name)))
        .context(|| "move it")?;
    set(host, body, "move it into the container's network namespace")?;
    let (index, _) = find(inside, &device.new_name)?;
    set(inside, Body::of_link(index, up, up), "bring it up")?;
    for address in addresses {
        add(inside, index, &address)?;
    }
    Ok(())
}

/// Its index and flags.
fn find(netlink: &Netlink, name: &str) -> Result<(u32, u32)> {
    let step = || format!("find interface {name:?}");
    let body = Body::of_link(0, 0, 0).attribute(libc::IFLA_IFNAME, &c_name(name));
    let answers = body.and_then(|body| netlink.request(libc::RTM_GETLINK, Ask::One, &body));
    let answers = answers.map_err(|e| {
        let error = Error::sys(step(), e);
        match e {
            Errno::NODEV => error.hint("ip link lists the host's interfaces"),
            _ => error,
        }
    })?;
    let answer = answers.first().ok_or(Errno::NODEV).context(step)?;
    netlink::link(answer).context(step)
}

fn c_name(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

/// Those that were set for good and hold everywhere: the others the kernel finds again by itself.
fn addresses(netlink: &Netlink, index: u32) -> Result<Vec<Address>> {
    let step = || "read its addresses";
    let answers = netlink
        .request(libc::RTM_GETADDR, Ask::All, &Body::of_address(0, 0, 0))
        .context(step)?;
    let mut addresses = Vec::new();
    for answer in &answers {
        let address = netlink::address(answer).context(step)?;
        let permanent = address.flags & libc::IFA_F_PERMANENT != 0;
        if address.index == index && permanent && address.scope == libc::RT_SCOPE_UNIVERSE {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

fn set(netlink: &Netlink, body: Body, step: &str) -> Result<()> {
    let set = netlink.request(libc::RTM_SETLINK, Ask::One, &body);
    set.map(drop).map_err(|e| {
        let error = Error::sys(step, e);
        match e {
            Errno::PERM => error.hint("it needs CAP_NET_ADMIN on the host: a plain user cannot"),
            Errno::EXIST => error.hint("the container has one of that name: give it another name"),
            _ => error,
        }
    })
}

fn add(netlink: &Netlink, index: u32, address: &Address) -> Result<()> {
    let step = || "give it its address again";
    let mut body = Body::of_address(address.family, address.prefix, index);
    for (kind, value) in &address.attributes {
        body = body.attribute(*kind, value).context(step)?;
    }
    netlink
        .request(libc::RTM_NEWADDR, Ask::New, &body)
        .map(drop)
        .context(step)
}
