//! The event loop that carries the lifecycle's actions out.
//!
//! One process per pod, with one thread. It decides nothing: what happens (a process ended, a signal, a request, a time
//! has come) becomes an [`Event`], which is written to the journal, then told to the [`Life`], which answers with what is
//! to be done; the outcome of that is an event again.
//!
//! It waits with poll(2): a pod has a few dozen files at most, and a list that is made anew for every wait can never
//! hold a file that is closed already.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal as SignalName};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};
use rustix::time::{ClockId, clock_gettime};

use super::container::{self, Output};
use super::control::{self, Listener, Request};
use super::journal::{self, Entry, Journal};
use super::lifecycle::{Action, Event, Index, Kind, Pod as Life, StartFailure, Time};
use super::logs::Stream;
use super::plan::{PodPlan, Shared};
use super::store::{Data, PodDir, PodName, Pods, Record};
use super::volumes::{self, Volumes};
use super::{delete, sandbox};
use crate::error::{Context, Error, Result};
use crate::state::{Identity, Store};
use crate::sys::process::{self, Child};

/// How often `emptyDir.sizeLimit` is checked: as the kubelet's eviction manager.
const CHECK_VOLUMES: Duration = Duration::from_secs(10);
/// How soon a full disk is tried again that the journal did not fit on.
const RETRY_JOURNAL: Duration = Duration::from_secs(1);

/// What a pod's watcher gets to see.
#[derive(Debug)]
pub enum Seen<'a> {
    /// Something happened, and this is the pod after it.
    Event(&'a Event, &'a Life),
    /// A container has written; the beginning of its last line.
    Log(Index, &'a [u8], Time),
    /// Time has gone on.
    Tick(Time),
}

/// Who watches a pod while it lives.
#[derive(Debug)]
pub struct Watcher<F: FnMut(Seen<'_>)> {
    /// How often it wants to see that time goes on.
    pub refresh: Option<Duration>,
    /// Is shown everything.
    pub see: F,
}

type Watch<'a> = &'a mut dyn FnMut(Seen<'_>);

/// A pod and all that is open for it.
#[derive(Debug)]
pub struct Supervisor<'a> {
    plan: &'a PodPlan,
    store: &'a Store,
    dir: PodDir,
    data: Data,
    journal: Journal,
    /// Events that did not fit on the disk.
    unwritten: VecDeque<(Time, Entry)>,
    life: Life,
    clock: Clock,
    signals: SignalFd,
    listener: Listener,
    connections: BTreeMap<u64, OwnedFd>,
    pause: Option<Child>,
    containers: Vec<Slot>,
    /// The root of the container whose turn is next, made while pause or the container before it starts.
    next_root: Option<(Index, OwnedFd)>,
    next_check: Option<Time>,
}

/// What there is of one container.
#[derive(Debug, Default)]
struct Slot {
    process: Option<Child>,
    /// May outlive the process: another one may hold the pipes.
    output: Option<Output>,
}

/// What a file is waited for.
#[derive(Debug, Clone, Copy)]
enum Source {
    Log(Index, Stream),
    Exit(Index),
    Pause,
    Signals,
    Listener,
    Connection(u64),
}

impl<'a> Supervisor<'a> {
    /// Makes a new pod, of which only records exist yet.
    ///
    /// # Errors
    /// When the name is taken, or something cannot be made; then nothing is left of it.
    pub fn new(
        pods: &Pods,
        store: &'a Store,
        name: &PodName,
        plan: &'a PodPlan,
        record: &Record,
    ) -> Result<Self> {
        pods.check_free(name)?;
        if sandbox::is_populated(&record.cgroup)? {
            return Err(
                Error::new(format!("cgroup {} is in use", record.cgroup)).hint(
                    "a pod of that name runs below another --root: choose another name with --name",
                ),
            );
        }
        let dir = pods.create(name, record)?;
        match Data::create(record.data.clone()) {
            Ok(data) => Self::begin(store, plan, record, dir, data),
            Err(e) => Err(e.and_cleanup(dir.remove())),
        }
    }

