//! Requests and limits made into cgroup values, as the kubelet does.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource;
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

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

/// What is asked for, in thousandths of a CPU and bytes. `None` is no limit; no request is zero.
#[derive(Debug, Clone, Copy, Default)]
struct Amounts {
    cpu_request: i64,
    memory_request: i64,
    cpu_limit: Option<i64>,
    memory_limit: Option<i64>,
}

fn amounts(container: &Container) -> Amounts {
    type Quantities = Option<BTreeMap<String, resource::Quantity>>;
    let get = |quantities: &Quantities, name: &str| {
        let quantity = quantities.as_ref()?.get(name)?;
        let parsed = Quantity::parse(&quantity.0).ok()?;
        // Zero is no limit.
        (parsed > Quantity::ZERO).then_some(parsed)
    };
    let Some(resources) = &container.resources else {
        return Amounts::default();
    };
    let (requests, limits) = (&resources.requests, &resources.limits);
    Amounts {
        cpu_request: get(requests, "cpu").map_or(0, Quantity::milli_value),
        memory_request: get(requests, "memory").map_or(0, Quantity::value),
        cpu_limit: get(limits, "cpu").map(Quantity::milli_value),
        memory_limit: get(limits, "memory").map(Quantity::value),
    }
}

/// Sets what the manifest asks for on top of what the bundle has.
pub(super) fn apply(resources: &mut LinuxResources, container: &Container) {
    let amounts = amounts(container);
    let mut cpu = resources.cpu().clone().unwrap_or_default();
    set_cpu(&mut cpu, &amounts);
    resources.set_cpu(Some(cpu));
    if amounts.memory_limit.is_some() {
        let mut memory = resources.memory().unwrap_or_default();
        memory.set_limit(amounts.memory_limit);
        resources.set_memory(Some(memory));
    }
}

fn set_cpu(cpu: &mut LinuxCpu, amounts: &Amounts) {
    // Without a request there is none: Kubernetes' least one would keep pods from machines without a cpu controller.
    let milli = u64::try_from(amounts.cpu_request).unwrap_or(0);
    if milli > 0 {
        let shares = milli.saturating_mul(1024) / 1000;
        cpu.set_shares(Some(shares.clamp(LEAST_SHARES, 262_144)));
    }
    if let Some(milli) = amounts.cpu_limit {
        let quota = milli.saturating_mul(i64::try_from(PERIOD).unwrap_or(i64::MAX)) / 1000;
        cpu.set_quota(Some(quota.max(LEAST_QUOTA)));
        cpu.set_period(Some(PERIOD));
    }
}

/// The pod's effective amounts: `max(max over inits, sum of apps)`, because inits run one at a time and before the
/// apps. One container without a limit leaves the pod without one.
pub(super) fn pod(spec: &PodSpec) -> LinuxResources {
    let apps: Vec<Amounts> = spec.containers.iter().map(amounts).collect();
    let inits = spec.init_containers.iter().flatten();
    let inits: Vec<Amounts> = inits.map(amounts).collect();

    let request = |of: fn(&Amounts) -> i64| {
        let sum = apps.iter().map(of).fold(0i64, i64::saturating_add);
        inits.iter().map(of).fold(sum, i64::max)
    };
    let limit = |of: fn(&Amounts) -> Option<i64>| {
        let sum = apps.iter().map(of).try_fold(0i64, |sum, limit| {
            limit.map(|limit| sum.saturating_add(limit))
        })?;
        inits
            .iter()
            .map(of)
            .try_fold(sum, |most, limit| limit.map(|limit| most.max(limit)))
    };
    let effective = Amounts {
        cpu_request: request(|a| a.cpu_request),
        memory_request: request(|a| a.memory_request),
        cpu_limit: limit(|a| a.cpu_limit),
        memory_limit: limit(|a| a.memory_limit),
    };
    let mut cpu = LinuxCpu::default();
    set_cpu(&mut cpu, &effective);
    let mut resources = LinuxResources::default();
    resources.set_cpu(Some(cpu));
    if effective.memory_limit.is_some() {
        let mut memory = LinuxMemory::default();
        memory.set_limit(effective.memory_limit);
        resources.set_memory(Some(memory));
    }
    resources
}

/// The pod's class; init containers count.
pub fn qos(spec: &PodSpec) -> Qos {
    let inits = spec.init_containers.iter().flatten();
    let all: Vec<Amounts> = inits.chain(&spec.containers).map(amounts).collect();
    let guaranteed = |a: &Amounts| {
        a.cpu_limit == Some(a.cpu_request) && a.memory_limit == Some(a.memory_request)
    };
    let nothing = |a: &Amounts| {
        a.cpu_request == 0
            && a.memory_request == 0
            && a.cpu_limit.is_none()
            && a.memory_limit.is_none()
    };
    if all.iter().all(nothing) {
        Qos::BestEffort
    } else if all.iter().all(guaranteed) {
        Qos::Guaranteed
    } else {
        Qos::Burstable
    }
}

/// `oom_score_adj` by class. Only what raises it: to lower it takes CAP_SYS_RESOURCE, so that a Guaranteed
/// container (-997 in Kubernetes) keeps the caller's.
pub(super) fn oom_score_adj(spec: &PodSpec, container: &Container, memory: u64) -> Option<i32> {
    match qos(spec) {
        Qos::Guaranteed => None,
        Qos::BestEffort => Some(1000),
        Qos::Burstable => {
            let request = i128::from(amounts(container).memory_request);
            let share = 1000 * request / i128::from(memory.max(1));
            i32::try_from((1000 - share).clamp(3, 999)).ok()
        }
    }
}
