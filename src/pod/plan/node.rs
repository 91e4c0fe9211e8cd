//! What a pod sees of the machine, looked at once, so that the plan itself need not look.

use std::cell::OnceCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::selinux::Policy;
use crate::pod::apparmor;
use crate::security::labels::{has_apparmor, has_selinux};

/// The machine.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// The host name of a pod with `hostNetwork`, and `spec.nodeName`.
    pub hostname: String,
    /// Physical memory in bytes, the measure of a Burstable container's `oom_score_adj`.
    pub memory: u64,
    /// CPUs that may be used.
    pub cpus: u64,
    /// The size of the root file system in bytes.
    pub disk: u64,
    /// Of [`Self::addresses`]: most pods start without, and the kernel takes half a millisecond to find them.
    pub(super) addresses: OnceCell<Vec<IpAddr>>,
    /// `/etc/hosts`.
    pub hosts: String,
    /// `/etc/resolv.conf`, or what it stands for.
    pub resolv_conf: String,
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Whether there is an apparmor_parser(8) to load profiles with.
    pub apparmor_parser: bool,
    /// If SELinux is on: what its policy has for containers.
    pub selinux: Option<Policy>,
    /// Whether processes may be protected from being killed for memory: CAP_SYS_RESOURCE.
    pub may_protect: bool,
}

impl Node {
    /// The machine that this runs on: uname(2), sysinfo(2), sched_getaffinity(2), statvfs(3), capabilities(7), its
    /// routes, and its files.
    pub fn this_machine() -> Self {
        let info = rustix::system::sysinfo();
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let effective = rustix::thread::capabilities(None).map(|sets| sets.effective);
        Self {
            hostname: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            memory: info.totalram.saturating_mul(u64::from(info.mem_unit)),
            cpus: rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count().into()),
            disk: rustix::fs::statvfs("/").map_or(0, |s| s.f_blocks.saturating_mul(s.f_frsize)),
            addresses: OnceCell::new(),
            hosts: read("/etc/hosts"),
            resolv_conf: resolv_conf(),
            apparmor: has_apparmor(),
            apparmor_parser: has_apparmor() && apparmor::parser().is_some(),
            selinux: has_selinux().then(Policy::of_this_machine).flatten(),
            may_protect: effective
                .is_ok_and(|set| set.contains(rustix::thread::CapabilitySet::SYS_RESOURCE)),
        }
    }

    /// `status.hostIPs`: the addresses that face the network, or else the loopback's.
    pub fn addresses(&self) -> &[IpAddr] {
        self.addresses.get_or_init(addresses)
    }
}

/// systemd-resolved's stub listens on the host's loopback, where no pod reaches it: what it asks is used, as kubeadm
/// configures the kubelet.
fn resolv_conf() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let text = read("/etc/resolv.conf");
    let stub = text
        .lines()
        .any(|line| line.trim() == "nameserver 127.0.0.53");
    let real = if stub {
        read("/run/systemd/resolve/resolv.conf")
    } else {
        String::new()
    };
    match real.is_empty() {
        true => text,
        false => real,
    }
}

/// The addresses from which this machine would send to others, IPv4 first.
fn addresses() -> Vec<IpAddr> {
    // To connect a datagram socket sends nothing: the kernel looks for a route. The addresses are for documentation
    // only (RFC 5737, RFC 3849).
    let outside: [(IpAddr, IpAddr); 2] = [
        (
            Ipv4Addr::UNSPECIFIED.into(),
            Ipv4Addr::new(192, 0, 2, 1).into(),
        ),
        (
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        ),
    ];
    let found = outside.into_iter().filter_map(|(any, other)| {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
        socket.connect(SocketAddr::new(other, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    let found: Vec<IpAddr> = found.collect();
    match found.is_empty() {
        true => vec![Ipv4Addr::LOCALHOST.into()],
        false => found,
    }
}
