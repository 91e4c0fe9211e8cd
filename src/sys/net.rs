//! Network interfaces, netdevice(7).

use std::os::fd::AsRawFd;

use rustix::io::Result;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// Brings the loopback interface of the caller's network namespace up. A new namespace has it, down.
///
/// # Errors
/// As socket(2) and `SIOCSIFFLAGS`: `EPERM` without `CAP_NET_ADMIN` over the namespace.
pub fn loopback_up() -> Result<()> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut name = [0; libc::IFNAMSIZ];
    name[0] = b'l' as libc::c_char;
    name[1] = b'o' as libc::c_char;
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short,
        },
    };
    // SAFETY: SIOCSIFFLAGS reads an `ifreq` with a name that ends in NUL and the flags of the union, both set above.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    match result {
        0 => Ok(()),
        _ => Err(super::last_errno()),
    }
}
