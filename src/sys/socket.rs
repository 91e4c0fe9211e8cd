//! Unix sequenced-packet sockets that carry messages with descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// The longest message: what does not fit is a bug of the sender and is refused on arrival.
pub const MAX_MESSAGE: usize = 16 * 1024;

/// What one carries: bytes, and at most one descriptor.
pub type Message = (Vec<u8>, Option<OwnedFd>);

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
pub fn receive(socket: impl AsFd) -> Result<Option<Message>> {
    receive_with(&socket, RecvFlags::empty())
}

/// Copies of all messages that have arrived, oldest first: they stay where they are. Nobody else may look meanwhile.
///
/// # Errors
/// As recvmsg(2) and setsockopt(2); `EMSGSIZE` for a message longer than [`MAX_MESSAGE`].
pub fn peek_all(socket: impl AsFd) -> Result<Vec<Message>> {
    // Whoever looked last may have been killed in between.
    set_peek_offset(&socket, 0)?;
    let mut all = Vec::new();
    let looked = loop {
        match receive_with(&socket, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok(Some(message)) => all.push(message),
            Ok(None) | Err(Errno::AGAIN) => break Ok(all),
            Err(e) => break Err(e),
        }
    };
    set_peek_offset(&socket, -1)?;
    looked
}

/// Where the next look begins, in bytes after the begin of the oldest message; with -1 each begins there. socket(7)
/// `SO_PEEK_OFF`; unix(7) sockets of messages have it since Linux 3.4.
fn set_peek_offset(socket: impl AsFd, offset: libc::c_int) -> Result<()> {
    // SAFETY: the option's value is an int, read from a variable of this size that lives during the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEEK_OFF,
            (&raw const offset).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(super::last_errno()),
    }
}

fn receive_with(socket: impl AsFd, flags: RecvFlags) -> Result<Option<Message>> {
    let mut data = [0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut buffers = [IoSliceMut::new(&mut data)];
        recvmsg(
            &socket,
            &mut buffers,
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC | flags,
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
