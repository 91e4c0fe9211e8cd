//! From a container's log files to the text that it wrote.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use super::printer::Printer;
use super::{LogFile, Show, files};
use crate::error::{Context, Error, Result};

/// Writes the text of one run, `restart`, from the container's log directory.
///
/// # Errors
/// There is no such log, or it cannot be read, or `out` cannot be written.
pub fn print(dir: &Path, restart: u32, show: Show<'_>, out: impl Write) -> Result<()> {
    let mut printer = Printer::new(show, out);
    let mut log = Log::open(dir, restart)?;
    log.read_on(&mut printer, Some(restart))?;
    log.give_up_line(&mut printer)?;
    printer.flush()
}

/// Writes the text of run `restart` and of all that follow it, as it comes, until `over`.
///
/// `over` is asked whenever the log directory or the pod's `journal` changed, and when the supervisor died (which closes
/// the journal); it says whether this container's log can still grow. What was written before it says no is shown.
///
/// # Errors
/// As for [`print()`], and what `over` returns.
pub fn follow(
    dir: &Path,
    restart: u32,
    show: Show<'_>,
    journal: &Path,
    mut over: impl FnMut() -> Result<bool>,
    out: impl Write,
) -> Result<()> {
    let mut follower = Follower::new(dir, restart, show, journal, out)?;
    loop {
        let over = over()?;
        follower.step(over)?;
        if over {
            return Ok(());
        }
        follower.wait()?;
    }
}

/// A log that is shown as it comes, for who waits for something else, too.
#[derive(Debug)]
pub struct Follower<W: Write> {
    printer: Printer<W>,
    changes: OwnedFd,
    log: Log,
}

impl<W: Write> Follower<W> {
    /// At the beginning; see [`follow`].
    ///
    /// # Errors
    /// When there is no such log, or it cannot be watched.
    pub fn new(dir: &Path, restart: u32, show: Show<'_>, journal: &Path, out: W) -> Result<Self> {
        Ok(Self {
            printer: Printer::new(show, out),
            // Watched before anything is read: what changes after that wakes us up.
            changes: watch(dir, journal)?,
            log: Log::open(dir, restart)?,
        })
    }

    /// Shows all there is; if the log is `over`, also a line that nobody will finish.
    ///
    /// # Errors
    /// As for [`print()`].
    pub fn step(&mut self, over: bool) -> Result<()> {
        self.log.read_on(&mut self.printer, None)?;
        if over {
            self.log.give_up_line(&mut self.printer)?;
        }
        self.printer.flush()
    }

    /// Where it is shown.
    pub fn out(&mut self) -> &mut W {
        self.printer.out()
    }

    /// What is readable when something has changed, and the file that is read.
    pub fn files(&self) -> [BorrowedFd<'_>; 2] {
        [self.changes.as_fd(), self.log.file.get_ref().as_fd()]
    }

    /// Waits until something has changed, if nothing has yet.
    ///
    /// # Errors
    /// As read(2).
    pub fn wait(&self) -> Result<()> {
        wait(&self.changes)
    }
}

fn watch(dir: &Path, journal: &Path) -> Result<OwnedFd> {
    let changes = inotify::init(CreateFlags::CLOEXEC).context(|| "watch the logs: inotify_init")?;
    for (path, flags) in [
        (dir, WatchFlags::MODIFY | WatchFlags::CREATE),
        (journal, WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE),
    ] {
        inotify::add_watch(&changes, path, flags | WatchFlags::DELETE_SELF)
            .context(|| format!("watch {}", path.display()))?;
    }
    Ok(changes)
}

/// Waits for a change. Which one it is does not matter: everything is looked at anyway.
fn wait(changes: &OwnedFd) -> Result<()> {
    let mut events = [MaybeUninit::<u8>::uninit(); 4096];
    match rustix::io::read(changes, &mut events) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(e) => Err(Error::sys("wait for changes of the log", e)),
    }
}

