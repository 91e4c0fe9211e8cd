//! Messages to and from the kernel about network interfaces, rtnetlink(7). Every length is checked, both ways.

use std::os::fd::OwnedFd;

use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// More than the kernel puts into one datagram, which is a page or 32 KiB.
const DATAGRAM: usize = 1 << 16;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
const ALIGNMENT: usize = 4;
const SEQUENCE: u32 = 1;

/// A socket in the network namespace that its maker was in.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// To be done, or told.
    One,
    /// Everything of its kind.
    All,
    /// A new thing, which must not be there.
    New,
}

impl Netlink {
    /// A socket of the caller's network namespace.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open() -> Result<Self> {
        socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // Protocol 0: NETLINK_ROUTE.
            None,
        )
        .map(Self)
    }

    /// Sends a request of the type `kind` (`RTM_*`) and returns the bodies of all answers.
    ///
    /// # Errors
    /// What the kernel answers, `EMSGSIZE` for a body that is too long, `EPROTO` for an answer that is cut off.
    pub fn request(&self, kind: u16, ask: Ask, body: &Body) -> Result<Vec<Vec<u8>>> {
        let flags = libc::NLM_F_REQUEST
            | match ask {
                Ask::One => libc::NLM_F_ACK,
                Ask::All => libc::NLM_F_DUMP,
                Ask::New => libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL,
            };
        let length = u32::try_from(HEADER + body.0.len()).map_err(|_| Errno::MSGSIZE)?;
        let mut message = Vec::with_capacity(HEADER + body.0.len());
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags as u16).to_ne_bytes());
        message.extend(SEQUENCE.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(&body.0);
        send(&self.0, &message, SendFlags::empty())?;
        self.answers()
    }

    fn answers(&self) -> Result<Vec<Vec<u8>>> {
        let mut answers = Vec::new();
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let (_, length) = recv(&self.0, &mut buffer[..], RecvFlags::TRUNC)?;
            let datagram = buffer.get(..length).ok_or(Errno::PROTO)?;
            for message in Records::new(datagram, Head::Message) {
                let (kind, body) = message?;
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(answers),
                    libc::NLMSG_ERROR => {
                        return match i32::from_ne_bytes(first(body)?) {
                            0 => Ok(answers),
                            errno => Err(Errno::from_raw_os_error(-errno)),
                        };
                    }
                    _ => answers.push(body.to_vec()),
                }
            }
        }
    }
}

/// The body of a request: a fixed part and attributes.
#[derive(Debug, Clone, Default)]
pub struct Body(Vec<u8>);

impl Body {
    /// `struct ifinfomsg`: an interface by its index, or by its name in an attribute with index 0. `flags` are set as far as
    /// they are in `change`.
    pub fn of_link(index: u32, flags: u32, change: u32) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(index.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(change.to_ne_bytes());
        Self(bytes)
    }

    /// `struct ifaddrmsg`: an address of the interface with this index.
    pub fn of_address(family: u8, prefix: u8, index: u32) -> Self {
        let mut bytes = vec![family, prefix, 0, 0];
        bytes.extend(index.to_ne_bytes());
        Self(bytes)
    }

    /// Appends an attribute, `struct rtattr`.
    ///
    /// # Errors
    /// `EMSGSIZE` when its length does not fit.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Result<Self> {
        let length = u16::try_from(value.len() + 4).map_err(|_| Errno::MSGSIZE)?;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT), 0);
        Ok(self)
    }
}

/// `struct ifinfomsg` of an answer: the interface's index and flags.
///
/// # Errors
/// `EPROTO` when it is too short.
pub fn link(answer: &[u8]) -> Result<(u32, u32)> {
    let field = |at| answer.get(at..).ok_or(Errno::PROTO).and_then(first);
    Ok((u32::from_ne_bytes(field(4)?), u32::from_ne_bytes(field(8)?)))
}

/// An address of an interface, as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// How many bits of it are the network's.
    pub prefix: u8,
    /// `IFA_F_*`.
    pub flags: u32,
    /// `RT_SCOPE_*`.
    pub scope: u8,
    /// Of which interface.
    pub index: u32,
    /// `IFA_LOCAL`, `IFA_ADDRESS` and `IFA_BROADCAST`, as far as it has them.
    pub attributes: Vec<(u16, Vec<u8>)>,
}

