//! What the pod may write to the disk: `emptyDir.sizeLimit`, and limits of `ephemeral-storage`, as the kubelet's eviction
//! manager checks them. A container's are its root file system and its logs.
//!
//! Source: `pkg/kubelet/eviction/eviction_manager.go` of Kubernetes.

use std::fs::File;
use std::path::Path;

use super::Supervisor;
use crate::pod::plan::ContainerPlan;
use crate::pod::tree;
use crate::pod::volumes::{self, Volumes, quantity};

impl Supervisor<'_> {
    /// Whether there is anything to check.
    pub(super) fn watches_disk(&self) -> bool {
        let mut containers = self.plan.containers.iter();
        self.plan.volumes.iter().any(volumes::is_watched)
            || containers.any(|container| container.disk_limit.is_some())
    }

    /// What is too much, in the words of Kubernetes.
    pub(super) fn exceeded(&self) -> Option<String> {
        let volumes = Volumes::open(self.data.volumes()).ok()?;
        let of_volume = volumes.exceeded(&self.plan.volumes);
        let limited = |container: &&ContainerPlan| container.disk_limit.is_some();
        if of_volume.is_some() || !self.plan.containers.iter().any(|c| limited(&c)) {
            return of_volume;
        }
        let used: Vec<u64> = self.plan.containers.iter().map(|c| self.used(c)).collect();
        let all = used.iter().sum::<u64>() + volumes.used(&self.plan.volumes);
        if let Some(limit) = self.plan.disk_limit.filter(|limit| all > *limit) {
            let limit = quantity(limit);
            return Some(format!(
                "Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "
            ));
        }
        let mut containers = self.plan.containers.iter().zip(used);
        containers.find_map(|(container, used)| {
            let limit = container.disk_limit.filter(|limit| used > *limit)?;
            let (name, limit) = (&container.name, quantity(limit));
            Some(format!(
                "Container {name} exceeded its local ephemeral storage limit \"{limit}\". "
            ))
        })
    }

    fn used(&self, container: &ContainerPlan) -> u64 {
        let root = self.data.containers().join(&container.name).join("upper");
        let logs = self.dir.logs(&container.name);
        bytes(&root) + bytes(&logs)
    }
}

/// Nothing of what is not there.
fn bytes(directory: &Path) -> u64 {
    let opened = File::open(directory).ok();
    opened.map_or(0, |directory| tree::disk_usage(directory).unwrap_or(0))
}
