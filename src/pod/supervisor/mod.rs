//! The event loop that carries the lifecycle's actions out.
//!
//! One process per pod, with one thread. It decides nothing: what happens (a process ended, a signal, a request, a time
//! has come) becomes an [`Event`], which is written to the journal, then told to the [`Life`], which answers with what is
//! to be done; the outcome of that is an event again.
//!
//! Here is the loop; [`actions`] has what is done, [`anew`] what changes of the plan, [`calls`] probes and hooks, [`disk`] what
//! may be written, [`events`] what is waited for, [`network`] what the sandbox is connected to, [`resize`] other limits for what
//! runs, [`takeover`] how it begins where another supervisor was killed.
//!
//! It waits with poll(2): a pod has a few dozen files at most, and a list that is made anew for every wait can never
//! hold a file that is closed already.

mod actions;
mod anew;
mod calls;
mod clock;
mod disk;
mod events;
mod network;
mod resize;
mod takeover;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal as SignalName};
use nix::sys::signalfd::{SfdFlags, SignalFd};

pub use self::takeover::{plan_of, with_manifest};

use self::calls::Calls;
use self::clock::Clock;
use super::container::Prepared;
use super::control::Listener;
use super::data::Data;
use super::journal::{self, Entry, Journal};
use super::kept::Kept;
use super::lifecycle::{Action, Event, Index, Pod as Life, Time};
use super::output::Output;
use super::pause::Unready;
use super::plan::PodPlan;
use super::store::{PodDir, PodName, Pods, Record};
use super::{delete, sandbox};
use crate::error::{Context, Error, Result};
use crate::state::{Identity, Store};
use crate::sys::process::Child;

/// When nothing has happened for so long, nothing will for some time.
const REST: Duration = Duration::from_secs(1);

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
    /// Made anew when something that it depends on has become known, or has changed.
    plan: PodPlan,
    store: &'a Store,
    /// Where PersistentVolumeClaims are.
    claims: PathBuf,
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
    /// Whose terminal somebody looks at, by connection.
    viewers: BTreeMap<u64, Index>,
    pause: Option<Child>,
    /// What is left to wait for of pause, until a container has been started.
    unready: Option<Unready>,
    kept: Kept,
    containers: Vec<Slot>,
    calls: Calls,
    /// What the container whose turn is next needs, made while pause or the container before it starts.
    next: Option<Prepared>,
    next_check: Option<Time>,
    /// The pod's limits are not yet what the plan says.
    pod_limits_due: bool,
}

/// What there is of one container.
#[derive(Debug, Default)]
struct Slot {
    process: Option<Child>,
    /// May outlive the process: another one may hold the pipes or the terminal.
    output: Option<Output>,
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
        plan: PodPlan,
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
            Ok(data) => Self::begin(store, plan, record, pods.claims(), dir, data),
            Err(e) => Err(e.and_cleanup(dir.remove())),
        }
    }

    fn begin(
        store: &'a Store,
        plan: PodPlan,
        record: &Record,
        claims: PathBuf,
        dir: PodDir,
        data: Data,
    ) -> Result<Self> {
        let clock = Clock::new();
        let opened = open(&plan, record, &dir, clock.now());
        match opened.and_then(|opened| Ok((opened, Kept::new()?))) {
            Ok(((journal, listener, signals), kept)) => {
                let own = (listener, signals, kept);
                Ok(Self::with(
                    plan,
                    store,
                    claims,
                    (dir, data),
                    journal,
                    clock,
                    own,
                ))
            }
            Err(e) => {
                let removed = data.remove();
                Err(e.and_cleanup(removed.and(dir.remove())))
            }
        }
    }

    fn with(
        plan: PodPlan,
        store: &'a Store,
        claims: PathBuf,
        (dir, data): (PodDir, Data),
        journal: Journal,
        clock: Clock,
        (listener, signals, kept): (Listener, SignalFd, Kept),
    ) -> Self {
        Self {
            store,
            claims,
            journal,
            unwritten: VecDeque::new(),
            life: Life::new(plan.lifecycle.clone(), clock.now()),
            clock,
            signals,
            listener,
            connections: BTreeMap::new(),
            viewers: BTreeMap::new(),
            pause: None,
            unready: None,
            kept,
            containers: plan.containers.iter().map(|_| Slot::default()).collect(),
            calls: Calls::default(),
            next: None,
            next_check: None,
            pod_limits_due: false,
            plan,
            dir,
            data,
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
        // First, so that who takes the pod over knows it, however early that is.
        if start {
            self.happens(Event::StartRequested, watch);
        }
        self.happens(Event::Accepted, watch);
        self.live(watcher)
    }

    fn live(mut self, mut watcher: Watcher<impl FnMut(Seen<'_>)>) -> Result<(PodDir, Life)> {
        let watch = &mut watcher.see;
        let mut is_rested = false;
        while !self.life.finished() {
            let now = self.clock.now();
            let rest = (!is_rested).then(|| now.after(REST));
            let sources = self.wait(watcher.refresh, rest)?;
            is_rested = rest.is_some_and(|rest| self.clock.now() >= rest);
            for source in sources {
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
        self.keep_probes();
        watch(Seen::Event(&event, &self.life));
        for action in actions {
            log::debug!("pod {}: {action:?}", self.plan.name);
            self.carry_out_and_tell(action, watch);
        }
        if let Event::Started { .. } = event {
            self.catch_up_with_limits();
        }
    }

    fn carry_out_and_tell(&mut self, action: Action, watch: Watch<'_>) {
        if let Some(answer) = self.carry_out(action) {
            self.happens(answer, watch);
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

    /// Everything but the pod's directory goes.
    fn finish(mut self) -> Result<(PodDir, Life)> {
        self.next = None;
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
        self.disconnect()?;
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
        namespace: plan.namespace.clone(),
        uid: plan.uid.clone(),
        boot_id: record.boot_id.clone(),
        spec: plan.lifecycle.clone(),
    };
    let mut journal = Journal::create(&dir.journal(), &description, now)?;
    announce_supervisor(&mut journal, now)?;
    let listener = Listener::bind(dir.as_fd())?;
    Ok((journal, listener, signals()?))
}

fn announce_supervisor(journal: &mut Journal, now: Time) -> Result<()> {
    let Identity { pid, start_time } = Identity::of(std::process::id() as i32)?;
    let supervisor = journal::Supervisor { pid, start_time };
    journal.append(now, &Entry::Supervisor(supervisor))
}

fn signals() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [SignalName::SIGINT, SignalName::SIGTERM, SignalName::SIGHUP] {
        set.add(signal);
    }
    set.thread_block().context(|| "block signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context(|| "signalfd")
}
