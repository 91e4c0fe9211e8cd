//! Random lives of random pods: a world that answers the machine's actions legally, with random outcomes at random
//! times, and in which anything may happen: exits, a dying pause, stops, evictions, early and late ticks, and
//! events that cannot be.

macro_rules! hold {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

mod effects;
mod rules;
mod world;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::super::{
    Action, ContainerSpec, Event, Exit, Index, Kind, Phase, Pod, PodSpec, ProbeKind, ProbeSpec,
    RestartPolicy, RestartRule, RuleAction, Time,
};
use super::{ms, spec};

/// So many events at least, in as many lives as that takes.
const EVENTS: usize = 1_000_000;

#[test]
fn a_million_events_in_random_lives_keep_the_rules() {
    let (mut events, mut happened) = (0, 0);
    for seed in 1.. {
        match World::live(seed) {
            Ok(life) => {
                events += life.events;
                happened += life.happened;
            }
            Err(failure) => {
                let shortest = (seed..seed + 5_000)
                    .filter_map(|seed| World::live(seed).err())
                    .min_by_key(|f| f.steps)
                    .unwrap_or(failure);
                panic!("{}", shortest.report);
            }
        }
        // Those that cannot be do not count.
        if happened >= EVENTS {
            println!(
                "{happened} events, and {} that cannot be, in {seed} lives",
                events - happened
            );
            return;
        }
    }
}

/// A life that kept the rules.
struct Lived {
    events: usize,
    /// Those of them that could be.
    happened: usize,
}

/// What a broken rule looked like, and after how many events.
struct Failure {
    steps: usize,
    report: String,
}

/// Marsaglia's xorshift64: small, fast, and the same everywhere.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        let n = choices.len() as u64;
        choices[self.below(n) as usize]
    }
}

/// When each attempt at something was started, and when it ended or failed.
struct History {
    started: Option<Time>,
    attempts: Vec<(Time, Time)>,
    /// The longest delay.
    max: Duration,
}

impl Default for History {
    fn default() -> Self {
        Self {
            started: None,
            attempts: Vec::new(),
            max: Duration::from_secs(300),
        }
    }
}

/// A container as the world knows it, told only by the actions and events themselves.
#[derive(Default)]
struct Process {
    alive: bool,
    creating: bool,
    /// It got its stop signal then.
    asked: Option<Time>,
    killed: bool,
    /// When its grace is over, for a reason of its own.
    due: Option<Time>,
    /// It was told to end without any grace.
    at_once: bool,
    pre_stop_run: bool,
    /// Its postStart hook is over and went well; its startup probe has succeeded.
    hooked: bool,
    started_up: bool,
    unhealthy: bool,
    /// The run that ended last was.
    was_unhealthy: bool,
    /// It is ended to get other limits; the run that ended last was.
    resized: bool,
    was_resized: bool,
    /// Its limits are to be changed.
    resize_due: bool,
    /// When its run began; it took too long; the run that ended last did.
    began: Option<Time>,
    late: bool,
    was_late: bool,
    /// It has started in this sandbox.
    has_started: bool,
    /// Runs that do not count against its cap.
    forgiven: u32,
    oom: bool,
    /// Its last run in this sandbox ended well, or it has started in it if it is a sidecar.
    succeeded: bool,
    /// It has not ended since it, or its sandbox, began.
    fresh: bool,
    history: History,
    /// Runs that ended.
    ended: u32,
    last_exit: Option<i32>,
}

struct World {
    rng: Rng,
    now: Time,
    pod: Pod,
    spec: PodSpec,
    log: Vec<(Time, Event)>,
    /// Actions without an answer.
    pending: Vec<Action>,
    processes: Vec<Process>,
    /// Ephemeral containers, and whether they run.
    ephemeral: BTreeMap<String, bool>,
    /// Events that could be.
    happened: usize,
    making_volumes: History,
    sandboxes: History,
    volumes: bool,
    sandbox: bool,
    /// Pause died unasked.
    lost: bool,
    accepted: bool,
    start_requested: bool,
    /// The pod comes to its end: when the grace is over.
    stop: Option<Time>,
    /// Containers from this one on begin again; by a rule, or with grace until then.
    again: Option<(usize, Option<Time>)>,
    /// Failed, whatever its containers say.
    failed: bool,
    terminal: Option<Phase>,
}

