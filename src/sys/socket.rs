//! Unix sequenced-packet sockets that carry messages with descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// The longest message: what does not fit is a bug of the sender and is refused on arrival.
pub const MAX_MESSAGE: usize = 16 * 1024;

/// Two connected close-on-exec sockets, unix(7) `SOCK_SEQPACKET`.
///
/// # Errors
/// As socketpair(2).
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// Sends one message, with at most one descriptor. A peer that has gone is `EPIPE`, not a signal.
///
/// # Errors
/// As sendmsg(2).
pub fn send(socket: impl AsFd, message: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd]);
    if let Some(fds) = &fds {
        ancillary.push(SendAncillaryMessage::ScmRights(fds));
    }
    let data = [IoSlice::new(message)];
    rustix::io::retry_on_intr(|| sendmsg(&socket, &data, &mut ancillary, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Waits for one message; `None` when the peer has closed its end.
///
/// # Errors
/// As recvmsg(2); `EMSGSIZE` for a message longer than [`MAX_MESSAGE`].
pub fn receive(socket: impl AsFd) -> Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut data = [0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut buffers = [IoSliceMut::new(&mut data)];
        recvmsg(
            &socket,
            &mut buffers,
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    if received.flags.contains(rustix::net::ReturnFlags::TRUNC) {
        return Err(Errno::MSGSIZE);
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(Some((data[..received.bytes].to_vec(), fd)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn carries_messages_descriptors_and_the_end() {
        let (a, b) = pair().unwrap();
        send(&a, b"hello", None).unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        send(&a, b"fd", Some(write.as_fd())).unwrap();
        drop(write);
        drop(a);
        let (data, fd) = receive(&b).unwrap().unwrap();
        assert_eq!((data.as_slice(), fd.is_none()), (&b"hello"[..], true));
        let (data, fd) = receive(&b).unwrap().unwrap();
        assert_eq!(data, b"fd");
        rustix::io::write(fd.unwrap(), b"x").unwrap();
        let mut buffer = [0; 1];
        assert_eq!(rustix::io::read(&read, &mut buffer), Ok(1));
        assert!(receive(&b).unwrap().is_none());
    }

    #[test]
    fn a_gone_peer_is_an_error_and_no_signal() {
        let (a, b) = pair().unwrap();
        drop(b);
        assert_eq!(send(&a, b"x", None), Err(Errno::PIPE));
    }
}
