//! `runp events`.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;

use crate::cgroup::Stats;
use crate::container::{self, Event};
use crate::error::{Error, Result};
use crate::state::{ContainerId, Store};

/// Print what a container uses and when it runs out of memory, a line of JSON each, until it ends
#[derive(Debug, clap::Args)]
pub(super) struct Events {
    /// How often what it uses is printed: 5s, 500ms, 1m30s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    interval: Duration,
    /// Print once what it uses, and end
    #[arg(long)]
    stats: bool,
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
}

/// A line, with runc's names.
#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a ContainerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Stats>,
}

impl Events {
    pub(super) fn run(self, store: &Store) -> Result<i32> {
        if self.stats {
            self.print("stats", Some(&container::stats(store, &self.id)?))?;
            return Ok(0);
        }
        container::watch(store, &self.id, self.interval, |event| match event {
            Event::Stats(stats) => self.print("stats", Some(&stats)),
            Event::Oom => self.print("oom", None),
        })?;
        Ok(0)
    }

    /// Whether there is still a reader.
    fn print(&self, kind: &'static str, data: Option<&Stats>) -> Result<bool> {
        let id = &self.id;
        let line = serde_json::to_string(&Line { kind, id, data })
            .map_err(|e| Error::new(format!("write as JSON: {e}")))?;
        let mut stdout = std::io::stdout().lock();
        match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            Err(e) => Err(Error::sys("write to standard output", e)),
        }
    }
}

/// A duration as Go writes it: numbers, each with a unit.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: 5s, 500ms, 1m30s");
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| c.is_ascii_alphabetic())
            .ok_or_else(wrong)?;
        let (number, units) = rest.split_at(digits);
        let end = units.find(|c: char| !c.is_ascii_alphabetic());
        let (unit, tail) = units.split_at(end.unwrap_or(units.len()));
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        seconds += number.parse::<f64>().map_err(|_| wrong())? * scale;
        rest = tail;
    }
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if !time.is_zero() && seconds < 1e9 => Ok(time),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_in_go() {
        let ok = |text| duration(text).ok();
        assert_eq!(ok("5s"), Some(Duration::from_secs(5)));
        assert_eq!(ok("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(ok("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(ok("1.5s"), Some(Duration::from_millis(1500)));
        for bad in ["", "0s", "-1s", "5", "s", "5x", "1e99h"] {
            assert_eq!(ok(bad), None, "{bad:?}");
        }
    }
}
