//! `runp pod attach`, and pods whose supervisor was killed.

use std::fs::File;
use std::io::{self, IsTerminal};

use rustix::fs::{Mode, OFlags, fcntl_setfl};

use super::run::{REFRESH, watched};
use super::{Places, warn};
use crate::error::{Context, Error, Result};
use crate::pod::control::{self, Request};
use crate::pod::detach::{self, Begin};
use crate::pod::follow::Follow;
use crate::pod::lifecycle::{Index, Pod as Life, State};
use crate::pod::logs::{self, Show};
use crate::pod::observe::Observed;
use crate::pod::plan::Input;
use crate::pod::progress::Progress;
use crate::pod::store::{PodDir, PodName};
use crate::pod::supervisor::{Supervisor, plan_of};
use crate::pod::{journal, observe};
use crate::state::boot_id;

/// Show how a pod comes along until it is over, or talk with one of its containers
///
/// As `run` does, and with its exit code. Ctrl-C ends the showing, not the pod, unless the pod is supervised here.
///
/// With --container or --stdin: shows the lines that the container writes from now on, until it ends, and sends it what we read.
/// Its input ends with ours only if its manifest says `stdinOnce: true`.
#[derive(Debug, clap::Args)]
pub(super) struct Attach {
    /// The pod's name
    name: PodName,
    /// Which container; with --stdin else the one that the annotation kubectl.kubernetes.io/default-container names, or the first app
    #[arg(short, long, value_name = "NAME", conflicts_with_all = ["supervise", "quiet"])]
    container: Option<String>,
    /// Send it standard input; its manifest says `stdin: true`
    #[arg(short = 'i', long, conflicts_with_all = ["supervise", "quiet"])]
    stdin: bool,
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
        if self.stdin || self.container.is_some() {
            return self.talk(&pod, places).map(|()| 0);
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

    fn talk(&self, pod: &PodDir, places: &Places) -> Result<()> {
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
        };
        if self.stdin {
            send_input(pod, &observed, (index, &name))?;
        }
        let run = observed.life.containers()[index.0].restart_count;
        let over = || {
            let observed = Observed::of(pod, &places.store)?;
            let container = &observed.life.containers()[index.0];
            let same = container.restart_count == run;
            let runs = same && matches!(container.state, State::Running { .. });
            Ok(!runs || observed.life.finished() || observed.is_abandoned())
        };
        let logs = pod.logs(&name);
        logs::follow(&logs, run, show, &pod.journal(), over, io::stdout().lock())
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

/// Sends a container our standard input, in the background.
fn send_input(pod: &PodDir, observed: &Observed, (index, name): (Index, &str)) -> Result<()> {
    let spec = observed.pod.spec.iter();
    let mut all = spec.flat_map(|spec| {
        spec.init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
    });
    let input = all.find(|container| container.name == name).map(Input::of);
    if matches!(input, None | Some(Input::Empty)) {
        let why = format!("container {name:?} reads nothing");
        return Err(Error::new(why).hint("its manifest has no `stdin: true`"));
    }
    let path = pod.input(name);
    let step = || format!("open {}", path.display());
    // Who reads it has it open already: nobody is waited for.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fifo = rustix::fs::open(&path, flags, Mode::empty()).context(step)?;
    fcntl_setfl(&fifo, OFlags::empty()).context(step)?;
    if input == Some(Input::Once) {
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
    if !is_abandoned(pod)? {
        return Ok(());
    }
    let mut record = pod.record()?;
    let journal = journal::read(&pod.journal())?;
    let plan = plan_of(&mut record, &journal.pod.spec, &places.pods.claims())?;
    let name = pod.name();
    let take_over = || {
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