/// `struct ifaddrmsg` and its attributes.
///
/// # Errors
/// `EPROTO` when it is cut off.
pub fn address(answer: &[u8]) -> Result<Address> {
    let [family, prefix, flags, scope] = first(answer)?;
    let index = u32::from_ne_bytes(first(answer.get(4..).ok_or(Errno::PROTO)?)?);
    let mut address = Address {
        family,
        prefix,
        flags: flags.into(),
        scope,
        index,
        attributes: Vec::new(),
    };
    for attribute in Records::new(answer.get(8..).ok_or(Errno::PROTO)?, Head::Attribute) {
        let (kind, value) = attribute?;
        match kind {
            libc::IFA_FLAGS => address.flags = u32::from_ne_bytes(first(value)?),
            libc::IFA_LOCAL | libc::IFA_ADDRESS | libc::IFA_BROADCAST => {
                address.attributes.push((kind, value.to_vec()));
            }
            _ => {}
        }
    }
    Ok(address)
}

fn first<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes.first_chunk().copied().ok_or(Errno::PROTO)
}

/// How a record begins.
#[derive(Clone, Copy)]
enum Head {
    /// `struct nlmsghdr`: length in 4 bytes, type in 2, and 10 bytes that say nothing here.
    Message,
    /// `struct rtattr`: length and type, 2 bytes each.
    Attribute,
}

/// Records one after the other, each with its length in front, each at a multiple of [`ALIGNMENT`].
struct Records<'a> {
    rest: &'a [u8],
    head: Head,
}

impl<'a> Records<'a> {
    fn new(bytes: &'a [u8], head: Head) -> Self {
        Self { rest: bytes, head }
    }

    fn take(&mut self) -> Result<(u16, &'a [u8])> {
        let (size, length, kind) = match self.head {
            Head::Message => {
                let length = u32::from_ne_bytes(first(self.rest)?);
                let kind = first(self.rest.get(4..).unwrap_or_default())?;
                (HEADER, length as usize, kind)
            }
            Head::Attribute => {
                let length = u16::from_ne_bytes(first(self.rest)?);
                let kind = first(self.rest.get(2..).unwrap_or_default())?;
                (4, usize::from(length), kind)
            }
        };
        let value = self.rest.get(size..length).ok_or(Errno::PROTO)?;
        let next = length.next_multiple_of(ALIGNMENT).min(self.rest.len());
        self.rest = &self.rest[next..];
        Ok((u16::from_ne_bytes(kind), value))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(u16, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let taken = self.take();
        if taken.is_err() {
            // What comes after it cannot be found.
            self.rest = &[];
        }
        Some(taken)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found() {
        let netlink = Netlink::open().unwrap();
        let request = Body::of_link(0, 0, 0)
            .attribute(libc::IFLA_IFNAME, b"lo\0")
            .unwrap();
        let answers = netlink
            .request(libc::RTM_GETLINK, Ask::One, &request)
            .unwrap();
        let (index, flags) = link(&answers[0]).unwrap();
        assert_eq!(index, 1);
        assert_ne!(flags & libc::IFF_LOOPBACK as u32, 0);
        let none = Body::of_link(0, 0, 0)
            .attribute(libc::IFLA_IFNAME, b"no such\0")
            .unwrap();
        let answer = netlink.request(libc::RTM_GETLINK, Ask::One, &none);
        assert_eq!(answer.unwrap_err(), Errno::NODEV);
    }

    #[test]
    fn an_address_is_read_back_from_what_is_written() {
        let written = Body::of_address(2, 24, 7)
            .attribute(libc::IFA_LOCAL, &[10, 0, 0, 1])
            .and_then(|body| body.attribute(libc::IFA_LABEL, b"odd\0\0"))
            .and_then(|body| body.attribute(libc::IFA_FLAGS, &0x80_u32.to_ne_bytes()))
            .unwrap();
        let read = address(&written.0).unwrap();
        let expected = Address {
            family: 2,
            prefix: 24,
            flags: 0x80,
            scope: 0,
            index: 7,
            attributes: vec![(libc::IFA_LOCAL, vec![10, 0, 0, 1])],
        };
        assert_eq!(read, expected);
        for length in 0..written.0.len() {
            // Cut off anywhere: an error, or what came before, and never a panic.
            let _ = address(&written.0[..length]);
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        assert_eq!(
            Body::default().attribute(1, &[0; 70_000]).unwrap_err(),
            Errno::MSGSIZE
        );
        for bytes in [
            &[3, 0, 1, 0][..],
            &[200, 0, 1, 0, 0],
            &[0, 0, 0, 0],
            &[4],
            &[8, 0, 1, 0, 1],
        ] {
            let mut records = Records::new(bytes, Head::Attribute);
            assert_eq!(
                records.next().unwrap().unwrap_err(),
                Errno::PROTO,
                "{bytes:?}"
            );
            assert!(records.next().is_none());
        }
    }
}
