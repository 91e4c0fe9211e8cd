//! What outlives a supervisor: the pidfds of the pod's containers and the pipes and terminals that they write to.
//!
//! Files on their way through a Unix socket are open as long as the socket is. So the supervisor sends them into a socket
//! whose two ends pause holds as well, and reads them only to sort them out. If it is killed, pause still has them, and
//! with them the kernel has how each container ends (`PIDFD_GET_INFO`, Linux 6.15) and what it writes meanwhile; who takes
//! the pod over gets them by pidfd_getfd(2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::sys::process::Child;
use crate::sys::socket;

/// Whose file, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// The container's index.
    pub container: usize,
    /// The number of its run.
    pub restart: u32,
    /// Which of its files.
    pub file: File,
}

/// A file of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum File {
    /// The pidfd of its first process.
    Process,
    /// Our end of its standard output.
    Stdout,
    /// Our end of its standard error.
    Stderr,
    /// The master end of its terminal, which is all three.
    Terminal,
    /// Our end of its standard input: as long as it is open, that has no end.
    Stdin,
}

/// The socket that they are in.
#[derive(Debug)]
pub struct Kept {
    receive: OwnedFd,
    send: OwnedFd,
}

impl Kept {
    /// An empty one, which pause does not hold yet.
    ///
    /// # Errors
    /// As socketpair(2).
    pub fn new() -> Result<Self> {
        let (receive, send) = socket::pair().context(|| "socketpair")?;
        for end in [&receive, &send] {
            // Nobody may wait here: nobody else would ever read.
            fcntl_getfl(end)
                .and_then(|flags| fcntl_setfl(end, flags | OFlags::NONBLOCK))
                .context(|| "make a socket non-blocking")?;
        }
        Ok(Self { receive, send })
    }

    /// The one that this pause holds; `None` if it holds none, or has ended.
    ///
    /// # Errors
    /// As pidfd_getfd(2).
    pub fn of(pause: &Child) -> Result<Option<Self>> {
        let path = format!("/proc/{}/fd", pause.pid);
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).context(|| format!("read {path}")),
        };
        let mut numbers: Vec<i32> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        numbers.sort_unstable();
        let [receive, send] = numbers[..] else {
            return Ok(None);
        };
        let get = |number| {
            pidfd_getfd(&pause.pidfd, number, PidfdGetfdFlags::empty())
                .context(|| "take what the supervisor before has left with pause")
        };
        let both = get(receive).and_then(|receive| Ok((receive, get(send)?)));
        match both {
            Ok((receive, send)) => Ok(Some(Self { receive, send })),
            // It has just been killed, too.
            Err(e) if e.errno() == Some(libc::ESRCH) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What pause is to hold, in the order of their numbers.
    pub fn ends(&self) -> [BorrowedFd<'_>; 2] {
        [self.receive.as_fd(), self.send.as_fd()]
    }

    /// Puts a file in. That it does not fit is no error: it is only not kept.
    pub fn keep(&self, key: Key, file: BorrowedFd<'_>) {
        if let Err(e) = self.put(key, file) {
            log::debug!("keep {key:?}: {e}");
        }
    }

    fn put(&self, key: Key, file: BorrowedFd<'_>) -> Result<()> {
        socket::send(&self.send, &message(key)?, Some(file)).context(|| "send")
    }

    /// For somebody else who puts a file in: the socket, and what to send with the file.
    ///
    /// # Errors
    /// As dup(2).
    pub fn announce(&self, key: Key) -> Result<(OwnedFd, Vec<u8>)> {
        let socket = self.send.try_clone().context(|| "dup")?;
        Ok((socket, message(key)?))
    }

    /// All of them, oldest first. They stay in: whoever is killed here takes nothing along.
    ///
    /// # Errors
    /// As recvmsg(2).
    pub fn all(&self) -> Result<Vec<(Key, OwnedFd)>> {
        let all = socket::peek_all(&self.receive).context(|| "look at what is kept")?;
        Ok(all.into_iter().filter_map(parse).collect())
    }

    /// Takes those out that are of no use any more. Each of the others goes to the end before it is taken from the beginning,
    /// if there is room for both, so that it is rather in twice than lost.
    ///
    /// # Errors
    /// As recvmsg(2).
    pub fn retain(&self, is_of_use: impl Fn(Key) -> bool) -> Result<()> {
        let step = || "sort out what is kept";
        for message in socket::peek_all(&self.receive).context(step)? {
            let useful = parse(message).filter(|(key, _)| is_of_use(*key));
            let is_in = |(key, file): &(Key, OwnedFd)| self.put(*key, file.as_fd()).is_ok();
            let homeless = useful.filter(|entry| !is_in(entry));
            socket::receive(&self.receive).context(step)?;
            if let Some((key, file)) = homeless {
                self.keep(key, file.as_fd());
            }
        }
        Ok(())
    }
}

fn parse((message, file): socket::Message) -> Option<(Key, OwnedFd)> {
    Some((serde_json::from_slice(&message).ok()?, file?))
}

fn message(key: Key) -> Result<Vec<u8>> {
    serde_json::to_vec(&key).map_err(|e| Error::new(e.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn what_is_kept_stays_open_and_comes_back_in_order() {
        let kept = Kept::new().unwrap();
        let key = |container| Key {
            container,
            restart: 1,
            file: File::Stdout,
        };
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        kept.keep(key(0), reader.as_fd());
        kept.keep(key(1), writer.as_fd());
        kept.keep(key(2), reader.as_fd());
        kept.retain(|key| key.container != 2).unwrap();
        assert_eq!(kept.all().unwrap().len(), 2);
        writer.write_all(b"x").unwrap();
        drop(writer);
        let mut all = kept.all().unwrap();
        assert_eq!(
            all.iter().map(|(k, _)| *k).collect::<Vec<_>>(),
            [key(0), key(1)]
        );
        let (_, kept_writer) = all.pop().unwrap();
        kept.retain(|_| false).unwrap();
        std::fs::File::from(kept_writer).write_all(b"y").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "xy");
        assert!(kept.all().unwrap().is_empty());
    }

    #[test]
    fn a_full_one_blocks_nobody() {
        let kept = Kept::new().unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        for container in 0..5_000 {
            let key = Key {
                container,
                restart: 0,
                file: File::Stderr,
            };
            kept.keep(key, reader.as_fd());
        }
        let all = kept.all().unwrap().len();
        assert!(all > 100);
        kept.retain(|_| true).unwrap();
        assert_eq!(kept.all().unwrap().len(), all);
    }
}
