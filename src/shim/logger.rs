//! `binary://PATH?KEY=VALUE`: a program that takes what a process writes.
//!
//! It gets two pipes as descriptors 3 and 4, and a third one, 5, which it closes when it is ready: containerd's
//! `pkg/shim/logging`. It ends when all who write have.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::error::{Context, Error, Result};
use crate::sys::process::{self, StringArray};

/// How long it may take to be ready, in seconds.
const PATIENCE: i64 = 10;
/// A number that no other descriptor of a process that makes a logger has: where its own are kept for a moment.
const ASIDE: i32 = 100;
/// Bit n - 1 is signal n: the shim ignores these, programs do not expect that.
const IGNORED: u32 = 1 << (libc::SIGPIPE - 1)
    | 1 << (libc::SIGTERM - 1)
    | 1 << (libc::SIGINT - 1)
    | 1 << (libc::SIGHUP - 1);

/// A program with its arguments, from the URI.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    path: CString,
    args: Vec<CString>,
}

/// Starts the program, and waits until it is ready. What is written into the two pipes is for it.
///
/// # Errors
/// When it cannot be executed, or does not say in time that it is ready.
pub(super) fn start(uri: &str, namespace: &str, id: &str) -> Result<[OwnedFd; 2]> {
    let step = || format!("start logger {uri}");
    let program = parse(uri)?;
    let env = environment(namespace, id).context(step)?;
    let args = StringArray::new(program.args);
    let pipe = || pipe_with(PipeFlags::CLOEXEC).context(|| "pipe");
    let ((out_reader, out), (err_reader, err)) = (pipe()?, pipe()?);
    let (ready, is_ready) = pipe()?;
    let child = process::fork(|| {
        let files = [&out_reader, &err_reader, &is_ready];
        become_logger(&program.path, &args, &env, files)
    })
    .context(step)?;
    drop(is_ready);
    let timeout = Timespec {
        tv_sec: PATIENCE,
        tv_nsec: 0,
    };
    let mut files = [PollFd::new(&ready, PollFlags::IN)];
    match rustix::io::retry_on_intr(|| poll(&mut files, Some(&timeout))).context(step)? {
        0 => {
            let late = Error::new(step()).hint(format!("it is not ready after {PATIENCE} s"));
            Err(crate::container::end(&child.pidfd, late))
        }
        // A program that is not there exits at once, and closes the pipe, too.
        _ => match rustix::io::read(&ready, &mut [0; 1]) {
            Ok(1) => {
                let failed = Error::new(step()).hint("it cannot be executed");
                Err(crate::container::end(&child.pidfd, failed))
            }
            _ => Ok([out, err]),
        },
    }
}

/// In the copy of this process that becomes the program.
fn become_logger(
    path: &CString,
    args: &StringArray,
    env: &StringArray,
    files: [&OwnedFd; 3],
) -> Infallible {
    let prepared = || -> Result<Infallible> {
        let aside = |file: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(file, ASIDE);
        let aside = [aside(files[0]), aside(files[1]), aside(files[2])];
        let [Ok(out), Ok(err), Ok(ready)] = aside else {
            return Err(Error::new("move descriptors"));
        };
        let keep = [0, 1, 2, out.as_raw_fd(), err.as_raw_fd(), ready.as_raw_fd()];
        process::close_all_but(&keep).context(|| "close_range")?;
        for file in [&out, &err, &ready] {
            // The lowest number that is free: 3, 4, 5. Of these nobody is the owner: execve keeps them.
            process::leak(rustix::io::dup(file.as_fd()).context(|| "dup")?);
        }
        process::reset_signals(IGNORED).context(|| "reset signals")?;
        Err(Error::sys("exec", process::execve(path, args, env)))
    };
    let Err(e) = prepared();
    log::error!("logger: {e}");
    // The third of them is the pipe that waits to be closed: a byte says that it never was ready.
    let _ = rustix::io::write(process::inherited(5), b"!");
    process::exit(127)
}

fn environment(namespace: &str, id: &str) -> Result<StringArray> {
    let own = std::env::vars_os().map(|(name, value)| {
        let mut entry = name.into_encoded_bytes();
        entry.push(b'=');
        entry.extend(value.into_encoded_bytes());
        entry
    });
    let added = [
        format!("CONTAINER_ID={id}").into_bytes(),
        format!("CONTAINER_NAMESPACE={namespace}").into_bytes(),
    ];
    let entries = own.chain(added).map(CString::new);
    let entries = entries.collect::<std::result::Result<Vec<_>, _>>();
    entries
        .map(StringArray::new)
        .map_err(|e| Error::new(format!("environment: {e}")))
}

/// The path is the program, each `KEY=VALUE` of the query two arguments, in their order.
fn parse(uri: &str) -> Result<Program> {
    let wrong = || Error::new(format!("{uri:?}")).hint("binary:///PATH?KEY=VALUE is expected");
    let rest = uri.strip_prefix("binary://").ok_or_else(wrong)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') {
        return Err(wrong());
    }
    let decoded = |text: &str, plus: bool| {
        let bytes = decode(text, plus).ok_or_else(wrong)?;
        CString::new(bytes).map_err(|_| wrong())
    };
    let path = decoded(path, false)?;
    let mut args = vec![path.clone()];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        args.push(decoded(key, true)?);
        args.push(decoded(value, true)?);
    }
    Ok(Program { path, args })
}

/// RFC 3986, 2.1; in a query `+` is a space.
fn decode(text: &str, plus: bool) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                (digit(bytes.next()?)? * 16 + digit(bytes.next()?)?) as u8
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    Some(decoded)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn words(uri: &str) -> Vec<String> {
        let program = parse(uri).unwrap();
        let words = program.args.into_iter();
        words.map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn a_uri_is_a_program_and_its_arguments() {
        assert_eq!(words("binary:///bin/log"), ["/bin/log"]);
        let uri = "binary:///opt/my%20log?file=/a%26b&tag=x+y&flag";
        assert_eq!(
            words(uri),
            ["/opt/my log", "file", "/a&b", "tag", "x y", "flag", ""]
        );
    }

    #[test]
    fn what_is_no_program_is_refused() {
        for uri in [
            "binary://relative",
            "binary://",
            "file:///x",
            "binary:///a%0",
            "binary:///a%00",
        ] {
            assert!(parse(uri).is_err(), "{uri}");
        }
    }
}
