//! From the bytes of a container's pipes to its log file.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{LogFile, MAX_LINE, PREFIX, Stream, files, prefix};
use crate::error::{self, Context, Error, Result};
use crate::pod::lifecycle::Time;

/// A full file is put aside, in bytes: kubelet's `containerLogMaxSize`.
const MAX_SIZE: u64 = 10 * 1024 * 1024;

/// So many files are kept of one run: kubelet's `containerLogMaxFiles`. Unlike kubelet's the old ones are not compressed.
const MAX_FILES: usize = 5;

/// Bytes taken from a pipe at a time: a pipe's usual capacity, pipe(7).
const BATCH: usize = 64 * 1024;

/// Batches taken in one call, so that one noisy container does not keep the event loop from the others. As much as the
/// largest pipe holds by default (`/proc/sys/fs/pipe-max-size`): what a dead container left is read in one call.
const BATCHES: usize = 16;

/// Of the last line so much is kept for those who watch, in bytes.
const LAST_LINE: usize = 256;

/// Writes the log of one run of a container.
///
/// A log that cannot be written never stops a container: what has no place is dropped, and as soon as there is place
/// again a line on stderr says so: `runp: 1234 bytes lost: ENOSPC`. Whole lines are dropped, never parts of them.
#[derive(Debug)]
pub struct LogWriter {
    dir: PathBuf,
    restart: u32,
    file: File,
    size: u64,
    /// By [`Stream`].
    lines: [Lines; 2],
    lost: Option<Lost>,
    last_line: Vec<u8>,
}

/// What could not be written since the last line that could.
#[derive(Debug)]
struct Lost {
    bytes: u64,
    why: Errno,
}

impl LogWriter {
    /// Opens the log of a run in the container's log directory, which it makes. An existing one is continued. Of earlier
    /// runs only the previous one is kept.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn open(dir: &Path, restart: u32) -> Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(dir)
            .context(|| format!("make {}", dir.display()))?;
        if restart > 1 {
            for old in files(dir)? {
                if old.restart < restart - 1 {
                    std::fs::remove_file(&old.path)
                        .context(|| format!("remove {}", old.path.display()))?;
                }
            }
        }
        let path = dir.join(format!("{restart}.log"));
        let (file, size) = open_append(&path).context(|| format!("open log {}", path.display()))?;
        Ok(Self {
            dir: dir.to_owned(),
            restart,
            file,
            size,
            lines: Default::default(),
            lost: None,
            last_line: Vec::new(),
        })
    }

    /// Takes what is in the pipe or terminal, without waiting, and writes it; true at the end of file.
    ///
    /// The pipe's read end, or the terminal's master end, must be non-blocking. At most 1 MiB is taken, so the caller polls level-triggered. Entries get
    /// the time `now`.
    ///
    /// # Errors
    /// The pipe cannot be read. A log that cannot be written is no error, see [`LogWriter`].
    pub fn drain(&mut self, stream: Stream, pipe: impl AsFd, now: Time) -> Result<bool> {
        for _ in 0..BATCHES {
            let mut raw = Vec::with_capacity(BATCH);
            match rustix::io::read(&pipe, rustix::buffer::spare_capacity(&mut raw)) {
                // A terminal that nobody has open any more says EIO.
                Ok(0) | Err(Errno::IO) => {
                    self.end(stream, now);
                    return Ok(true);
                }
                Ok(_) => self.take(stream, &raw, now),
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(e) => return Err(Error::sys("read from a container's output", e)),
            }
        }
        Ok(false)
    }

    /// Writes what is left of both streams: for a pipe that a process outside of the container still holds.
    pub fn close(mut self, now: Time) {
        self.flush(now);
    }

    /// Writes what there is of lines that have no end yet: for who waits for it.
    pub fn flush(&mut self, now: Time) {
        self.end(Stream::Stdout, now);
        self.end(Stream::Stderr, now);
    }

    /// The beginning of the last line that the container wrote, finished or not; raw bytes.
    pub fn last_line(&self) -> &[u8] {
        &self.last_line
    }

    /// Writes what came out of a stream at this time.
    pub fn take(&mut self, stream: Stream, raw: &[u8], now: Time) {
        let (full, cut) = (prefix(now, stream, false), prefix(now, stream, true));
        let lines = &mut self.lines[stream as usize];
        let mut batch = Vec::with_capacity(raw.len() + 8 * PREFIX);
        lines.push(raw, |partial, text| {
            write_entry(&mut batch, if partial { &cut } else { &full }, text);
        });
        let entries = batch.strip_suffix(b"\n").unwrap_or(&batch);
        let newest_entry = entries.rsplit(|b| *b == b'\n').next().unwrap_or_default();
        let last = match lines.held.as_slice() {
            b"" => newest_entry.get(PREFIX..).unwrap_or_default(),
            unfinished => unfinished,
        };
        if !last.is_empty() {
            self.last_line = last[..last.len().min(LAST_LINE)].to_vec();
        }
        self.append(&batch, now);
    }

    /// What came after the last newline is an entry of its own, if anything did.
    fn end(&mut self, stream: Stream, now: Time) {
        let held = std::mem::take(&mut self.lines[stream as usize].held);
        let mut batch = Vec::new();
        if !held.is_empty() {
            write_entry(&mut batch, &prefix(now, stream, true), &held);
        }
        self.append(&batch, now);
    }

    /// Appends whole entries, or takes down what was lost.
    fn append(&mut self, entries: &[u8], now: Time) {
        if self.size > 0 && self.size + entries.len() as u64 > MAX_SIZE {
            self.rotate();
        }
        if let Some(lost) = &mut self.lost {
            let why = nix::errno::Errno::from_raw(lost.why.raw_os_error());
            let text = format!("runp: {} bytes lost: {why:?}", lost.bytes);
            let mut marker = Vec::new();
            let prefix = prefix(now, Stream::Stderr, false);
            write_entry(&mut marker, &prefix, text.as_bytes());
            if write_lines(&self.file, self.size, &marker).is_err() {
                lost.bytes += payload(entries);
                return;
            }
            self.size += marker.len() as u64;
            self.lost = None;
        }
        match write_lines(&self.file, self.size, entries) {
            Ok(()) => self.size += entries.len() as u64,
            Err((written, why)) => {
                self.size += written as u64;
                let bytes = payload(&entries[written..]);
                self.lost = Some(Lost { bytes, why });
            }
        }
    }

    /// Puts the full file aside and goes on in a new one. Where that is not possible (no inode is left, ...) the old one
    /// grows: better a log that is too long than none.
    fn rotate(&mut self) {
        if let Err(e) = self.try_rotate() {
            log::debug!("{e}");
        }
    }

    fn try_rotate(&mut self) -> Result<()> {
        let current = self.dir.join(format!("{}.log", self.restart));
        let mut rotated: Vec<LogFile> = files(&self.dir)?
            .into_iter()
            .filter(|f| f.restart == self.restart && f.rotation != LogFile::CURRENT)
            .collect();
        let rotation = rotated.last().map_or(1, |newest| newest.rotation + 1);
        let aside = self.dir.join(format!("{}.log.{rotation}", self.restart));
        let what = || format!("rotate {}", current.display());
        std::fs::rename(&current, &aside).context(what)?;
        match open_append(&current) {
            Ok((file, size)) => (self.file, self.size) = (file, size),
            Err(e) => {
                std::fs::rename(&aside, &current).context(what)?;
                return Err(Error::sys(what(), error::Errno::from(e)));
            }
        }
        let keep_before = MAX_FILES - 2; // the new file and the one just put aside are kept as well
        rotated.truncate(rotated.len().saturating_sub(keep_before));
        for old in rotated {
            std::fs::remove_file(&old.path).context(what)?;
        }
        Ok(())
    }
}

