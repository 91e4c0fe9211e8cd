//! What every test stands on: a throwaway world, the runtime under test, a census of what is left behind.

pub(crate) mod alone;
pub(crate) mod bundle;
pub(crate) mod case;
pub(crate) mod census;
pub(crate) mod net;
pub(crate) mod pod;
pub(crate) mod process;
pub(crate) mod requires;

use std::time::{Duration, Instant};

pub(crate) use bundle::Bundle;
pub(crate) use case::{Begun, Case, Done, binary, is_runp};
pub(crate) use pod::{Pod, Shared, sh};
pub(crate) use requires::{Need, has, strict};

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What takes at most `limit` on a machine that does nothing else may take this long now: as many times more as a process
/// takes that does nothing, for which two milliseconds are enough.
pub(crate) fn at_most(limit: Duration) -> Duration {
    let begin = Instant::now();
    for _ in 0..10 {
        std::process::Command::new("true").status().unwrap();
    }
    let times = begin.elapsed().as_millis().div_ceil(20);
    limit * u32::try_from(times).unwrap().max(1)
}

/// Asks until there is an answer, for at most [`PATIENCE`].
#[track_caller]
pub(crate) fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    eventually_or(ask, || what.to_owned())
}

/// The same, with a report that is made only if there is no answer.
#[track_caller]
pub(crate) fn eventually_or<T>(
    mut ask: impl FnMut() -> Option<T>,
    report: impl FnOnce() -> String,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        if Instant::now() > deadline {
            panic!("waited {PATIENCE:?} in vain: {}", report());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the kernel is at least this version.
pub(crate) fn kernel_at_least(major: u32, minor: u32) -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}
