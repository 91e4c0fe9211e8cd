//! Safe wrappers over one kernel facility each, where `rustix` and `nix` have none.
//!
//! All `unsafe` of runp is in here. Wrappers take borrowed descriptors, return owned ones with close-on-exec set,
//! and know nothing of containers or pods.

pub mod bpf;
pub mod entry;
pub mod keyring;
pub mod memory;
pub mod mount;
pub mod net;
pub mod netlink;
pub mod ns;
pub mod path;
pub mod pause_code;
pub mod process;
pub mod scheduling;
pub mod seccomp;
pub mod socket;
pub mod start;

/// The reason why the raw system call just made failed.
fn last_errno() -> rustix::io::Errno {
    let error = std::io::Error::last_os_error();
    rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)
}
