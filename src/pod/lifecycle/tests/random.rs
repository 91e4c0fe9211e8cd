//! Random lives of random pods: a world that answers the machine's actions legally, with random outcomes at random
//! times, and in which anything may happen: exits, a dying pause, stops, evictions, early and late ticks, and
//! events that cannot be.

use std::fmt::Write;
use std::time::Duration;

use super::super::{
    Action, Container, Event, Exit, Index, Kind, Phase, Pod, PodSpec, RestartPolicy, Sandbox,
    StartFailure, State, Time, Volumes,
};
use super::{ms, spec};

const SEQUENCES: u64 = 100_000;

#[test]
fn hundred_thousand_random_lives_keep_the_rules() {
    for seed in 1..=SEQUENCES {
        if let Err(failure) = World::live(seed) {
            let shortest = (seed..seed + 5_000)
                .filter_map(|seed| World::live(seed).err())
                .min_by_key(|f| f.steps)
                .unwrap_or(failure);
            panic!("{}", shortest.report);
        }
    }
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
#[derive(Default)]
struct History {
    started: Option<Time>,
    attempts: Vec<(Time, Time)>,
}

/// A container as the world knows it, told only by the actions and events themselves.
#[derive(Default)]
struct Process {
    alive: bool,
    creating: bool,
    signalled: Option<i32>,
    /// Its last run in this sandbox ended well.
    succeeded: bool,
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
    making_volumes: History,
    sandboxes: History,
    volumes: bool,
    sandbox: bool,
    /// Pause died unasked.
    lost: bool,
    accepted: bool,
    start_requested: bool,
    /// When SIGKILL is due.
    stop: Option<Time>,
    evicted: bool,
    terminal: Option<Phase>,
}

type Checked = Result<(), String>;

macro_rules! hold {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

impl World {
    /// Lives one life.
    fn live(seed: u64) -> Result<(), Failure> {
        let mut world = Self::new(seed);
        world.run().map_err(|rule| {
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
        Self {
            now: ms(0),
            pod: Pod::new(spec.clone(), ms(0)),
            processes: spec.containers.iter().map(|_| Process::default()).collect(),
            rng,
            spec,
            log: Vec::new(),
            pending: Vec::new(),
            making_volumes: History::default(),
            sandboxes: History::default(),
            volumes: false,
            sandbox: false,
            lost: false,
            accepted: false,
            start_requested: false,
            stop: None,
            evicted: false,
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

    /// Something that can happen.
    fn event(&mut self) -> Event {
        if !self.accepted && !self.rng.one_in(10) {
            return Event::Accepted;
        }
        if self.accepted && !self.start_requested && self.rng.one_in(2) {
            return Event::StartRequested;
        }
        match self.rng.below(40) {
            0 => Event::StopRequested {
                grace: self
                    .rng
                    .of(&[None, Some(0), Some(5), Some(100)])
                    .map(Duration::from_secs),
            },
            1 if self.rng.one_in(3) => Event::Evicted {
                message: String::new(),
            },
            2..4 if self.sandbox => Event::SandboxExited,
            4..7 => Event::Tick,
            7..10 => self.out_of_the_blue(),
            10..18 => self.exit().or_else(|| self.answer()).unwrap_or(Event::Tick),
            _ => self.answer().or_else(|| self.exit()).unwrap_or(Event::Tick),
        }
    }

    /// The answer to one of the pending actions.
    fn answer(&mut self) -> Option<Event> {
        if self.pending.is_empty() {
            return None;
        }
        let n = self.rng.below(self.pending.len() as u64) as usize;
        let message = String::new();
        let pid = 1 + self.rng.below(1000) as i32;
        let fails = self.rng.one_in(5);
        Some(match self.pending[n] {
            Action::MakeVolumes if fails => Event::VolumesFailed { message },
            Action::MakeVolumes => Event::VolumesReady,
            Action::StartSandbox if fails => Event::SandboxFailed { message },
            Action::StartSandbox => Event::SandboxStarted { pid },
            Action::StopSandbox => Event::SandboxExited,
            Action::Start { container, .. } if fails => Event::StartFailed {
                container,
                reason: self.rng.of(&[
                    StartFailure::CreateContainerConfigError,
                    StartFailure::CreateContainerError,
                    StartFailure::StartError,
                ]),
                message,
            },
            Action::Start { container, .. } => Event::Started {
                container,
                pid,
                id: String::new(),
            },
            Action::Signal { .. } => unreachable!("signals are not answered"),
        })
    }

    /// The end of a container that runs.
    fn exit(&mut self) -> Option<Event> {
        let n = self.processes.len() as u64;
        let container = Index(self.rng.below(n) as usize);
        let process = &self.processes[container.0];
        let signalled = process.signalled.filter(|_| !self.rng.one_in(3));
        let exit = match signalled {
            Some(signal) => Exit::Signal(signal as u8),
            None => Exit::Code(self.rng.of(&[0, 0, 0, 1, 255])),
        };
        process.alive.then(|| Event::Exited {
            container,
            exit,
            oom_killed: self.rng.one_in(20),
        })
    }

    /// Any event at all.
    fn out_of_the_blue(&mut self) -> Event {
        let message = String::new();
        let n = self.processes.len() as u64 + 1;
        let container = Index(self.rng.below(n) as usize);
        match self.rng.below(10) {
            0 => Event::Accepted,
            1 => Event::StartRequested,
            2 => Event::VolumesReady,
            3 => Event::VolumesFailed { message },
            4 => Event::SandboxStarted { pid: 7 },
            5 => Event::SandboxFailed { message },
            6 => Event::SandboxExited,
            7 => Event::Started {
                container,
                pid: 7,
                id: message,
            },
            8 => Event::StartFailed {
                container,
                reason: StartFailure::StartError,
                message,
            },
            _ => Event::Exited {
                container,
                exit: Exit::Code(0),
                oom_killed: false,
            },
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
        self.happen(&event);
        for action in self.pod.step(&event, self.now) {
            self.legal(action)?;
            self.carry_out(action);
        }
        self.check()
    }

    fn possible(&self, event: &Event) -> bool {
        let pending = |action| self.pending.contains(&action);
        let process = |c: &Index| self.processes.get(c.0);
        match event {
            _ if self.pod.finished() => false,
            Event::Accepted => !self.accepted,
            Event::StartRequested => !self.start_requested,
            Event::VolumesReady | Event::VolumesFailed { .. } => pending(Action::MakeVolumes),
            Event::SandboxStarted { .. } | Event::SandboxFailed { .. } => {
                pending(Action::StartSandbox)
            }
            Event::SandboxExited => self.sandbox,
            Event::Started { container, .. } | Event::StartFailed { container, .. } => {
                process(container).is_some_and(|p| p.creating)
            }
            Event::Exited { container, .. } => process(container).is_some_and(|p| p.alive),
            Event::Evicted { .. } => self.terminal.is_none(),
            Event::StopRequested { .. } | Event::Tick => true,
        }
    }

    /// What the event does to the world.
    fn happen(&mut self, event: &Event) {
        let now = self.now;
        match event {
            Event::Accepted => self.accepted = true,
            Event::StartRequested => self.start_requested = true,
            Event::VolumesReady => {
                self.volumes = true;
                self.answered(Action::MakeVolumes);
            }
            Event::VolumesFailed { .. } => {
                self.making_volumes.end(now);
                self.answered(Action::MakeVolumes);
            }
            Event::SandboxStarted { .. } => {
                self.sandbox = true;
                self.lost = false;
                self.answered(Action::StartSandbox);
            }
            Event::SandboxFailed { .. } => {
                self.sandboxes.end(now);
                self.answered(Action::StartSandbox);
            }
            Event::SandboxExited => {
                self.sandbox = false;
                self.sandboxes.end(now);
                self.lost = self.stop.is_none() && self.terminal.is_none();
                self.answered(Action::StopSandbox);
                for process in &mut self.processes {
                    process.succeeded = false;
                }
            }
            Event::Started { container, .. } => {
                self.start_answered(*container);
                self.processes[container.0].alive = true;
            }
            Event::StartFailed {
                container, reason, ..
            } => {
                self.start_answered(*container);
                let made = *reason == StartFailure::StartError;
                self.processes[container.0].end(now, made.then_some(128), false);
            }
            Event::Exited {
                container,
                exit,
                oom_killed,
            } => {
                let code = match exit {
                    Exit::Code(code) => i32::from(*code),
                    Exit::Signal(signal) => 128 + i32::from(*signal),
                };
                let well = code == 0 && !oom_killed && self.sandbox;
                self.processes[container.0].end(now, Some(code), well);
            }
            Event::StopRequested { grace } => {
                let at = now.after(grace.unwrap_or(self.spec.grace));
                self.stop = Some(self.stop.map_or(at, |stop| stop.min(at)));
            }
            Event::Evicted { .. } => {
                self.stop = Some(now);
                self.evicted = true;
            }
            Event::Tick => {}
        }
    }

    fn answered(&mut self, action: Action) {
        self.pending.retain(|a| *a != action);
    }

    fn start_answered(&mut self, index: Index) {
        self.pending
            .retain(|a| !matches!(a, Action::Start { container, .. } if *container == index));
        self.processes[index.0].creating = false;
    }

    /// Whether the action may be carried out in this world, in this moment.
    fn legal(&self, action: Action) -> Checked {
        let busy = self.processes.iter().any(|p| p.alive || p.creating);
        let ended = self.stop.is_some() || self.terminal.is_some();
        let pending = self.pending.contains(&action);
        hold!(!pending, "{action:?} while it is being carried out");
        match action {
            Action::MakeVolumes => {
                hold!(self.accepted && !self.volumes, "volumes twice or too soon");
                hold!(!ended, "volumes after the end");
                self.making_volumes.legal(self.now)?;
            }
            Action::StartSandbox => {
                hold!(self.volumes, "a sandbox before the volumes");
                hold!(!self.sandbox && !busy, "a sandbox beside another");
                hold!(!ended, "a sandbox after the end");
                self.sandboxes.legal(self.now)?;
            }
            Action::StopSandbox => {
                hold!(
                    self.sandbox && !busy,
                    "stops a sandbox that is not up or in use"
                );
            }
            Action::Start { container, restart } => {
                self.start_is_legal(container, restart)?;
                hold!(!ended, "a start after the end");
            }
            Action::Signal { container, signal } => {
                let process = &self.processes[container.0];
                hold!(process.alive, "signals a container that does not run");
                let stronger = match process.signalled {
                    None => true,
                    Some(before) => before != signal && before != libc::SIGKILL,
                };
                hold!(stronger, "signals twice");
                hold!(self.lost || self.stop.is_some(), "a signal for no reason");
                let due = self.lost || self.stop.is_some_and(|at| self.now >= at);
                let expected = if due { libc::SIGKILL } else { libc::SIGTERM };
                hold!(signal == expected, "signal {signal}, not {expected}");
            }
        }
        Ok(())
    }

    fn start_is_legal(&self, container: Index, restart: u32) -> Checked {
        let process = &self.processes[container.0];
        hold!(self.sandbox, "a start without a sandbox");
        hold!(
            self.start_requested,
            "a start that nobody asked for ({restart})"
        );
        hold!(
            !process.alive && !process.creating,
            "a start of what is there"
        );
        hold!(restart == process.ended, "restart {restart} is misnumbered");
        process.history.legal(self.now)?;
        let policy = self.spec.restart_policy;
        if policy == RestartPolicy::Never {
            hold!(process.last_exit.is_none(), "a restart under Never");
        }
        let app = self.spec.containers[container.0].kind == Kind::App;
        if app && policy == RestartPolicy::OnFailure {
            hold!(process.last_exit != Some(0), "a restart after a success");
        }
        for (i, p) in self.processes.iter().enumerate() {
            if self.spec.containers[i].kind == Kind::Init && i != container.0 {
                hold!(!p.alive && !p.creating, "{} beside init {i}", container.0);
                hold!(
                    p.succeeded || i > container.0,
                    "{} before init {i}",
                    container.0
                );
            }
        }
        hold!(app || !process.succeeded, "an init after its success");
        Ok(())
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Start { container, .. } => {
                let process = &mut self.processes[container.0];
                process.creating = true;
                process.signalled = None;
                process.history.started = Some(self.now);
                self.pending.push(action);
            }
            Action::Signal { container, signal } => {
                self.processes[container.0].signalled = Some(signal);
            }
            Action::MakeVolumes => {
                self.making_volumes.started = Some(self.now);
                self.pending.push(action);
            }
            Action::StartSandbox => {
                self.sandboxes.started = Some(self.now);
                self.pending.push(action);
            }
            Action::StopSandbox => self.pending.push(action),
        }
    }

    /// What must be true after every step.
    fn check(&mut self) -> Checked {
        let pod = &self.pod;
        let phase = pod.phase();
        if let Some(terminal) = self.terminal {
            hold!(phase == terminal, "{terminal:?} became {phase:?}");
        }
        if matches!(phase, Phase::Succeeded | Phase::Failed) {
            self.terminal = Some(phase);
        }
        if self.evicted {
            hold!(phase == Phase::Failed, "evicted and not failed");
        }
        if let Volumes::BackOff { until, .. } = pod.volumes() {
            hold!(until == self.making_volumes.may_start(), "volumes wait");
        }
        if let Sandbox::BackOff { until, .. } = pod.sandbox() {
            hold!(until == self.sandboxes.may_start(), "the sandbox waits");
        }
        let outstanding = pod.outstanding();
        let same = outstanding.len() == self.pending.len()
            && self.pending.iter().all(|a| outstanding.contains(a));
        hold!(same, "waits for {outstanding:?}");
        for (i, (c, p)) in pod.containers().iter().zip(&self.processes).enumerate() {
            p.agrees(c).map_err(|e| format!("container {i}: {e}"))?;
            let must = (self.stop.is_some() || !self.sandbox) && p.alive;
            hold!(!must || p.signalled.is_some(), "{i} is not told to end");
            let waits = matches!(c.state, State::BackOff { .. });
            let may_wait = self.sandbox && self.stop.is_none();
            hold!(!waits || may_wait, "{i} waits for a start that never comes");
            let kill = p.alive && self.stop.is_some_and(|at| self.now >= at);
            hold!(!kill || p.signalled == Some(libc::SIGKILL), "{i} lives on");
        }
        self.moves()
    }

    /// The machine always waits for something that will come, or it is over and nothing is left.
    fn moves(&self) -> Checked {
        let busy = self.processes.iter().any(|p| p.alive || p.creating);
        let deadline = self.pod.deadline();
        hold!(deadline.is_none_or(|at| at > self.now), "an old deadline");
        if self.pod.finished() {
            let left = busy || self.sandbox || !self.pending.is_empty() || deadline.is_some();
            hold!(!left, "finished, and something is left");
            hold!(self.terminal.is_some(), "finished without a phase");
            return Ok(());
        }
        let for_the_user = !self.accepted || (self.sandbox && !self.start_requested);
        hold!(
            for_the_user || busy || deadline.is_some() || !self.pending.is_empty(),
            "stands still"
        );
        Ok(())
    }

    /// Whatever state it is in, a stop ends the pod in a few more steps.
    fn bring_to_an_end(&mut self) -> Checked {
        self.feed(Event::StopRequested { grace: None })?;
        for _ in 0..40 {
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

impl History {
    fn end(&mut self, now: Time) {
        self.attempts.extend(self.started.take().map(|s| (s, now)));
    }

    fn legal(&self, now: Time) -> Checked {
        hold!(now >= self.may_start(), "a start within the back-off");
        Ok(())
    }

    /// The documented back-off, computed from the whole history: immediately, then 10 s, 20 s, ... 300 s after the
    /// end; anew after more than ten minutes.
    fn may_start(&self) -> Time {
        let good = |(start, end): &(Time, Time)| end.since(*start) > Duration::from_secs(600);
        let Some(last) = self.attempts.last() else {
            return Time(0);
        };
        let first = (1..self.attempts.len())
            .rev()
            .find(|&i| good(&self.attempts[i]));
        let restarts = self.attempts.len() - 1 - first.unwrap_or(0);
        match restarts {
            0 => last.1,
            n => last.1.after(Duration::from_secs(match n {
                1 => 10,
                2 => 20,
                3 => 40,
                4 => 80,
                5 => 160,
                _ => 300,
            })),
        }
    }
}

impl Process {
    fn end(&mut self, now: Time, exit: Option<i32>, well: bool) {
        self.alive = false;
        self.succeeded = well;
        self.history.end(now);
        if exit.is_some() {
            self.ended += 1;
            self.last_exit = exit;
        }
    }

    /// The machine's idea of the container and the world's.
    fn agrees(&self, container: &Container) -> Checked {
        let state = &container.state;
        let alive = matches!(state, State::Running { .. });
        hold!(alive == self.alive, "runs in one world only: {state:?}");
        hold!(
            (*state == State::Creating) == self.creating,
            "is created in one world only"
        );
        if let State::BackOff { until, .. } = state {
            hold!(*until == self.history.may_start(), "a wrong back-off");
        }
        let exit = container.last.as_ref().map(|t| t.exit_code);
        hold!(exit == self.last_exit, "a wrong exit code");
        Ok(())
    }
}
