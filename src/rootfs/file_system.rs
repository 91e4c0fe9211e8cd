//! New file systems: mounted detached, fsopen(2).

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick,
};

use crate::error::{Context, Error, Result};
use crate::sys::process::leak;

/// `key` or `key=value`, in order.
pub(super) type Parameters = [(CString, Option<CString>)];

/// A new, detached mount of a file system.
pub(super) fn file_system(
    fstype: &CStr,
    source: Option<&CStr>,
    parameters: &Parameters,
    attributes: u64,
) -> Result<BorrowedFd<'static>> {
    let name = || fstype.to_string_lossy().into_owned();
    let context = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)
        .map(leak)
        .map_err(|e| {
            let error = Error::sys(format!("fsopen {}", name()), e);
            match e {
                Errno::NODEV => error.hint("this kernel does not have that file system"),
                _ => error,
            }
        })?;
    if let Some(source) = source {
        fsconfig_set_string(context, c"source", source)
            .map_err(|e| explain(context, "set the source", e))?;
    }
    configure(context, parameters)?;
    fsconfig_create(context).map_err(|e| explain(context, &format!("create {}", name()), e))?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map(leak)
        .context(|| format!("fsmount {}", name()))
}

/// Changes the file system that is mounted at `target`.
pub(super) fn reconfigure(target: BorrowedFd<'_>, parameters: &Parameters) -> Result<()> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    let context = fspick(target, c"", flags).map(leak).context(|| "fspick")?;
    configure(context, parameters)?;
    fsconfig_reconfigure(context).map_err(|e| explain(context, "reconfigure", e))
}

fn configure(context: BorrowedFd<'_>, parameters: &Parameters) -> Result<()> {
    for (key, value) in parameters {
        let set = match value {
            Some(value) => fsconfig_set_string(context, key, value),
            None => fsconfig_set_flag(context, key),
        };
        set.map_err(|e| {
            let value = value.as_ref().map(|v| format!("={}", v.to_string_lossy()));
            let option = format!("{}{}", key.to_string_lossy(), value.unwrap_or_default());
            explain(context, &format!("set option {option:?}"), e)
        })?;
    }
    Ok(())
}

/// A file system says what is wrong with its options in words, which are read from its context (fsopen(2)).
pub(super) fn explain(context: BorrowedFd<'_>, step: &str, errno: Errno) -> Error {
    let error = Error::sys(step, errno);
    let mut buffer = [0; 512];
    match rustix::io::read(context, &mut buffer) {
        Ok(length) => {
            let text = String::from_utf8_lossy(&buffer[..length]);
            // "e " marks an error.
            error.hint(format!(
                "the kernel says: {}",
                text.trim_end().trim_start_matches("e ")
            ))
        }
        Err(_) => error,
    }
}
