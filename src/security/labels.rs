//! Labels of the security modules: an AppArmor profile, an SELinux context.
//!
//! They are set through files of procfs. Which one that is, the host says: it is opened before the process leaves the host's
//! mounts, and is checked to be on procfs, as an image could have something else there (CVE-2019-16884,
//! CVE-2023-28642).

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::spec::plan::Process;

/// linux/magic.h.
const PROC_MAGIC: libc::__fsword_t = 0x9fa0;
const SELINUX_MAGIC: libc::__fsword_t = 0xf97c_ff8c;

/// The files of this process in which its labels are set, open.
#[derive(Debug, Default)]
pub struct Labels {
    apparmor: Option<OwnedFd>,
    selinux: Option<OwnedFd>,
}

/// Refuses labels that this machine cannot set, before anything is made. `mount_label`: mounts have a context.
///
/// # Errors
/// With the field and the module that is not enabled.
pub fn check(process: &Process, mount_label: bool) -> Result<()> {
    let mut errors = Vec::new();
    if process.apparmor_profile.is_some() && !has_apparmor() {
        errors.push(
            Error::new("process.apparmorProfile: AppArmor is not enabled on this machine")
                .hint("boot with apparmor=1 security=apparmor, or leave it out"),
        );
    }
    let selinux = [
        ("process.selinuxLabel", process.selinux_label.is_some()),
        ("linux.mountLabel", mount_label),
    ];
    for (field, _) in selinux.iter().filter(|(_, asked)| *asked) {
        if !has_selinux() {
            errors.push(
                Error::new(format!("{field}: SELinux is not enabled on this machine"))
                    .hint("leave it out"),
            );
        }
    }
    Error::all("config.json", errors)
}

/// Whether the kernel enforces AppArmor profiles.
pub fn has_apparmor() -> bool {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    enabled.is_ok_and(|enabled| enabled.starts_with('Y'))
}

/// Whether SELinux is there: its file system is mounted.
pub fn has_selinux() -> bool {
    rustix::fs::statfs("/sys/fs/selinux").is_ok_and(|fs| fs.f_type == SELINUX_MAGIC)
}

impl Labels {
    /// Opens the files, as long as `/proc` is the host's. Nothing is opened that is not asked for.
    ///
    /// # Errors
    /// When there is no such file, or it is not on procfs.
    pub fn open(process: &Process) -> Result<Self> {
        let open = |asked: bool, names: &[&str]| asked.then(|| open_first(names)).transpose();
        Ok(Self {
            // Linux before 5.1 had one for all modules.
            apparmor: open(
                process.apparmor_profile.is_some(),
                &["apparmor/exec", "exec"],
            )?,
            selinux: open(process.selinux_label.is_some(), &["exec"])?,
        })
    }

    /// The descriptors.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let both = [&self.apparmor, &self.selinux];
        both.into_iter().flatten().map(AsRawFd::as_raw_fd)
    }

    /// Sets the labels that the next program gets.
    ///
    /// # Errors
    /// When the module does not know the profile, or its policy forbids the context.
    pub fn set(&self, process: &Process) -> Result<()> {
        if let (Some(file), Some(profile)) = (&self.apparmor, &process.apparmor_profile) {
            let step = || format!("set process.apparmorProfile {}", profile.to_string_lossy());
            let command = [b"exec ", profile.as_bytes()].concat();
            write(file.as_fd(), &command).map_err(|e| match e {
                Errno::NOENT => Error::sys(step(), e)
                    .hint("load the profile with apparmor_parser before the container starts"),
                e => Error::sys(step(), e),
            })?;
        }
        if let (Some(file), Some(label)) = (&self.selinux, &process.selinux_label) {
            write(file.as_fd(), label.as_bytes()).map_err(|e| explain_context(label, "", e))?;
        }
        Ok(())
    }
}

/// Gives the keys that this process makes the context of the container's: otherwise its programs could not use their own
/// session keyring. It holds until execve(2).
///
/// # Errors
/// When the policy forbids the context.
pub fn label_keyring(process: &Process) -> Result<()> {
    let Some(label) = &process.selinux_label else {
        return Ok(());
    };
    open(Path::new("/proc/thread-self/attr/keycreate"))
        .and_then(|file| write(file.as_fd(), label.as_bytes()))
        .map_err(|e| explain_context(label, " for the session keyring", e))
}

fn explain_context(label: &CStr, of: &str, errno: Errno) -> Error {
    let label = label.to_string_lossy();
    let error = Error::sys(format!("set process.selinuxLabel {label}{of}"), errno);
    match errno {
        Errno::INVAL => error.hint("the policy that is loaded does not have that context"),
        _ => error,
    }
}

fn open_first(names: &[&str]) -> Result<OwnedFd> {
    let mut last = Errno::NOENT;
    for name in names {
        match open(&Path::new("/proc/thread-self/attr").join(name)) {
            Ok(file) => return Ok(file),
            Err(e) => last = e,
        }
    }
    Err(Error::sys("open /proc/thread-self/attr/exec", last)
        .hint("is /proc mounted, and a procfs?"))
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
    match rustix::fs::fstatfs(&file)?.f_type {
        PROC_MAGIC => Ok(file),
        _ => Err(Errno::XDEV),
    }
}

fn write(file: BorrowedFd<'_>, text: &[u8]) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::io::write(file, text)).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_file_of_procfs_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let fake = dir.path().join("exec");
        std::fs::write(&fake, "").unwrap();
        assert_eq!(open(&fake).unwrap_err(), Errno::XDEV);
        assert!(open(Path::new("/proc/thread-self/attr/exec")).is_ok());
    }
}
