//! Where on the picture a time is.

use std::time::Duration;

use super::Timeline;
use crate::pod::lifecycle::Time;

/// A stretch in which nothing happens is folded if it is so many times longer than everything else together: an hour
/// of running must not hide the tenth of a second in which the pod started.
const FOLD_FROM: u32 = 8;

/// The share of the picture that a folded stretch gets.
const FOLD_SHARE: f64 = 0.14;

/// From times to places: linear, except that the longest eventless stretch may be folded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    from: Time,
    to: Time,
    fold: Option<(Time, Time)>,
}

/// A labelled place on the axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    /// From 0 to 1.
    pub(super) place: f64,
    /// Time since the beginning.
    pub(super) label: String,
}

impl Axis {
    pub(super) fn of(timeline: &Timeline) -> Self {
        let spans = timeline.rows.iter().flat_map(|r| &r.spans);
        let marks = timeline.rows.iter().flat_map(|r| &r.marks);
        let mut times: Vec<Time> = spans
            .flat_map(|s| [s.from, s.to])
            .chain(marks.map(|m| m.at))
            .chain([timeline.from, timeline.to])
            .collect();
        times.sort();
        let longest = times
            .windows(2)
            .map(|pair| (pair[0], pair[1]))
            .max_by_key(|(from, to)| to.since(*from));
        let all = timeline.to.since(timeline.from);
        let dominates = |(from, to): &(Time, Time)| {
            let stretch = to.since(*from);
            stretch < all && stretch > (all - stretch) * FOLD_FROM
        };
        Self {
            from: timeline.from,
            to: timeline.to,
            fold: longest.filter(dominates),
        }
    }

    /// From 0 to 1.
    pub(super) fn place(&self, at: Time) -> f64 {
        let share = |from: Time, to: Time| ratio(to.since(from), self.to.since(self.from));
        let at = at.clamp(self.from, self.to);
        let Some((fold, unfold)) = self.fold else {
            return share(self.from, at);
        };
        let drawn = 1.0 - share(fold, unfold);
        let scale = (1.0 - FOLD_SHARE) / drawn;
        if at <= fold {
            scale * share(self.from, at)
        } else if at < unfold {
            let folded = ratio(at.since(fold), unfold.since(fold));
            scale * share(self.from, fold) + FOLD_SHARE * folded
        } else {
            scale * (drawn - share(at, self.to)) + FOLD_SHARE
        }
    }

    /// The middle of what is folded, and how long it is.
    pub(super) fn fold(&self) -> Option<(f64, Duration)> {
        let (from, to) = self.fold?;
        Some((
            f64::midpoint(self.place(from), self.place(to)),
            to.since(from),
        ))
    }

    /// Round times, at most about `most` of them, and the end of a fold.
    pub(super) fn ticks(&self, most: usize) -> Vec<Tick> {
        let (scaled_to, after) = match self.fold {
            Some((fold, unfold)) => (fold, Some(unfold)),
            None => (self.to, None),
        };
        let length = scaled_to.since(self.from);
        let most = most.max(1);
        let step = step(length, most);
        let rounds = (0..).map(|n| self.from.after(step * n));
        rounds
            .take(most + 1) // also where the times of a broken journal are beyond all measure
            .take_while(|at| *at <= scaled_to)
            .chain(after)
            .map(|at| Tick {
                place: self.place(at),
                label: match at.since(self.from) {
                    Duration::ZERO => "0".to_owned(),
                    since => duration(since),
                },
            })
            .collect()
    }
}

fn ratio(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() {
        0.0
    } else {
        part.as_secs_f64() / whole.as_secs_f64()
    }
}

/// The smallest round step of which at most `most` fit into `length`.
fn step(length: Duration, most: usize) -> Duration {
    const LONG: [u64; 16] = [
        60, 120, 300, 600, 900, 1800, // minutes
        3600, 7200, 10_800, 21_600, 43_200, // hours
        86_400, 172_800, 432_000, 864_000, 8_640_000, // days
    ];
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    let short = (2..=10u32).flat_map(|power| [1, 2, 5].map(|n| n * 10u64.pow(power)));
    let short = short.chain([20_000_000_000, 30_000_000_000]);
    let short = short.map(Duration::from_nanos);
    let mut steps = short.chain(LONG.map(Duration::from_secs));
    steps
        .find(|step| *step * most >= length)
        .unwrap_or(length)
        .max(Duration::from_nanos(1))
}

/// A duration for people, three digits or two units: `1.25 ms`, `312 ms`, `4.2 s`, `3m 12s`, `5h 7m`, `12d 3h`.
#[must_use]
pub fn duration(d: Duration) -> String {
    let secs = d.as_secs();
    let two = |big: u64, unit: &str, small: u64, part: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit} {small}{part}"),
    };
    match secs {
        0 if d < Duration::from_micros(999_500) => {
            format!("{} ms", three_digits(d.as_secs_f64() * 1e3))
        }
        0..60 => format!("{} s", three_digits(d.as_secs_f64().min(59.9))),
        60..3600 => two(secs / 60, "m", secs % 60, "s"),
        3600..86_400 => two(secs / 3600, "h", secs / 60 % 60, "m"),
        _ => two(secs / 86_400, "d", secs / 3600 % 24, "h"),
    }
}

/// Three digits, without trailing zeros behind the point.
fn three_digits(x: f64) -> String {
    let decimals = match x {
        _ if x < 9.995 => 2,
        _ if x < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{x:.decimals$}");
    if decimals == 0 {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
