//! The container's terminal, made by its first process from the container's own devpts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{OFlags, makedev};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::Winsize;

use super::protocol::ChildEnd;
use crate::error::{Context, Error, Result};
use crate::sys::path::{self, Make};

/// Opens a new terminal, sends its master end to the parent and makes the other end this session's terminal and its
/// standard input, output and error. `first` is the container's first process, whose terminal is `/dev/console`.
pub(super) fn attach(parent: &ChildEnd, size: Option<(u16, u16)>, first: bool) -> Result<()> {
    let root = root()?;
    let master = open_master(&root)?;
    // By descriptor: a name in /dev/pts could be something else by now (CVE-2025-52565).
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).context(|| "open the terminal's other end")?;
    if let Some((rows, columns)) = size {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&slave, size).context(|| "set process.consoleSize")?;
    }
    if first {
        bind_console(&root, &slave).context(|| "bind the terminal to /dev/console")?;
    }
    parent.console(master.as_fd())?;
    rustix::process::ioctl_tiocsctty(&slave).context(|| "make it the controlling terminal")?;
    stdio([slave.as_fd(); 3])
}

/// Makes these the standard input, output and error.
pub(super) fn stdio(files: [BorrowedFd<'_>; 3]) -> Result<()> {
    let step = || "set standard input, output and error";
    rustix::stdio::dup2_stdin(files[0]).context(step)?;
    rustix::stdio::dup2_stdout(files[1]).context(step)?;
    rustix::stdio::dup2_stderr(files[2]).context(step)
}

fn root() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/", flags, rustix::fs::Mode::empty()).context(|| "open /")
}

fn open_master(root: &OwnedFd) -> Result<OwnedFd> {
    let ptmx = Path::new("/dev/pts/ptmx");
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = path::open(root, ptmx, flags).map_err(|e| {
        Error::sys("open /dev/pts/ptmx", e)
            .hint("a terminal needs a devpts mount on /dev/pts, as the default config.json has it")
    })?;
    let stat = rustix::fs::fstat(&master).context(|| "stat /dev/pts/ptmx")?;
    if stat.st_rdev != makedev(5, 2) {
        return Err(Error::new(
            "/dev/pts/ptmx is not the terminal multiplexer (CVE-2025-52565)",
        ));
    }
    unlockpt(&master).context(|| "unlock the terminal")?;
    Ok(master)
}

fn bind_console(root: &OwnedFd, slave: &OwnedFd) -> rustix::io::Result<()> {
    let target = path::make(root, Path::new("/dev/console"), Make::File)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = open_tree(slave, c"", flags)?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&mount, c"", &target, c"", empty)
}
