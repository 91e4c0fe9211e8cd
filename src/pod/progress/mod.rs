//! Live progress of `pod run` on standard error: on a terminal a line for each part of the pod, redrawn in place;
//! elsewhere a line for each change.
//!
//! There is no thread: the supervisor's event loop tells what happened, and calls [`Progress::tick`] once a second.
//! Standard error that is closed or full never disturbs the pod.

mod view;

use std::io::{IsTerminal, Write};

use console::{Alignment, Term};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::lifecycle::{Event, Index, Pod, Time};
use super::timeline::text::Glyphs;
use view::View;

/// Shows how a pod comes along.
#[derive(Debug)]
pub struct Progress {
    output: Output,
    view: View,
}

#[derive(Debug)]
enum Output {
    /// Nothing is shown.
    Quiet,
    /// A line on standard error for each change.
    Lines,
    /// A terminal, a line for each row of the view.
    Live {
        term: Term,
        all: MultiProgress,
        bars: Vec<ProgressBar>,
    },
}

impl Progress {
    /// Begins with a pod to which nothing has happened yet; on standard error, in the form that suits it.
    #[must_use]
    pub fn new(pod: &Pod, quiet: bool) -> Self {
        let stderr = std::io::stderr();
        let output = if quiet {
            Output::Quiet
        } else if stderr.is_terminal() {
            let term = Term::stderr();
            let target = ProgressDrawTarget::term(term.clone(), 20);
            let (all, bars) = bars(target, pod.containers().len() + 2);
            Output::Live { term, all, bars }
        } else {
            Output::Lines
        };
        let glyphs = Glyphs::from_env(|name| std::env::var(name).ok());
        let view = View::new(pod, glyphs);
        Self { output, view }
    }

    /// Sees the pod after it took `event`.
    pub fn observe(&mut self, event: &Event, pod: &Pod) {
        let changes = self.view.observe(event, pod);
        match &self.output {
            Output::Quiet => {}
            Output::Lines => print(&changes),
            Output::Live { .. } => self.tick(pod.now()),
        }
    }

    /// A container has written; only the beginning of its last line is wanted, as it came.
    pub fn log_line(&mut self, container: Index, line: &[u8], now: Time) {
        self.view.log_line(container, line);
        self.tick(now);
    }

    /// Shows a line beside the progress.
    pub fn say(&self, line: &str) {
        match &self.output {
            Output::Quiet => {}
            Output::Lines => print(&[printable(line)]),
            Output::Live { all, .. } => {
                let _ = all.println(printable(line)); // nobody is there to be told
            }
        }
    }

    /// Time has gone on.
    pub fn tick(&self, now: Time) {
        if let Output::Live { term, bars, .. } = &self.output {
            draw(bars, &self.view, now, usize::from(term.size().1));
        }
    }

    /// Leaves the last state on the terminal, with the cursor below it.
    pub fn finish(self, now: Time) {
        self.tick(now);
        if let Output::Live { bars, term, .. } = self.output {
            for bar in bars {
                bar.abandon();
            }
            let _ = term.write_line(""); // nobody is there to be told
        }
    }
}

fn print(lines: &[String]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let _ = std::io::stderr().write_all(text.as_bytes()); // nobody is there to be told
}

fn bars(target: ProgressDrawTarget, count: usize) -> (MultiProgress, Vec<ProgressBar>) {
    let all = MultiProgress::with_draw_target(target);
    let line =
        ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    let bars = (0..count)
        .map(|_| all.add(ProgressBar::no_length().with_style(line.clone())))
        .collect();
    (all, bars)
}

fn draw(bars: &[ProgressBar], view: &View, now: Time, width: usize) {
    for (bar, line) in bars.iter().zip(view.lines(now)) {
        // The last column stays free: some terminals wrap when it is written.
        let line = console::truncate_str(&line, width.saturating_sub(1), "…");
        if bar.message() != line {
            bar.set_message(line.into_owned());
        }
    }
}

/// The text without escape sequences, control characters, and the ones that turn the direction of writing: what a
/// container wrote must not act on the terminal of who watches it.
#[must_use]
pub fn printable(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    console::strip_ansi_codes(text)
        .chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .filter(|c| !c.is_control() && !turns(*c))
        .collect()
}

