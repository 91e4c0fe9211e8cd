//! How a program shares the machine: policy, I/O priority, memory, personality. Nothing is done that is not asked for.

use rustix::io::Errno;
use rustix::process::{Pid, Rlimit, getrlimit, prlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::credentials::resource_of;
use crate::error::{Context, Error, Result};
use crate::spec::plan::{Execution, Process};
use crate::sys::scheduling;

/// Applies all that a process hands on to those that it makes. While CAP_SYS_NICE is there.
///
/// # Errors
/// With the field that the kernel refused.
pub fn apply(process: &Process, execution: &Execution) -> Result<()> {
    if let Some(personality) = execution.personality {
        scheduling::set_personality(personality).context(|| "set linux.personality")?;
    }
    if let Some(policy) = &execution.memory_policy {
        scheduling::set_memory_policy(policy).map_err(|e| {
            let error = Error::sys("set linux.memoryPolicy", e);
            match e {
                Errno::INVAL => error.hint("see set_mempolicy(2); has this machine these nodes?"),
                Errno::NOSYS => error.hint("this kernel has no NUMA"),
                _ => error,
            }
        })?;
    }
    if let Some((class, level)) = process.scheduling.io_priority {
        scheduling::set_io_priority(class, level).map_err(|e| {
            let error = Error::sys("set process.ioPriority", e);
            match e {
                Errno::PERM => error.hint("IOPRIO_CLASS_RT needs CAP_SYS_NICE"),
                _ => error,
            }
        })?;
    }
    Ok(())
}

/// Sets the policy of a process, or with `None` of this one: at the end, because a process under SCHED_DEADLINE cannot
/// make another.
///
/// # Errors
/// As sched_setattr(2).
pub fn set_scheduler(pid: Option<Pid>, process: &Process) -> Result<()> {
    let Some(attributes) = process.scheduling.attributes else {
        return Ok(());
    };
    scheduling::set_attributes(pid, attributes).map_err(|e| {
        let error = Error::sys("set process.scheduler", e);
        match e {
            Errno::PERM => error.hint(
                "real-time policies and lower nice values need CAP_SYS_NICE, on cgroup v1 also \
                 linux.resources.cpu.realtimeRuntime, and SCHED_DEADLINE all processors of the machine: no cpuset",
            ),
            Errno::INVAL => error.hint("see sched(7): does this kernel have the policy, and are its values in range?"),
            Errno::BUSY => error.hint("the kernel does not admit more SCHED_DEADLINE processes"),
            _ => error,
        }
    })
}

/// Restricts a process, or with `None` this one, to processors; `field` says who asked for it.
///
/// # Errors
/// As sched_setaffinity(2): `EINVAL` when it may run on none of them.
pub fn set_affinity(pid: Option<Pid>, cpus: Option<&[u32]>, field: &str) -> Result<()> {
    let Some(cpus) = cpus else { return Ok(()) };
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu as usize);
    }
    sched_setaffinity(pid, &set).map_err(|e| {
        Error::sys(format!("set process.execCPUAffinity.{field}"), e)
            .hint("is one of these processors online, and in the container's cpuset?")
    })
}

/// Raises the hard limits of a process that is about to enter a user namespace, where it could only lower them. It sets
/// all of them itself later: low ones would be in its way.
///
/// # Errors
/// As prlimit(2).
pub fn raise_hard_limits(pid: Pid, process: &Process) -> Result<()> {
    for &(number, _, hard) in &process.rlimits {
        let Some(resource) = resource_of(number) else {
            continue;
        };
        let now = getrlimit(resource);
        let wanted = (hard != u64::MAX).then_some(hard);
        let is_higher = match (now.maximum, wanted) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(now), Some(wanted)) => wanted > now,
        };
        if is_higher {
            let raised = Rlimit {
                maximum: wanted,
                ..now
            };
            prlimit(Some(pid), resource, raised).map_err(|e| {
                Error::sys(format!("raise the hard limit {number} to {hard}"), e)
                    .hint("it needs CAP_SYS_RESOURCE: lower process.rlimits to the caller's own")
            })?;
        }
    }
    Ok(())
}
