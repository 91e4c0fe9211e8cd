//! The shim's log: lines into the fifo `log` of the bundle, which containerd copies into its own log.
//!
//! The fifo is opened for each line, and never waited for: while containerd is away there is nobody to tell.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use log::{LevelFilter, Log, Metadata, Record};
use rustix::fs::{Mode, OFlags};

#[derive(Debug)]
struct Fifo {
    path: PathBuf,
}

/// Sends what is logged from now on to the bundle's fifo.
pub(super) fn begin(bundle: &std::path::Path, debug: bool) {
    let fifo = Fifo {
        path: bundle.join("log"),
    };
    // Only the first one counts, and this is it.
    let _ = log::set_boxed_logger(Box::new(fifo));
    log::set_max_level(match debug {
        true => LevelFilter::Debug,
        false => LevelFilter::Warn,
    });
}

impl Fifo {
    fn open(&self) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        rustix::fs::open(&self.path, flags, Mode::empty())
    }
}

impl Log for Fifo {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = record.level().as_str().to_lowercase();
        let message = record.args().to_string();
        let time = jiff::Timestamp::now();
        // As logrus writes it, which containerd's own log is made of.
        let line = format!("time=\"{time:.3}\" level={level} msg={message:?} runtime=runp\n");
        if let Ok(fifo) = self.open() {
            // A line that does not fit is lost, as it is without a reader.
            let _ = rustix::io::write(&fifo, line.as_bytes());
        }
    }

    fn flush(&self) {}
}