/// Fills up to `width` columns.
fn pad(text: &str, width: usize) -> String {
    console::pad_str(text, width, Alignment::Left, None).into_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use indicatif::InMemoryTerm;

    use super::*;
    use crate::pod::lifecycle::{ContainerSpec, Exit, Kind, PodSpec, RestartPolicy, StartFailure};

    fn ms(ms: u64) -> Time {
        Time(1_767_323_045_000_000_000).after(Duration::from_millis(ms))
    }

    fn started(container: usize) -> Event {
        Event::Started {
            container: Index(container),
            pid: 9,
            id: String::new(),
        }
    }

    fn exited(container: usize, code: u8) -> Event {
        Event::Exited {
            container: Index(container),
            exit: Exit::Code(code),
            oom_killed: false,
            message: None,
        }
    }

    /// A pod, its view, and all lines that were told so far.
    struct Watched {
        pod: Pod,
        view: View,
        told: Vec<String>,
    }

    impl Watched {
        fn new() -> Self {
            let containers = [("fetch", Kind::Init), ("web", Kind::App)];
            let containers = containers.map(|(name, kind)| ContainerSpec::new(name, kind));
            let spec = PodSpec {
                restart_policy: RestartPolicy::Always,
                grace: Duration::from_secs(30),
                containers: containers.into(),
                ..PodSpec::default()
            };
            let pod = Pod::new(spec, ms(0));
            let view = View::new(&pod, Glyphs::Unicode);
            Self {
                pod,
                view,
                told: Vec::new(),
            }
        }

        fn step(&mut self, at: u64, event: &Event) {
            self.pod.step(event, ms(at));
            self.told.extend(self.view.observe(event, &self.pod));
        }

        fn set_up(&mut self) {
            self.step(0, &Event::Accepted);
            self.step(0, &Event::StartRequested);
            self.step(1, &Event::VolumesReady);
            self.step(3, &Event::SandboxStarted { pid: 8 });
        }

        fn fail_twice(&mut self) {
            self.step(5, &started(0));
            self.step(105, &exited(0, 3));
            self.step(106, &started(0));
            self.step(206, &exited(0, 3));
        }
    }

    #[test]
    fn tells_each_change_in_a_line() {
        let mut watched = Watched::new();
        watched.set_up();
        watched.fail_twice();
        watched.step(10_206, &Event::Tick);
        watched.step(10_208, &started(0));
        watched.step(10_308, &exited(0, 0));
        let container = Index(1);
        let (reason, message) = (
            StartFailure::CreateContainerError,
            "no \u{1b}[31mimage".into(),
        );
        watched.step(
            10_309,
            &Event::StartFailed {
                container,
                reason,
                message,
            },
        );
        watched.step(10_310, &started(1));
        assert_eq!(
            watched.told,
            [
                "03:04:05.000Z  volumes  Creating",
                "03:04:05.001Z  volumes  Done      ready after 1 ms",
                "03:04:05.001Z  sandbox  Creating",
                "03:04:05.003Z  sandbox  Running",
                "03:04:05.003Z  fetch    Creating",
                "03:04:05.005Z  fetch    Running",
                "03:04:05.105Z  fetch    Failed    exit 3 after 100 ms",
                "03:04:05.105Z  fetch    Creating  restart 1",
                "03:04:05.106Z  fetch    Running",
                "03:04:05.206Z  fetch    Failed    exit 3 after 100 ms",
                "03:04:05.206Z  fetch    BackOff   again in 10 s",
                "03:04:15.206Z  fetch    Creating  restart 2",
                "03:04:15.208Z  fetch    Running",
                "03:04:15.308Z  fetch    Done      exit 0 after 100 ms",
                "03:04:15.308Z  web      Creating",
                "03:04:15.309Z  web      Failed    CreateContainerError: no image after 1 ms",
                "03:04:15.309Z  web      Creating",
                "03:04:15.310Z  web      Running",
            ]
        );
    }

    #[test]
    fn shows_what_each_part_does_and_said_last() {
        let mut watched = Watched::new();
        watched.set_up();
        watched.fail_twice();
        watched
            .view
            .log_line(Index(0), b"no \xff route\tto \x1b[2Jhost");
        let lines: Vec<String> = watched.view.lines(ms(2_000)).collect();
        assert_eq!(
            lines,
            [
                "✓ pod   volumes  Done         1 ms  ready",
                "▶ pod   sandbox  Running       2 s",
                "░ init  fetch    BackOff            exit 3, again in 9 s  no \u{fffd} route to host",
                "· app   web      Waiting",
            ]
        );
        watched.step(10_206, &Event::Tick);
        watched.step(10_208, &started(0));
        let lines: Vec<String> = watched.view.lines(ms(10_218)).collect();
        assert_eq!(
            lines[2],
            "▶ init  fetch    Running     10 ms  restart 2  no \u{fffd} route to host"
        );
    }

    #[test]
    fn draws_in_place_on_any_width() {
        for width in [0, 1, 2, 7, 20, 60] {
            let term = InMemoryTerm::new(10, width.max(1));
            let target = ProgressDrawTarget::term_like(Box::new(term.clone()));
            let (_all, bars) = bars(target, 4);
            let mut watched = Watched::new();
            draw(&bars, &watched.view, ms(0), usize::from(width));
            watched.set_up();
            watched.fail_twice();
            let noise = "ooooh ".repeat(40);
            watched.view.log_line(Index(0), noise.as_bytes());
            draw(&bars, &watched.view, ms(2_000), usize::from(width));
            bars.iter().for_each(ProgressBar::abandon);
            if width == 60 {
                assert_eq!(
                    term.contents().lines().collect::<Vec<_>>(),
                    [
                        "✓ pod   volumes  Done         1 ms  ready",
                        "▶ pod   sandbox  Running       2 s",
                        "░ init  fetch    BackOff            exit 3, again in 9 s  …",
                        "· app   web      Waiting",
                    ]
                );
            }
        }
    }

    #[test]
    fn what_is_printed_does_not_act_on_the_terminal() {
        assert_eq!(
            printable(
                "a\u{1b}[31;1mred\u{1b}[0m\u{1b}]0;title\u{7}b\r\n\tc\u{9b}2J\u{202e}d\u{7f}"
            ),
            "aredb cd"
        );
        assert_eq!(printable("größer → 日本"), "größer → 日本");
    }

    proptest::proptest! {
        #[test]
        fn nothing_printed_is_a_control_character(text in "\\PC*|[\\x00-\\x9f\\[\\]a-z;0-9]*") {
            proptest::prop_assert!(!printable(&text).chars().any(char::is_control));
        }
    }
}
