//! `runp update`.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::container;
use crate::error::{Context, Error, Result};
use crate::state::{ContainerId, Store};

/// Change the limits of a container
#[derive(Debug, clap::Args)]
pub(super) struct Update {
    /// `linux.resources` or a part of it as JSON, from a file or - for standard input; all other options are ignored then
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight among others for block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Microseconds that the CPU quota is for
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// CPU time in each period; -1 for no limit
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// CPU time that may be saved up and used above the quota
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_burst: Option<u64>,
    /// Microseconds that the real-time CPU time is for (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,
    /// Real-time CPU time in each period (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,
    /// CPU time relative to other containers, 2 to 262144
    #[arg(long, value_name = "SHARES")]
    cpu_share: Option<u64>,
    /// 1: only CPU time that nobody else wants
    #[arg(long, value_name = "0|1", allow_negative_numbers = true)]
    cpu_idle: Option<i64>,
    /// CPUs to use, as 0-3,8
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use, as 0-1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Accepted for callers of runc; kernels have no such limit any more
    #[arg(long, value_name = "BYTES", hide = true, allow_negative_numbers = true)]
    kernel_memory: Option<String>,
    /// Accepted for callers of runc; kernels have no such limit any more
    #[arg(long, value_name = "BYTES", hide = true, allow_negative_numbers = true)]
    kernel_memory_tcp: Option<String>,
    /// Memory limit in bytes, or with a unit as 64m; -1 for none
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    memory: Option<String>,
    /// Memory that is taken back from others first
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    memory_reservation: Option<String>,
    /// Limit of memory and swap together; -1 for none
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    memory_swap: Option<String>,
    /// Most processes and threads; -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Intel RDT: schema of the L3 cache
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Intel RDT: schema of the memory bandwidth
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
}

impl Update {
    pub(super) fn run(self, store: &Store) -> Result<i32> {
        let change = match &self.resources {
            Some(path) => read(path)?,
            None => self.change()?,
        };
        container::update(store, &self.id, &change)?;
        Ok(0)
    }

    /// What the options say, in the words of `linux.resources`.
    fn change(&self) -> Result<Value> {
        for (option, schema) in [
            ("--l3-cache-schema", &self.l3_cache_schema),
            ("--mem-bw-schema", &self.mem_bw_schema),
        ] {
            if schema.as_ref().is_some_and(|schema| !schema.is_empty()) {
                return Err(Error::new(format!("{option}: Intel RDT is not supported"))
                    .hint("leave it out"));
            }
        }
        if self.kernel_memory.is_some() || self.kernel_memory_tcp.is_some() {
            log::warn!("--kernel-memory: kernels have no such limit any more");
        }
        let bytes = |option: &str, text: &Option<String>| {
            let text = text.as_ref().filter(|text| !text.is_empty());
            text.map(|text| parse_bytes(option, text)).transpose()
        };
        Ok(json!({
            "blockIO": group([("weight", self.blkio_weight.map(Value::from))]),
            "cpu": group([
                ("period", self.cpu_period.map(Value::from)),
                ("quota", self.cpu_quota.map(Value::from)),
                ("burst", self.cpu_burst.map(Value::from)),
                ("realtimePeriod", self.cpu_rt_period.map(Value::from)),
                ("realtimeRuntime", self.cpu_rt_runtime.map(Value::from)),
                ("shares", self.cpu_share.map(Value::from)),
                ("idle", self.cpu_idle.map(Value::from)),
                ("cpus", self.cpuset_cpus.clone().map(Value::from)),
                ("mems", self.cpuset_mems.clone().map(Value::from)),
            ]),
            "memory": group([
                ("limit", bytes("--memory", &self.memory)?),
                ("reservation", bytes("--memory-reservation", &self.memory_reservation)?),
                ("swap", bytes("--memory-swap", &self.memory_swap)?),
            ]),
            "pids": group([("limit", self.pids_limit.map(Value::from))]),
        }))
    }
}

fn group<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let set = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(set.collect::<Map<_, _>>())
}

/// A number of bytes as runc and Docker take it: 67108864, 64m, 1.5GiB; -1 for no limit. Units are powers of 1024.
fn parse_bytes(option: &str, text: &str) -> Result<Value> {
    let refuse = || {
        Error::new(format!("{option}: {text:?} is not a number of bytes"))
            .hint("for example 67108864, 64m or 1g; -1 for no limit")
    };
    if text == "-1" {
        return Ok(json!(-1));
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = text[digits.len()..].trim_start().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if unit != "i" && unit != "ib" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(refuse()),
    };
    let number: f64 = digits.parse().map_err(|_| refuse())?;
    let bytes = number * 1024f64.powi(power);
    if !(0.0..9e18).contains(&bytes) {
        return Err(refuse());
    }
    Ok(json!(bytes as i64))
}

fn read(path: &Path) -> Result<Value> {
    let step = || format!("--resources {}", path.display());
    let mut text = String::new();
    match path.as_os_str() == "-" {
        true => std::io::stdin().read_to_string(&mut text).map(drop),
        false => std::fs::read_to_string(path).map(|read| text = read),
    }
    .context(step)?;
    match serde_json::from_str(&text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Error::new(step()).hint("not an object, as linux.resources is")),
        Err(e) => Err(Error::new(format!("{}: {e}", step()))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_in_many_ways() {
        for (text, bytes) in [
            ("0", 0),
            ("-1", -1),
            ("67108864", 1 << 26),
            ("64m", 1 << 26),
            ("64M", 1 << 26),
            ("64MB", 1 << 26),
            ("64MiB", 1 << 26),
            ("1.5g", 3 << 29),
            ("32 k", 1 << 15),
            ("1b", 1),
        ] {
            assert_eq!(parse_bytes("--memory", text), Ok(json!(bytes)), "{text}");
        }
        for bad in [
            "", "m", "-2", "1x", "1ib", "1e400", "9999999p", "0x10", "NaN",
        ] {
            assert!(parse_bytes("--memory", bad).is_err(), "{bad}");
        }
    }
}
