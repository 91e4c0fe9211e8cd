//! The timeline as one page that needs nothing else: the picture, what the start took, every run, and every event.

use std::fmt::Write;

use super::svg::escape;
use super::{Activity, Role, Timeline, duration, svg};
use crate::pod::events::Told;
use crate::pod::journal::Record;

const STYLE: &str = "\
:root{color-scheme:light}\
body{margin:0;background:#f6f8fa;color:#1f2328;font:14px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\
main{max-width:1010px;margin:0 auto;padding:24px 16px 64px}\
h1{font-size:22px;margin:0 0 2px}h2{font-size:16px;margin:32px 0 8px}\
p{margin:0 0 16px;color:#57606a}\
svg{width:100%;height:auto;display:block}\
table{border-collapse:collapse;width:100%;background:#fff;border:1px solid #d6dbe1;border-radius:8px}\
th,td{text-align:left;padding:5px 12px;border-top:1px solid #eaeef2;vertical-align:top}\
th{border-top:0;color:#57606a;font-weight:600}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap;width:1%}\
td.s{width:30%}td.s i{display:block;height:10px;margin:6px 0;border-radius:3px;min-width:1px}\
i.create{background:#f2b134}i.run{background:#3f74d1}i.back{background:#e9b3ae}\
td.s{white-space:nowrap}td.s i{display:inline-block;margin:0}\
tr.bad td{background:#fff5f4}tr.bad td.r{color:#b3261e;font-weight:600}\
td.m{word-break:break-word}\
label{color:#57606a}\
#only:checked~table tr.normal{display:none}";

/// Nothing may be loaded, whatever a container has put into a message.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The page.
#[must_use]
pub fn render(timeline: &Timeline, record: &Record, events: &[Told]) -> String {
    let name = escape(&timeline.name);
    let took = duration(timeline.to.since(timeline.from));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Pod {name}</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<main>\n<h1>Pod {name}</h1>\n<p>{:?} after {took}, made {}</p>\n",
        timeline.phase, timeline.from
    );
    page += &svg::render_untitled(timeline);
    start(&mut page, timeline);
    runs(&mut page, timeline);
    happened(&mut page, timeline, record, events);
    page += "</main>\n</body>\n</html>\n";
    page
}

/// What the time went to until the last app ran for the first time: the critical path of the start.
fn start(page: &mut String, timeline: &Timeline) {
    let first_run = |row: &super::Row| {
        let mut spans = row.spans.iter();
        spans
            .find(|span| span.activity == Activity::Running)
            .copied()
    };
    let apps = timeline.rows.iter().filter(|row| row.role == Role::App);
    let Some(up) = apps.filter_map(first_run).map(|span| span.from).max() else {
        return;
    };
    let total = up.since(timeline.from);
    let _ = write!(
        page,
        "<h2>Start: {} until the last app ran</h2>\n<table>\n<tr><th>Step</th><th class=\"n\">Was made in</th>\
         <th class=\"n\">Ran for</th><th class=\"n\">Waited for its next try</th><th>Of the start</th></tr>\n",
        duration(total)
    );
    for row in &timeline.rows {
        let sum = |activity| {
            let spans = row
                .spans
                .iter()
                .filter(|s| s.activity == activity && s.from < up);
            let times = spans.map(|s| s.to.min(up).since(s.from));
            times.sum::<std::time::Duration>()
        };
        let cell = |activity| match sum(activity) {
            time if time.is_zero() => String::new(),
            time => duration(time),
        };
        let (ran, run) = match row.role {
            Role::Init | Role::Sidecar => (cell(Activity::Running), sum(Activity::Running)),
            _ => Default::default(),
        };
        let parts = [
            ("create", sum(Activity::Creating)),
            ("run", run),
            ("back", sum(Activity::BackOff)),
        ];
        let bars = parts.into_iter().filter(|(_, time)| !time.is_zero());
        let bars = bars.map(|(class, time)| {
            let share = time.as_secs_f64() / total.as_secs_f64() * 100.0;
            format!("<i class=\"{class}\" style=\"width:{share:.1}%\"></i>")
        });
        let bars: String = bars.collect();
        let _ = writeln!(
            page,
            "<tr><td>{} {}</td><td class=\"n\">{}</td><td class=\"n\">{ran}</td><td class=\"n\">{}</td>\
             <td class=\"s\">{bars}</td></tr>",
            row.role.word(),
            escape(&row.name),
            cell(Activity::Creating),
            cell(Activity::BackOff)
        );
    }
    *page += "</table>\n";
}

fn runs(page: &mut String, timeline: &Timeline) {
    *page += "<h2>Runs</h2>\n<table>\n<tr><th>What</th><th class=\"n\">Restart</th><th class=\"n\">Ended after</th>\
              <th class=\"n\">Took</th><th>How</th><th>Message</th></tr>\n";
    for row in &timeline.rows {
        for mark in &row.marks {
            let class = if mark.ok { "" } else { " class=\"bad\"" };
            let _ = writeln!(
                page,
                "<tr{class}><td>{} {}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
                 <td class=\"r\">{}</td><td class=\"m\">{}</td></tr>",
                row.role.word(),
                escape(&row.name),
                mark.run,
                duration(mark.at.since(timeline.from)),
                duration(mark.took),
                escape(&mark.note),
                escape(mark.message.as_deref().unwrap_or_default().trim())
            );
        }
    }
    *page += "</table>\n";
}

fn happened(page: &mut String, timeline: &Timeline, record: &Record, events: &[Told]) {
    *page += "<h2>Events</h2>\n<input type=\"checkbox\" id=\"only\"> <label for=\"only\">only warnings</label>\n\
              <table>\n<tr><th class=\"n\">After</th><th>Reason</th><th>Object</th><th>Message</th></tr>\n";
    for told in events {
        let class = if told.warning { "bad" } else { "normal" };
        let _ = writeln!(
            page,
            "<tr class=\"{class}\"><td class=\"n\">{}</td><td class=\"r\">{}</td><td>{}</td><td class=\"m\">{}</td></tr>",
            duration(told.time.since(timeline.from)),
            told.reason,
            escape(&told.object(record)),
            escape(told.message.trim())
        );
    }
    *page += "</table>\n";
}
