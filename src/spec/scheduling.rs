//! `process.scheduler`, `process.ioPriority`, `process.execCPUAffinity`.

use oci_spec::runtime as oci;
use oci_spec::runtime::{LinuxSchedulerFlag as Flag, LinuxSchedulerPolicy as Policy};

use super::field::Field;
use super::plan::{Affinity, Scheduling};
use crate::sys::scheduling::Attributes;

/// As many processors as `cpu_set_t` has, sched_setaffinity(2).
const MAX_CPUS: u32 = 1024;

/// Plans what `process` says about scheduling.
pub(super) fn plan_scheduling(process: &oci::Process, field: &mut Field<'_>) -> Scheduling {
    let scheduler = process.scheduler().as_ref();
    let priority = process.io_priority().as_ref();
    let affinity = process.exec_cpu_affinity().as_ref();
    Scheduling {
        attributes: scheduler.map(|s| plan_scheduler(s, &mut field.at("scheduler"))),
        io_priority: priority.map(|p| plan_io_priority(p, &mut field.at("ioPriority"))),
        affinity: affinity.map_or_else(Affinity::default, |affinity| {
            let field = &mut field.at("execCPUAffinity");
            Affinity {
                initial: plan_cpus(affinity.initial(), &mut field.at("initial")),
                last: plan_cpus(affinity.cpu_affinity_final(), &mut field.at("final")),
            }
        }),
    }
}

/// sched(7). What makes no sense together the kernel would refuse without saying why.
fn plan_scheduler(scheduler: &oci::Scheduler, field: &mut Field<'_>) -> Attributes {
    let policy = *scheduler.policy();
    let (priority, nice) = (
        scheduler.priority().unwrap_or(0),
        scheduler.nice().unwrap_or(0),
    );
    let real_time = matches!(policy, Policy::SchedFifo | Policy::SchedRr);
    if real_time && !(1..=99).contains(&priority) {
        field
            .at("priority")
            .refuse(format_args!("{priority} is not between 1 and 99"));
    }
    if !real_time && priority != 0 {
        let reason = format_args!("{policy} has none");
        field
            .at("priority")
            .refuse_and_hint(reason, "SCHED_FIFO and SCHED_RR have");
    }
    if !(-20..=19).contains(&nice) {
        field
            .at("nice")
            .refuse(format_args!("{nice} is not between -20 and 19"));
    }
    let time = |name: &str, value: Option<u64>, field: &mut Field<'_>| {
        let value = value.unwrap_or(0);
        if value != 0 && policy != Policy::SchedDeadline {
            let reason = format_args!("{policy} has none");
            field.at(name).refuse_and_hint(reason, "SCHED_DEADLINE has");
        }
        value
    };
    Attributes {
        policy: match policy {
            Policy::SchedOther => 0,
            Policy::SchedFifo => 1,
            Policy::SchedRr => 2,
            Policy::SchedBatch => 3,
            Policy::SchedIso => 4,
            Policy::SchedIdle => 5,
            Policy::SchedDeadline => 6,
        },
        flags: scheduler.flags().iter().flatten().fold(0, |flags, flag| {
            flags
                | match flag {
                    Flag::SchedResetOnFork => 0x1,
                    Flag::SchedFlagReclaim => 0x2,
                    Flag::SchedFlagDLOverrun => 0x4,
                    Flag::SchedFlagKeepPolicy => 0x8,
                    Flag::SchedFlagKeepParams => 0x10,
                    Flag::SchedFlagUtilClampMin => 0x20,
                    Flag::SchedFlagUtilClampMax => 0x40,
                }
        }),
        nice,
        priority: u32::try_from(priority).unwrap_or(0),
        runtime: time("runtime", *scheduler.runtime(), field),
        deadline: time("deadline", *scheduler.deadline(), field),
        period: time("period", *scheduler.period(), field),
        ..Attributes::default()
    }
}

