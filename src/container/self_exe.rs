//! runp's own binary, out of the containers' reach (CVE-2019-5736).
//!
//! A container can make its runtime open or execute `/proc/self/exe`: through a script whose interpreter that is, or by
//! watching an exec join. What it gets hold of then must not be a file that it can write. So runp executes itself once
//! more from a detached, read-only bind mount of its binary: opening that for writing fails with EROFS, the mount is in
//! no namespace where it could be made writable, and nothing is copied. That is the first thing that runp does at all
//! ([`crate::sys::start`]); here is what `main` sees to: that it was done, or, where that mount is not allowed (no
//! CAP_SYS_ADMIN), that the program runs from a sealed copy in memory.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{MemfdFlags, SealFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::error::{Context, Error, Result};
use crate::sys::process::{StringArray, execveat};

const SELF: &str = "/proc/self/exe";
const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::GROW)
    .union(SealFlags::SHRINK)
    .union(SealFlags::SEAL);

/// Makes sure that this process's binary cannot be written through the process, by executing it again if need be, and
/// that nobody in a container may look into the process while it joins it.
///
/// # Errors
/// When the binary can neither be mounted nor copied, or not be executed.
pub fn seal() -> Result<()> {
    if !is_sealed()? {
        let copy = sealed_copy().context(|| "protect runp's own binary")?;
        return Err(execute_again(copy));
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context(|| "prctl PR_SET_DUMPABLE")
}

/// On our own read-only mount, or a memfd with all its seals.
fn is_sealed() -> Result<bool> {
    let stat = rustix::fs::statfs(SELF).context(|| format!("statfs {SELF}"))?;
    if stat.f_flags as u64 & StatVfsMountFlags::RDONLY.bits() != 0 {
        // A read-only file system of the host can be made writable again at any time. Our own mount is that of a file, and in no
        // namespace: the way to it from its root is "/", which no file's path is anywhere else.
        let path = rustix::fs::readlink(SELF, Vec::new()).context(|| format!("readlink {SELF}"))?;
        return Ok(path.as_c_str() == c"/");
    }
    // A memfd is a file of tmpfs.
    if stat.f_type != libc::TMPFS_MAGIC {
        return Ok(false);
    }
    let exe = std::fs::File::open(SELF).context(|| format!("open {SELF}"))?;
    Ok(rustix::fs::fcntl_get_seals(&exe).is_ok_and(|seals| seals.contains(SEALS)))
}

fn sealed_copy() -> rustix::io::Result<OwnedFd> {
    let copy = rustix::fs::memfd_create("runp", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut to = std::fs::File::from(copy);
    std::fs::File::open(SELF)
        .and_then(|mut from| io::copy(&mut from, &mut to))
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    rustix::fs::fcntl_add_seals(&to, SEALS)?;
    Ok(to.into())
}

fn execute_again(exe: OwnedFd) -> Error {
    let strings = |values: Vec<std::ffi::OsString>| {
        let values = values
            .into_iter()
            .map(|value| CString::new(value.into_vec()));
        values.collect::<std::result::Result<Vec<_>, _>>()
    };
    let environment = std::env::vars_os().map(|(mut name, value)| {
        name.push(OsStr::new("="));
        name.push(value);
        name
    });
    let both = strings(std::env::args_os().collect())
        .and_then(|args| Ok((args, strings(environment.collect())?)));
    match both {
        Ok((args, env)) => {
            let errno = execveat(
                exe.as_fd(),
                c"",
                &StringArray::new(args),
                &StringArray::new(env),
            );
            Error::sys("execute runp's own binary again", errno)
        }
        Err(e) => Error::new(format!("execute runp's own binary again: {e}")),
    }
}
