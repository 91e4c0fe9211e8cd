//! `delete`: removes what is left of a task whose shim is gone, from what is on disk alone.

use prost::Message;

use super::arguments::Arguments;
use super::process::Ended;
use super::proto::task::DeleteResponse;
use super::{bundle, rootfs, sandbox, start};
use crate::container;
use crate::error::{Context, Result};
use crate::state::{ContainerId, Store};

/// Kills and removes the container, and gives what containerd reports of it: it was killed.
///
/// # Errors
/// When something of it cannot be removed; containerd tries again when it starts again.
pub(super) fn delete(arguments: &Arguments) -> Result<Vec<u8>> {
    let bundle = match &arguments.bundle {
        Some(bundle) => bundle.clone(),
        None => std::env::current_dir().context(|| "find the bundle")?,
    };
    let store = Store::new(bundle::root(&bundle, &arguments.namespace));
    let id: ContainerId = arguments.id.parse()?;
    let record = store.look(&id).and_then(|entry| entry.record());
    let init = record.ok().and_then(|record| record.init);
    container::delete(&store, &id, true)?;
    rootfs::unmount_at(&bundle.join("rootfs"));
    sandbox::remove(&bundle)?;
    if let Some(socket) = bundle::socket(&bundle)
        && !start::is_served(&socket).unwrap_or(true)
    {
        // It may be gone already: the pod's other tasks are deleted, too.
        let _ = rustix::fs::unlink(&socket);
    }
    start::sweep()?;
    let ended = Ended::killed(init.map_or(0, |init| init.pid));
    let response = DeleteResponse {
        pid: ended.pid as u32,
        exit_status: ended.status,
        exited_at: Some(ended.at),
    };
    Ok(response.encode_to_vec())
}
