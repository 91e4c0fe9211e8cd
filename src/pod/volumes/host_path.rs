//! Paths of the host as volumes: `hostPath.type`.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::pod::plan::HostPathKind;

/// Checks `hostPath.type`, and makes what it says is to be made.
pub(super) fn check(path: &Path, kind: HostPathKind) -> Result<()> {
    let at = |e: std::io::Error| Error::sys(path.display().to_string(), e);
    // As the kubelet, symbolic links are followed: whoever names a path of the host means what is there.
    let found = match fs::metadata(path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(at(e)),
    };
    let is = |test: fn(&fs::FileType) -> bool| found.as_ref().is_some_and(test);
    let (fits, expected) = match kind {
        // The container runtimes make a directory of what is missing.
        HostPathKind::Unchecked | HostPathKind::DirectoryOrCreate if found.is_none() => {
            return make_host_directory(path).map_err(at);
        }
        HostPathKind::FileOrCreate if found.is_none() => return make_host_file(path).map_err(at),
        HostPathKind::Unchecked => return Ok(()),
        HostPathKind::Directory | HostPathKind::DirectoryOrCreate => {
            (is(fs::FileType::is_dir), "directory")
        }
        HostPathKind::File | HostPathKind::FileOrCreate => (is(fs::FileType::is_file), "file"),
        HostPathKind::Socket => (is(FileTypeExt::is_socket), "socket file"),
        HostPathKind::CharDevice => (is(FileTypeExt::is_char_device), "character device"),
        HostPathKind::BlockDevice => (is(FileTypeExt::is_block_device), "block device"),
    };
    if fits {
        return Ok(());
    }
    let error = Error::new(format!(
        "hostPath type check failed: {} is not a {expected}",
        path.display()
    ));
    Err(match found {
        Some(_) => error,
        None => error.hint("nothing is there"),
    })
}

fn make_host_directory(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
}

fn make_host_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    // Not create_new: the kubelet takes it if somebody else was quicker.
    let options = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(path);
    options.map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    #[test]
    fn every_host_path_type_takes_what_it_names_and_nothing_else() {
        use HostPathKind as K;
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("directory")).unwrap();
        fs::write(path("file"), "").unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        symlink("directory", path("link")).unwrap();
        let null = Path::new("/dev/null").to_owned();
        let cases = [
            (K::Directory, path("directory"), None),
            (K::Directory, path("link"), None),
            (K::Directory, path("file"), Some("directory")),
            (K::Directory, path("missing"), Some("directory")),
            (K::DirectoryOrCreate, path("file"), Some("directory")),
            (K::File, path("file"), None),
            (K::File, path("directory"), Some("file")),
            (K::FileOrCreate, path("directory"), Some("file")),
            (K::Socket, path("socket"), None),
            (K::Socket, path("file"), Some("socket file")),
            (K::CharDevice, null.clone(), None),
            (K::CharDevice, path("file"), Some("character device")),
            (K::BlockDevice, null, Some("block device")),
            (K::Unchecked, path("file"), None),
        ];
        for (kind, path, refused) in cases {
            let result = check(&path, kind);
            match refused {
                None => assert!(result.is_ok(), "{kind:?} {}", path.display()),
                Some(expected) => {
                    let text = result.unwrap_err().to_string();
                    let start = format!(
                        "hostPath type check failed: {} is not a {expected}",
                        path.display()
                    );
                    assert!(text.starts_with(&start), "{kind:?}: {text}");
                }
            }
        }
        assert!(!path("missing").exists());
    }

    #[test]
    fn what_is_missing_is_made_where_the_type_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b, c) = (
            dir.path().join("a/b"),
            dir.path().join("file"),
            dir.path().join("c"),
        );
        check(&a, HostPathKind::DirectoryOrCreate).unwrap();
        check(&b, HostPathKind::FileOrCreate).unwrap();
        check(&c, HostPathKind::Unchecked).unwrap();
        assert!(a.is_dir() && b.is_file() && c.is_dir());
    }
}
