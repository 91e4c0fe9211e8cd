//! `runp pod attach`, and pods whose supervisor was killed.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, fcntl_setfl};

use super::run::{REFRESH, watched};
use super::{Places, warn};
use crate::cli::terminal::{Visit, Visitor, Woken};
use crate::error::{Context, Error, Result};
use crate::pod::control::{self, Request};
use crate::pod::detach::{self, Begin};
use crate::pod::follow::Follow;
use crate::pod::lifecycle::{Index, Pod as Life, State};
use crate::pod::logs::{self, Follower, Show};
use crate::pod::observe::Observed;
use crate::pod::plan::Input;
use crate::pod::progress::Progress;
use crate::pod::store::{PodDir, PodName};
use crate::pod::supervisor::{Supervisor, plan_of};
use crate::pod::{journal, observe};
use crate::state::boot_id;
use crate::sys::process;

/// Show how a pod comes along until it is over, or talk with one of its containers
///
/// As `run` does, and with its exit code. Ctrl-C ends the showing, not the pod, unless the pod is supervised here.
///
/// With --container, --stdin or --tty: shows the lines that the container writes from now on, until it ends, and with --stdin sends
/// it what we read. Its input ends with ours only if its manifest says `stdinOnce: true`.
///
/// A container with `tty: true` has a terminal, and with --stdin ours becomes that: every key goes there, also Ctrl-C. Ctrl-P
/// Ctrl-Q leaves it, and it runs on.
#[derive(Debug, clap::Args)]
pub(super) struct Attach {
    /// The pod's name
    name: PodName,
    /// Which container; with --stdin or --tty else the one that the annotation kubectl.kubernetes.io/default-container names, or the first app
    #[arg(short, long, value_name = "NAME", conflicts_with_all = ["supervise", "quiet"])]
    container: Option<String>,
    /// Send it standard input; its manifest says `stdin: true`
    #[arg(short = 'i', long, conflicts_with_all = ["supervise", "quiet"])]
    stdin: bool,
    /// Give its terminal the size of ours, which --stdin does as well; its manifest says `tty: true`
    #[arg(short, long, conflicts_with_all = ["supervise", "quiet"])]
    tty: bool,
    /// Supervise the pod from here, if its supervisor was killed; then Ctrl-C stops it in order
    #[arg(long)]
    supervise: bool,
    /// Show nothing
    #[arg(short, long)]
    quiet: bool,
}

impl Attach {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let pod = places.pods.open(&self.name)?;
        if self.stdin || self.tty || self.container.is_some() {
            return self.talk(&pod, places);
        }
        if self.supervise && is_abandoned(&pod)? {
            let mut record = pod.record()?;
            let journal = journal::read(&pod.journal())?;
            let plan = plan_of(&mut record, &journal.pod.spec, &places.pods.claims())?;
            let supervisor =
                Supervisor::take_over(&places.pods, &places.store, pod, &record, plan)?;
            let (_, life) = watched(&journal.replay(), self.quiet, |watcher| {
                supervisor.go_on(watcher)
            })?;
            return Ok(life.exit_code());
        }
        let life = self.follow(&pod, places)?;
        Ok(life.exit_code())
    }

    fn talk(&self, pod: &PodDir, places: &Places) -> Result<i32> {
        // Who takes what the container writes.
        supervised(places, pod)?;
        let observed = Observed::of(pod, &places.store)?;
        let (index, name) = observed.container(self.container.as_deref())?;
        if !observed.alive.containers[index.0] {
            let step = format!(
                "attach to container {name:?} of pod {:?}",
                self.name.as_str()
            );
            let why = format!("it does not run: {}", observed.waiting(&name));
            return Err(Error::new(step).hint(why));
        }
        let show = Show {
            prefix: "",
            // From before it can answer.
            since: Some(observe::now()),
            timestamps: false,
            tail: None,
            unfinished: true,
        };
        let (input, has_terminal) = input_of(&observed, &name);
        if self.stdin && input == Input::Empty {
            let why = format!("container {name:?} reads nothing");
            return Err(Error::new(why).hint("its manifest has no `stdin: true`"));
        }
        if self.tty && !has_terminal {
            let why = format!("container {name:?} has no terminal");
            return Err(Error::new(why).hint("its manifest has no `tty: true`; leave -t out"));
        }
        let run = observed.life.containers()[index.0].restart_count;
        let over = || {
            let observed = Observed::of(pod, &places.store)?;
            let container = &observed.life.containers()[index.0];
            let same = container.restart_count == run;
            let runs = same && matches!(container.state, State::Running { .. });
            // A terminal gets another one that reads from it.
            let is_left = !has_terminal && observed.is_abandoned();
            Ok(!runs || observed.life.finished() || is_left)
        };
        let logs = pod.logs(&name);
        if has_terminal {
            let visit = Visit {
                types: self.stdin,
                ends: input == Input::Once,
                sizes: self.stdin || self.tty,
            };
            let log = Follower::new(&logs, run, show, &pod.journal(), Vec::new());
            return visit_terminal((places, pod, index), visit, log?, over);
        }
        if self.stdin {
            send_input(pod, input, (index, &name))?;
        }
        let out = io::stdout().lock();
        logs::follow(&logs, run, show, &pod.journal(), over, out).map(|()| 0)
    }

    fn follow(&self, pod: &PodDir, places: &Places) -> Result<Life> {
        let follow = Follow::new(pod)?;
        let record = journal::read(&pod.journal())?;
        let new = Life::new(record.pod.spec, record.created);
        let mut progress = Progress::new(&new, self.quiet);
        let live = !self.quiet && std::io::stderr().is_terminal();
        let mut shown = 0;
        loop {
            let observed = Observed::of(pod, &places.store)?;
            let mut n = 0;
            let life = observed.journal.visit(|_, event, life, _| {
                n += 1;
                if n > shown {
                    progress.observe(event, life);
                }
            });
            shown = n;
            progress.tick(observe::now());
            if life.finished() || observed.is_abandoned() {
                progress.finish(observe::now());
                if !life.finished() {
                    warn("nobody supervises the pod: runp pod attach --supervise goes on with it");
                }
                return Ok(life);
            }
            while !follow.wait(live.then_some(REFRESH))? {
                progress.tick(observe::now());
            }
        }
    }
}

