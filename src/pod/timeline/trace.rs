//! The timeline in the Chrome trace event format, for Perfetto and `chrome://tracing`.

use serde_json::{Value, json};

use super::{Activity, Row, Timeline};
use crate::pod::lifecycle::Time;

/// A trace: each part of the pod is a thread, each activity a complete event, each end an instant one.
#[must_use]
pub fn render(timeline: &Timeline) -> Value {
    let micros = |time: Time| time.since(timeline.from).as_secs_f64() * 1e6;
    let mut events = vec![json!({
        "ph": "M", "pid": 1, "name": "process_name", "args": {"name": format!("pod {}", timeline.name)},
    })];
    for (n, row) in timeline.rows.iter().enumerate() {
        let thread = n + 1;
        events.push(json!({
            "ph": "M", "pid": 1, "tid": thread, "name": "thread_name",
            "args": {"name": format!("{} {}", row.role.word(), row.name)},
        }));
        events.push(json!({
            "ph": "M", "pid": 1, "tid": thread, "name": "thread_sort_index", "args": {"sort_index": thread},
        }));
        events.extend(row.spans.iter().map(|span| {
            json!({
                "ph": "X", "pid": 1, "tid": thread, "cat": row.role.word(), "name": activity(row, span.activity),
                "ts": micros(span.from), "dur": span.to.since(span.from).as_secs_f64() * 1e6,
                "args": {"run": span.run},
            })
        }));
        events.extend(row.marks.iter().map(|mark| {
            json!({
                "ph": "i", "s": "t", "pid": 1, "tid": thread, "cat": row.role.word(), "name": mark.note,
                "ts": micros(mark.at), "args": {"ok": mark.ok, "run": mark.run, "message": mark.message},
            })
        }));
    }
    json!({"displayTimeUnit": "ms", "traceEvents": events, "otherData": {"pod": timeline.name, "from": timeline.from.to_string()}})
}

fn activity(row: &Row, activity: Activity) -> String {
    let word = match activity {
        Activity::Waiting => "waits",
        Activity::BackOff => "back-off",
        Activity::Creating => "is made",
        Activity::Running => "runs",
    };
    format!("{} {word}", row.name)
}
