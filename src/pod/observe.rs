//! What a pod is just now: what its journal says, and what the machine says of the processes that it names.

use std::time::SystemTime;

use k8s_openapi::api::core::v1::Pod as Manifest;

use super::container::container_id;
use super::delete::first_process;
use super::lifecycle::{Ephemeral, Index, Kind, Pod as Life, Sandbox, Time};
use super::plan::{Node, addresses};
use super::status::{Liveness, pod_with_status, set_addresses};
use super::store::PodDir;
use super::{journal, sandbox};
use crate::error::{Error, Result};
use crate::state::{Store, boot_id};

const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// A container of a pod.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// One of its manifest.
    Own(Index),
    /// One that was added to it while it ran.
    Ephemeral(&'a Ephemeral),
}

/// A pod, as it was found.
#[derive(Debug)]
pub struct Observed {
    /// The Kubernetes Pod with its status.
    pub pod: Manifest,
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
        let mut pod = pod_with_status(record.manifest, &record.uid, &life, &alive);
        // They are told also of a pod that is over.
        if !matches!(life.sandbox(), Sandbox::Absent | Sandbox::Starting) {
            let (node, made) = (Node::this_machine(), record.attachment.as_ref());
            set_addresses(
                &mut pod,
                &addresses(&record.network, made, &node),
                node.addresses(),
            );
        }
        Ok(Self {
            pod,
            journal,
            life,
            alive,
        })
    }

    /// Whether the pod goes on without anybody who carries its life out.
    pub fn is_abandoned(&self) -> bool {
        !self.alive.supervisor && !self.life.finished()
    }

    /// Whether any process of it is left.
    pub fn is_alive(&self) -> bool {
        self.alive.pause || self.alive.containers.contains(&true)
    }

    /// Until when something can have happened: now, or when the last event was seen of a pod that nobody supervises.
    pub fn seen_until(&self) -> Time {
        match self.is_abandoned() {
            true => self.life.now(),
            false => now(),
        }
    }

    /// Which container is meant: the named one, else the one that the annotation
    /// `kubectl.kubernetes.io/default-container` names, else the first app.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn container(&self, name: Option<&str>) -> Result<(Index, String)> {
        let containers = &self.life.spec().containers;
        let annotations = self.pod.metadata.annotations.as_ref();
        let default = annotations.and_then(|all| all.get(DEFAULT_CONTAINER));
        let found = match name.or(default.map(String::as_str)) {
            Some(name) => containers.iter().position(|c| c.name == name),
            None => containers.iter().position(|c| c.kind == Kind::App),
        };
        found
            .map(|i| (Index(i), containers[i].name.clone()))
            .ok_or_else(|| {
                let names: Vec<&str> = containers.iter().map(|c| c.name.as_str()).collect();
                let wanted = name.or(default.map(String::as_str)).unwrap_or_default();
                Error::new(format!("the pod has no container {wanted:?}"))
                    .hint(format!("it has: {}", names.join(", ")))
            })
    }

    /// As [`Self::container`], or an ephemeral container of that name.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn any_container(&self, name: Option<&str>) -> Result<(Which<'_>, String)> {
        let mut ephemeral = self.life.ephemeral().iter();
        match ephemeral.find(|e| name == Some(&e.spec.name)) {
            Some(found) => Ok((Which::Ephemeral(found), found.spec.name.clone())),
            None => {
                let (index, name) = self.container(name)?;
                Ok((Which::Own(index), name))
            }
        }
    }

    /// Why a container does not run, in one word.
    pub fn waiting(&self, container: &str) -> String {
        let status = self.pod.status.iter();
        let mut all = status.flat_map(|status| {
            let inits = status.init_container_statuses.iter().flatten();
            let ephemeral = status.ephemeral_container_statuses.iter().flatten();
            let apps = status.container_statuses.iter().flatten();
            inits.chain(apps).chain(ephemeral)
        });
        let found = all.find(|c| c.name == container);
        let reason = found.and_then(|c| c.state.as_ref()).and_then(|state| {
            let waiting = state.waiting.as_ref().and_then(|w| w.reason.as_ref());
            waiting.or(state.terminated.as_ref().and_then(|t| t.reason.as_ref()))
        });
        reason.cloned().unwrap_or_else(|| "Waiting".into())
    }
}

/// The wall clock.
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos());
    Time(u64::try_from(nanos).unwrap_or(u64::MAX))
}
