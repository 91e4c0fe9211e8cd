//! Requests and limits made into cgroup values, as the kubelet does.
//!
//! Source: `pkg/kubelet/cm/helpers_linux.go`, `pkg/kubelet/qos/policy.go`, `component-helpers/resource` of Kubernetes;
//! KEP-753 (sidecars), KEP-2837 (the pod's own resources).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource;
use oci_spec::runtime::{LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxResources};

use super::Node;
use crate::pod::lifecycle::Index;
use crate::pod::quantity::Quantity;

/// Microseconds that a CPU quota is for.
const PERIOD: u64 = 100_000;

/// The least that the kernel takes as a quota, in microseconds.
const LEAST_QUOTA: i64 = 1000;

/// The least weight of a cgroup: that of a container which asks for no CPU.
const LEAST_SHARES: u64 = 2;

/// A pod's quality of service class (`status.qosClass`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// Every container has limits on CPU and memory and requests as much.
    Guaranteed,
    /// Something is requested or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

const CPU: &str = "cpu";
const MEMORY: &str = "memory";

/// By resource, in thousandths of a CPU, or bytes. What is not there is no request, or no limit.
type Amounts<'a> = BTreeMap<&'a str, i64>;

/// What a container, or the pod, asks for and is held to.
#[derive(Debug, Default)]
struct Asked<'a> {
    requests: Amounts<'a>,
    limits: Amounts<'a>,
}

fn amounts(quantities: Option<&BTreeMap<String, resource::Quantity>>) -> Amounts<'_> {
    let amount = |(name, quantity): (&'_ String, &resource::Quantity)| {
        let parsed = Quantity::parse(&quantity.0).ok()?;
        // Zero is no limit.
        (parsed > Quantity::ZERO).then(|| match name.as_str() {
            CPU => parsed.milli_value(),
            _ => parsed.value(),
        })
    };
    let all = quantities.into_iter().flatten();
    all.filter_map(|(name, quantity)| Some((name.as_str(), amount((name, quantity))?)))
        .collect()
}

fn asked(resources: Option<&ResourceRequirements>) -> Asked<'_> {
    Asked {
        requests: amounts(resources.and_then(|r| r.requests.as_ref())),
        limits: amounts(resources.and_then(|r| r.limits.as_ref())),
    }
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Init containers run one at a time, beside the sidecars before them; apps run together, beside all sidecars: the most
/// of it all. `None` if a container has no such amount.
fn most<'a>(spec: &'a PodSpec, of: impl Fn(&Asked<'a>) -> Option<i64>) -> Option<i64> {
    let of = |container: &'a Container| of(&asked(container.resources.as_ref()));
    let (mut sidecars, mut most) = (0i64, 0i64);
    for init in spec.init_containers.iter().flatten() {
        let with = sidecars.saturating_add(of(init)?);
        if is_sidecar(init) {
            sidecars = with;
        }
        most = most.max(with);
    }
    let apps = spec.containers.iter();
    let apps = apps
        .map(of)
        .try_fold(sidecars, |sum, app| Some(sum.saturating_add(app?)))?;
    Some(most.max(apps))
}

/// What the pod gets as a whole: what it says itself, else what its containers come to; and the overhead.
fn effective(spec: &PodSpec) -> Asked<'_> {
    let own = asked(spec.resources.as_ref());
    let overhead = amounts(spec.overhead.as_ref());
    let inits = spec.init_containers.iter().flatten();
    let containers = inits
        .chain(&spec.containers)
        .map(|c| asked(c.resources.as_ref()));
    let mut names: BTreeSet<&str> = [CPU, MEMORY].into();
    for asked in containers {
        names.extend(
            asked
                .limits
                .keys()
                .filter(|name| name.starts_with(HUGEPAGES)),
        );
    }
    names.extend(own.limits.keys().filter(|name| name.starts_with(HUGEPAGES)));
    let mut effective = Asked::default();
    for name in names {
        let more = overhead.get(name).copied().unwrap_or(0);
        let request = most(spec, |asked| {
            Some(asked.requests.get(name).copied().unwrap_or(0))
        });
        let request = request.filter(|amount| *amount > 0);
        let request = own.requests.get(name).copied().or(request);
        if let Some(request) = request.or(own.limits.get(name).copied()) {
            effective
                .requests
                .insert(name, request.saturating_add(more));
        }
        let limit = most(spec, |asked| match asked.limits.get(name) {
            // Of huge pages there are none without a limit.
            None if name.starts_with(HUGEPAGES) => Some(0),
            limit => limit.copied(),
        });
        if let Some(limit) = own.limits.get(name).copied().or(limit) {
            effective.limits.insert(name, limit.saturating_add(more));
        }
    }
    effective
}

