//! A terminal that somebody else reads from: who types into it, and shows what he is told of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::stdio::{stdin, stdout};
use rustix::termios::{tcgetwinsize, tcsetwinsize};

use super::attached::{RawMode, copy_size, end_of_input};
use super::copy::{Copy, End, at_once};
use super::wait_for;
use crate::error::{Context, Result};

/// Who types this one after the other leaves: Ctrl-P Ctrl-Q, as with `docker attach` and CRI-O.
const LEAVE: [u8; 2] = [b'P' & 0x1f, b'Q' & 0x1f];

/// What a visitor may do.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Visit {
    /// What we read is typed.
    pub(in crate::cli) types: bool,
    /// The end of what we read is typed, too.
    pub(in crate::cli) ends: bool,
    /// Its window is ours.
    pub(in crate::cli) sizes: bool,
}

/// Our terminal, in raw mode as long as we type, and one of which others have the master end, too.
pub(in crate::cli) struct Visitor<'a> {
    console: &'a OwnedFd,
    visit: Visit,
    signals: SignalFd,
    modes: Option<RawMode>,
    input: Option<Copy<'a>>,
    /// The first key of [`LEAVE`] was the last, and is not typed as long as the next one is not known.
    has_said: bool,
    /// So much of what is to be shown has been.
    shown: usize,
    at_once: usize,
}

/// Why a visitor has stopped to wait.
pub(in crate::cli) enum Woken {
    /// Something of his own has happened, or to these others.
    By(Vec<bool>),
    /// He goes, with this exit code.
    Leaves(i32),
}

impl<'a> Visitor<'a> {
    /// `console` is non-blocking.
    ///
    /// # Errors
    /// As signalfd(2).
    pub(in crate::cli) fn new(console: &'a OwnedFd, visit: Visit) -> Result<Self> {
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
            Signal::SIGWINCH,
        ] {
            set.add(signal);
        }
        set.thread_block().context(|| "block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let visitor = Self {
            console,
            visit,
            signals: SignalFd::with_flags(&set, flags).context(|| "signalfd")?,
            modes: visit.types.then(RawMode::set).flatten(),
            input: visit.types.then(|| Copy::new(stdin(), console.as_fd())),
            has_said: false,
            shown: 0,
            at_once: at_once(stdout()),
        };
        if visit.sizes {
            visitor.have_it_drawn();
            copy_size(console);
        }
        Ok(visitor)
    }

    /// The file of his that a child need not have.
    pub(in crate::cli) fn signals(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    /// A program that fills the window draws it anew when that gets another size, and only then.
    fn have_it_drawn(&self) {
        let (Ok(ours), Ok(its)) = (tcgetwinsize(stdin()), tcgetwinsize(self.console)) else {
            return;
        };
        if (ours.ws_row, ours.ws_col) == (its.ws_row, its.ws_col) {
            let mut other = ours;
            other.ws_row = other.ws_row.saturating_add(1);
            let _ = tcsetwinsize(self.console, other);
        }
    }

    /// Waits until something happens, also to one of `others`: it does one step of what is to be typed or shown, and takes
    /// out of `shows` what has been.
    ///
    /// # Errors
    /// As poll(2), and when nobody takes what is shown.
    pub(in crate::cli) fn wait(
        &mut self,
        shows: &mut Vec<u8>,
        others: &[BorrowedFd<'_>],
    ) -> Result<Woken> {
        let input = self.input.as_ref().and_then(Copy::awaits);
        let (types, is_behind) = (input.is_some(), !shows.is_empty());
        let mut files = vec![PollFd::new(&self.signals, PollFlags::IN)];
        files.extend(input);
        if is_behind {
            files.push(PollFd::from_borrowed_fd(stdout(), PollFlags::OUT));
        }
        let others = others.iter();
        files.extend(others.map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let mut ready = wait_for(&mut files)?.into_iter();
        let mut is_ready = || ready.next().unwrap_or_default();
        if is_ready()
            && let Some(code) = self.look_at_signals()?
        {
            return Ok(Woken::Leaves(code));
        }
        if types && is_ready() && self.type_on() {
            return Ok(Woken::Leaves(0));
        }
        if is_behind && is_ready() {
            self.show(shows)?;
        }
        Ok(Woken::By(ready.collect()))
    }

    fn look_at_signals(&self) -> Result<Option<i32>> {
        while let Some(signal) = self.signals.read_signal().context(|| "read signals")? {
            match signal.ssi_signo as i32 {
                libc::SIGWINCH if self.visit.sizes => copy_size(self.console),
                libc::SIGWINCH => {}
                number => return Ok(Some(128 + number)),
            }
        }
        Ok(None)
    }

    /// Whether he leaves, or our terminal has gone.
    fn type_on(&mut self) -> bool {
        let Some(input) = &mut self.input else {
            return false;
        };
        let reads = input.is_empty();
        match input.step() {
            None if reads && !input.is_empty() && self.modes.is_some() => {
                let said = std::mem::take(&mut self.has_said);
                if said {
                    input.put_first(LEAVE[0]);
                }
                match keys(input.held()) {
                    Keys::Leave { after } => {
                        // If nobody reads, nobody waits for that.
                        let _ = rustix::io::write(self.console, &input.held()[..after]);
                        return true;
                    }
                    Keys::All => {}
                    Keys::ButTheLast => {
                        input.take_last();
                        self.has_said = true;
                    }
                }
            }
            None => {}
            Some(End::Source) if self.modes.is_some() => return true,
            Some(End::Source) if self.visit.ends => input.append(&end_of_input(self.console)),
            Some(_) => self.input = None,
        }
        false
    }

    fn show(&mut self, shows: &mut Vec<u8>) -> Result<()> {
        let rest = &shows[self.shown..];
        let rest = &rest[..rest.len().min(self.at_once)];
        match rustix::io::write(stdout(), rest) {
            Ok(count) => self.shown += count,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(e) => return Err(e).context(|| "write what the container shows"),
        }
        if self.shown == shows.len() {
            self.shown = 0;
            shows.clear();
        }
        Ok(())
    }
}

/// Which keys are typed.
#[derive(Debug, PartialEq, Eq)]
enum Keys {
    All,
    /// It depends on the next one.
    ButTheLast,
    /// So many; then he leaves.
    Leave {
        after: usize,
    },
}

fn keys(pressed: &[u8]) -> Keys {
    match pressed.windows(2).position(|pair| pair == LEAVE) {
        Some(after) => Keys::Leave { after },
        None if pressed.last() == Some(&LEAVE[0]) => Keys::ButTheLast,
        None => Keys::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_one_after_the_other_leave() {
        for (pressed, expected) in [
            (&b"ab"[..], Keys::All),
            (b"\x11", Keys::All),
            (b"\x10a\x11", Keys::All),
            (b"\x11\x10", Keys::ButTheLast),
            (b"\x10\x10", Keys::ButTheLast),
            (b"\x10\x11", Keys::Leave { after: 0 }),
            (b"\x10\x10\x11\x10", Keys::Leave { after: 1 }),
            (b"ab\x10\x11c", Keys::Leave { after: 2 }),
        ] {
            assert_eq!(keys(pressed), expected, "{pressed:?}");
        }
    }
}
