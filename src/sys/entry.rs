//! How the program begins: as a C program, without what the Rust runtime does before `main`.
//!
//! That costs 17 system calls (a signal stack for overflows, `/proc/self/maps`, ...), and runp begins twice for every
//! container. What of it matters for a program that runs as root is in [`prepare`].

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};

/// Makes this the program's `main`: a function from nothing to an exit status.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        // SAFETY: the C library calls `main` once, and no other symbol of that name is linked in (`no_main`).
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        extern "C" fn main() -> std::ffi::c_int {
            $main()
        }
    };
}

/// Opens what is closed of the standard three, so that no file of ours gets their numbers and is handed to a container as
/// its own; and ignores SIGPIPE, so that a reader that has gone is an error like any other.
///
/// # Errors
/// When `/dev/null` cannot be opened, or the signal not be set.
pub fn prepare() -> std::result::Result<(), nix::errno::Errno> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    let standard = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    let mut files = standard.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty()));
    let now = rustix::event::Timespec::default();
    let asked = poll(&mut files, Some(&now));
    if asked.is_err()
        || files
            .iter()
            .any(|file| file.revents().contains(PollFlags::NVAL))
    {
        open_standard()?;
    }
    // SAFETY: SIG_IGN is not a handler, so there is no code of ours that could run at a bad moment.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }.map(drop)
}

/// open(2) takes the lowest free number: what is closed of 0, 1 and 2 fills up first.
fn open_standard() -> std::result::Result<(), nix::errno::Errno> {
    loop {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| nix::errno::Errno::from_raw(e.raw_os_error()))?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&null);
        if number > 2 {
            return Ok(());
        }
        // Without close-on-exec: the container gets it.
        let kept = super::process::leak(null);
        rustix::io::fcntl_setfd(kept, rustix::io::FdFlags::empty())
            .map_err(|e| nix::errno::Errno::from_raw(e.raw_os_error()))?;
    }
}
