//! A container's terminal, attached to our standard input and output.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::PollFd;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
    tcsetwinsize,
};

use super::copy::{Copy, End};
use crate::error::{Context, Result};
use crate::pod::logs::LogWriter;

/// More than a pseudoterminal can hold (8 KiB on their way and 4 KiB to be read: drivers/tty/pty.c, n_tty.c): what comes
/// beyond that after the process's end is of another process, which may never stop.
const HELD: usize = 64 << 10;

/// Our terminal, if we have one, in raw mode until this is dropped, and the container's.
pub(super) struct Attached<'a> {
    console: &'a OwnedFd,
    _modes: Option<RawMode>,
    input: Copy<'a>,
    output: Copy<'a>,
    rest: usize,
}

impl<'a> Attached<'a> {
    /// Nobody else has `console`'s open file description; those of our standard input and output are shared with others,
    /// so that their status flags stay as they are. What is seen goes into `log`, too.
    pub(super) fn new(console: &'a OwnedFd, log: Option<LogWriter>) -> Result<Self> {
        fcntl_getfl(console)
            .and_then(|flags| fcntl_setfl(console, flags | OFlags::NONBLOCK))
            .context(|| "make the terminal non-blocking")?;
        let attached = Self {
            console,
            _modes: RawMode::set(),
            input: Copy::new(stdin(), console.as_fd()),
            output: Copy::new(console.as_fd(), stdout()).logged(log),
            rest: HELD,
        };
        attached.copy_size();
        Ok(attached)
    }

    /// Gives it the size that ours has.
    pub(super) fn copy_size(&self) {
        copy_size(self.console);
    }

    /// What must be ready for the next [`Self::step`].
    pub(super) fn awaits(&self) -> impl Iterator<Item = PollFd<'a>> {
        [&self.output, &self.input]
            .into_iter()
            .filter_map(Copy::awaits)
    }

    /// Copies what can be copied; `ready` is about what [`Self::awaits`] has given. `None` when nobody can write to it
    /// any more, or nobody reads what we copy.
    pub(super) fn step(&mut self, ready: &[bool]) -> Option<()> {
        let mut ready = ready.iter().copied();
        if self.output.awaits().is_some()
            && ready.next() == Some(true)
            && self.output.step().is_some()
        {
            return None;
        }
        if self.input.awaits().is_some()
            && ready.next() == Some(true)
            && self.input.step() == Some(End::Source)
        {
            self.input.append(&end_of_input(self.console));
        }
        Some(())
    }

    /// After the process's end: what must be ready for [`Self::step_rest`]. `None` when all is copied.
    pub(super) fn rest(&mut self) -> Option<PollFd<'a>> {
        if self.output.is_empty() && self.rest > 0 {
            self.rest = match self.output.read() {
                Ok(count) if count > 0 => self.rest.saturating_sub(count),
                _ => 0,
            };
        }
        match self.output.is_empty() {
            true => None,
            false => self.output.awaits(),
        }
    }

    /// Writes the last line into the log.
    pub(super) fn close_log(&mut self) {
        self.output.close_log();
    }

    /// Copies on what [`Self::rest`] has read.
    pub(super) fn step_rest(&mut self) {
        if self.output.step().is_some() {
            self.rest = 0;
        }
    }
}

/// Gives a terminal the size that ours has.
pub(super) fn copy_size(console: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(stdin()) {
        let _ = tcsetwinsize(console, size);
    }
}

/// What a person would type: termios(3), VEOF. Twice, because the first only ends a line that has no end; at the
/// beginning of a line the second says it to the next reader too, as a file or pipe does.
pub(super) fn end_of_input(console: &OwnedFd) -> Vec<u8> {
    match tcgetattr(console) {
        Ok(modes) => {
            let end = modes.special_codes[SpecialCodeIndex::VEOF];
            let is_cooked = modes.local_modes.contains(LocalModes::ICANON);
            vec![end; if is_cooked { 2 } else { 1 }]
        }
        Err(_) => Vec::new(),
    }
}

/// Standard input's terminal in raw mode; dropped, it is as before.
pub(super) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// `None` when standard input is no terminal.
    pub(super) fn set() -> Option<Self> {
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        let set = Self { before };
        set.restore_at_panic();
        let _ = tcsetattr(stdin(), OptionalActions::Now, &raw);
        Some(set)
    }

    /// A panic aborts and drops nothing.
    fn restore_at_panic(&self) {
        let before = self.before.clone();
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let _ = tcsetattr(stdin(), OptionalActions::Now, &before);
            report(panic);
        }));
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}