/// Anything that a container may have, at random.
fn vary(container: &mut ContainerSpec, rng: &mut Rng) {
    if container.kind == Kind::Init && rng.one_in(3) {
        container.kind = Kind::Sidecar;
    }
    if container.kind == Kind::Sidecar {
        container.restart_policy = Some(RestartPolicy::Always);
    } else if rng.one_in(4) {
        let policies = [RestartPolicy::Never, RestartPolicy::OnFailure];
        container.restart_policy = Some(rng.of(&policies));
    }
    if container.restart_policy.is_some() && rng.one_in(2) {
        container.rules.push(RestartRule {
            action: rng.of(&[RuleAction::Restart, RuleAction::RestartAllContainers]),
            negated: rng.one_in(3),
            exit_codes: vec![1, 0],
        });
    }
    if container.kind == Kind::Init {
        return;
    }
    container.post_start = rng.one_in(4);
    container.pre_stop = rng.one_in(3);
    for kind in [
        ProbeKind::Startup,
        ProbeKind::Liveness,
        ProbeKind::Readiness,
    ] {
        let grace = rng.of(&[None, Some(0), Some(7)]).map(Duration::from_secs);
        if rng.one_in(4) {
            container.probes.push(ProbeSpec { kind, grace });
        }
    }
}

/// Anything that goes beyond Kubernetes, at random.
fn go_beyond(spec: &mut PodSpec, rng: &mut Rng) {
    spec.kubelet_order = rng.one_in(4);
    for i in 0..spec.containers.len() {
        let container = &mut spec.containers[i];
        if rng.one_in(6) {
            container.max_restarts = Some(rng.of(&[0, 1, 3]));
        }
        match container.kind {
            Kind::Init if rng.one_in(4) => {
                container.timeout = Some(Duration::from_secs(rng.of(&[1, 60])));
            }
            Kind::App => {
                let others = 0..spec.containers.len();
                let apps = others.filter(|&j| spec.containers[j].kind == Kind::App);
                // In either direction, but never in a circle.
                let backwards = spec.kubelet_order;
                let before: Vec<usize> = apps.filter(|&j| (j < i) ^ backwards && j != i).collect();
                if !before.is_empty() && rng.one_in(3) {
                    let first = rng.of(&before);
                    spec.containers[i].after.push(Index(first));
                }
            }
            _ => {}
        }
    }
}

type Checked = Result<(), String>;

