//! Users and groups as an image's `/etc/passwd` and `/etc/group` have them: passwd(5), group(5).
//!
//! As containerd: a user without a given group has the one that `/etc/passwd` says, else 0; and is in the groups that
//! `/etc/group` lists it in, unless `supplementalGroupsPolicy` is `Strict`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags};

use crate::sys::path;

/// More than this is read of no image's file, in bytes.
const MOST: u64 = 1 << 20;

/// The texts of images, each read once: the containers of a pod often have the same image.
#[derive(Debug, Default)]
pub(super) struct Texts(RefCell<BTreeMap<PathBuf, Rc<str>>>);

impl Texts {
    /// A text in an image; nothing if it cannot be read, or is no file.
    pub(super) fn read(&self, root: &Path, file: &str) -> Rc<str> {
        let mut texts = self.0.borrow_mut();
        let text = texts
            .entry(root.join(file.trim_start_matches('/')))
            .or_insert_with(|| read(root, file).into());
        Rc::clone(text)
    }
}

fn read(root: &Path, file: &str) -> String {
    let mut text = Vec::new();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(root, flags, Mode::empty())
        .and_then(|root| path::open(&root, Path::new(file), OFlags::RDONLY | OFlags::NONBLOCK));
    let file = opened.map(std::fs::File::from).ok();
    let file = file.filter(|file| file.metadata().is_ok_and(|m| m.is_file()));
    let read = file.map(|file| file.take(MOST).read_to_end(&mut text));
    match read {
        Some(Ok(_)) => String::from_utf8_lossy(&text).into_owned(),
        _ => String::new(),
    }
}

/// The name and the group of a user in the text of `/etc/passwd`.
pub(super) fn user(passwd: &str, uid: u32) -> Option<(&str, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (id, group) = (fields.nth(1)?, fields.next()?);
        (id.parse() == Ok(uid)).then_some((name, group.parse().ok()?))
    })
}

/// The groups in the text of `/etc/group` that a user is in.
pub(super) fn groups(group: &str, name: &str) -> Vec<u32> {
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        let id = fields.nth(2)?.parse().ok()?;
        let mut members = fields.next()?.split(',');
        members.any(|member| member.trim() == name).then_some(id)
    };
    group.lines().filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_group_and_groups_of_the_files() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad\nweb:x:33:34::/:\nweb2:x:33:35::/:\n";
        assert_eq!(user(passwd, 33), Some(("web", 34)));
        assert_eq!(user(passwd, 0), Some(("root", 0)));
        assert_eq!(user(passwd, 1), None);
        let group =
            "root:x:0:root\nadm:x:4:root,web\nnone:x:5:\nweb:x:34:\nx:x:y:web\nlog:x:6:web2, web\n";
        assert_eq!(groups(group, "web"), [4, 6]);
        assert_eq!(groups(group, "root"), [0, 4]);
    }

    #[test]
    fn what_is_no_file_is_nothing() {
        assert_eq!(read(Path::new("/"), "/dev/zero"), "");
        assert_eq!(read(Path::new("/"), "/etc"), "");
        assert_eq!(read(Path::new("/nosuch"), "/etc/passwd"), "");
        assert!(read(Path::new("/"), "/etc/passwd").contains("root:"));
    }
}