const DISK: &str = "ephemeral-storage";

/// In bytes.
pub(super) fn disk_limit(container: &Container) -> Option<u64> {
    let limit = asked(container.resources.as_ref())
        .limits
        .get(DISK)
        .copied();
    limit.and_then(|limit| limit.try_into().ok())
}

/// As the kubelet, a container without a limit adds nothing to that of the pod.
pub(super) fn pod_disk_limit(spec: &PodSpec) -> Option<u64> {
    let limit = most(spec, |asked| {
        Some(asked.limits.get(DISK).copied().unwrap_or(0))
    });
    limit.filter(|limit| *limit > 0)?.try_into().ok()
}

/// Sets what the manifest asks for on top of what the bundle has.
pub(super) fn apply(resources: &mut LinuxResources, container: &Container) {
    set(resources, &asked(container.resources.as_ref()));
}

/// Gives a container of a planned pod, and the pod, the limits that follow from the changed `spec`.
pub fn resize(plan: &mut super::PodPlan, spec: &PodSpec, container: Index) {
    let Some((_, _, changed)) = super::containers_of(spec).nth(container.0) else {
        return;
    };
    let planned = plan.containers.get_mut(container.0);
    let linux = planned.and_then(|planned| planned.spec.linux_mut().as_mut());
    if let Some(linux) = linux {
        let mut limits = linux.resources().clone().unwrap_or_default();
        apply(&mut limits, changed);
        linux.set_resources(Some(limits));
    }
    plan.sandbox.resources = pod(spec);
}

/// The pod's own limits.
pub(super) fn pod(spec: &PodSpec) -> LinuxResources {
    let mut resources = LinuxResources::default();
    set(&mut resources, &effective(spec));
    resources
}

fn set(resources: &mut LinuxResources, asked: &Asked<'_>) {
    let mut cpu = resources.cpu().clone().unwrap_or_default();
    set_cpu(&mut cpu, asked);
    resources.set_cpu(Some(cpu));
    if let Some(limit) = asked.limits.get(MEMORY) {
        let mut memory: LinuxMemory = resources.memory().unwrap_or_default();
        memory.set_limit(Some(*limit));
        resources.set_memory(Some(memory));
    }
    let pages = asked.limits.iter().filter_map(|(name, limit)| {
        let mut page = LinuxHugepageLimit::default();
        page.set_page_size(page_size(name)?).set_limit(*limit);
        Some(page)
    });
    let pages: Vec<LinuxHugepageLimit> = pages.collect();
    if !pages.is_empty() {
        resources.set_hugepage_limits(Some(pages));
    }
}

const HUGEPAGES: &str = "hugepages-";

/// `hugepages-2Mi` as the kernel writes it: `2MB`.
fn page_size(name: &str) -> Option<String> {
    let bytes = Quantity::parse(name.strip_prefix(HUGEPAGES)?).ok()?.value();
    let units = [("GB", 30), ("MB", 20), ("KB", 10)];
    let (unit, shift) = units.into_iter().find(|(_, shift)| bytes >> shift > 0)?;
    Some(format!("{}{unit}", bytes >> shift))
}

