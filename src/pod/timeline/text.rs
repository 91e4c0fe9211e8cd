//! The timeline as text for a terminal.

use super::axis::Axis;
use super::{Activity, Mark, Row, Timeline, duration};
use crate::pod::lifecycle::Time;

/// The least width that bars get, in columns.
const BARS_LEAST: usize = 16;

/// The characters that a timeline is drawn with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Glyphs {
    /// Block elements and check marks.
    Unicode,
    /// For terminals and files that have nothing else.
    Ascii,
}

impl Glyphs {
    /// Unicode, unless the environment says that it would not be understood: a locale that is not UTF-8, or a terminal
    /// whose font is known to lack it.
    #[must_use]
    pub fn from_env(var: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| var(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let utf8 = locale.is_none_or(|l| {
            let l = l.to_ascii_lowercase();
            l.ends_with("utf-8") || l.ends_with("utf8")
        });
        let term = var("TERM").is_none_or(|term| term != "linux" && term != "dumb");
        if utf8 && term {
            Self::Unicode
        } else {
            Self::Ascii
        }
    }

    pub(in crate::pod) fn activity(self, activity: Activity) -> char {
        let (unicode, ascii) = match activity {
            Activity::Waiting => ('·', '.'),
            Activity::BackOff => ('░', '~'),
            Activity::Creating => ('▒', '+'),
            Activity::Running => ('█', '#'),
        };
        self.pick(unicode, ascii)
    }

    pub(in crate::pod) fn end(self, ok: bool) -> char {
        if ok {
            self.pick('✓', 'o')
        } else {
            self.pick('✗', 'x')
        }
    }

    fn pick(self, unicode: char, ascii: char) -> char {
        match self {
            Self::Unicode => unicode,
            Self::Ascii => ascii,
        }
    }

    pub(in crate::pod) fn goes_on(self) -> char {
        self.pick('▶', '>')
    }

    fn fold(self) -> char {
        self.pick('≈', '/')
    }
}

/// Draws it in at most `width` columns.
#[must_use]
pub fn render(timeline: &Timeline, width: usize, glyphs: Glyphs) -> String {
    let axis = Axis::of(timeline);
    let columns = Columns::fit(&timeline.rows, width);
    let mut lines = vec![title(timeline), String::new()];
    lines.extend(scale(&axis, &columns, glyphs));
    for row in &timeline.rows {
        lines.push(columns.line(row, &bar(row, &axis, columns.bars, timeline.to, glyphs)));
    }
    lines.push(String::new());
    lines.extend(legend(&axis, glyphs, width));
    let mut out = String::new();
    for line in lines {
        out.extend(line.trim_end().chars().take(width));
        out.push('\n');
    }
    out
}

fn title(timeline: &Timeline) -> String {
    format!(
        "{}  {:?} after {}, made {}",
        timeline.name,
        timeline.phase,
        duration(timeline.to.since(timeline.from)),
        timeline.from,
    )
}

/// Widths of what stands beside the bars, in columns.
struct Columns {
    name: usize,
    bars: usize,
    took: usize,
}

impl Columns {
    fn fit(rows: &[Row], width: usize) -> Self {
        let longest = |of: &dyn Fn(&Row) -> usize| rows.iter().map(of).max().unwrap_or(0);
        let name = longest(&|r| r.name.len()).min((width / 4).max(8));
        let took = longest(&|r| took(r).len());
        let outcome = longest(&|r| r.outcome.len());
        let beside = "init  ".len() + name + 2 + 2 + took + 2 + outcome;
        Self {
            name,
            bars: width.saturating_sub(beside).max(BARS_LEAST),
            took,
        }
    }

    fn indent(&self) -> usize {
        "init  ".len() + self.name + 2
    }

