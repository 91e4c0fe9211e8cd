//! Limits in systemd's words, systemd.resource-control(5): what it would otherwise undo when it looks at its units again.
//! Pure.

use super::message::Value;
use crate::cgroup::limits::cpu::{DEFAULT_PERIOD, weight_of_shares};
use crate::cgroup::limits::setting::numbers;
use crate::cgroup::limits::{Bound, Limits};

/// A property of a unit.
pub(super) type Property = (String, Value);

/// What systemd has properties for; the rest is only the kernel's to know. `v2`: where the controllers are.
pub(super) fn of_limits(limits: &Limits, v2: bool) -> Vec<Property> {
    let mut found = Vec::new();
    let mut add = |name: &str, value: Option<Value>| {
        found.extend(value.map(|value| (name.to_owned(), value)));
    };
    let bound = |bound: Option<Bound>| {
        bound.map(|bound| match bound {
            Bound::At(n) => Value::U64(n),
            Bound::Unlimited => Value::U64(u64::MAX),
        })
    };
    let (cpu, memory) = (&limits.cpu, &limits.memory);
    if v2 {
        add("MemoryMax", bound(memory.limit));
        add("MemoryLow", bound(memory.reservation));
        add("MemorySwapMax", bound(memory.swap_of_v2()));
        // 0 is its word for idle.
        let idle = (cpu.idle == Some(true)).then_some(0);
        let weight = idle.or(cpu.shares.map(weight_of_shares));
        add("CPUWeight", weight.map(Value::U64));
    } else {
        add("MemoryLimit", bound(memory.limit));
        add("CPUShares", cpu.shares.map(Value::U64));
        let weight = limits.block_io.weight;
        add("BlockIOWeight", weight.map(|w| Value::U64(w.into())));
    }
    add("CPUQuotaPeriodUSec", cpu.period.map(Value::U64));
    if cpu.quota.is_some() || cpu.period.is_some() {
        let quota = cpu.quota.unwrap_or(Bound::Unlimited);
        let period = cpu.period.unwrap_or(DEFAULT_PERIOD);
        add(
            "CPUQuotaPerSecUSec",
            Some(Value::U64(per_second(quota, period))),
        );
    }
    add("TasksMax", bound(limits.pids));
    add("AllowedCPUs", cpu.cpus.as_deref().and_then(bits));
    add("AllowedMemoryNodes", cpu.mems.as_deref().and_then(bits));
    for (name, value) in &limits.unified {
        found.extend(of_file(name, value.trim()));
    }
    found
}

/// Microseconds of each second. systemd keeps whole percents: rounded up, or the kernel could not be told the exact quota
/// below that.
fn per_second(quota: Bound, period: u64) -> u64 {
    const PERCENT: u64 = 10_000;
    match quota {
        Bound::Unlimited => u64::MAX,
        Bound::At(quota) => {
            (quota.saturating_mul(1_000_000) / period.max(1)).next_multiple_of(PERCENT)
        }
    }
}

/// A list of CPUs or memory nodes as a bit mask.
fn bits(list: &str) -> Option<Value> {
    let mut mask = Vec::new();
    for number in numbers(list)? {
        let byte = number as usize / 8;
        if mask.len() <= byte {
            mask.resize(byte + 1, 0u8);
        }
        mask[byte] |= 1 << (number % 8);
    }
    Some(Value::bytes(&mask))
}

/// A file of `unified`, if systemd knows what it says.
fn of_file(name: &str, value: &str) -> Option<Property> {
    let number = || match value {
        "max" => Some(Value::U64(u64::MAX)),
        value => value.parse().ok().map(Value::U64),
    };
    let (property, value) = match name {
        "memory.high" => ("MemoryHigh", number()),
        "memory.low" => ("MemoryLow", number()),
        "memory.max" => ("MemoryMax", number()),
        "memory.min" => ("MemoryMin", number()),
        "memory.swap.max" => ("MemorySwapMax", number()),
        "pids.max" => ("TasksMax", number()),
        "cpu.weight" => ("CPUWeight", number()),
        "cpuset.cpus" => ("AllowedCPUs", bits(value)),
        "cpuset.mems" => ("AllowedMemoryNodes", bits(value)),
        "cpu.max" => {
            let mut words = value.split_whitespace();
            let quota = match words.next()? {
                "max" => Bound::Unlimited,
                quota => Bound::At(quota.parse().ok()?),
            };
            let period = words
                .next()
                .map_or(Some(DEFAULT_PERIOD), |w| w.parse().ok())?;
            let value = Value::U64(per_second(quota, period));
            ("CPUQuotaPerSecUSec", Some(value))
        }
        _ => return None,
    };
    Some((property.to_owned(), value?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn properties(json: &str, v2: bool) -> String {
        let resources = serde_json::from_str(json).unwrap();
        let limits = Limits::from_resources(&resources, "r", &mut Vec::new());
        let each = of_limits(&limits, v2)
            .into_iter()
            .map(|(name, value)| match value {
                Value::U64(u64::MAX) => format!("{name}=infinity"),
                Value::U64(n) => format!("{name}={n}"),
                Value::Array(_, bytes) => format!("{name}={bytes:?}").replace("Byte", ""),
                other => format!("{name}={other:?}"),
            });
        each.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn limits_are_said_in_the_words_of_systemd() {
        let table = [
            (
                r#"{"memory": {"limit": 64, "swap": 80, "reservation": 9}}"#,
                "MemoryMax=64 MemoryLow=9 MemorySwapMax=16",
                "MemoryLimit=64",
            ),
            (
                r#"{"memory": {"limit": -1}}"#,
                "MemoryMax=infinity MemorySwapMax=infinity",
                "MemoryLimit=infinity",
            ),
            (
                r#"{"cpu": {"shares": 1024}}"#,
                "CPUWeight=100",
                "CPUShares=1024",
            ),
            (r#"{"cpu": {"idle": 1}}"#, "CPUWeight=0", ""),
            (
                r#"{"cpu": {"quota": 33333, "period": 100000}}"#,
                "CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=340000",
                "CPUQuotaPeriodUSec=100000 CPUQuotaPerSecUSec=340000",
            ),
            (
                r#"{"cpu": {"quota": -1}}"#,
                "CPUQuotaPerSecUSec=infinity",
                "CPUQuotaPerSecUSec=infinity",
            ),
            (
                r#"{"cpu": {"cpus": "0,9", "mems": "0"}}"#,
                "AllowedCPUs=[(1), (2)] AllowedMemoryNodes=[(1)]",
                "AllowedCPUs=[(1), (2)] AllowedMemoryNodes=[(1)]",
            ),
            (r#"{"pids": {"limit": 5}}"#, "TasksMax=5", "TasksMax=5"),
            (
                r#"{"unified": {"memory.high": "max", "cpu.max": "5000 10000", "io.max": "8:0 rbps=1"}}"#,
                "CPUQuotaPerSecUSec=500000 MemoryHigh=infinity",
                "CPUQuotaPerSecUSec=500000 MemoryHigh=infinity",
            ),
        ];
        for (json, v2, v1) in table {
            assert_eq!(properties(json, true), v2, "{json}");
            assert_eq!(properties(json, false), v1, "{json}");
        }
    }
}
