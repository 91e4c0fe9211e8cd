//! The lifecycle with a virtual clock: example by example (`examples`), and at random (`random`).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod beyond;
mod examples;
mod random;
mod rules;

use std::time::Duration;

use super::{ContainerSpec, Kind, PodSpec, RestartPolicy, Time};

/// A pod with this many init containers (`i0`, `i1`, ...) and apps (`a0`, `a1`, ...), and 30 s of grace.
pub(super) fn spec(restart_policy: RestartPolicy, inits: usize, apps: usize) -> PodSpec {
    let named =
        |kind: Kind, letter: char| move |n: usize| ContainerSpec::new(format!("{letter}{n}"), kind);
    PodSpec {
        restart_policy,
        grace: Duration::from_secs(30),
        containers: (0..inits)
            .map(named(Kind::Init, 'i'))
            .chain((0..apps).map(named(Kind::App, 'a')))
            .collect(),
        ..PodSpec::default()
    }
}

/// This many milliseconds after the pod was made.
pub(super) fn ms(millis: u64) -> Time {
    Time(1_000_000_000_000_000_000).after(Duration::from_millis(millis))
}