    fn line(&self, row: &Row, bar: &str) -> String {
        format!(
            "{:<4}  {:<name$}  {bar}  {:>took$}  {}",
            row.role.word(),
            row.name.chars().take(self.name).collect::<String>(),
            took(row),
            row.outcome,
            name = self.name,
            took = self.took,
        )
    }
}

fn took(row: &Row) -> String {
    row.took().map(duration).unwrap_or_default()
}

/// The labels of the axis and the axis itself.
fn scale(axis: &Axis, columns: &Columns, glyphs: Glyphs) -> [String; 2] {
    let mut labels = vec![' '; columns.bars + 8];
    let mut line = vec![glyphs.pick('─', '-'); columns.bars];
    let mut free_from = 0;
    for tick in axis.ticks(columns.bars / 12) {
        let at = cell(tick.place, columns.bars);
        let end = at + tick.label.chars().count();
        if at < free_from || end > labels.len() {
            continue;
        }
        line[at] = glyphs.pick('┼', '+');
        for (cell, c) in labels[at..end].iter_mut().zip(tick.label.chars()) {
            *cell = c;
        }
        free_from = end + 1;
    }
    if let Some((middle, _)) = axis.fold() {
        line[cell(middle, columns.bars)] = glyphs.fold();
    }
    [labels, line].map(|chars| {
        let indent = " ".repeat(columns.indent());
        indent + &chars.into_iter().collect::<String>()
    })
}

/// Each column shows the most telling thing in its time: an end, else running, creating, back-off, waiting.
fn bar(row: &Row, axis: &Axis, width: usize, to: Time, glyphs: Glyphs) -> String {
    let mut shown: Vec<Option<Activity>> = vec![None; width];
    for span in &row.spans {
        let first = cell(axis.place(span.from), width);
        let last = last_cell(axis.place(span.to), width).max(first);
        for shown in &mut shown[first..=last] {
            *shown = (*shown).max(Some(span.activity));
        }
    }
    let mut cells: Vec<char> = shown
        .into_iter()
        .map(|activity| activity.map_or(' ', |a| glyphs.activity(a)))
        .collect();
    if let Some((middle, _)) = axis.fold() {
        let cell = &mut cells[cell(middle, width)];
        if *cell != ' ' {
            *cell = glyphs.fold();
        }
    }
    if row.ongoing {
        cells[last_cell(axis.place(to), width)] = glyphs.goes_on();
    }
    for Mark { at, ok, .. } in &row.marks {
        cells[last_cell(axis.place(*at), width)] = glyphs.end(*ok);
    }
    cells.into_iter().collect()
}

/// The column in which something begins.
fn cell(place: f64, width: usize) -> usize {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // place is in 0..=1
    let cell = (place * width as f64) as usize;
    cell.min(width - 1)
}

/// The column in which something ends: what ends where a column begins does not reach into it.
fn last_cell(place: f64, width: usize) -> usize {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // place is in 0..=1
    let end = (place * width as f64).ceil() as usize;
    end.clamp(1, width) - 1
}

fn legend(axis: &Axis, glyphs: Glyphs, width: usize) -> Vec<String> {
    let mut entries = [
        (Activity::Waiting, "waiting"),
        (Activity::Creating, "creating"),
        (Activity::Running, "running"),
        (Activity::BackOff, "back-off"),
    ]
    .map(|(activity, name)| format!("{} {name}", glyphs.activity(activity)))
    .to_vec();
    entries.push(format!("{} done", glyphs.end(true)));
    entries.push(format!("{} failed", glyphs.end(false)));
    entries.push(format!("{} goes on", glyphs.goes_on()));
    if let Some((_, length)) = axis.fold() {
        entries.push(format!("{} {} folded", glyphs.fold(), duration(length)));
    }
    let mut lines = vec![String::new()];
    for entry in entries {
        let line = lines.last_mut().filter(|line| {
            line.is_empty() || line.chars().count() + 3 + entry.chars().count() <= width
        });
        match line {
            Some(line) if line.is_empty() => *line = entry,
            Some(line) => *line += &format!("   {entry}"),
            None => lines.push(entry),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::tests::{hello, troubled};
    use super::*;

    fn lines(text: &str) -> Vec<&str> {
        text.lines().collect()
    }

    #[test]
    fn shows_the_order_at_a_glance() {
        assert_eq!(
            lines(&render(&hello(), 100, Glyphs::Unicode)),
            [
                "hello  Succeeded after 342 ms, made 2026-01-02T03:04:05.000Z",
                "",
                "               0                  100 ms              200 ms              300 ms",
                "               ┼──────────────────┼───────────────────┼───────────────────┼────────",
                "pod   volumes  ✓                                                                     0.5 ms  ready",
                "pod   sandbox  ███████████████████████████████████████████████████████████████████✓  340 ms  stopped",
                "init  fetch    ████████████████████✓                                                 100 ms  exit 0",
                "init  migrate  ····················▒████████████████✓                                 80 ms  exit 0",
                "app   web      ·····································██████████████████████████████✓  150 ms  exit 0",
                "app   worker   ·····································████████████████████✓            100 ms  exit 0",
                "",
                "· waiting   ▒ creating   █ running   ░ back-off   ✓ done   ✗ failed   ▶ goes on",
            ]
        );
    }

    #[test]
    fn folds_the_hours_in_which_nothing_happened() {
        assert_eq!(
            lines(&render(&troubled(), 100, Glyphs::Ascii)),
            [
                "hello  Running after 2h, made 2026-01-02T03:04:05.000Z",
                "",
                "               0                  10 s                20 s             2h",
                "               +------------------+-------------------+-------------/--+",
                "pod   volumes  o                                                          0.5 ms  ready",
                "pod   sandbox  #####################################################/##>      2h  running",
                "init  wait     #x#x~~~~~~~~~~~~~~~~~~~##o                                 996 ms  exit 0, 2 restarts",
                "app   web      .........................x###x~~~~~~~~~~~~~~~~~~~####/##>  1h 59m  running, 1 restart",
                "",
                ". waiting   + creating   # running   ~ back-off   o done   x failed   > goes on   / 1h 59m folded",
            ]
        );
    }

    #[test]
    fn fits_any_width() {
        for width in 0..200 {
            for timeline in [hello(), troubled()] {
                let text = render(&timeline, width, Glyphs::Unicode);
                assert!(text.lines().all(|line| line.chars().count() <= width));
            }
        }
    }

    #[test]
    fn draws_with_what_the_terminal_understands() {
        let glyphs = |vars: &[(&str, &str)]| {
            Glyphs::from_env(|name| {
                let var = vars.iter().find(|(n, _)| *n == name);
                var.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(glyphs(&[]), Glyphs::Unicode);
        assert_eq!(glyphs(&[("LANG", "C.UTF-8")]), Glyphs::Unicode);
        assert_eq!(
            glyphs(&[("LC_ALL", ""), ("LANG", "de_DE.utf8")]),
            Glyphs::Unicode
        );
        assert_eq!(
            glyphs(&[("LC_ALL", "C"), ("LANG", "C.UTF-8")]),
            Glyphs::Ascii
        );
        assert_eq!(glyphs(&[("TERM", "linux")]), Glyphs::Ascii);
    }
}
