//! `runp pod logs`.

use std::io::{self, Write};
use std::sync::Mutex;
use std::time::Duration;

use super::{Places, seconds};
use crate::error::{Error, Result};
use crate::pod::lifecycle::{Index, State, Time};
use crate::pod::logs::{self, Show, choose_run};
use crate::pod::observe::{self, Observed, Which};
use crate::pod::store::{PodDir, PodName};

/// Print what a container has written
///
/// Also of init containers that have ended, and of a pod that is over.
#[derive(Debug, clap::Args)]
pub(super) struct Logs {
    /// The pod's name
    name: PodName,
    /// Which container; else the one that the annotation kubectl.kubernetes.io/default-container names, or the first app
    #[arg(short, long, value_name = "NAME", conflicts_with = "all_containers")]
    container: Option<String>,
    /// All containers, in their order; with --follow as they write. Each line begins with whose it is
    #[arg(short, long)]
    all_containers: bool,
    /// Go on until the container will not write any more
    #[arg(short, long)]
    follow: bool,
    /// Of the run before the last one
    #[arg(short, long, conflicts_with = "follow")]
    previous: bool,
    /// Begin each line with the time at which it was written
    #[arg(long)]
    timestamps: bool,
    /// Begin each line with the pod and the container that wrote it
    #[arg(long)]
    prefix: bool,
    /// Only what was written in the last SECONDS
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    since: Option<Duration>,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<usize>,
}

/// One container's log, and how it is shown.
struct Log {
    name: String,
    run: u32,
    prefix: String,
}

impl Logs {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let pod = places.pods.open(&self.name)?;
        let observed = Observed::of(&pod, &places.store)?;
        let since = self.since.map(|since| {
            let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
            Time(observe::now().0.saturating_sub(nanos))
        });
        if !self.all_containers {
            let (which, name) = observed.any_container(self.container.as_deref())?;
            let log = self.log(&pod, &observed, which, name)?;
            self.show(places, &pod, &log, since, io::stdout().lock())?;
            return Ok(0);
        }
        let specs = observed.life.spec().containers.iter().enumerate();
        let own = specs.map(|(i, spec)| (Which::Own(Index(i)), &spec.name));
        let ephemeral = observed.life.ephemeral().iter();
        let all = own.chain(ephemeral.map(|e| (Which::Ephemeral(e), &e.spec.name)));
        let logs = all.map(|(which, name)| self.log(&pod, &observed, which, name.clone()));
        // One that has not written anything yet has no log.
        let logs: Vec<Log> = logs.filter_map(Result::ok).collect();
        if !self.follow {
            for log in &logs {
                self.show(places, &pod, log, since, io::stdout().lock())?;
            }
            return Ok(0);
        }
        let out = Mutex::new(io::stdout());
        let results: Vec<Result<()>> = std::thread::scope(|scope| {
            let shown = logs.iter().map(|log| {
                let out = Lines::new(&out);
                scope.spawn(|| self.show(places, &pod, log, since, out))
            });
            let shown: Vec<_> = shown.collect();
            let joined = shown.into_iter().map(|thread| thread.join());
            joined.filter_map(std::result::Result::ok).collect()
        });
        let errors = results.into_iter().filter_map(Result::err);
        Error::all("show logs", errors.collect()).map(|()| 0)
    }

    fn log(
        &self,
        pod: &PodDir,
        observed: &Observed,
        which: Which<'_>,
        name: String,
    ) -> Result<Log> {
        let waiting = observed.waiting(&name);
        let names = (self.name.as_str(), name.as_str());
        let run = match which {
            Which::Own(index) => {
                let state = &observed.life.containers()[index.0];
                choose_run(&pod.logs(&name), names, state, &waiting, self.previous)?
            }
            Which::Ephemeral(_) if self.previous => {
                let why = format!("ephemeral container {name:?} runs only once");
                return Err(Error::new(why));
            }
            Which::Ephemeral(_) => 0,
        };
        let prefix = match self.prefix || self.all_containers {
            true => format!("[pod/{}/{name}] ", self.name),
            false => String::new(),
        };
        Ok(Log { name, run, prefix })
    }

    fn show(
        &self,
        places: &Places,
        pod: &PodDir,
        log: &Log,
        since: Option<Time>,
        out: impl Write,
    ) -> Result<()> {
        let dir = pod.logs(&log.name);
        let show = Show {
            prefix: &log.prefix,
            since,
            timestamps: self.timestamps,
            tail: self.tail,
            unfinished: false,
        };
        if !self.follow {
            return logs::print(&dir, log.run, show, out);
        }
        let over = || {
            let observed = Observed::of(pod, &places.store)?;
            let ended = match observed.any_container(Some(&log.name))?.0 {
                Which::Own(index) => observed.life.containers()[index.0].state == State::Terminated,
                Which::Ephemeral(container) => container.ended.is_some(),
            };
            Ok(ended || observed.life.finished() || observed.is_abandoned())
        };
        logs::follow(&dir, log.run, show, &pod.journal(), over, out)
    }
}

/// Whole lines only, so that several can write at the same time.
struct Lines<'a> {
    out: &'a Mutex<io::Stdout>,
    line: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn new(out: &'a Mutex<io::Stdout>) -> Self {
        Self {
            out,
            line: Vec::new(),
        }
    }
}

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if let Some(end) = self.line.iter().rposition(|byte| *byte == b'\n') {
            let mut out = self.out.lock().map_err(|_| io::ErrorKind::Other)?;
            out.write_all(&self.line[..=end])?;
            out.flush()?;
            self.line.drain(..=end);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
