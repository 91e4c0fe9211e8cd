//! What a container does now, as the kernel knows it: nothing of it is written down.

use super::gate;
use crate::error::Result;
use crate::state::{Entry, Record, Status, boot_id};

/// What the container does now. `frozen` is asked only when it has processes.
///
/// # Errors
/// When the boot id or the freezer cannot be read.
pub(super) fn status(
    entry: &Entry,
    record: &Record,
    frozen: impl FnOnce() -> Result<bool>,
) -> Result<Status> {
    let Some(init) = record.init else {
        return Ok(match entry.is_busy() {
            true => Status::Creating,
            false => Status::Stopped,
        });
    };
    if record.boot_id != boot_id()? || !init.is_alive() {
        return Ok(Status::Stopped);
    }
    if frozen()? {
        return Ok(Status::Paused);
    }
    Ok(match gate::is_waiting(&entry.gate()) {
        true => Status::Created,
        false => Status::Running,
    })
}
