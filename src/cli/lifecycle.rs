//! Verbs that change a container: start, kill, pause, resume, delete.

use super::notify;
use crate::container;
use crate::error::{Error, Result};
use crate::spec::tables;
use crate::state::{ContainerId, Store};

/// Execute the program of a created container
#[derive(Debug, clap::Args)]
pub(super) struct Start {
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
}

impl Start {
    pub(super) fn run(self, store: &Store) -> Result<i32> {
        let host = notify::Host::from_environment();
        let notifications = match host {
            Some(_) => container::notify::listen(store, &self.id)?,
            None => None,
        };
        container::start(store, &self.id)?;
        if let Some((host, container)) = host.zip(notifications) {
            host.forward(&container.socket, &container.pidfd, container.pid)?;
        }
        Ok(0)
    }
}

/// Send a signal to a container
#[derive(Debug, clap::Args)]
pub(super) struct Kill {
    /// Every process of the container, not only its first
    #[arg(short, long)]
    all: bool,
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
    /// Name or number, with or without SIG
    #[arg(default_value = "SIGTERM")]
    signal: String,
}

impl Kill {
    pub(super) fn run(self, store: &Store) -> Result<i32> {
        let signal = tables::signal(&self.signal).ok_or_else(|| {
            Error::new(format!("unknown signal {:?}", self.signal)).hint("see signal(7)")
        })?;
        container::kill(store, &self.id, signal, self.all)?;
        Ok(0)
    }
}

/// Stop all processes of a container until it is resumed
#[derive(Debug, clap::Args)]
pub(super) struct Pause {
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
}

impl Pause {
    pub(super) fn run(self, store: &Store) -> Result<i32> {
        container::pause(store, &self.id)?;
        Ok(0)
    }
}

/// Let the processes of a paused container go on
#[derive(Debug, clap::Args)]
pub(super) struct Resume {
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
}

impl Resume {
    pub(super) fn run(self, store: &Store) -> Result<i32> {
        container::resume(store, &self.id)?;
        Ok(0)
    }
}

/// Remove a container
#[derive(Debug, clap::Args)]
pub(super) struct Delete {
    /// Kill it first if it runs, and be content if there is none
    #[arg(short, long)]
    force: bool,
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
}

impl Delete {
    pub(super) fn run(self, store: &Store) -> Result<i32> {
        container::delete(store, &self.id, self.force)?;
        Ok(0)
    }
}
