//! Compiled programs, kept below the state root for the next container with the same profile.
//!
//! A file holds the whole profile and the version of who compiled it, then the program, and is named by a hash of the
//! former, which only finds it: what counts is that the profile in it is the same, byte for byte. Whatever is wrong with the
//! cache makes the start slower and is no error.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, mkdir, openat, unlinkat};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::spec::seccomp::Seccomp;
use crate::sys::seccomp as library;

/// Not a container's: no id has an `@`.
const NAME: &str = "@seccomp";
/// As many profiles are kept; a machine has a few. Beyond, all make room for the next.
const MAX_FILES: usize = 64;
/// In bytes: more than the longest program and the profile of it.
const MAX_SIZE: u64 = 1 << 20;

/// The program of a profile, as `compile` makes it.
///
/// # Errors
/// When it is not there yet and cannot be compiled.
pub(super) fn program(
    profile: &Seccomp,
    root: &Path,
    compile: fn(&Seccomp) -> Result<Vec<u8>>,
) -> Result<Vec<u8>> {
    let key = key(profile)?;
    let name = name(&key);
    let cache = root.join(NAME);
    match read(&cache, &name, &key) {
        Ok(Some(program)) => return Ok(program),
        Ok(None) => {}
        Err(e) => log::debug!("read {}/{name}: {e}", cache.display()),
    }
    let program = compile(profile)?;
    if let Err(e) = write(&cache, &name, &key, &program) {
        log::debug!("write {}/{name}: {e}", cache.display());
    }
    Ok(program)
}

/// What the program depends on, in one line.
fn key(profile: &Seccomp) -> Result<Vec<u8>> {
    let compiled_by = (env!("CARGO_PKG_VERSION"), library::version());
    let mut key = serde_json::to_vec(&(compiled_by, profile))
        .map_err(|e| Error::new(format!("config.json: linux.seccomp: {e}")))?;
    key.push(b'\n');
    Ok(key)
}

fn name(key: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// `None` if it is not there, or is not ours alone to write.
fn read(cache: &Path, name: &str, key: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
    let directory = match open_directory(cache) {
        Err(Errno::NOENT) => return Ok(None),
        directory => directory?,
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(&directory, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::with_capacity(key.len() * 2);
    File::from(file)
        .take(MAX_SIZE)
        .read_to_end(&mut bytes)
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    let program = bytes
        .strip_prefix(key)
        .filter(|program| !program.is_empty() && program.len() % library::INSTRUCTION == 0);
    Ok(program.map(<[u8]>::to_vec))
}

/// The cache, if nobody else can have put anything there.
fn open_directory(cache: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(cache, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&directory)?;
    let is_ours = stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & 0o077 == 0;
    is_ours.then_some(directory).ok_or(Errno::ACCESS)
}

/// In one step: a reader finds nothing or all of it, and a writer that dies leaves nothing.
fn write(cache: &Path, name: &str, key: &[u8], program: &[u8]) -> std::io::Result<()> {
    match mkdir(cache, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        // No container has been made yet: the root is made with the first one's directory.
        Err(Errno::NOENT) => {
            use std::os::unix::fs::DirBuilderExt;
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(cache)?;
        }
        Err(e) => return Err(e.into()),
    }
    let directory = open_directory(cache)?;
    make_room(cache, &directory)?;
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    let file = openat(&directory, ".", flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = File::from(file);
    file.write_all(&[key, program].concat())?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(CWD, path, &directory, name, AtFlags::SYMLINK_FOLLOW) {
        // Somebody else was faster, or a torn one is in the way.
        Err(Errno::EXIST) => Ok(()),
        result => Ok(result?),
    }
}

fn make_room(cache: &Path, directory: &OwnedFd) -> std::io::Result<()> {
    let names: Vec<_> = std::fs::read_dir(cache)?
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    if names.len() >= MAX_FILES {
        for name in names {
            unlinkat(directory, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::compile::compile;
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn profile(errno: u32) -> Seccomp {
        Seccomp {
            default_action: 0x5_0000 | errno,
            architectures: Vec::new(),
            flags: 0,
            rules: Vec::new(),
            listener: None,
        }
    }

    /// The program that the cache gives out, after its file was changed.
    fn after(change: impl FnOnce(&Path)) -> Vec<u8> {
        let root = tempfile::tempdir().unwrap();
        let made = program(&profile(1), root.path(), compile).unwrap();
        let cache = root.path().join(NAME);
        let file = cache.join(name(&key(&profile(1)).unwrap()));
        assert_eq!(
            read(
                &cache,
                file.file_name().unwrap().to_str().unwrap(),
                &key(&profile(1)).unwrap()
            ),
            Ok(Some(made))
        );
        change(&file);
        program(&profile(1), root.path(), compile).unwrap()
    }

    #[test]
    fn what_was_compiled_is_taken_again() {
        // the positive control of the tests below: a program that only the file can have
        let strange = after(|file| {
            let key = key(&profile(1)).unwrap();
            fs::write(file, [&key[..], &[7; 8]].concat()).unwrap();
        });
        assert_eq!(strange, [7; 8]);
    }

    #[test]
    fn what_is_of_another_profile_or_torn_or_not_ours_is_not_taken() {
        let compiled = compile(&profile(1)).unwrap();
        let other = after(|file| {
            let key = key(&profile(2)).unwrap();
            fs::write(file, [&key[..], &[7; 8]].concat()).unwrap();
        });
        assert_eq!(other, compiled);
        let torn = after(|file| {
            let bytes = fs::read(file).unwrap();
            fs::write(file, &bytes[..bytes.len() - 1]).unwrap();
        });
        assert_eq!(torn, compiled);
        let open = after(|file| {
            let key = key(&profile(1)).unwrap();
            fs::write(file, [&key[..], &[7; 8]].concat()).unwrap();
            let all = fs::Permissions::from_mode(0o770);
            fs::set_permissions(file.parent().unwrap(), all).unwrap();
        });
        assert_eq!(open, compiled);
        let link = after(|file| {
            let real = file.with_extension("real");
            let key = key(&profile(1)).unwrap();
            fs::write(&real, [&key[..], &[7; 8]].concat()).unwrap();
            fs::remove_file(file).unwrap();
            std::os::unix::fs::symlink(real, file).unwrap();
        });
        assert_eq!(link, compiled);
    }

    #[test]
    fn the_cache_does_not_grow_for_ever() {
        let root = tempfile::tempdir().unwrap();
        for errno in 1..=MAX_FILES as u32 + 1 {
            program(&profile(errno), root.path(), compile).unwrap();
        }
        assert_eq!(fs::read_dir(root.path().join(NAME)).unwrap().count(), 1);
    }
}