/// A place in a container's logs.
#[derive(Debug)]
struct Log {
    dir: PathBuf,
    file: BufReader<File>,
    restart: u32,
    /// The beginning of a line whose end is not in the file yet.
    line: Vec<u8>,
}

impl Log {
    /// At the beginning of the oldest file of a run.
    fn open(dir: &Path, restart: u32) -> Result<Self> {
        let found = files(dir)?.into_iter().find(|f| f.restart == restart);
        let path = found.map_or_else(|| dir.join(format!("{restart}.log")), |f| f.path);
        let file = File::open(&path).context(|| format!("open log {}", path.display()))?;
        Ok(Self {
            dir: dir.to_owned(),
            file: BufReader::new(file),
            restart,
            line: Vec::new(),
        })
    }

    /// Shows all there is, up to the end of the newest file, or of run `only`.
    fn read_on(&mut self, printer: &mut Printer<impl Write>, only: Option<u32>) -> Result<()> {
        loop {
            // Asked first: once there is a next file nothing more is written to this one.
            let next = self.next_file(only)?;
            self.read_file(printer)?;
            let Some(next) = next else {
                return self.unwind_if_cut();
            };
            match File::open(&next.path) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue, // rotated or pruned just now
                file => {
                    self.give_up_line(printer)?;
                    if next.restart != self.restart {
                        printer.end_line()?;
                    }
                    self.file =
                        BufReader::new(file.context(|| format!("open {}", next.path.display()))?);
                    self.restart = next.restart;
                }
            }
        }
    }

    /// The file that was begun after this one. A file is known by its inode, as rotation renames it; one that is gone was
    /// older than all that are left.
    fn next_file(&self, only: Option<u32>) -> Result<Option<LogFile>> {
        let this = self.file.get_ref().metadata();
        let this = this.context(|| "stat a log")?;
        let mut after = Vec::new();
        for file in files(&self.dir)? {
            match std::fs::metadata(&file.path) {
                Ok(m) if (m.dev(), m.ino()) == (this.dev(), this.ino()) => after.clear(),
                _ => after.push(file),
            }
        }
        Ok(after
            .into_iter()
            .find(|f| only.is_none_or(|run| f.restart == run)))
    }

    fn read_file(&mut self, printer: &mut Printer<impl Write>) -> Result<()> {
        while self
            .file
            .read_until(b'\n', &mut self.line)
            .context(|| "read a log")?
            > 0
        {
            if let Some(line) = self.line.strip_suffix(b"\n") {
                printer.show(line)?;
                self.line.clear();
            }
        }
        Ok(())
    }

    /// Shows what is left of a line that nobody will finish.
    fn give_up_line(&mut self, printer: &mut Printer<impl Write>) -> Result<()> {
        if !self.line.is_empty() {
            printer.show(&self.line)?;
            self.line.clear();
        }
        Ok(())
    }

    /// A writer that found no place for a line cuts off what there is of it: goes back to there.
    fn unwind_if_cut(&mut self) -> Result<()> {
        let what = || "seek in a log";
        let size = self.file.get_ref().metadata().context(what)?.len();
        if self.file.stream_position().context(what)? > size {
            self.file.seek(SeekFrom::Start(size)).context(what)?;
            self.line.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc::{Receiver, Sender, channel};

    use proptest::prelude::*;

    use super::super::tests::NOON;
    use super::super::{LogWriter, MAX_LINE, Stream};
    use super::*;
    use crate::pod::lifecycle::Time;

    /// Feeds bytes through a pipe, as a container does.
    fn write(writer: &mut LogWriter, stream: Stream, bytes: &[u8]) {
        let (read, pipe) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        for part in bytes.chunks(16 * 1024) {
            File::from(pipe.try_clone().unwrap())
                .write_all(part)
                .unwrap();
            assert!(!writer.drain(stream, &read, NOON).unwrap());
        }
    }

    fn text(dir: &Path, restart: u32, show: Show<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        print(dir, restart, show, &mut out).unwrap();
        out
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            8 => proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'\r')], 0..60),
            1 => (0..3usize, any::<u8>()).prop_map(|(more, b)| vec![b; MAX_LINE - 1 + more]),
        ];
        proptest::collection::vec(line, 0..8).prop_map(|lines| lines.concat())
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_whatever_the_pieces(
            bytes in bytes(),
            pieces in proptest::collection::vec(1..40_000usize, 1..20),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = LogWriter::open(dir.path(), 0).unwrap();
            let mut rest = bytes.as_slice();
            for piece in pieces.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*piece));
                write(&mut writer, Stream::Stdout, now);
                rest = later;
                if piece % 2 == 0 {
                    writer.flush(NOON);
                }
                if rest.is_empty() {
                    break;
                }
            }
            writer.close(NOON);
            prop_assert_eq!(text(dir.path(), 0, Show::default()), bytes);
        }
    }

    #[test]
    fn a_line_that_was_begun_before_is_shown_from_its_beginning_if_that_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let line = |second: u32, tag: char, text: &str| {
            format!("2026-01-02T03:04:{second:02}.000000000Z stdout {tag} {text}\n")
        };
        let write = |lines: &[String]| {
            let mut options = File::options();
            let path = dir.path().join("0.log");
            let mut file = options.create(true).append(true).open(path).unwrap();
            file.write_all(lines.concat().as_bytes()).unwrap();
        };
        let old = [line(1, 'P', "a "), line(1, 'F', "b"), line(1, 'P', "# ")];
        write(&old);
        let journal = dir.path().join("journal");
        File::create(&journal).unwrap();
        for (unfinished, first, then) in [(true, "# ", "# l\n# "), (false, "", "# ")] {
            let show = Show {
                since: Some(Time(1_767_323_042_000_000_000)),
                unfinished,
                ..Show::default()
            };
            std::fs::write(dir.path().join("0.log"), old.concat()).unwrap();
            let mut log = Follower::new(dir.path(), 0, show, &journal, Vec::new()).unwrap();
            log.step(false).unwrap();
            assert_eq!(std::str::from_utf8(log.out()).unwrap(), first);
            write(&[line(2, 'P', "l"), line(3, 'F', ""), line(3, 'P', "# ")]);
            log.step(false).unwrap();
            assert_eq!(std::str::from_utf8(log.out()).unwrap(), then);
        }
        // It has gone on before anybody looked.
        let show = Show {
            since: Some(Time(1_767_323_042_000_000_000)),
            unfinished: true,
            ..Show::default()
        };
        assert_eq!(text(dir.path(), 0, show), b"# l\n# ");
    }

    #[test]
    fn only_what_is_new_enough_with_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let line = |second: u32, tag: char, text: &str| {
            format!("2026-01-02T03:04:{second:02}.000000000Z stdout {tag} {text}\n")
        };
        let log = [
            line(1, 'F', "old"),
            line(1, 'P', "also "),
            line(3, 'F', "old"),
            line(2, 'F', "new"),
        ];
        std::fs::write(dir.path().join("0.log"), log.concat()).unwrap();
        let show = Show {
            prefix: "[a] ",
            since: Some(Time(1_767_323_042_000_000_000)),
            ..Show::default()
        };
        assert_eq!(text(dir.path(), 0, show), b"[a] new\n");
    }

    #[test]
    fn reads_on_over_rotated_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::open(dir.path(), 0).unwrap();
        let mut all = Vec::new();
        for i in 0..25 {
            let part = format!("{i:0>1000}\n").repeat(1000).into_bytes();
            write(&mut writer, Stream::Stdout, &part);
            all.extend(part);
        }
        assert_eq!(files(dir.path()).unwrap().len(), 3);
        assert!(text(dir.path(), 0, Show::default()) == all);
    }

    #[test]
    fn shows_the_tail_and_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = LogWriter::open(dir.path(), 0).unwrap();
        write(&mut writer, Stream::Stdout, b"1\n2\n3\n");
        write(&mut writer, Stream::Stderr, &[b'e'; MAX_LINE + 1]);
        writer.close(NOON);
        let show = |tail, timestamps| {
            let tail = Some(tail);
            String::from_utf8(text(
                dir.path(),
                0,
                Show {
                    timestamps,
                    tail,
                    ..Show::default()
                },
            ))
            .unwrap()
        };
        assert_eq!(show(0, false), "");
        assert_eq!(show(2, false), format!("3\n{}", "e".repeat(MAX_LINE + 1)));
        let at = "2026-01-02T03:04:05.123456789Z";
        assert_eq!(
            show(2, true),
            format!("{at} 3\n{at} {}", "e".repeat(MAX_LINE + 1))
        );
        assert_eq!(show(9, false).lines().count(), 4);
    }

    #[test]
    fn a_line_that_is_not_ours_is_shown_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("0.log"), "2026-01-02T03\nab").unwrap();
        assert_eq!(text(dir.path(), 0, Show::default()), b"2026-01-02T03\nab\n");
    }

    #[test]
    fn a_log_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = print(dir.path(), 7, Show::default(), Vec::new()).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("7.log: ENOENT: no such file or directory")
        );
    }

    /// Passes on what is printed, piece by piece.
    struct Printed(Sender<Vec<u8>>);

    impl Write for Printed {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn expect(printed: &Receiver<Vec<u8>>, text: &[u8]) {
        let mut got = Vec::new();
        while got.len() < text.len() {
            got.extend(printed.recv().unwrap());
        }
        assert_eq!(got, text);
    }

    #[test]
    fn follows_over_rotation_and_restart_until_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        let journal = dir.path().join("journal");
        let open_journal = File::create(&journal).unwrap();
        let ended = dir.path().join("ended");
        let mut writer = LogWriter::open(&logs, 0).unwrap();
        write(&mut writer, Stream::Stdout, b"old\nfirst\n");

        let (send, printed) = channel();
        let reader = {
            let (logs, journal, ended) = (logs.clone(), journal.clone(), ended.clone());
            let show = Show {
                tail: Some(1),
                ..Show::default()
            };
            std::thread::spawn(move || {
                follow(
                    &logs,
                    0,
                    show,
                    &journal,
                    || Ok(ended.exists()),
                    Printed(send),
                )
            })
        };
        expect(&printed, b"first\n");
        let mut expected = Vec::new();
        for i in 0..24 {
            let part = format!("{i:0>1000}\n").repeat(1000).into_bytes();
            write(&mut writer, Stream::Stdout, &part);
            expected.extend(part);
        }
        expect(&printed, &expected);
        write(&mut writer, Stream::Stdout, b"last words");
        writer.close(NOON);
        expect(&printed, b"last words");
        let mut writer = LogWriter::open(&logs, 1).unwrap();
        write(&mut writer, Stream::Stdout, b"again\n");
        expect(&printed, b"\nagain\n");

        write(&mut writer, Stream::Stderr, b"end\n");
        std::fs::write(&ended, "").unwrap();
        drop(open_journal); // the supervisor dies
        reader.join().unwrap().unwrap();
        assert_eq!(printed.into_iter().flatten().collect::<Vec<u8>>(), b"end\n");
    }

    #[test]
    fn goes_back_to_where_a_line_was_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "one\nhalf a li").unwrap();
        let mut out = Vec::new();
        let mut printer = Printer::new(Show::default(), &mut out);
        let mut log = Log::open(dir.path(), 0).unwrap();
        log.read_on(&mut printer, None).unwrap();
        std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(4)
            .unwrap();
        log.read_on(&mut printer, None).unwrap();
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap();
        file.write_all(b"a longer line than before\n").unwrap();
        log.read_on(&mut printer, None).unwrap();
        printer.flush().unwrap();
        drop(printer);
        assert_eq!(out, b"one\na longer line than before\n");
    }
}
