//! The one error shape of runp: a chain of steps, the kernel's reason, and a hint what to do.
//!
//! Lower layers return it and do not print it; it is printed once, by `main`. It is serialisable because the
//! container's first process sends it whole to its parent, which reports it as its own.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The result of everything in runp that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong: which steps, with which value, why, and what to do.
///
/// Written as `step: step: reason (hint)`, lower case, without a full stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// Innermost step last: `["create container \"c\"", "mount proc on /proc"]`.
    steps: Vec<String>,
    errno: Option<i32>,
    hint: Option<String>,
    program: bool,
}

impl Error {
    /// An error that the kernel had no part in.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            steps: vec![what.into()],
            errno: None,
            hint: None,
            program: false,
        }
    }

    /// A system call that failed: `what` is the verb and its object, `errno` the kernel's reason.
    pub fn sys(what: impl Into<String>, errno: impl Into<Errno>) -> Self {
        let error = Self {
            errno: Some(errno.into().0),
            ..Self::new(what)
        };
        match error.errno {
            Some(libc::ENOSYS) => error.hint(
                "runp needs Linux 6.1, and in a container a seccomp profile that allows its system calls",
            ),
            _ => error,
        }
    }

    /// Many errors of one input as one: each on a line of its own.
    ///
    /// Returns `Ok` if there are none.
    pub fn all(what: impl Into<String>, errors: Vec<Error>) -> Result<()> {
        let what = what.into();
        match errors.as_slice() {
            [] => Ok(()),
            [only] => Err(only.clone().step(what)),
            many => {
                let lines: Vec<String> = many.iter().map(|e| format!("\n  {e}")).collect();
                Err(Error::new(format!(
                    "{what}: {} errors:{}",
                    many.len(),
                    lines.concat()
                )))
            }
        }
    }

    /// Says what to do about it. Against a system call that the kernel does not have, no other advice helps.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if self.errno != Some(libc::ENOSYS) || self.hint.is_none() {
            self.hint = Some(hint.into());
        }
        self
    }

    /// Says that everything was made and only the container's program could not be executed.
    #[must_use]
    pub fn of_program(mut self) -> Self {
        self.program = true;
        self
    }

    /// Whether only the container's program could not be executed.
    pub fn is_of_program(&self) -> bool {
        self.program
    }

    /// Puts the step in which this happened in front.
    #[must_use]
    pub fn step(mut self, step: impl Into<String>) -> Self {
        self.steps.insert(0, step.into());
        self
    }

    /// Appends what went wrong while cleaning up after this error; the cause stays first.
    #[must_use]
    pub fn and_cleanup(mut self, cleanup: Result<()>) -> Self {
        if let Err(e) = cleanup {
            let also = format!("cleaning up also failed: {e}");
            self.hint = Some(match self.hint.take() {
                Some(hint) => format!("{hint}; {also}"),
                None => also,
            });
        }
        self
    }

    /// The kernel's error number, if the kernel said no.
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.steps.join(": "))?;
        if let Some(errno) = self.errno {
            write!(f, ": {}", Errno(errno))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// A kernel error number that prints as `ENOENT: No such file or directory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errno = nix::errno::Errno::from_raw(self.0);
        write!(f, "{errno:?}: {}", as_in_go(errno.desc()))
    }
}

/// `Permission denied` as Go writes it, without the capital: Docker looks for it and chooses its exit status by it.
fn as_in_go(reason: &str) -> String {
    let is_word = reason.chars().nth(1).is_some_and(char::is_lowercase);
    let length = usize::from(is_word && reason.is_char_boundary(1));
    reason[..length].to_lowercase() + &reason[length..]
}

impl From<rustix::io::Errno> for Errno {
    fn from(e: rustix::io::Errno) -> Self {
        Self(e.raw_os_error())
    }
}

impl From<nix::errno::Errno> for Errno {
    fn from(e: nix::errno::Errno) -> Self {
        Self(e as i32)
    }
}

impl From<std::io::Error> for Errno {
    fn from(e: std::io::Error) -> Self {
        Self(e.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// Names the failed step of a system call or of an inner result.
pub trait Context<T> {
    /// Says what was being done: verb and object, made only when it failed.
    ///
    /// # Errors
    /// The receiver's own, with the step in front.
    fn context<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| e.step(step()))
    }
}

macro_rules! context_for_errno {
    ($($source:ty),*) => {$(
        impl<T> Context<T> for std::result::Result<T, $source> {
            fn context<S: Into<String>>(self, step: impl FnOnce() -> S) -> Result<T> {
                self.map_err(|e| Error::sys(step(), e))
            }
        }
    )*};
}
context_for_errno!(rustix::io::Errno, nix::errno::Errno, std::io::Error);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_steps_reason_and_hint() {
        let error = Error::sys("mount proc on /proc", rustix::io::Errno::PERM)
            .step("create container \"c\"")
            .hint("is /proc masked in the outer container?");
        assert_eq!(
            error.to_string(),
            "create container \"c\": mount proc on /proc: EPERM: operation not permitted (is /proc masked in the outer container?)"
        );
    }

    #[test]
    fn reasons_are_as_in_go() {
        assert_eq!(as_in_go("Permission denied"), "permission denied");
        assert_eq!(as_in_go("I/O error"), "I/O error");
        assert_eq!(as_in_go(""), "");
    }

    #[test]
    fn a_cleanup_error_never_replaces_the_cause() {
        let error = Error::new("clone").and_cleanup(Err(Error::new("remove cgroup /x")));
        assert_eq!(
            error.to_string(),
            "clone (cleaning up also failed: remove cgroup /x)"
        );
    }

    #[test]
    fn many_errors_are_told_at_once() {
        assert!(Error::all("config.json", vec![]).is_ok());
        let error = Error::all("config.json", vec![Error::new("a"), Error::new("b")]);
        assert_eq!(
            error.unwrap_err().to_string(),
            "config.json: 2 errors:\n  a\n  b"
        );
    }
}
