//! Synthetic journals and what is computed from them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::super::journal::{Description, Entry};
use super::super::lifecycle::{
    ContainerSpec, Event, Exit, Kind, PodSpec, RestartPolicy, StartFailure,
};
use super::*;

/// This many microseconds after 2026-01-02 03:04:05 UTC.
pub(super) fn us(micros: u64) -> Time {
    Time(1_767_323_045_000_000_000).after(Duration::from_micros(micros))
}

fn started(container: usize) -> Event {
    Event::Started {
        container: Index(container),
        pid: 100,
        id: format!("hello.{container}"),
    }
}

fn exited(container: usize, exit: Exit) -> Event {
    Event::Exited {
        container: Index(container),
        exit,
        oom_killed: false,
        message: None,
    }
}

/// Replays events, told with their times in microseconds.
fn replay(
    policy: RestartPolicy,
    containers: &[(&str, Kind)],
    events: &[(u64, Event)],
    now: u64,
) -> Timeline {
    let containers = containers
        .iter()
        .map(|(name, kind)| ContainerSpec::new(*name, *kind));
    let spec = PodSpec {
        restart_policy: policy,
        grace: Duration::from_secs(30),
        containers: containers.collect(),
        ..PodSpec::default()
    };
    let entry = |(at, event): &(u64, Event)| (us(*at), Entry::Event(event.clone()));
    let record = Record {
        pod: Description {
            name: "hello".into(),
            namespace: "default".into(),
            uid: String::new(),
            boot_id: String::new(),
            spec,
        },
        created: us(0),
        entries: events.iter().map(entry).collect(),
        torn: None,
    };
    Timeline::of(&record, us(now))
}

/// Volumes, sandbox, and the request to start: 2.5 ms.
fn set_up() -> Vec<(u64, Event)> {
    vec![
        (0, Event::Accepted),
        (0, Event::StartRequested),
        (500, Event::VolumesReady),
        (2_500, Event::SandboxStarted { pid: 99 }),
    ]
}

/// Two init containers, two apps; everything ends well.
pub(super) fn hello() -> Timeline {
    let mut events = set_up();
    events.extend([
        (5_000, started(0)),
        (105_000, exited(0, Exit::Code(0))),
        (107_500, started(1)),
        (187_500, exited(1, Exit::Code(0))),
        (190_000, started(2)),
        (191_000, started(3)),
        (291_000, exited(3, Exit::Code(0))),
        (340_000, exited(2, Exit::Code(0))),
        (342_000, Event::SandboxExited),
    ]);
    let containers = [
        ("fetch", Kind::Init),
        ("migrate", Kind::Init),
        ("web", Kind::App),
        ("worker", Kind::App),
    ];
    replay(RestartPolicy::Never, &containers, &events, 9_000_000)
}

/// An init container that fails and is retried, an app that cannot be made at first, is killed, and runs for hours.
pub(super) fn troubled() -> Timeline {
    let s = 1_000_000;
    let mut events = set_up();
    events.extend([
        (5_000, started(0)),
        (s, exited(0, Exit::Code(3))),
        (s + 4_000, started(0)),
        (2 * s, exited(0, Exit::Code(3))),
        (12 * s, Event::Tick),
        (12 * s + 4_000, started(0)),
        (13 * s, exited(0, Exit::Code(0))),
        (
            13 * s + 2_000,
            Event::StartFailed {
                container: Index(1),
                reason: StartFailure::CreateContainerError,
                message: "no such image".into(),
            },
        ),
        (13 * s + 4_000, started(1)),
        (15 * s, exited(1, Exit::Signal(9))),
        (25 * s, Event::Tick),
        (25 * s + 4_000, started(1)),
    ]);
    let containers = [("wait", Kind::Init), ("web", Kind::App)];
    replay(RestartPolicy::Always, &containers, &events, 7225 * s)
}

#[test]
fn spans_follow_the_states() {
    let timeline = troubled();
    assert_eq!(timeline.to, us(7_225_000_000));
    let told: Vec<String> = timeline.rows.iter().map(tell).collect();
    assert_eq!(
        told,
        [
            "volumes: Creating 0-500 | 500 ready | ready",
            "sandbox: Waiting 0-500, Creating 500-2500, Running 2500-7225000000 | | running",
            "wait: Waiting 0-2500, Creating 2500-5000, Running 5000-1000000, \
             Creating#1 1000000-1004000, Running#1 1004000-2000000, BackOff#1 2000000-12000000, \
             Creating#2 12000000-12004000, Running#2 12004000-13000000 | \
             1000000 exit 3!, 2000000 exit 3!#1, 13000000 exit 0#2 | exit 0, 2 restarts",
            "web: Waiting 0-13000000, Creating 13000000-13002000, Creating 13002000-13004000, \
             Running 13004000-15000000, BackOff 15000000-25000000, Creating#1 25000000-25004000, \
             Running#1 25004000-7225000000 | \
             13002000 CreateContainerError!, 15000000 exit 137, SIGKILL! | running, 1 restart",
        ]
    );
}