fn write_entry(out: &mut Vec<u8>, prefix: &str, text: &[u8]) {
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// Opens a log to be continued, with its size. A line that was cut short by a kill is ended, so that it stays alone.
fn open_append(path: &Path) -> std::io::Result<(File, u64)> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)?;
    let mut size = file.metadata()?.len();
    if size > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            size += 1;
        }
    }
    Ok((file, size))
}

/// Appends lines with one `write(2)`; what the kernel refuses is not left half-written: the error says how many bytes,
/// in whole lines, are in the file.
fn write_lines(
    mut file: &File,
    size: u64,
    lines: &[u8],
) -> std::result::Result<(), (usize, Errno)> {
    let mut written = 0;
    while written < lines.len() {
        match file.write(&lines[written..]) {
            Ok(n) => written += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => {
                let whole = lines[..written]
                    .iter()
                    .rposition(|b| *b == b'\n')
                    .map_or(0, |i| i + 1);
                if let Err(e) = file.set_len(size + whole as u64) {
                    log::debug!("cut a half-written log line: {e}");
                }
                return Err((whole, Errno::from_io_error(&e).unwrap_or(Errno::IO)));
            }
        }
    }
    Ok(())
}

/// How many of the container's own bytes are in these entries; a whole line's newline is one of them.
fn payload(entries: &[u8]) -> u64 {
    entries
        .split_inclusive(|b| *b == b'\n')
        .map(|line| match line.get(PREFIX - 2) {
            Some(b'P') => line.len() - PREFIX - 1,
            _ => line.len() - PREFIX,
        })
        .sum::<usize>() as u64
}

/// Cuts a stream into lines of at most [`MAX_LINE`] bytes, whatever the pieces in which it comes.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of a line, without its newline; at most [`MAX_LINE`] bytes.
    held: Vec<u8>,
}