    fn begin(
        store: &'a Store,
        plan: &'a PodPlan,
        record: &Record,
        dir: PodDir,
        data: Data,
    ) -> Result<Self> {
        let clock = Clock::new();
        match open(plan, record, &dir, clock.now()) {
            Ok((journal, listener, signals)) => Ok(Self {
                plan,
                store,
                journal,
                unwritten: VecDeque::new(),
                life: Life::new(plan.lifecycle.clone(), clock.now()),
                clock,
                signals,
                listener,
                connections: BTreeMap::new(),
                pause: None,
                containers: plan.containers.iter().map(|_| Slot::default()).collect(),
                next_root: None,
                next_check: None,
                dir,
                data,
            }),
            Err(e) => {
                let removed = data.remove();
                Err(e.and_cleanup(removed.and(dir.remove())))
            }
        }
    }

    /// Lives the pod's life to its end: with `start` at once, else once somebody asks for it. What is left then is the
    /// pod's directory, with its journal and logs.
    ///
    /// # Errors
    /// When waiting is not possible, or something of the pod cannot be removed.
    pub fn run(
        mut self,
        start: bool,
        mut watcher: Watcher<impl FnMut(Seen<'_>)>,
    ) -> Result<(PodDir, Life)> {
        let watch = &mut watcher.see;
        self.happens(Event::Accepted, watch);
        if start {
            self.happens(Event::StartRequested, watch);
        }
        while !self.life.finished() {
            for source in self.wait(watcher.refresh)? {
                self.look_at(source, watch)?;
            }
            self.look_at_time(watch);
            watch(Seen::Tick(self.clock.now()));
        }
        self.finish()
    }

    /// Journal first, then consequences.
    fn happens(&mut self, event: Event, watch: Watch<'_>) {
        let now = self.clock.now();
        log::debug!("pod {}: {event:?}", self.plan.name);
        self.unwritten.push_back((now, Entry::Event(event.clone())));
        self.write_journal();
        let actions = self.life.step(&event, now);
        watch(Seen::Event(&event, &self.life));
        for action in actions {
            log::debug!("pod {}: {action:?}", self.plan.name);
            if let Some(answer) = self.carry_out(action) {
                self.happens(answer, watch);
            }
        }
        if let Event::Started { container, .. } = event {
            self.prepare_after(container);
        }
    }

    /// A pod whose journal does not fit on the disk goes on: its containers can do nothing for it.
    fn write_journal(&mut self) {
        while let Some((time, entry)) = self.unwritten.front() {
            if let Err(e) = self.journal.append(*time, entry) {
                log::error!("{e}");
                return;
            }
            self.unwritten.pop_front();
        }
    }

    fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::MakeVolumes => Some(self.make_volumes()),
            Action::StartSandbox => Some(self.start_sandbox()),
            Action::StopSandbox => self.stop_sandbox(),
            Action::Start { container, restart } => Some(self.start(container, restart)),
            Action::Signal { container, signal } => {
                if let Err(e) = self.signal(container, signal) {
                    log::error!("{e}");
                }
                None
            }
        }
    }

    fn make_volumes(&mut self) -> Event {
        let made =
            Volumes::open(self.data.volumes()).and_then(|volumes| volumes.make(&self.plan.volumes));
        match made {
            Ok(()) => {
                let watched = self.plan.volumes.iter().any(volumes::is_watched);
                self.next_check = watched.then(|| self.clock.now().after(CHECK_VOLUMES));
                Event::VolumesReady
            }
            Err(e) => Event::VolumesFailed {
                message: e.to_string(),
            },
        }
    }

    fn start_sandbox(&mut self) -> Event {
        let mut root = None;
        let started = sandbox::start(&self.plan.name, &self.plan.sandbox, || {
            root = self.prepare_root(Index(0));
        });
        self.next_root = root;
        match started {
            Ok(pause) => {
                let pid = pause.pid;
                self.pause = Some(pause);
                Event::SandboxStarted { pid }
            }
            Err(e) => Event::SandboxFailed {
                message: e.to_string(),
            },
        }
    }

    /// Its end is told by its pidfd, unless there is none.
    fn stop_sandbox(&self) -> Option<Event> {
        match &self.pause {
            Some(pause) => {
                let _ = pidfd_send_signal(&pause.pidfd, Signal::KILL);
                None
            }
            None => Some(Event::SandboxExited),
        }
    }

    fn start(&mut self, container: Index, restart: u32) -> Event {
        let plan = &self.plan.containers[container.0];
        if let Some(output) = self.containers[container.0].output.take() {
            output.close(self.clock.now());
        }
        let root = match self.next_root.take() {
            Some((index, root)) if index == container => Some(root),
            other => {
                self.next_root = other;
                None
            }
        };
        let started = match &self.pause {
            Some(pause) => self.pod().start(plan, restart, pause.pid, root),
            None => Err((
                StartFailure::CreateContainerError,
                Error::new("the pod has no sandbox"),
            )),
        };
        match started {
            Ok(run) => {
                let pid = run.created.pid;
                self.containers[container.0] = Slot {
                    process: Some(Child {
                        pid,
                        pidfd: run.created.pidfd,
                    }),
                    output: Some(run.output),
                };
                Event::Started {
                    container,
                    pid,
                    id: format!("{}.{}", self.plan.name, plan.name),
                }
            }
            Err((reason, error)) => Event::StartFailed {
                container,
                reason,
                message: error.to_string(),
            },
        }
    }

    fn pod(&self) -> container::Pod<'_> {
        container::Pod {
            plan: self.plan,
            store: self.store,
            dir: &self.dir,
            data: &self.data,
        }
    }

    /// Makes the root of the container whose turn comes after this init container, which runs meanwhile: if it succeeds,
    /// as most do, the next one starts the sooner.
    fn prepare_after(&mut self, container: Index) {
        let next = Index(container.0 + 1);
        let is_init = self.plan.containers[container.0].kind == Kind::Init;
        let is_prepared = self
            .next_root
            .as_ref()
            .is_some_and(|(index, _)| *index == next);
        if is_init && !is_prepared {
            self.next_root = self.prepare_root(next);
        }
    }

    fn prepare_root(&self, container: Index) -> Option<(Index, OwnedFd)> {
        let plan = self.plan.containers.get(container.0)?;
        match self.pod().fresh_root(plan) {
            Ok(root) => Some((container, root)),
            Err(e) => {
                // It is tried again, and told, when its turn comes.
                log::debug!("{e}");
                None
            }
        }
    }

    fn signal(&self, container: Index, signal: i32) -> Result<()> {
        let step = || format!("send signal {signal} to {}", self.name(container));
        if signal == libc::SIGKILL && self.shares_pids() {
            return container::cgroup(&self.plan.containers[container.0])?.kill();
        }
        let process = self.containers[container.0].process.as_ref();
        match process.zip(process::signal(signal)) {
            Some((process, signal)) => match pidfd_send_signal(&process.pidfd, signal) {
                Ok(()) | Err(Errno::SRCH) => Ok(()),
                Err(e) => Err(Error::sys(step(), e)),
            },
            None => Ok(()),
        }
    }

    fn name(&self, container: Index) -> &str {
        &self.plan.containers[container.0].name
    }

    /// Whether a container's processes do not end with its first one.
    fn shares_pids(&self) -> bool {
        self.plan.sandbox.pid != Shared::Container
    }

    /// Waits until something happens or a time has come; gives the files that have something to tell. Logs before
    /// ends, so that what a container wrote is there once it is said to have ended.
    fn wait(&self, refresh: Option<Duration>) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        let mut files = Vec::new();
        for (source, fd) in self.sources() {
            sources.push(source);
            files.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        let timeout = self.timeout(refresh);
        match poll(&mut files, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(e) => return Err(Error::sys("wait for what happens to the pod", e)),
        }
        let ready = sources.iter().zip(&files);
        Ok(ready
            .filter(|(_, file)| !file.revents().is_empty())
            .map(|(source, _)| *source)
            .collect())
    }

    fn sources(&self) -> Vec<(Source, BorrowedFd<'_>)> {
        use std::os::fd::AsFd;
        let containers = || {
            let slots = self.containers.iter().enumerate();
            slots.map(|(i, slot)| (Index(i), slot))
        };
        let logs = containers().flat_map(|(i, slot)| {
            let pipes = slot.output.iter().flat_map(Output::pipes);
            pipes.map(move |(stream, pipe)| (Source::Log(i, stream), pipe.as_fd()))
        });
        let exits = containers().filter_map(|(i, slot)| {
            let process = slot.process.as_ref()?;
            Some((Source::Exit(i), process.pidfd.as_fd()))
        });
        let pause = self.pause.iter().map(|p| (Source::Pause, p.pidfd.as_fd()));
        let connections = self.connections.iter();
        let connections = connections.map(|(&id, fd)| (Source::Connection(id), fd.as_fd()));
        let own = [
            (Source::Signals, self.signals.as_fd()),
            (Source::Listener, self.listener.as_fd()),
        ];
        let all = logs.chain(exits).chain(pause).chain(connections);
        all.chain(own).collect()
    }

    /// Until the next time at which something is to be done.
    fn timeout(&self, refresh: Option<Duration>) -> Option<Timespec> {
        let now = self.clock.now();
        let retry = (!self.unwritten.is_empty()).then(|| now.after(RETRY_JOURNAL));
        let refresh = refresh.map(|refresh| now.after(refresh));
        let times = [self.life.deadline(), self.next_check, retry, refresh];
        let next = times.into_iter().flatten().min()?;
        Timespec::try_from(next.since(now)).ok()
    }

    fn look_at_time(&mut self, watch: Watch<'_>) {
        self.write_journal();
        let now = self.clock.now();
        if self.life.deadline().is_some_and(|deadline| deadline <= now) {
            self.happens(Event::Tick, watch);
        }
        if self.next_check.is_some_and(|check| check <= now) {
            self.next_check = Some(now.after(CHECK_VOLUMES));
            let volumes = Volumes::open(self.data.volumes()).ok();
            if let Some(message) = volumes.and_then(|v| v.exceeded(&self.plan.volumes)) {
                self.next_check = None;
                self.happens(Event::Evicted { message }, watch);
            }
        }
    }

    fn look_at(&mut self, source: Source, watch: Watch<'_>) -> Result<()> {
        match source {
            Source::Log(container, stream) => {
                let now = self.clock.now();
                if let Some(output) = &mut self.containers[container.0].output {
                    output.drain(stream, now);
                    watch(Seen::Log(container, output.last_line(), now));
                }
            }
            Source::Exit(container) => self.look_at_container(container, watch)?,
            Source::Pause => {
                let ended = match &self.pause {
                    Some(pause) => process::try_wait(&pause.pidfd).context(|| "wait for pause")?,
                    None => None,
                };
                if ended.is_some() {
                    self.pause = None;
                    self.happens(Event::SandboxExited, watch);
                }
            }
            Source::Signals => self.look_at_signals(watch)?,
            Source::Listener => {
                let id = self
                    .connections
                    .keys()
                    .next_back()
                    .map_or(0, |last| last + 1);
                let connection = self.listener.accept()?;
                self.connections.extend(connection.map(|fd| (id, fd)));
            }
            Source::Connection(id) => self.look_at_request(id, watch),
        }
        Ok(())
    }

    fn look_at_container(&mut self, container: Index, watch: Watch<'_>) -> Result<()> {
        let Some(process) = &self.containers[container.0].process else {
            return Ok(());
        };
        let step = || format!("wait for container {}", self.name(container));
        let Some(exit) = process::try_wait(&process.pidfd).context(step)? else {
            return Ok(());
        };
        let cgroup = container::cgroup(&self.plan.containers[container.0])?;
        if self.shares_pids()
            && let Err(e) = cgroup.kill()
        {
            log::error!("{e}");
        }
        let oom_killed = cgroup.oom_kills().is_ok_and(|kills| kills > 0);
        let now = self.clock.now();
        let slot = &mut self.containers[container.0];
        slot.process = None;
        if let Some(output) = &mut slot.output {
            output.drain_all(now);
        }
        let event = Event::Exited {
            container,
            exit,
            oom_killed,
        };
        self.happens(event, watch);
        Ok(())
    }

    fn look_at_signals(&mut self, watch: Watch<'_>) -> Result<()> {
        while let Some(signal) = self.signals.read_signal().context(|| "read signals")? {
            if signal.ssi_signo == libc::SIGHUP as u32 {
                continue;
            }
            // Whoever asks a second time does not want to wait.
            let again = self.life.stopping().is_some();
            let grace = again.then_some(Duration::ZERO);
            self.happens(Event::StopRequested { grace }, watch);
        }
        Ok(())
    }

    fn look_at_request(&mut self, id: u64, watch: Watch<'_>) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let event = match control::receive(connection) {
            Ok(Some(Request::Start)) => Event::StartRequested,
            Ok(Some(Request::Stop { grace })) => Event::StopRequested { grace },
            Ok(None) => {
                self.connections.remove(&id);
                return;
            }
            Err(e) => {
                control::answer(connection, &Err(e));
                self.connections.remove(&id);
                return;
            }
        };
        // It is kept: its end tells the other side that the pod is over.
        self.happens(event, watch);
        if let Some(connection) = self.connections.get(&id) {
            control::answer(connection, &Ok(()));
        }
    }

    /// Everything but the pod's directory goes.
    fn finish(mut self) -> Result<(PodDir, Life)> {
        self.next_root = None;
        let now = self.clock.now();
        for slot in &mut self.containers {
            if let Some(output) = slot.output.take() {
                output.close(now);
            }
        }
        self.write_journal();
        let names = self.plan.containers.iter().map(|c| c.name.as_str());
        delete::remove_all(
            self.store,
            &self.plan.name,
            names,
            &self.plan.sandbox.cgroup,
            &self.data,
        )?;
        Ok((self.dir, self.life))
    }
}