fn set_cpu(cpu: &mut LinuxCpu, asked: &Asked<'_>) {
    // Without a request there is none: Kubernetes' least one would keep pods from machines without a cpu controller.
    let request = asked
        .requests
        .get(CPU)
        .and_then(|milli| u64::try_from(*milli).ok());
    if let Some(milli) = request {
        let shares = milli.saturating_mul(1024) / 1000;
        cpu.set_shares(Some(shares.clamp(LEAST_SHARES, 262_144)));
    }
    if let Some(milli) = asked.limits.get(CPU) {
        let quota = milli.saturating_mul(i64::try_from(PERIOD).unwrap_or(i64::MAX)) / 1000;
        cpu.set_quota(Some(quota.max(LEAST_QUOTA)));
        cpu.set_period(Some(PERIOD));
    }
}

/// The pod's class: by what it says itself, if anything, else by its containers, among them the init containers.
pub fn qos(spec: &PodSpec) -> Qos {
    let inits = spec.init_containers.iter().flatten();
    let containers = inits.chain(&spec.containers);
    let own = asked(spec.resources.as_ref());
    let all: Vec<Asked<'_>> = match own.requests.is_empty() && own.limits.is_empty() {
        true => containers.map(|c| asked(c.resources.as_ref())).collect(),
        false => vec![own],
    };
    let both = [CPU, MEMORY];
    let guaranteed = |asked: &Asked<'_>| {
        both.iter().all(|name| {
            let limit = asked.limits.get(name);
            limit.is_some() && asked.requests.get(name).or(limit) == limit
        })
    };
    let nothing = |asked: &Asked<'_>| {
        both.iter()
            .all(|name| !asked.requests.contains_key(name) && !asked.limits.contains_key(name))
    };
    if all.iter().all(nothing) {
        Qos::BestEffort
    } else if all.iter().all(guaranteed) {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

/// What protects a Guaranteed container from being killed for memory.
const GUARANTEED: i32 = -997;

/// `oom_score_adj` by class. To lower it takes CAP_SYS_RESOURCE: without it a Guaranteed container keeps the caller's.
pub(super) fn oom_score_adj(spec: &PodSpec, container: &Container, node: &Node) -> Option<i32> {
    match qos(spec) {
        Qos::Guaranteed => node.may_protect.then_some(GUARANTEED),
        Qos::BestEffort => Some(1000),
        Qos::Burstable => {
            let own = burstable(spec, container, node.memory);
            let inits = spec.init_containers.iter().flatten();
            let mut sidecars = inits.filter(|init| is_sidecar(init));
            if !sidecars.any(|sidecar| sidecar.name == container.name) {
                return Some(own);
            }
            // No sidecar goes before the apps that it is for.
            let apps = spec.containers.iter();
            let lowest = apps.map(|app| burstable(spec, app, node.memory)).min();
            Some(lowest.map_or(own, |lowest| lowest.min(own)))
        }
    }
}

/// By the container's share of the machine's memory; what the pod has asked for besides its containers is shared evenly.
fn burstable(spec: &PodSpec, container: &Container, memory: u64) -> i32 {
    let of = |container: &Container| {
        let asked = asked(container.resources.as_ref());
        i128::from(asked.requests.get(MEMORY).copied().unwrap_or(0))
    };
    let inits = spec.init_containers.iter().flatten();
    let lasting: Vec<&Container> = inits
        .filter(|init| is_sidecar(init))
        .chain(&spec.containers)
        .collect();
    let own = asked(spec.resources.as_ref());
    let own = own.requests.get(MEMORY).or(own.limits.get(MEMORY)).copied();
    let rest = own.map_or(0, |own| {
        let sum: i128 = lasting.iter().map(|container| of(container)).sum();
        (i128::from(own) - sum).max(0) / lasting.len().max(1) as i128
    });
    let share = 1000 * (of(container) + rest) / i128::from(memory.max(1));
    i32::try_from((1000 - share).clamp(3, 999)).unwrap_or(999)
}