/// Class and level, ioprio_set(2).
fn plan_io_priority(priority: &oci::LinuxIOPriority, field: &mut Field<'_>) -> (u8, u8) {
    let class = match priority.class() {
        oci::IOPriorityClass::IoprioClassRt => 1,
        oci::IOPriorityClass::IoprioClassBe => 2,
        oci::IOPriorityClass::IoprioClassIdle => 3,
    };
    let level = u8::try_from(priority.priority())
        .ok()
        .filter(|level| *level <= 7);
    if level.is_none() {
        let level = priority.priority();
        field
            .at("priority")
            .refuse(format_args!("{level} is not between 0 and 7"));
    }
    (class, level.unwrap_or(0))
}

fn plan_cpus(list: &Option<String>, field: &mut Field<'_>) -> Option<Vec<u32>> {
    let list = list.as_deref().filter(|list| !list.is_empty())?;
    Some(plan_list(list, MAX_CPUS, field))
}

/// The numbers of a list like `0-3,7`, all below `limit`. cpuset(7), "List format".
pub(super) fn plan_list(list: &str, limit: u32, field: &mut Field<'_>) -> Vec<u32> {
    let number = |text: &str| -> Option<u32> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| digits && *number < limit)
    };
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first.trim())?, number(last.trim())?);
        (first <= last).then_some(first..=last)
    };
    let ranges: Option<Vec<_>> = list.split(',').map(range).collect();
    if ranges.is_none() {
        field.refuse_and_hint(
            format_args!("{list:?} is no list of numbers below {limit}"),
            "for example 0-3,7",
        );
    }
    ranges.into_iter().flatten().flatten().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::testing::{assert_refused, planned};

    fn scheduling(name: &str, value: Value) -> Scheduling {
        planned(&[(&format!("/process/{name}"), value)])
            .process
            .scheduling
    }

    #[test]
    fn a_scheduler_in_the_kernels_numbers() {
        let fifo = json!({"policy": "SCHED_FIFO", "priority": 99, "nice": -20, "flags": ["SCHED_RESET_ON_FORK"]});
        let fifo = scheduling("scheduler", fifo).attributes;
        let wanted = Attributes {
            policy: 1,
            priority: 99,
            nice: -20,
            flags: 1,
            ..Attributes::default()
        };
        assert_eq!(fifo, Some(wanted));
        let deadline =
            json!({"policy": "SCHED_DEADLINE", "runtime": 10, "deadline": 20, "period": 30});
        let deadline = scheduling("scheduler", deadline).attributes;
        let wanted = Attributes {
            policy: 6,
            runtime: 10,
            deadline: 20,
            period: 30,
            ..Attributes::default()
        };
        assert_eq!(deadline, Some(wanted));
        assert_eq!(planned(&[]).process.scheduling, Scheduling::default());
    }

    #[test]
    fn priorities_and_processors() {
        let priority = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 7});
        assert_eq!(scheduling("ioPriority", priority).io_priority, Some((3, 7)));
        let affinity = scheduling("execCPUAffinity", json!({"initial": "0-2,5"}));
        assert_eq!(affinity.affinity.initial, Some(vec![0, 1, 2, 5]));
        assert_eq!(affinity.affinity.last, None);
    }

    #[test]
    fn refused() {
        let no_list = "process.execCPUAffinity.final: \"3-1\" is no list of numbers below 1024 (for example 0-3,7)";
        assert_refused(&[
            (
                "/process/scheduler",
                json!({"policy": "SCHED_FIFO"}),
                "process.scheduler.priority: 0 is not between 1 and 99",
            ),
            (
                "/process/scheduler",
                json!({"policy": "SCHED_OTHER", "priority": 3}),
                "process.scheduler.priority: SCHED_OTHER has none (SCHED_FIFO and SCHED_RR have)",
            ),
            (
                "/process/scheduler",
                json!({"policy": "SCHED_BATCH", "nice": 20}),
                "process.scheduler.nice: 20 is not between -20 and 19",
            ),
            (
                "/process/scheduler",
                json!({"policy": "SCHED_RR", "priority": 1, "runtime": 1}),
                "process.scheduler.runtime: SCHED_RR has none (SCHED_DEADLINE has)",
            ),
            (
                "/process/ioPriority",
                json!({"class": "IOPRIO_CLASS_BE", "priority": 8}),
                "process.ioPriority.priority: 8 is not between 0 and 7",
            ),
            ("/process/execCPUAffinity", json!({"final": "3-1"}), no_list),
        ]);
    }
}
