//! The program that a process becomes: found on the container's PATH, and executed.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::spec::plan::Process;
use crate::sys::process::{StringArray, execve};

/// An image's `/etc/passwd` may be anything, endless too; more of it than this is not read.
const PASSWD_MAX: usize = 1 << 20;

/// A program, found, with its arguments and environment.
#[derive(Debug)]
pub(super) struct Program {
    path: CString,
    args: StringArray,
    env: StringArray,
}

impl Program {
    /// Finds the program of `process`, from inside the container and as its user.
    pub(super) fn find(process: &Process) -> Result<Self> {
        let Some(name) = process.args.first() else {
            return Err(Error::new("process.args is empty"));
        };
        let path = find(name.as_bytes(), variable(process, b"PATH"))?;
        let mut env = process.env.clone();
        if variable(process, b"HOME").is_none() {
            let home = [b"HOME=", home(process.uid).as_bytes()].concat();
            env.extend(CString::new(home));
        }
        Ok(Self {
            path,
            args: StringArray::new(process.args.clone()),
            env: StringArray::new(env),
        })
    }

    /// Becomes the program; returns only why that was not possible.
    pub(super) fn execute(&self) -> Error {
        let errno = execve(&self.path, &self.args, &self.env);
        let error = Error::sys(format!("exec {}", self.path.to_string_lossy()), errno);
        match errno {
            Errno::NOENT => error.hint(
                "the file is there, so its interpreter or dynamic loader is missing in the image",
            ),
            Errno::NOEXEC => {
                error.hint("it is not a program for this machine; does a script lack its #! line?")
            }
            Errno::ACCESS => error.hint("is it executable, and not on a noexec mount?"),
            _ => error,
        }
        .of_program()
    }
}

fn variable<'a>(process: &'a Process, name: &[u8]) -> Option<&'a [u8]> {
    process
        .env
        .iter()
        .filter_map(|entry| entry.as_bytes().strip_prefix(name)?.strip_prefix(b"="))
        .next_back()
}

fn find(name: &[u8], search: Option<&[u8]>) -> Result<CString> {
    let error = |reason: &str, hint: &str| {
        let name = String::from_utf8_lossy(name);
        Error::new(format!("exec {name:?}: {reason}"))
            .hint(hint)
            .of_program()
    };
    if name.contains(&b'/') {
        let path = Path::new(OsStr::from_bytes(name));
        return match executable(path) {
            Ok(()) => c_path(path),
            // As execve(2) says it: callers look for these words.
            Err(Errno::ISDIR) => Err(
                Error::sys(format!("exec {}", path.display()), Errno::ACCESS)
                    .hint("it is a directory")
                    .of_program(),
            ),
            Err(e) => Err(Error::sys(format!("exec {}", path.display()), e)
                .hint("it must be an executable file in the container's root file system")
                .of_program()),
        };
    }
    let Some(search) = search else {
        return Err(error(
            "executable file not found in $PATH",
            "process.env has no PATH: add one, or give the program's full path",
        ));
    };
    let mut denied = false;
    for dir in search.split(|&byte| byte == b':') {
        let dir = if dir.is_empty() { &b"."[..] } else { dir };
        let path = PathBuf::from(OsStr::from_bytes(dir)).join(OsStr::from_bytes(name));
        match executable(&path) {
            Ok(()) => return c_path(&path),
            Err(Errno::ACCESS) => denied = true,
            Err(_) => {}
        }
    }
    let path = String::from_utf8_lossy(search);
    let hint = format!("PATH is {path}; is the program in the image?");
    match denied {
        true => Err(error("permission denied", &hint)),
        false => Err(error("executable file not found in $PATH", &hint)),
    }
}

fn executable(path: &Path) -> rustix::io::Result<()> {
    let stat = rustix::fs::stat(path)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_mode & 0o111 != 0 => Ok(()),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::ACCESS),
    }
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::new("the program's path holds a NUL byte").of_program())
}

/// The home directory of a user by the image's `/etc/passwd`, passwd(5); `/` if it does not say.
fn home(uid: u32) -> CString {
    let passwd = read_passwd().unwrap_or_default();
    home_in(&passwd, uid).unwrap_or_else(|| c"/".into())
}

fn read_passwd() -> rustix::io::Result<Vec<u8>> {
    // Not blocking: it may be a fifo.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // Not through a link of procfs, which could lead out of the container.
    let file = openat2(
        CWD,
        "/etc/passwd",
        flags,
        Mode::empty(),
        ResolveFlags::NO_MAGICLINKS,
    )?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mut text = vec![0; PASSWD_MAX.min(stat.st_size.try_into().unwrap_or(PASSWD_MAX))];
    let length = rustix::io::read(&file, &mut text)?;
    text.truncate(length);
    Ok(text)
}

/// The home directory of a user in the text of a passwd(5); `None` if it has none there.
pub fn home_in(passwd: &[u8], uid: u32) -> Option<CString> {
    let uid = uid.to_string();
    passwd.split(|&byte| byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b':').collect();
        let home = *fields.get(5)?;
        (fields[2] == uid.as_bytes() && !home.is_empty()).then(|| CString::new(home).ok())?
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn home_comes_from_a_well_formed_line_only() {
        let passwd =
            b"root:x:0:0:root:/root:/bin/sh\nbad:x:7\nu:x:1000:1000::/home/u:\nn:x:8:8:::\n";
        assert_eq!(home_in(passwd, 0).as_deref(), Some(c"/root"));
        assert_eq!(home_in(passwd, 1000).as_deref(), Some(c"/home/u"));
        assert_eq!(home_in(passwd, 7), None);
        assert_eq!(home_in(passwd, 8), None);
        assert_eq!(home_in(b"\0:\n:::::", 0), None);
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = find(b"nowhere", Some(b"/bin:/sbin")).unwrap_err();
        assert!(error.is_of_program());
        assert!(
            error
                .to_string()
                .contains("executable file not found in $PATH (PATH is /bin:/sbin")
        );
        assert!(find(b"sh", Some(b"/nowhere:/bin")).is_ok());
        assert!(
            find(b"/bin", None)
                .unwrap_err()
                .to_string()
                .starts_with("exec /bin: EACCES: permission denied (it is a directory)")
        );
    }
}