/// What a container reads, and whether from a terminal.
fn input_of(observed: &Observed, name: &str) -> (Input, bool) {
    let spec = observed.pod.spec.iter();
    let mut all = spec.flat_map(|spec| {
        spec.init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
    });
    let container = all.find(|container| container.name == name);
    container.map_or((Input::Empty, false), |container| {
        (Input::of(container), container.tty == Some(true))
    })
}

/// Shows what comes out of a container's terminal, and types into it, until it ends or we leave it; our exit code. A supervisor
/// that is killed meanwhile is replaced.
fn visit_terminal(
    (places, pod, index): (&Places, &PodDir, Index),
    visit: Visit,
    mut log: Follower<Vec<u8>>,
    mut over: impl FnMut() -> Result<bool>,
) -> Result<i32> {
    let asked = terminal_of(pod, index)?;
    let (terminal, mut supervisor) =
        asked.ok_or_else(|| Error::new("the pod has ended meanwhile"))?;
    let mut visitor = Visitor::new(&terminal, visit)?;
    let mut is_over = false;
    let mut is_news = true;
    loop {
        // What is not shown yet comes first.
        if is_news && log.out().is_empty() {
            is_over = over()?;
            log.step(is_over)?;
            is_news = false;
        }
        if is_over && log.out().is_empty() {
            return Ok(0);
        }
        let mut shows = std::mem::take(log.out());
        let [changes, _] = log.files();
        let woken = visitor.wait(&mut shows, &[changes, supervisor.as_fd()])?;
        let [is_changed, has_gone] = match woken {
            Woken::Leaves(code) => return Ok(code),
            Woken::By(others) => [0, 1].map(|other| others.get(other) == Some(&true)),
        };
        if is_changed {
            log.wait()?;
        }
        is_news |= is_changed || has_gone;
        if has_gone && !over()? {
            let [changes, file] = log.files();
            let [signals, terminal] = [visitor.signals(), terminal.as_fd()];
            let ours = [changes, file, signals, terminal, supervisor.as_fd()];
            supervised_without(places, pod, &ours)?;
            match terminal_of(pod, index) {
                Ok(Some((_, another))) => supervisor = another,
                // It has just died, or its successor is not there yet: once more.
                Ok(None) => {}
                Err(_) if over()? => {}
                Err(e) => return Err(e),
            }
        }
        *log.out() = shows;
    }
}

/// The master end of a container's terminal, and the connection to who reads from it. `None` if the pod is over.
fn terminal_of(pod: &PodDir, container: Index) -> Result<Option<(OwnedFd, OwnedFd)>> {
    let request = Request::Terminal {
        container: container.0,
    };
    let supervisor = control::ask(pod.as_fd(), request, control::PATIENCE)?;
    Ok(supervisor.and_then(control::Supervisor::take))
}

/// Sends a container our standard input, in the background.
fn send_input(pod: &PodDir, input: Input, (index, name): (Index, &str)) -> Result<()> {
    let path = pod.input(name);
    let step = || format!("open {}", path.display());
    // Who reads it has it open already: nobody is waited for.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fifo = rustix::fs::open(&path, flags, Mode::empty()).context(step)?;
    fcntl_setfl(&fifo, OFlags::empty()).context(step)?;
    if input == Input::Once {
        let request = Request::TakeInput { container: index.0 };
        control::ask(pod.as_fd(), request, control::PATIENCE)?
            .ok_or_else(|| Error::new("the pod has ended meanwhile"))?;
    }
    std::thread::spawn(move || {
        // Until either end has enough.
        let _ = io::copy(&mut io::stdin().lock(), &mut File::from(fifo));
    });
    Ok(())
}

/// Nobody carries its life out, and it can be gone on with.
fn is_abandoned(pod: &PodDir) -> Result<bool> {
    if pod.holder()?.is_some() || pod.record()?.boot_id != boot_id()? {
        return Ok(false);
    }
    Ok(!journal::read(&pod.journal())?.replay().finished())
}

/// Makes sure that there is somebody who can be asked: if the pod's supervisor was killed, another one goes on in its
/// place, in the background.
pub(super) fn supervised(places: &Places, pod: &PodDir) -> Result<()> {
    supervised_without(places, pod, &[])
}

/// As [`supervised`]; what is in the background has none of these files of ours.
fn supervised_without(places: &Places, pod: &PodDir, ours: &[BorrowedFd<'_>]) -> Result<()> {
    if !is_abandoned(pod)? {
        return Ok(());
    }
    let mut record = pod.record()?;
    let journal = journal::read(&pod.journal())?;
    let plan = plan_of(&mut record, &journal.pod.spec, &places.pods.claims())?;
    let name = pod.name();
    let take_over = || {
        for file in ours {
            process::close_inherited(*file);
        }
        let dir = places.pods.open(name)?;
        Supervisor::take_over(&places.pods, &places.store, dir, &record, plan)
    };
    detach::supervise(take_over, Begin::GoOn)
        .map(drop)
        .context(|| {
            format!(
                "take pod {:?} over, whose supervisor was killed",
                name.as_str()
            )
        })
}