impl World {
    /// Lives one life.
    fn live(seed: u64) -> Result<Lived, Failure> {
        let mut world = Self::new(seed);
        let lived = world.run();
        let (events, happened) = (world.log.len(), world.happened);
        lived.map(|()| Lived { events, happened }).map_err(|rule| {
            let mut report = format!("seed {seed}: {rule}\n{:?}\n", world.spec);
            let origin = ms(0);
            for (time, event) in &world.log {
                let _ = writeln!(report, "  {:?} {event:?}", time.since(origin));
            }
            let _ = write!(report, "{:?}", world.pod);
            Failure {
                steps: world.log.len(),
                report,
            }
        })
    }

    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let policies = [
            RestartPolicy::Always,
            RestartPolicy::OnFailure,
            RestartPolicy::Never,
        ];
        let mut spec = spec(
            rng.of(&policies),
            rng.below(4) as usize,
            1 + rng.below(3) as usize,
        );
        spec.grace = Duration::from_secs(rng.of(&[0, 1, 30]));
        spec.back_off.max = Duration::from_secs(rng.of(&[300, 300, 15, 3]));
        if rng.one_in(10) {
            spec.active_deadline = Some(Duration::from_secs(rng.of(&[5, 60, 1000])));
        }
        for container in &mut spec.containers {
            vary(container, &mut rng);
        }
        go_beyond(&mut spec, &mut rng);
        let max = spec.back_off.max;
        let process = |_: &ContainerSpec| Process {
            fresh: true,
            history: History {
                max,
                ..History::default()
            },
            ..Process::default()
        };
        Self {
            now: ms(0),
            pod: Pod::new(spec.clone(), ms(0)),
            processes: spec.containers.iter().map(process).collect(),
            rng,
            spec,
            log: Vec::new(),
            pending: Vec::new(),
            ephemeral: BTreeMap::new(),
            happened: 0,
            making_volumes: History::default(),
            sandboxes: History::default(),
            volumes: false,
            sandbox: false,
            lost: false,
            accepted: false,
            start_requested: false,
            stop: None,
            again: None,
            failed: false,
            terminal: None,
        }
    }

    fn run(&mut self) -> Checked {
        let steps = 5 + self.rng.below(60);
        for _ in 0..steps {
            if self.pod.finished() {
                break;
            }
            self.pass_time();
            let event = self.event();
            self.feed(event)?;
        }
        self.bring_to_an_end()?;
        self.replay()
    }

    fn pass_time(&mut self) {
        let millis = match self.rng.below(12) {
            0..5 => self.rng.below(3),
            5..8 => self.rng.below(2_000),
            8..10 => self.rng.below(20_000),
            10 => self.rng.below(400_000),
            _ => 599_000 + self.rng.below(3_000),
        };
        let before = self.now;
        self.now = before.after(Duration::from_millis(millis));
        if let Some(deadline) = self.pod.deadline() {
            // Mostly the supervisor's timer rings in time; sometimes to the nanosecond.
            if self.now > deadline && !self.rng.one_in(4) {
                self.now = deadline.max(before);
            }
        }
    }

    /// Feeds the event to the machine and checks everything.
    fn feed(&mut self, event: Event) -> Checked {
        self.log.push((self.now, event.clone()));
        if !self.possible(&event) {
            let mut before = self.pod.clone();
            let actions = self.pod.step(&event, self.now);
            hold!(actions.is_empty(), "acts on what cannot be: {actions:?}");
            before.now = self.pod.now;
            hold!(before == self.pod, "changes by what cannot be");
            return Ok(());
        }
        self.happened += 1;
        self.happen(&event);
        for action in self.pod.step(&event, self.now) {
            self.legal(action)?;
            self.carry_out(action);
        }
        self.check()
    }

    /// Whatever state it is in, a stop ends the pod in a few more steps.
    fn bring_to_an_end(&mut self) -> Checked {
        self.feed(Event::StopRequested { grace: None })?;
        for _ in 0..60 {
            if self.pod.finished() {
                break;
            }
            let event = match self.answer() {
                Some(event) => event,
                None => {
                    self.now = self.pod.deadline().unwrap_or(self.now);
                    self.exit().unwrap_or(Event::Tick)
                }
            };
            self.feed(event)?;
        }
        let everybody = self.processes.iter().all(|p| !p.alive && !p.creating);
        hold!(self.pod.finished() || !everybody, "does not end");
        for i in 0..self.processes.len() {
            if self.processes[i].alive {
                self.feed(Event::Exited {
                    container: Index(i),
                    exit: Exit::Signal(9),
                    oom_killed: false,
                    message: None,
                })?;
            }
        }
        while let Some(event) = self.answer() {
            self.feed(event)?;
        }
        hold!(self.pod.finished(), "does not end after the last exit");
        let succeeded = self.terminal == Some(Phase::Succeeded);
        hold!(
            (self.pod.exit_code() == 0) == succeeded,
            "exit code {}",
            self.pod.exit_code()
        );
        Ok(())
    }

    fn replay(&self) -> Checked {
        let mut again = Pod::new(self.spec.clone(), ms(0));
        for (time, event) in &self.log {
            again.step(event, *time);
        }
        hold!(again == self.pod, "a replay gives another state");
        Ok(())
    }
}
