//! Hands the descriptor on which a container's system calls arrive to who decides about them.

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use serde::Serialize;

use super::gate::address;
use super::hooks::HookState;
use crate::error::{Context, Error, Result};
use crate::spec::seccomp::Listener;
use crate::sys::socket;

/// runtime-spec, config-linux.md, "The Container Process State".
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: HookState<'a>,
}

/// Connects to the listener, and sends the descriptor of the process `pid` of the container in `state` in one message.
///
/// # Errors
/// When nobody listens: the process's calls would wait for ever.
pub(super) fn send(
    listener: &Listener,
    pid: i32,
    state: HookState<'_>,
    fd: &OwnedFd,
) -> Result<()> {
    let path = listener.path.display();
    let step = || format!("send the seccomp listener to linux.seccomp.listenerPath {path}");
    let message = ContainerProcessState {
        oci_version: state.oci_version(),
        fds: ["seccompFd"],
        pid,
        metadata: listener.metadata.as_deref(),
        state,
    };
    let message =
        serde_json::to_vec(&message).map_err(|e| Error::new(format!("{}: {e}", step())))?;
    let flags = SocketFlags::CLOEXEC;
    let connection =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).context(step)?;
    let (_dir, address) = address(&listener.path)?;
    connect(&connection, &address).map_err(|e| {
        Error::sys(step(), e).hint("a seccomp agent must listen there before the container starts")
    })?;
    socket::send(&connection, &message, Some(fd.as_fd())).context(step)
}