impl Lines {
    /// Calls `emit` with (is partial, text) for each line that is complete or full.
    fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(bool, &[u8])) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (mut text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            while self.held.len() + text.len() > MAX_LINE {
                let (fits, rest) = text.split_at(MAX_LINE - self.held.len());
                self.held.extend_from_slice(fits);
                emit(true, &self.held);
                self.held.clear();
                text = rest;
            }
            self.held.extend_from_slice(text);
            if ended {
                emit(false, &self.held);
                self.held.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::super::tests::NOON;
    use super::*;

    fn log(dir: &Path, name: &str) -> String {
        String::from_utf8(fs::read(dir.join(name)).unwrap()).unwrap()
    }

    /// A writer that reads from a non-blocking pipe, and the pipe.
    fn writer(dir: &Path) -> (LogWriter, File, File) {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        (LogWriter::open(dir, 0).unwrap(), read.into(), write.into())
    }

    #[test]
    fn a_pipe_becomes_lines() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log_writer, read, mut write) = writer(dir.path());
        assert!(!log_writer.drain(Stream::Stdout, &read, NOON).unwrap());

        write.write_all(b"one\ntw").unwrap();
        assert!(!log_writer.drain(Stream::Stdout, &read, NOON).unwrap());
        assert_eq!(log_writer.last_line(), b"tw");
        write.write_all(b"o\r\n\nthree").unwrap();
        drop(write);
        assert!(log_writer.drain(Stream::Stdout, &read, NOON).unwrap());
        assert_eq!(log_writer.last_line(), b"three");
        let at = "2026-01-02T03:04:05.123456789Z stdout";
        assert_eq!(
            log(dir.path(), "0.log"),
            format!("{at} F one\n{at} F two\r\n{at} F \n{at} P three\n")
        );
    }

    #[test]
    fn closing_writes_what_both_streams_still_hold() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::open(dir.path(), 0).unwrap();
        writer.take(Stream::Stdout, b"out", NOON);
        writer.take(Stream::Stderr, b"err", NOON);
        writer.close(NOON);
        let at = "2026-01-02T03:04:05.123456789Z";
        assert_eq!(
            log(dir.path(), "0.log"),
            format!("{at} stdout P out\n{at} stderr P err\n")
        );
    }

    #[test]
    fn lines_are_cut_at_16_kib_and_not_before() {
        let mut got = Vec::new();
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; MAX_LINE], |_, _| unreachable!());
        lines.push(b"\n", |partial, text| got.push((partial, text.len())));
        lines.push(&vec![b'x'; 2 * MAX_LINE + 1], |partial, text| {
            got.push((partial, text.len()));
        });
        lines.push(b"\n", |partial, text| got.push((partial, text.len())));
        assert_eq!(
            got,
            [
                (false, MAX_LINE),
                (true, MAX_LINE),
                (true, MAX_LINE),
                (false, 1)
            ]
        );
    }

    #[test]
    fn a_full_log_is_put_aside_and_five_files_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::open(dir.path(), 0).unwrap();
        let mib = [b"x".repeat(1023), b"\n".to_vec()].concat().repeat(1024);
        for _ in 0..70 {
            writer.take(Stream::Stdout, &mib, NOON);
        }
        let kept = files(dir.path()).unwrap();
        let rotations: Vec<u32> = kept.iter().map(|f| f.rotation).collect();
        assert_eq!(rotations, [4, 5, 6, 7, LogFile::CURRENT]);
        for file in kept {
            assert!(fs::metadata(file.path).unwrap().len() <= MAX_SIZE);
        }
    }

    #[test]
    fn the_previous_run_is_kept_and_older_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for restart in 0..4 {
            LogWriter::open(dir.path(), restart).unwrap();
        }
        let kept: Vec<u32> = files(dir.path())
            .unwrap()
            .iter()
            .map(|f| f.restart)
            .collect();
        assert_eq!(kept, [2, 3]);
    }

    #[test]
    fn a_line_that_was_cut_by_a_kill_stays_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("0.log"), "2026-01-02T03").unwrap();
        let mut writer = LogWriter::open(dir.path(), 0).unwrap();
        writer.take(Stream::Stdout, b"on\n", NOON);
        assert_eq!(
            log(dir.path(), "0.log"),
            "2026-01-02T03\n2026-01-02T03:04:05.123456789Z stdout F on\n"
        );
    }

    #[test]
    fn a_full_disk_loses_lines_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::open(dir.path(), 0).unwrap();
        let file = std::mem::replace(
            &mut writer.file,
            OpenOptions::new().write(true).open("/dev/full").unwrap(),
        );
        writer.take(Stream::Stdout, b"12345\n123", NOON);
        writer.take(Stream::Stdout, b"45\n", NOON);
        writer.take(Stream::Stderr, &[b'x'; MAX_LINE + 1], NOON);
        writer.file = file;
        writer.take(Stream::Stdout, b"place again\n", NOON);
        let at = "2026-01-02T03:04:05.123456789Z";
        let lost = 6 + 6 + MAX_LINE;
        assert_eq!(
            log(dir.path(), "0.log"),
            format!("{at} stderr F runp: {lost} bytes lost: ENOSPC\n{at} stdout F place again\n")
        );
    }

    #[test]
    fn a_write_that_stops_in_the_middle_counts_whole_lines() {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let capacity = rustix::pipe::fcntl_getpipe_size(&read).unwrap();
        let lines = b"123456789\n".repeat(capacity);
        let (whole, why) = write_lines(&write.into(), 0, &lines).unwrap_err();
        assert_eq!(why, Errno::AGAIN);
        assert_eq!(whole, capacity / 10 * 10);
    }
}
