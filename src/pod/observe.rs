//! What a pod is just now: what its journal says, and what the machine says of the processes that it names.

use std::time::SystemTime;

use k8s_openapi::api::core::v1::Pod as Manifest;

use super::container::container_id;
use super::delete::first_process;
use super::lifecycle::{Pod as Life, Time};
use super::status::{Liveness, pod_with_status};
use super::store::{PodDir, Record};
use super::{journal, sandbox};
use crate::error::Result;
use crate::state::{Store, boot_id};

/// A pod, as it was found.
#[derive(Debug)]
pub struct Observed {
    /// What it was made from.
    pub record: Record,
    /// What has happened to it.
    pub journal: journal::Record,
    /// What follows from that.
    pub life: Life,
    /// What is really there.
    pub alive: Liveness,
}

impl Observed {
    /// Looks at a pod.
    ///
    /// # Errors
    /// When its record or journal cannot be read, or the machine does not say.
    pub fn of(pod: &PodDir, store: &Store) -> Result<Self> {
        let record = pod.record()?;
        // Before the journal: a supervisor that ends meanwhile has written all.
        let supervisor = pod.holder()?.is_some();
        let journal = journal::read(&pod.journal())?;
        let life = journal.replay();
        let this_boot = boot_id()? == record.boot_id;
        let name = pod.name().as_str();
        let containers = life.spec().containers.iter();
        let alive = Liveness {
            supervisor,
            pause: this_boot && sandbox::has_pause(&record.cgroup)?,
            containers: containers
                .map(|container| {
                    let id = container_id(name, &container.name)?;
                    Ok(first_process(store, &id).is_some())
                })
                .collect::<Result<_>>()?,
        };
        Ok(Self {
            record,
            journal,
            life,
            alive,
        })
    }

    /// Whether the pod goes on without anybody who carries its life out.
    pub fn is_abandoned(&self) -> bool {
        !self.alive.supervisor && !self.life.finished()
    }

    /// The Kubernetes Pod with its status.
    pub fn pod(&self) -> Manifest {
        let record = &self.record;
        pod_with_status(&record.manifest, &record.uid, &self.life, &self.alive)
    }
}

/// The wall clock.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos());
    Time(u64::try_from(nanos).unwrap_or(u64::MAX))
}