fn tell(row: &Row) -> String {
    let since = |at: Time| at.since(us(0)).as_micros();
    let run = |n: u32| {
        if n == 0 {
            String::new()
        } else {
            format!("#{n}")
        }
    };
    let spans = row.spans.iter().map(|s| {
        let (from, to) = (since(s.from), since(s.to));
        format!("{:?}{} {from}-{to}", s.activity, run(s.run))
    });
    let marks = row.marks.iter().map(|m| {
        let bad = if m.ok { "" } else { "!" };
        format!("{} {}{bad}{}", since(m.at), m.note, run(m.run))
    });
    let spans = spans.collect::<Vec<_>>().join(", ");
    let marks = marks.collect::<Vec<_>>().join(", ");
    format!("{}: {spans} | {marks} | {}", row.name, row.outcome).replace("|  |", "| |")
}

#[test]
fn what_never_came_to_its_turn_was_not_started() {
    let mut events = set_up();
    events.extend([
        (5_000, started(0)),
        (9_000, exited(0, Exit::Code(1))),
        (10_000, Event::SandboxExited),
    ]);
    let containers = [("fetch", Kind::Init), ("web", Kind::App)];
    let timeline = replay(RestartPolicy::Never, &containers, &events, 99_000);
    assert_eq!((timeline.phase, timeline.to), (Phase::Failed, us(10_000)));
    assert_eq!(
        tell(&timeline.rows[3]),
        "web: Waiting 0-9000 | | not started"
    );
    assert!(!timeline.rows[3].ongoing);
}

#[test]
fn what_fails_is_tried_again() {
    let failed = |message: &str| Event::VolumesFailed {
        message: message.into(),
    };
    let events = [
        (0, Event::Accepted),
        (1_000, failed("no such directory")),
        (2_000, failed("no such directory")),
        (10_002_000, Event::Tick),
        (10_003_000, Event::VolumesReady),
        (
            10_004_000,
            Event::SandboxFailed {
                message: "clone3: EPERM".into(),
            },
        ),
        (10_005_000, Event::SandboxStarted { pid: 1 }),
        (10_006_000, Event::SandboxExited),
        (10_006_000, Event::StartRequested),
        (10_006_000, started(0)),
    ];
    let timeline = replay(
        RestartPolicy::Always,
        &[("web", Kind::App)],
        &events,
        10_007_000,
    );
    assert_eq!(
        tell(&timeline.rows[0]),
        "volumes: Creating 0-1000, Creating 1000-2000, BackOff 2000-10002000, \
         Creating 10002000-10003000 | 1000 FailedMount!, 2000 FailedMount!, 10003000 ready | ready"
    );
    assert_eq!(
        tell(&timeline.rows[1]),
        "sandbox: Waiting 0-10003000, Creating 10003000-10004000, Creating 10004000-10005000, \
         Running 10005000-10006000, BackOff 10006000-10007000 | \
         10004000 FailedCreatePodSandBox!, 10006000 pause died! | back-off, pause died"
    );
}

#[test]
fn a_pod_of_which_nothing_is_known_has_a_timeline() {
    let nothing = replay(RestartPolicy::Always, &[("web", Kind::App)], &[], 0);
    let mut ages = nothing.clone();
    ages.to = Time(u64::MAX);
    for timeline in [nothing, ages] {
        assert!(svg::render(&timeline).ends_with("</svg>\n"));
        for width in 0..100 {
            let text = text::render(&timeline, width, text::Glyphs::Unicode);
            assert!(text.lines().all(|line| line.chars().count() <= width));
        }
    }
}

#[test]
fn durations_are_short() {
    let told = |nanos| duration(Duration::from_nanos(nanos));
    assert_eq!(told(0), "0 ms");
    assert_eq!(told(1_250_000), "1.25 ms");
    assert_eq!(told(50_000_000), "50 ms");
    assert_eq!(told(312_400_000), "312 ms");
    assert_eq!(told(999_400_000), "999 ms");
    assert_eq!(told(999_500_000), "1 s");
    assert_eq!(told(9_994_000_000), "9.99 s");
    assert_eq!(told(59_999_000_000), "59.9 s");
    assert_eq!(told(60_000_000_000), "1m");
    assert_eq!(told(3_599_900_000_000), "59m 59s");
    assert_eq!(told(7_384_000_000_000), "2h 3m");
    assert_eq!(told(100 * 3_600_000_000_000), "4d 4h");
}
