//! What is shown, without a terminal.

use std::time::Duration;

use super::{pad, printable};
use crate::pod::lifecycle::{Event, Index, Pod, Time};
use crate::pod::timeline::text::Glyphs;
use crate::pod::timeline::track::{Source, Track};
use crate::pod::timeline::{Activity, Mark, Role, duration};

/// The state of everything that is shown.
#[derive(Debug)]
pub(super) struct View {
    rows: Vec<Row>,
    name_width: usize,
    glyphs: Glyphs,
}

/// A part of the pod.
#[derive(Debug)]
struct Row {
    track: Track,
    role: Role,
    name: String,
    /// The end of its back-off.
    until: Option<Time>,
    log: String,
}

impl View {
    pub(super) fn new(pod: &Pod, glyphs: Glyphs) -> Self {
        let rows: Vec<Row> = Track::all(pod)
            .into_iter()
            .map(|track| Row {
                role: track.source.role(pod.spec()),
                name: printable(track.source.name(pod.spec())),
                track,
                until: None,
                log: String::new(),
            })
            .collect();
        Self {
            name_width: rows.iter().map(|r| r.name.len()).max().unwrap_or(0),
            rows,
            glyphs,
        }
    }

    /// Takes note, and tells each change in a line.
    pub(super) fn observe(&mut self, event: &Event, pod: &Pod) -> Vec<String> {
        let mut lines = Vec::new();
        for row in &mut self.rows {
            let change = row.track.observe(event, pod);
            row.until = row.track.source.until(pod);
            let mut tell = |word: &str, what: String| {
                let now = pod.now().to_string();
                let (_, at) = now.split_once('T').unwrap_or_default();
                let (name, word) = (pad(&row.name, self.name_width), pad(word, WORD));
                let line = format!("{at}  {name}  {word}  {what}");
                lines.push(line.trim_end().to_owned());
            };
            if let Some(mark) = row.track.marks.last().filter(|_| change.ended) {
                let took = duration(mark.took);
                tell(end_word(mark), format!("{} after {took}", reason(mark)));
            }
            if let Some(span) = row.track.open.filter(|_| change.began) {
                let what = match (span.activity, row.until) {
                    (Activity::Waiting, _) => continue,
                    (Activity::BackOff, Some(until)) => again_in(until, pod.now()),
                    (Activity::Creating, _) if span.run > 0 => format!("restart {}", span.run),
                    _ => String::new(),
                };
                tell(word(span.activity), what);
            }
        }
        lines
    }

    pub(super) fn log_line(&mut self, container: Index, line: &[u8]) {
        let source = Source::Container(container);
        if let Some(row) = self.rows.iter_mut().find(|r| r.track.source == source) {
            row.log = printable(&String::from_utf8_lossy(line));
        }
    }

    /// A line for each row: what it does, for how long, and what it said last.
    pub(super) fn lines(&self, now: Time) -> impl Iterator<Item = String> {
        self.rows.iter().map(move |row| self.line(row, now))
    }

    fn line(&self, row: &Row, now: Time) -> String {
        let ended = row.track.marks.last();
        let (glyph, word, took, what) = match (row.track.open, ended) {
            (Some(span), _) if span.activity != Activity::BackOff => {
                let took = now.since(span.from);
                let took = (span.activity != Activity::Waiting).then_some(took);
                let restart = (span.run > 0).then(|| format!("restart {}", span.run));
                let glyph = match span.activity {
                    Activity::Running => self.glyphs.goes_on(),
                    other => self.glyphs.activity(other),
                };
                (glyph, word(span.activity), took, restart)
            }
            (Some(span), ended) => {
                let again = again_in(row.until.unwrap_or(now), now);
                let why = ended.map_or(again.clone(), |m| format!("{}, {again}", reason(m)));
                (
                    self.glyphs.activity(span.activity),
                    word(span.activity),
                    None,
                    Some(why),
                )
            }
            (None, Some(mark)) => {
                let glyph = self.glyphs.end(mark.ok);
                (glyph, end_word(mark), Some(mark.took), Some(reason(mark)))
            }
            (None, None) => (' ', "", None, Some("not started".to_owned())),
        };
        let role = row.role.word();
        let (name, word) = (pad(&row.name, self.name_width), pad(word, WORD));
        let took = took.map(duration).unwrap_or_default();
        let said = [what.unwrap_or_default(), row.log.clone()];
        let said: Vec<String> = said.into_iter().filter(|s| !s.is_empty()).collect();
        let line = format!(
            "{glyph} {role:<4}  {name}  {word}  {took:>7}  {}",
            said.join("  ")
        );
        line.trim_end().to_owned()
    }
}

/// The width of the longest of the words below, in columns.
const WORD: usize = 8;

fn word(activity: Activity) -> &'static str {
    match activity {
        Activity::Waiting => "Waiting",
        Activity::BackOff => "BackOff",
        Activity::Creating => "Creating",
        Activity::Running => "Running",
    }
}

fn end_word(mark: &Mark) -> &'static str {
    if mark.ok { "Done" } else { "Failed" }
}

fn reason(mark: &Mark) -> String {
    match &mark.message {
        Some(message) => format!("{}: {}", mark.note, printable(message)),
        None => mark.note.clone(),
    }
}

/// In whole seconds: it is a countdown.
fn again_in(until: Time, now: Time) -> String {
    let left = until.since(now).as_millis().div_ceil(1000);
    let left = Duration::from_secs(u64::try_from(left).unwrap_or(u64::MAX));
    format!("again in {}", duration(left))
}
