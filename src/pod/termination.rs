//! What a container says of its own end: `terminationMessagePath`, `terminationMessagePolicy`.
//!
//! Every run gets an empty file, bound to that path. What is in it when the run has ended is its termination message.

use std::fs::{File, Permissions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::logs;
use super::plan::ContainerPlan;
use super::volumes::labels;
use crate::error::{Context, Result};

/// The kubelet's limits, in bytes: of one message, and of all messages of a pod.
const MOST: u64 = 4096;
const MOST_OF_POD: u64 = 12 << 10;
/// What `FallbackToLogsOnError` takes of the log.
const LINES: usize = 80;
const LOG: usize = 2048;

/// Where a container leaves its message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TerminationPlan {
    /// In the container, absolute; `None` if there is to be no such file.
    pub path: Option<PathBuf>,
    /// `FallbackToLogsOnError`.
    pub log_instead: bool,
}

/// The file in the container's data directory.
fn file(dir: &Path) -> PathBuf {
    dir.join("termination-log")
}

/// Makes the empty file of a new run. What is returned is a detached mount of it.
///
/// # Errors
/// When the file cannot be made.
pub fn make(container: &ContainerPlan, dir: &Path) -> Result<Option<OwnedFd>> {
    if container.termination.path.is_none() {
        return Ok(None);
    }
    let source = file(dir);
    let step = || format!("make {}", source.display());
    let made = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&source)
        .context(step)?;
    // Whoever the container runs as may write to it.
    made.set_permissions(Permissions::from_mode(0o666))
        .context(step)?;
    if let Some(label) = container.mount_label() {
        labels::set(&made, label).context(step)?;
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(&made, "", flags).map(Some).context(step)
}

/// Adds the mount of that file to a configuration. What is returned is its index there.
pub fn bind(path: &Path, dir: &Path, spec: &mut Spec) -> usize {
    let mut mount = Mount::default();
    mount
        .set_source(Some(file(dir)))
        .set_destination(path.to_owned())
        .set_typ(Some("bind".to_owned()))
        .set_options(Some(vec!["bind".to_owned(), "rprivate".to_owned()]));
    let mounts = spec.mounts_mut().get_or_insert_default();
    mounts.push(mount);
    mounts.len() - 1
}

/// The message of a run that has ended with this exit code, and wrote its log as number `restart` into `logs`; one of
/// so many containers. `None` if it left none.
pub fn message(
    plan: &TerminationPlan,
    dir: &Path,
    (logs, restart): (&Path, u32),
    exit_code: i32,
    containers: usize,
) -> Option<String> {
    plan.path.as_ref()?;
    let share = MOST_OF_POD / containers.max(1) as u64;
    let mut text = read_end(&file(dir), share.min(MOST)).unwrap_or_default();
    if text.is_empty() && plan.log_instead && exit_code != 0 {
        let show = logs::Show {
            tail: Some(LINES),
            ..logs::Show::default()
        };
        let _ = logs::print(logs, restart, show, &mut text); // there is none
        let most = LOG.min(usize::try_from(share).unwrap_or(LOG));
        text.drain(..text.len().saturating_sub(most));
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    Some(text).filter(|text| !text.is_empty())
}

fn read_end(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut text = Vec::new();
    file.take(most).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(text: &str, log_instead: bool, code: i32, containers: usize) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(file(dir.path()), text).unwrap();
        let log: String = (0..100)
            .map(|n| format!("2026-01-02T03:04:05.123456789Z stdout F line {n}\n"))
            .collect();
        std::fs::write(dir.path().join("0.log"), log).unwrap();
        let plan = TerminationPlan {
            path: Some("/dev/termination-log".into()),
            log_instead,
        };
        message(&plan, dir.path(), (dir.path(), 0), code, containers)
    }

    #[test]
    fn the_end_of_the_file_is_the_message() {
        assert_eq!(of("why\n", true, 1, 1).unwrap(), "why\n");
        assert_eq!(of("", false, 1, 1), None);
        assert_eq!(of("", true, 0, 1), None, "the log only after a failure");
        let long = format!("{}end", "x".repeat(10_000));
        let cut = of(&long, false, 0, 1).unwrap();
        assert!(cut.len() == 4096 && cut.ends_with("end"));
        assert_eq!(of(&long, false, 0, 6).unwrap().len(), 2048);
    }

    #[test]
    fn the_log_stands_in_for_it_after_a_failure() {
        let log = of("", true, 1, 1).unwrap();
        assert!(
            log.starts_with("line 20\n") && log.ends_with("line 99\n"),
            "{log}"
        );
    }
}
