//! Other limits for a container, while its pod lives.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::json;

use super::Supervisor;
use crate::cgroup::{Layout, Limits};
use crate::container;
use crate::error::{Context, Error, Result};
use crate::pod::container::container_id;
use crate::pod::control::Amounts;
use crate::pod::lifecycle::{Event, Index};
use crate::pod::plan;

impl Supervisor<'_> {
    /// Takes note of other `resources` of a container, in its record and in the plan. The record goes first: whoever takes
    /// the pod over plans from it.
    ///
    /// # Errors
    /// When the record cannot be read or written; then nothing is changed.
    pub(super) fn replan(
        &mut self,
        container: Index,
        requests: Amounts,
        limits: Amounts,
    ) -> Result<Event> {
        let mut record = self.dir.record()?;
        let spec = record.manifest.spec.get_or_insert_default();
        let its = in_order(spec).nth(container.0);
        let its = its.ok_or_else(|| Error::new("the pod has no such container"))?;
        let quantities = |amounts: Amounts| {
            let amounts = amounts
                .into_iter()
                .map(|(name, text)| (name, Quantity(text)));
            Some(amounts.collect())
        };
        let old = its.resources.take().unwrap_or_default();
        let new = ResourceRequirements {
            requests: quantities(requests),
            limits: quantities(limits),
            claims: old.claims.clone(),
        };
        let restart = wants_restart(its, &old, &new);
        its.resources = Some(new);
        self.dir.write(&record)?;
        let spec = record.manifest.spec.unwrap_or_default();
        plan::resize(&mut self.plan, &spec, container);
        if restart {
            // More, so that there is room for it; less, where that is possible before it has ended.
            self.pod_limits_due = self.resize_pod().is_err();
        }
        Ok(Event::ResizeRequested { container, restart })
    }

    /// Gives a container that runs, and the pod, the limits of the plan.
    pub(super) fn resize(&mut self, container: Index) -> Event {
        let failure = self.try_resize(container).err();
        Event::Resized {
            container,
            failure: failure.map(|e| e.to_string()),
        }
    }

    fn try_resize(&self, container: Index) -> Result<()> {
        let plan = &self.plan.containers[container.0];
        let linux = plan.spec.linux().as_ref();
        let resources = linux.and_then(|linux| linux.resources().as_ref());
        let mut change = json!({});
        if let Some(cpu) = resources.and_then(|resources| resources.cpu().as_ref()) {
            change["cpu"] =
                json!({"shares": cpu.shares(), "quota": cpu.quota(), "period": cpu.period()});
        }
        if let Some(limit) = resources.and_then(|resources| resources.memory().as_ref()?.limit()) {
            // Less than it uses now would kill it.
            change["memory"] = json!({"limit": limit, "checkBeforeUpdate": true});
        }
        // A share of more than the pod's own is refused by cgroup v1, and so is a pod's of less than its containers': who
        // gets more comes after the pod, and who gets less before it.
        let early = self.resize_pod();
        let id = container_id(&self.plan.name, &plan.name)?;
        container::update(self.store, &id, &change)?;
        early.or_else(|_| self.resize_pod())
    }

    /// A container has been started with other limits, which the pod's had to wait for.
    pub(super) fn catch_up_with_limits(&mut self) {
        if std::mem::take(&mut self.pod_limits_due)
            && let Err(e) = self.resize_pod()
        {
            log::error!("{e}");
        }
    }

    fn resize_pod(&self) -> Result<()> {
        let sandbox = &self.plan.sandbox;
        let mut errors = Vec::new();
        let mut limits = Limits::from_resources(&sandbox.resources, "resources", &mut errors);
        Error::all("the pod's cgroup", errors)?;
        // As for the container: cgroup v2 would kill for what is in use beyond it.
        limits.memory.check_before_update = true;
        let cgroup = Layout::detect()?.open(Path::new(&sandbox.cgroup))?;
        cgroup.set(&limits, || Ok(())).context(|| "resize the pod")
    }
}

/// Init containers, then apps: the lifecycle's order.
fn in_order(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    let inits = spec.init_containers.iter_mut().flatten();
    inits.chain(&mut spec.containers)
}

/// Whether `resizePolicy` of something that changes is `RestartContainer`.
fn wants_restart(
    container: &Container,
    old: &ResourceRequirements,
    new: &ResourceRequirements,
) -> bool {
    let mut policies = container.resize_policy.iter().flatten();
    policies.any(|policy| {
        let of = |all: &Option<std::collections::BTreeMap<String, Quantity>>| {
            all.as_ref()?.get(&policy.resource_name).cloned()
        };
        let same = of(&old.requests) == of(&new.requests) && of(&old.limits) == of(&new.limits);
        policy.restart_policy == "RestartContainer" && !same
    })
}
