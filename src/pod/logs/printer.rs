//! From the entries of a log to the text that was written.

use std::collections::VecDeque;
use std::io::{BufWriter, Write};

use super::{Entry, MAX_LINE, timestamp};
use crate::error::{Context, Result};
use crate::pod::lifecycle::Time;

/// How a log is shown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Show<'a> {
    /// Each line begins with this, before anything else.
    pub prefix: &'a str,
    /// Only lines that were written then or later.
    pub since: Option<Time>,
    /// Each line begins with the time at which it was read from the container.
    pub timestamps: bool,
    /// Only the last lines of what is there at first.
    pub tail: Option<usize>,
    /// With `since`: also the beginning, however old, of a line that is not finished then. A prompt is one.
    pub unfinished: bool,
}

/// Writes the text of log entries.
#[derive(Debug)]
pub(super) struct Printer<W: Write> {
    out: BufWriter<W>,
    prefix: String,
    /// As entries have it: they can be compared as text.
    since: Option<String>,
    /// The line so far is older.
    skips: bool,
    /// The end of what was skipped of this line, if that is wanted once it is known that it goes on.
    skipped: Option<Vec<u8>>,
    timestamps: bool,
    /// The last lines, as long as only they are wanted.
    tail: Option<(usize, VecDeque<Vec<u8>>)>,
    /// The line so far has no newline yet.
    in_line: bool,
}

impl<W: Write> Printer<W> {
    pub(super) fn new(show: Show<'_>, out: W) -> Self {
        Self {
            out: BufWriter::new(out),
            prefix: show.prefix.to_owned(),
            since: show.since.map(timestamp),
            skips: false,
            skipped: show.unfinished.then(Vec::new),
            timestamps: show.timestamps,
            tail: show.tail.map(|n| (n, VecDeque::new())),
            in_line: false,
        }
    }

    /// Shows a line of a log file; one that is not in the CRI format, as it is.
    pub(super) fn show(&mut self, line: &[u8]) -> Result<()> {
        let (time, text, partial) = match Entry::parse(line) {
            Some(entry) => (entry.time, entry.text, entry.partial),
            None => (&b""[..], line, false),
        };
        let goes_on = self.in_line && !self.skips;
        if !self.in_line || (self.skips && self.skipped.is_some()) {
            let since = self.since.as_ref();
            self.skips = since.is_some_and(|since| !time.is_empty() && time < since.as_bytes());
        }
        self.in_line = partial;
        if self.skips {
            self.skip(text);
            return Ok(());
        }
        if !goes_on {
            self.begin_line(time)?;
        }
        self.put(text)?;
        match partial {
            true => Ok(()),
            false => self.put(b"\n"),
        }
    }

    /// Where it is written to.
    pub(super) fn out(&mut self) -> &mut W {
        self.out.get_mut()
    }

    fn skip(&mut self, text: &[u8]) {
        if let Some(skipped) = &mut self.skipped {
            skipped.extend_from_slice(text);
            skipped.drain(..skipped.len().saturating_sub(MAX_LINE));
            if !self.in_line {
                skipped.clear();
            }
        }
    }

    fn begin_line(&mut self, time: &[u8]) -> Result<()> {
        self.begin_tail();
        let prefix = self.prefix.clone();
        self.put(prefix.as_bytes())?;
        if self.timestamps && !time.is_empty() {
            self.put(time)?;
            self.put(b" ")?;
        }
        let skipped = self.skipped.as_mut().map(std::mem::take);
        self.put(&skipped.unwrap_or_default())
    }

    fn begin_tail(&mut self) {
        if let Some((wanted, lines)) = &mut self.tail {
            lines.push_back(Vec::new());
            if lines.len() > *wanted {
                lines.pop_front();
            }
        }
    }

    pub(super) fn end_line(&mut self) -> Result<()> {
        if std::mem::take(&mut self.in_line) {
            self.put(b"\n")?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.tail {
            Some((_, lines)) => {
                if let Some(line) = lines.back_mut() {
                    line.extend_from_slice(bytes);
                }
                Ok(())
            }
            None => self.out.write_all(bytes).context(|| "write the log"),
        }
    }

    /// Everything that is there has been read: from here on every line is shown.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.in_line && self.skips && self.skipped.is_some() {
            self.skips = false;
            self.begin_line(b"")?;
        }
        for line in self.tail.take().into_iter().flat_map(|(_, lines)| lines) {
            self.put(&line)?;
        }
        self.out.flush().context(|| "write the log")
    }
}
