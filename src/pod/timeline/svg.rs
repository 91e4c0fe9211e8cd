//! The timeline as a picture: one self-contained SVG file that also a README can show.

use super::axis::Axis;
use super::{Activity, Mark, Role, Row, Span, Timeline, duration};
use crate::pod::lifecycle::Time;

/// All lengths are in user units, which are pixels at the picture's natural size.
const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;
/// Where the first row begins.
const TOP: f64 = 96.0;
/// The same without a title.
const UNTITLED_TOP: f64 = 48.0;
const ROW: f64 = 32.0;
const BAR: f64 = 18.0;
const LEGEND: f64 = 52.0;
/// The width of a character of the small text; system fonts differ, this is on the safe side.
const CHAR: f64 = 6.4;
/// A run that is too short to be seen gets this width.
const LEAST: f64 = 2.5;

const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1f2328}\
.title{font-size:17px;font-weight:600}\
.soft{fill:#656d76}\
.small{font-size:11px}\
.name{font-weight:600}\
.in{font-size:11px;fill:#fff}\
.bad{fill:#b3261e}\
.mid{text-anchor:middle}\
.end{text-anchor:end}\
.grid{stroke:#e7eaee}\
.wait{stroke:#b6bec8;stroke-width:2;stroke-dasharray:1 5;stroke-linecap:round}\
.create{fill:#f2b134}\
.back{fill:url(#back);stroke:#e9b3ae}\
.sandbox{fill:#8593a5}\
.init{fill:#3f74d1}\
.app{fill:#2b9a66}\
.ok{fill:#fff;stroke:#1d7a4e;stroke-width:1.5}\
.no{fill:#c4352b;stroke:#fff;stroke-width:1.5}\
.tick{fill:none;stroke:#1d7a4e;stroke-width:1.8;stroke-linecap:round;stroke-linejoin:round}\
.cross{fill:none;stroke:#fff;stroke-width:1.8;stroke-linecap:round}\
.fold{fill:none;stroke:#fff;stroke-width:5}\
.edge{fill:none;stroke:#9aa4af}";

/// Draws it.
#[must_use]
pub fn render(timeline: &Timeline) -> String {
    Picture::of(timeline, TOP).draw(timeline)
}

/// The same without its title, for where that stands already.
#[must_use]
pub(super) fn render_untitled(timeline: &Timeline) -> String {
    Picture::of(timeline, UNTITLED_TOP).draw(timeline)
}

/// The picture so far, and where things are on it.
struct Picture {
    out: String,
    axis: Axis,
    /// Where the bars begin and end.
    left: f64,
    right: f64,
    /// Where the first row begins.
    top: f64,
    height: f64,
}

impl Picture {
    fn of(timeline: &Timeline, top: f64) -> Self {
        let longest = |of: &dyn Fn(&Row) -> usize| timeline.rows.iter().map(of).max().unwrap_or(0);
        let name = longest(&|r| r.name.chars().count()).min(32) as f64;
        let outcome = longest(&|r| outcome(r).chars().count()).min(40) as f64;
        let rows = timeline.rows.len() as f64;
        Self {
            out: String::new(),
            axis: Axis::of(timeline),
            left: MARGIN + 36.0 + (name * (CHAR + 1.2)).max(56.0) + 20.0,
            right: WIDTH - MARGIN - (outcome * CHAR).max(56.0) - 18.0,
            top,
            height: top + rows * ROW + LEGEND + 8.0,
        }
    }

    fn draw(mut self, timeline: &Timeline) -> String {
        self.open(timeline);
        if self.top > UNTITLED_TOP {
            self.title(timeline);
        }
        let top = self.top;
        let tops = (0..).map(|n| top + f64::from(n) * ROW);
        for (row, top) in timeline.rows.iter().zip(tops.clone()) {
            self.background(row, top);
        }
        self.grid(timeline.rows.len());
        for (row, top) in timeline.rows.iter().zip(tops) {
            self.row(row, top, timeline.from);
        }
        self.fold(timeline.rows.len());
        self.legend();
        self.out.push_str("</svg>\n");
        self.out
    }

    fn x(&self, at: Time) -> f64 {
        self.at(self.axis.place(at))
    }

    fn at(&self, place: f64) -> f64 {
        self.left + (self.right - self.left) * place
    }

    fn put(&mut self, element: impl AsRef<str>) {
        self.out.push_str(element.as_ref());
        self.out.push('\n');
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = escape(text);
        self.put(format!(
            r#"<text x="{x:.1}" y="{y:.1}" class="{class}">{text}</text>"#
        ));
    }

    fn open(&mut self, timeline: &Timeline) {
        let (height, name) = (self.height, escape(&timeline.name));
        self.put(format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">"#
        ));
        self.put(format!("<title>Timeline of pod {name}</title>"));
        self.put(format!("<style>{STYLE}</style>"));
        self.put(
            r##"<defs><pattern id="back" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6" fill="#fdecea"/><rect width="2" height="6" fill="#f3c4bf"/></pattern></defs>"##,
        );
        self.put(format!(
            r##"<rect x="0.5" y="0.5" width="{}" height="{}" rx="10" fill="#fff" stroke="#d6dbe1"/>"##,
            WIDTH - 1.0,
            height - 1.0
        ));
    }

    fn title(&mut self, timeline: &Timeline) {
        let took = duration(timeline.to.since(timeline.from));
        self.text(MARGIN, 36.0, "title", &timeline.name);
        let what = format!("{:?} after {took}", timeline.phase);
        self.text(MARGIN, 56.0, "soft", &what);
        let made = timeline.from.to_string();
        self.text(WIDTH - MARGIN, 36.0, "soft small end", &made);
    }

    /// A faint band in the colour of the row's group.
    fn background(&mut self, row: &Row, top: f64) {
        let fill = match row.role {
            Role::Volumes | Role::Sandbox => "#f7f8fa",
            Role::Init | Role::Sidecar => "#f1f6fe",
            Role::App => "#effaf4",
        };
        let width = WIDTH - 2.0 * MARGIN + 16.0;
        self.put(format!(
            r#"<rect x="{}" y="{:.1}" width="{width}" height="{}" rx="5" fill="{fill}"/>"#,
            MARGIN - 8.0,
            top + 1.0,
            ROW - 2.0
        ));
    }

    fn grid(&mut self, rows: usize) {
        let bottom = self.top + rows as f64 * ROW;
        let mut free_from = 0.0;
        for tick in self.axis.ticks(8) {
            let x = self.at(tick.place);
            self.put(format!(
                r#"<path class="grid" d="M{x:.1} {}V{bottom:.1}"/>"#,
                self.top - 6.0
            ));
            let half = tick.label.chars().count() as f64 * CHAR / 2.0;
            if x - half >= free_from {
                self.text(x, self.top - 12.0, "soft small mid", &tick.label);
                free_from = x + half + 4.0;
            }
        }
    }

    fn row(&mut self, row: &Row, top: f64, from: Time) {
        let base = top + ROW / 2.0 + 4.0;
        self.text(MARGIN, base, "soft small", row.role.word());
        self.text(MARGIN + 36.0, base, "name", &shorten(&row.name, 32));
        for span in &row.spans {
            self.span(row, span, top, from);
            let failed = row.marks.iter().find(|m| m.at == span.from && !m.ok);
            if let (Activity::BackOff, Some(mark)) = (span.activity, failed) {
                self.label(span, &mark.note, "small bad", base);
            }
            if span.activity == Activity::Running {
                let took = duration(span.to.since(span.from));
                let numbered = format!("restart {}: {took}", span.run);
                let _ = (span.run > 0 && self.label(span, &numbered, "in", base))
                    || self.label(span, &took, "in", base);
            }
        }
        for mark in &row.marks {
            self.mark(row, mark, top, from);
        }
        let class = if row.marks.last().is_some_and(|m| !m.ok) && !row.ongoing {
            "small bad"
        } else {
            "small soft"
        };
        self.text(self.right + 18.0, base, class, &shorten(&outcome(row), 40));
    }

    /// Text inside of a bar, if it fits; not across the tear of a fold.
    fn label(&mut self, span: &Span, text: &str, class: &str, base: f64) -> bool {
        let (from, to) = (self.x(span.from), self.x(span.to));
        let fold = self.axis.fold().map(|(middle, _)| self.at(middle));
        let pieces = match fold.filter(|x| (from..to).contains(x)) {
            Some(x) => vec![(from, x), (x, to)],
            None => vec![(from, to)],
        };
        let width = text.chars().count() as f64 * CHAR;
        let fitting = pieces.iter().find(|(x, to)| x + 9.0 + width <= to - 6.0);
        if let Some((x, _)) = fitting {
            self.text(x + 9.0, base, class, text);
        }
        fitting.is_some()
    }

    fn span(&mut self, row: &Row, span: &Span, top: f64, from: Time) {
        let (x, to) = (self.x(span.from), self.x(span.to));
        let tip = escape(&tip(row, span, from));
        let (class, name) = match (span.activity, row.role) {
            (Activity::Waiting, _) => {
                let y = top + ROW / 2.0;
                self.put(format!(
                    r#"<path class="wait" d="M{:.1} {y:.1}H{:.1}"><title>{tip}</title></path>"#,
                    x + 2.0,
                    (to - 4.0).max(x + 2.0)
                ));
                return;
            }
            (Activity::Creating, _) => ("create", tip),
            (Activity::BackOff, _) => ("back", tip),
            (Activity::Running, Role::Init | Role::Sidecar) => ("init", tip),
            (Activity::Running, Role::App) => ("app", tip),
            (Activity::Running, _) => ("sandbox", tip),
        };
        let (y, width) = (top + (ROW - BAR) / 2.0, (to - x).max(LEAST));
        self.put(format!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{BAR}" rx="2.5"><title>{name}</title></rect>"#
        ));
    }

    fn mark(&mut self, row: &Row, mark: &Mark, top: f64, from: Time) {
        let (x, y) = (self.x(mark.at), top + ROW / 2.0);
        let at = duration(mark.at.since(from));
        let why = mark.message.as_deref().map(|m| format!(": {m}"));
        let (name, nth, why) = (&row.name, nth(mark.run), why.unwrap_or_default());
        let tip = escape(&format!("{name}{nth}: {} at {at}{why}", mark.note));
        let (circle, class, stroke) = if mark.ok {
            ("ok", "tick", "m-3 .2 2.2 2.4 3.9-4.8")
        } else {
            ("no", "cross", "m-2.4-2.4 4.8 4.8m0-4.8-4.8 4.8")
        };
        self.put(format!(
            r#"<g><title>{tip}</title><circle class="{circle}" cx="{x:.1}" cy="{y:.1}" r="6.5"/><path class="{class}" d="M{x:.1} {y:.1}{stroke}"/></g>"#
        ));
    }

    /// A tear through all rows where time was left out.
    fn fold(&mut self, rows: usize) {
        let Some((middle, length)) = self.axis.fold() else {
            return;
        };
        let x = self.at(middle);
        let mut path = format!("M{:.1} {:.1}", x, self.top - 4.0);
        for n in 0..rows * 2 {
            let side = if n % 2 == 0 { 5 } else { -5 };
            path += &format!("l{side} {}", ROW / 2.0);
        }
        let tip = format!("{} in which nothing happened are folded", duration(length));
        self.put(format!(
            r#"<g><title>{tip}</title><path class="fold" d="{path}"/><path class="edge" transform="translate(-2.5)" d="{path}"/><path class="edge" transform="translate(2.5)" d="{path}"/></g>"#
        ));
        let label = format!("≈ {}", duration(length));
        self.text(x, self.height - LEGEND + 2.0, "soft small mid", &label);
    }

    fn legend(&mut self) {
        let y = self.height - 22.0;
        let mut x = MARGIN;
        for (class, text) in [
            ("wait", "waiting"),
            ("create", "creating"),
            ("sandbox", "sandbox"),
            ("init", "init container"),
            ("app", "app container"),
            ("back", "back-off"),
        ] {
            let top = y - 9.0;
            self.put(match class {
                "wait" => format!(r#"<path class="wait" d="M{x:.1} {}h16"/>"#, y - 4.0),
                _ => format!(
                    r#"<rect class="{class}" x="{x:.1}" y="{top:.1}" width="16" height="10" rx="2"/>"#
                ),
            });
            self.text(x + 22.0, y, "soft small", text);
            x += 22.0 + text.len() as f64 * 5.7 + 24.0;
        }
    }
}

/// The bar of the volumes is too short to be seen beside the others: it is told.
fn outcome(row: &Row) -> String {
    match (row.role, row.took()) {
        (Role::Volumes, Some(took)) => format!("{}, {}", row.outcome, duration(took)),
        _ => row.outcome.clone(),
    }
}

/// What the pointer tells over a bar.
fn tip(row: &Row, span: &Span, from: Time) -> String {
    let what = match span.activity {
        Activity::Waiting => "waiting",
        Activity::Creating => "creating",
        Activity::Running => "running",
        Activity::BackOff => "back-off",
    };
    let [begin, end] = [span.from, span.to].map(|at| duration(at.since(from)));
    let took = duration(span.to.since(span.from));
    format!(
        "{}{}: {what} {took}, from {begin} to {end}",
        row.name,
        nth(span.run)
    )
}

fn nth(run: u32) -> String {
    if run == 0 {
        String::new()
    } else {
        format!(" (restart {run})")
    }
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_owned()
    } else {
        let kept = text.chars().take(most.saturating_sub(1));
        kept.chain(['…']).collect()
    }
}

/// For text and attributes in XML 1.0, which has no place at all for control characters.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;
    use crate::pod::lifecycle::Phase;

    /// An app that fails once and runs for an hour.
    fn small() -> Timeline {
        let at = |ms| Time(1_767_323_045_000_000_000).after(Duration::from_millis(ms));
        let span = |activity, run, from, to| Span {
            activity,
            run,
            from: at(from),
            to: at(to),
        };
        Timeline {
            name: "a&b".into(),
            phase: Phase::Running,
            from: at(0),
            to: at(3_600_000),
            rows: vec![Row {
                role: Role::App,
                name: "<web>".into(),
                spans: vec![
                    span(Activity::Waiting, 0, 0, 400),
                    span(Activity::Creating, 0, 400, 500),
                    span(Activity::Running, 0, 500, 1000),
                    span(Activity::BackOff, 0, 1000, 2000),
                    span(Activity::Running, 1, 2000, 3_600_000),
                ],
                marks: vec![Mark {
                    at: at(1000),
                    took: Duration::from_millis(500),
                    ok: false,
                    note: "exit 1".into(),
                    message: Some("why & so".into()),
                    run: 0,
                }],
                ongoing: true,
                outcome: "running\u{1b}".into(),
            }],
        }
    }

    #[test]
    fn draws_each_row_with_its_bars_marks_and_tips() {
        let svg = render(&small());
        let lines: Vec<&str> = svg.lines().collect();
        assert_eq!(lines[1], "<title>Timeline of pod a&amp;b</title>");
        let is = |start: &'static str| move |line: &&str| line.starts_with(start);
        let first = lines.iter().position(is(r#"<text x="24.0" y="116.0""#));
        let legend = lines.iter().position(is(r#"<path class="wait" d="M24.0"#));
        assert_eq!(
            lines[first.unwrap()..legend.unwrap()],
            [
                r#"<text x="24.0" y="116.0" class="soft small">app</text>"#,
                r#"<text x="60.0" y="116.0" class="name">&lt;web&gt;</text>"#,
                r#"<path class="wait" d="M138.0 112.0H256.9"><title>&lt;web&gt;: waiting 400 ms, from 0 ms to 400 ms</title></path>"#,
                r#"<rect class="create" x="260.9" y="103.0" width="31.2" height="18" rx="2.5"><title>&lt;web&gt;: creating 100 ms, from 400 ms to 500 ms</title></rect>"#,
                r#"<rect class="app" x="292.1" y="103.0" width="156.1" height="18" rx="2.5"><title>&lt;web&gt;: running 500 ms, from 500 ms to 1 s</title></rect>"#,
                r#"<text x="301.1" y="116.0" class="in">500 ms</text>"#,
                r#"<rect class="back" x="448.2" y="103.0" width="312.2" height="18" rx="2.5"><title>&lt;web&gt;: back-off 1 s, from 1 s to 2 s</title></rect>"#,
                r#"<text x="457.2" y="116.0" class="small bad">exit 1</text>"#,
                r#"<rect class="app" x="760.4" y="103.0" width="101.6" height="18" rx="2.5"><title>&lt;web&gt; (restart 1): running 59m 58s, from 2 s to 1h</title></rect>"#,
                r#"<g><title>&lt;web&gt;: exit 1 at 1 s: why &amp; so</title><circle class="no" cx="448.2" cy="112.0" r="6.5"/><path class="cross" d="M448.2 112.0m-2.4-2.4 4.8 4.8m0-4.8-4.8 4.8"/></g>"#,
                r#"<text x="880.0" y="116.0" class="small soft">running�</text>"#,
                r#"<g><title>59m 58s in which nothing happened are folded</title><path class="fold" d="M811.2 92.0l5 16l-5 16"/><path class="edge" transform="translate(-2.5)" d="M811.2 92.0l5 16l-5 16"/><path class="edge" transform="translate(2.5)" d="M811.2 92.0l5 16l-5 16"/></g>"#,
                r#"<text x="811.2" y="138.0" class="soft small mid">≈ 59m 58s</text>"#,
            ]
        );
    }

    #[test]
    fn a_name_stays_text() {
        let svg = render(&small());
        assert!(!svg.contains("<web>") && !svg.contains('\u{1b}'));
        assert_eq!(
            escape("a<b>&\"\n\u{1b}[2J"),
            "a&lt;b&gt;&amp;&quot;\u{fffd}\u{fffd}[2J"
        );
        assert_eq!(shorten("abcdef", 6), "abcdef");
        assert_eq!(shorten("abcdefg", 6), "abcde…");
    }
}
