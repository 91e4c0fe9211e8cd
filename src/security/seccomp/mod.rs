//! Filters of system calls: compiled before anything exists, loaded by the process that executes the program.

mod bounded;
mod cache;
mod compile;
mod enosys;
#[cfg(test)]
mod evaluate;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::spec::seccomp::{Listener, Seccomp};
use crate::sys::seccomp as kernel;

/// A compiled profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// `struct sock_filter`, one after the other.
    program: Vec<u8>,
    settings: Settings,
}

/// What goes with the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Settings {
    flags: u32,
    listener: Option<Listener>,
}

impl Filter {
    /// Compiles a profile, or takes what was compiled of the same one before: the default profile of Docker takes 24 ms, a
    /// container 4. `root` is the directory of the state of all containers.
    ///
    /// # Errors
    /// When libseccomp refuses a rule, or the program is too large for the kernel.
    pub fn of(profile: &Seccomp, root: &Path) -> Result<Self> {
        let program = cache::program(profile, root, bounded::compile)?;
        Ok(Self::with(profile, program))
    }

    /// Compiles a profile that is trusted: in this process, however long it takes.
    ///
    /// # Errors
    /// As [`Filter::of`].
    pub fn new(profile: &Seccomp) -> Result<Self> {
        Ok(Self::with(profile, compile::compile(profile)?))
    }

    fn with(profile: &Seccomp, program: Vec<u8>) -> Self {
        let mut flags = profile.flags;
        if profile.listener.is_some() {
            flags |= kernel::NEW_LISTENER;
        }
        Self {
            program,
            settings: Settings {
                flags,
                listener: profile.listener.clone(),
            },
        }
    }

    /// Who is to be told of the descriptor that [`Filter::load`] returns.
    pub fn listener(&self) -> Option<&Listener> {
        self.settings.listener.as_ref()
    }

    /// Puts this process under the filter, for good. With a listener, its descriptor is returned.
    ///
    /// # Errors
    /// As seccomp(2).
    pub fn load(&self) -> Result<Option<OwnedFd>> {
        kernel::load(&self.program, self.settings.flags).map_err(|e| {
            let error = Error::sys("load the filter of linux.seccomp", e);
            match e {
                Errno::ACCESS => error.hint(
                    "without process.noNewPrivileges it needs CAP_SYS_ADMIN in the container's user namespace",
                ),
                Errno::BUSY => error.hint("the process has a listener already: a process can have one"),
                _ => error,
            }
        })
    }

    /// As a file, from which an exec takes the filter again.
    ///
    /// # Errors
    /// None that can happen to a valid listener.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes =
            serde_json::to_vec(&self.settings).map_err(|e| Error::new(format!("seccomp: {e}")))?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&self.program);
        Ok(bytes)
    }

    /// From what [`Filter::to_bytes`] wrote.
    ///
    /// # Errors
    /// When it is torn.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let step = || "read the container's seccomp filter";
        let torn = || Error::new(step()).hint("the file is torn: create the container again");
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let (settings, program) = end
            .map(|end| (&bytes[..end], &bytes[end + 1..]))
            .ok_or_else(torn)?;
        if program.is_empty() || program.len() % kernel::INSTRUCTION != 0 {
            return Err(torn());
        }
        let settings = serde_json::from_slice(settings)
            .map_err(|e| Error::new(e.to_string()))
            .context(step)?;
        Ok(Self {
            program: program.to_vec(),
            settings,
        })
    }
}