/// The journal, with its first entries, the control socket, and the signals.
fn open(
    plan: &PodPlan,
    record: &Record,
    dir: &PodDir,
    now: Time,
) -> Result<(Journal, Listener, SignalFd)> {
    let description = journal::Description {
        name: plan.name.clone(),
        namespace: plan.manifest.metadata.namespace.clone().unwrap_or_default(),
        uid: plan.uid.clone(),
        boot_id: record.boot_id.clone(),
        spec: plan.lifecycle.clone(),
    };
    let mut journal = Journal::create(&dir.journal(), &description, now)?;
    let Identity { pid, start_time } = Identity::of(std::process::id() as i32)?;
    let supervisor = journal::Supervisor { pid, start_time };
    journal.append(now, &Entry::Supervisor(supervisor))?;
    let listener = Listener::bind(dir.as_fd())?;
    let mut set = SigSet::empty();
    for signal in [SignalName::SIGINT, SignalName::SIGTERM, SignalName::SIGHUP] {
        set.add(signal);
    }
    set.thread_block().context(|| "block signals")?;
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context(|| "signalfd")?;
    Ok((journal, listener, signals))
}

/// The wall clock as it was at first, and how much time has passed since, sleep included: it never jumps.
#[derive(Debug)]
struct Clock {
    offset: i128,
}

impl Clock {
    fn new() -> Self {
        Self {
            offset: nanoseconds(ClockId::Realtime) - nanoseconds(ClockId::Boottime),
        }
    }

    fn now(&self) -> Time {
        Time(u64::try_from(nanoseconds(ClockId::Boottime) + self.offset).unwrap_or(0))
    }
}

fn nanoseconds(clock: ClockId) -> i128 {
    let time = clock_gettime(clock);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}
