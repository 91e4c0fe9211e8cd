//! `fsGroup`: a volume's group, and what it may do.
//!
//! Source: `pkg/volume/volume_linux.go` of Kubernetes.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, chmod, chownat, fstat};

use crate::pod::plan::FsGroup;
use crate::pod::tree;

/// New files in such a directory belong to its group.
const SET_GID: u32 = 0o2000;

/// Gives everything in the volume to the group; the root last, so that it tells whether all is done.
pub(super) fn apply(volume: &OwnedFd, group: FsGroup) -> rustix::io::Result<()> {
    let root = fstat(volume)?;
    if group.on_root_mismatch && is_given(&root, group) {
        return Ok(());
    }
    tree::walk_handles(volume, |file| give(file, &fstat(file)?, group))?;
    give(volume, &root, group)
}

fn is_given(root: &Stat, group: FsGroup) -> bool {
    let wanted = SET_GID | rights(group, true);
    root.st_gid == group.gid && root.st_mode & wanted == wanted
}

fn rights(group: FsGroup, is_directory: bool) -> u32 {
    let rights = if group.read_only { 0o440 } else { 0o660 };
    match is_directory {
        true => rights | 0o110,
        false => rights,
    }
}

fn give(file: &OwnedFd, stat: &Stat, group: FsGroup) -> rustix::io::Result<()> {
    let gid = Some(Gid::from_raw(group.gid));
    chownat(file, "", None, gid, AtFlags::EMPTY_PATH)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::Symlink {
        return Ok(());
    }
    let is_directory = kind == FileType::Directory;
    let set_gid = if is_directory { SET_GID } else { 0 };
    let mode = stat.st_mode & 0o7777 | rights(group, is_directory) | set_gid;
    // The handle's own name: fchmod(2) does not take an O_PATH one.
    let name = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    chmod(name, Mode::from_raw_mode(mode))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn group(read_only: bool, on_root_mismatch: bool) -> FsGroup {
        FsGroup {
            gid: fs::metadata("/proc/self").unwrap().gid(),
            read_only,
            on_root_mismatch,
        }
    }

    fn volume() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f"), "").unwrap();
        fs::set_permissions(dir.path().join("d"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(dir.path().join("d/f"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("d/f", dir.path().join("link")).unwrap();
        let open = OwnedFd::from(fs::File::open(dir.path()).unwrap());
        (dir, open)
    }

    fn mode(dir: &tempfile::TempDir, path: &str) -> u32 {
        fs::metadata(dir.path().join(path)).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_group_may_write_or_only_read() {
        for (read_only, modes) in [
            (false, [0o2775, 0o2770, 0o660]),
            (true, [0o2755, 0o2750, 0o640]),
        ] {
            let (dir, open) = volume();
            apply(&open, group(read_only, false)).unwrap();
            assert_eq!(["", "d", "d/f"].map(|path| mode(&dir, path)), modes);
        }
    }

    #[test]
    fn a_root_that_is_right_stands_for_the_rest_if_asked_for() {
        let (dir, open) = volume();
        apply(&open, group(false, true)).unwrap();
        assert_eq!(mode(&dir, "d/f"), 0o660);
        fs::set_permissions(dir.path().join("d/f"), fs::Permissions::from_mode(0o600)).unwrap();
        apply(&open, group(false, true)).unwrap();
        assert_eq!(mode(&dir, "d/f"), 0o600);
        apply(&open, group(false, false)).unwrap();
        assert_eq!(mode(&dir, "d/f"), 0o660);
    }
}
