//! The log, in the two formats of runc that callers parse.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use jiff::Timestamp;
use log::{Level, LevelFilter};

use super::Global;
use crate::error::{Context, Error, Result};

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// `time="..." level=error msg="..."`
    Text,
    /// `{"level":"error","msg":"...","time":"..."}`
    Json,
}

/// Starts logging to `--log` or to standard error; nothing is opened before there is something to say.
pub(super) fn start(global: &Global) -> Result<()> {
    if !global.debug && global.log.is_none() {
        // Warnings only, to standard error.
        set_logger(LevelFilter::Warn, Format::Text, None);
        return Ok(());
    }
    let file = global.log.as_ref().map(|path| open(path)).transpose()?;
    let level = if global.debug {
        LevelFilter::Debug
    } else {
        LevelFilter::Warn
    };
    set_logger(level, global.log_format, file);
    Ok(())
}

fn open(path: &std::path::Path) -> Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .context(|| format!("open --log {}", path.display()))
}

fn set_logger(level: LevelFilter, format: Format, file: Option<File>) {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level);
    builder.format(move |f, record| {
        writeln!(
            f,
            "{}",
            line(format, record.level(), &record.args().to_string())
        )
    });
    if let Some(file) = file {
        builder.target(env_logger::Target::Pipe(Box::new(file)));
    }
    // A second logger in one process could only be a test's.
    let _ = builder.try_init();
}

fn line(format: Format, level: Level, message: &str) -> String {
    let level = match level {
        Level::Warn => "warning".into(),
        level => level.as_str().to_lowercase(),
    };
    let time = Timestamp::now();
    match format {
        Format::Text => format!("time=\"{time:.0}\" level={level} msg={message:?}"),
        Format::Json => {
            serde_json::json!({"level": level, "msg": message, "time": format!("{time:.0}")})
                .to_string()
        }
    }
}

/// Tells the user why a verb was not done: on standard error, and in the log file for the program that called us.
pub(super) fn report(global: &Global, error: &Error) {
    if global.log.is_some() {
        log::error!("{error}");
    }
    let name = if std::io::stderr().is_terminal() {
        "\x1b[1;31mrunp:\x1b[0m"
    } else {
        "runp:"
    };
    let _ = writeln!(std::io::stderr(), "{name} {error}");
}
