//! `runp pod resize`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::Places;
use super::attach::supervised;
use crate::error::{Context, Error, Result};
use crate::pod::control::{self, Amounts, Request};
use crate::pod::manifest::{self, Source};
use crate::pod::observe::Observed;
use crate::pod::plan::qos;
use crate::pod::store::PodName;
use crate::pod::validate::validate;

/// Change the limits of a pod's containers while it runs
///
/// As Kubernetes' resize: CPU and memory only, and the pod's QoS class stays. A container goes on with its new limits,
/// unless its resizePolicy says RestartContainer for what changes. A memory limit below what is in use is refused.
#[derive(Debug, clap::Args)]
pub(super) struct Resize {
    /// The pod's name
    name: PodName,
    /// Which container; else as for exec
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// New limits: cpu=500m,memory=64Mi; what is not named stays
    #[arg(long, value_name = "AMOUNTS", value_parser = amounts, required_unless_present = "filename")]
    limits: Option<Amounts>,
    /// New requests
    #[arg(long, value_name = "AMOUNTS", value_parser = amounts)]
    requests: Option<Amounts>,
    /// The pod's manifest with other resources in it, instead
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["container", "limits", "requests"])]
    filename: Option<String>,
}

/// `cpu=500m,memory=64Mi`.
fn amounts(text: &str) -> std::result::Result<Amounts, String> {
    let entries = text.split(',').map(|entry| {
        let (name, amount) = entry.split_once('=').ok_or("NAME=AMOUNT,... is wanted")?;
        Ok((name.to_owned(), amount.to_owned()))
    });
    entries.collect()
}

impl Resize {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let step = || format!("resize pod {:?}", self.name.as_str());
        let dir = places.pods.open(&self.name)?;
        supervised(places, &dir)?;
        let observed = Observed::of(&dir, &places.store)?;
        let mut pod = dir.record()?.manifest;
        let old = resources(&pod);
        match &self.filename {
            Some(file) => take_over(
                &mut pod,
                manifest::load(&Source::from(file.as_str()), None)?.pod,
            ),
            None => {
                let (index, _) = observed.container(self.container.as_deref())?;
                let container = containers(pod.spec.get_or_insert_default()).nth(index.0);
                container.map_or(Ok(()), |container| self.change(container))
            }
        }
        .context(step)?;
        let class = pod.spec.as_ref().map(qos);
        let new = resources(&pod);
        check(&pod, &old, &new).context(step)?;
        let before = dir.record()?.manifest.spec.as_ref().map(qos);
        if before != class {
            return Err(Error::new(step()).hint(
                "spec: Invalid value: Pod QOS Class may not change as a result of resizing",
            ));
        }
        let changed = old
            .iter()
            .zip(new)
            .enumerate()
            .filter(|(_, (a, b))| *a != b);
        for (container, (_, (requests, limits))) in changed {
            let request = Request::Resize {
                container,
                requests,
                limits,
            };
            let asked = control::ask(dir.as_fd(), request, control::PATIENCE).context(step)?;
            asked.ok_or_else(|| Error::new(step()).hint("it is over"))?;
        }
        self.tell(places, &dir)
    }

    fn change(&self, container: &mut Container) -> Result<()> {
        let resources = container.resources.get_or_insert_default();
        let change = |all: &mut Option<BTreeMap<String, Quantity>>, new: &Option<Amounts>| {
            for (name, amount) in new.iter().flatten() {
                let all = all.get_or_insert_default();
                all.insert(name.clone(), Quantity(amount.clone()));
            }
        };
        change(&mut resources.limits, &self.limits);
        change(&mut resources.requests, &self.requests);
        Ok(())
    }

    /// What could not be changed after all.
    fn tell(&self, places: &Places, dir: &crate::pod::store::PodDir) -> Result<i32> {
        let observed = Observed::of(dir, &places.store)?;
        let containers = observed.life.containers().iter();
        let names = observed.life.spec().containers.iter().map(|c| &c.name);
        let failed = names
            .zip(containers)
            .filter_map(|(name, c)| match &c.run.resize {
                crate::pod::lifecycle::Resize::Failed(why) => {
                    Some(Error::new(format!("container {name:?}: {why}")))
                }
                _ => None,
            });
        Error::all("resize", failed.collect())?;
        Ok(0)
    }
}

fn containers(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    let inits = spec.init_containers.iter_mut().flatten();
    inits.chain(&mut spec.containers)
}

/// Requests and limits of every container, in the lifecycle's order.
fn resources(pod: &Pod) -> Vec<(Amounts, Amounts)> {
    let spec = pod.spec.iter();
    let all = spec.flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
    let amounts = |all: Option<&BTreeMap<String, Quantity>>| -> Amounts {
        let all = all.into_iter().flatten();
        all.map(|(name, quantity)| (name.clone(), quantity.0.clone()))
            .collect()
    };
    all.map(|container| {
        let resources = container.resources.as_ref();
        (
            amounts(resources.and_then(|r| r.requests.as_ref())),
            amounts(resources.and_then(|r| r.limits.as_ref())),
        )
    })
    .collect()
}

/// Takes the resources from another manifest of the same pod.
fn take_over(pod: &mut Pod, mut other: Pod) -> Result<()> {
    let mut new: Vec<Option<ResourceRequirements>> = Vec::new();
    let mut rest = |pod: &mut Pod, keep: bool| {
        let spec = pod.spec.get_or_insert_default();
        for container in containers(spec) {
            let resources = container.resources.take();
            if keep {
                new.push(resources);
            }
        }
        serde_json::to_value(spec).map_err(|e| Error::new(e.to_string()))
    };
    if rest(&mut other, true)? != rest(pod, false)? {
        return Err(Error::new(
            "spec: Forbidden: only cpu and memory resources are mutable",
        ));
    }
    for (container, resources) in containers(pod.spec.get_or_insert_default()).zip(new) {
        container.resources = resources;
    }
    Ok(())
}

type Amounted = [(Amounts, Amounts)];

/// In Kubernetes' words, all at once.
fn check(pod: &Pod, old: &Amounted, new: &Amounted) -> Result<()> {
    let mut errors: Vec<Error> = validate(pod).into_iter().map(Error::new).collect();
    for ((old_requests, old_limits), (requests, limits)) in old.iter().zip(new) {
        for (what, old, new) in [
            ("requests", old_requests, requests),
            ("limits", old_limits, limits),
        ] {
            let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
            names.sort();
            names.dedup();
            for name in names
                .into_iter()
                .filter(|name| old.get(*name) != new.get(*name))
            {
                if !matches!(name.as_str(), "cpu" | "memory") {
                    errors.push(Error::new(
                        "spec: Forbidden: only cpu and memory resources are mutable",
                    ));
                } else if !new.contains_key(name) {
                    errors.push(Error::new(format!(
                        "resources.{what}: Forbidden: resource {what} cannot be removed"
                    )));
                }
            }
        }
    }
    Error::all("the new resources", errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_named() {
        let parsed = amounts("cpu=500m,memory=64Mi").unwrap_or_default();
        assert_eq!(parsed.get("memory").map(String::as_str), Some("64Mi"));
        assert!(amounts("cpu").is_err());
    }
}
