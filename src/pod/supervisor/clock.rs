//! The pod's time.

use rustix::time::{ClockId, clock_gettime};

use crate::pod::lifecycle::Time;

/// The wall clock as it was at first, and how much time has passed since, sleep included: it never jumps.
#[derive(Debug)]
pub(super) struct Clock {
    offset: i128,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            offset: nanoseconds(ClockId::Realtime) - nanoseconds(ClockId::Boottime),
        }
    }

    /// One that goes on where another one has been: the wall clock may have been set back since.
    pub(super) fn not_before(time: Time) -> Self {
        let clock = Self::new();
        let behind = i128::from(time.0) - i128::from(clock.now().0);
        Self {
            offset: clock.offset + behind.max(0),
        }
    }

    pub(super) fn now(&self) -> Time {
        Time(u64::try_from(nanoseconds(ClockId::Boottime) + self.offset).unwrap_or(0))
    }
}

fn nanoseconds(clock: ClockId) -> i128 {
    let time = clock_gettime(clock);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}
