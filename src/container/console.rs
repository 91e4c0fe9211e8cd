//! The container's terminal, made by its first process from the container's own devpts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{OFlags, makedev};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::Winsize;

use super::protocol::{self, ChildEnd};
use crate::error::{Context, Error, Result};
use crate::sys::path::{self, Make};

/// Opens a new terminal, sends its master end to the parent, and makes the other end standard input, output and error.
/// `first` is the container's first process, whose terminal is `/dev/console`. `announce`: who else gets the master end, and
/// what is sent with it.
pub(super) fn open(
    parent: &ChildEnd,
    announce: Option<&(OwnedFd, Vec<u8>)>,
    size: Option<(u16, u16)>,
    first: bool,
) -> Result<()> {
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
    if let Some((socket, message)) = announce {
        // From here and not by the parent, which may be killed before it could.
        protocol::announce(socket, message, master.as_fd()).context(|| "announce the terminal")?;
    }
    parent.console(master.as_fd())?;
    set_stdio([slave.as_fd(); 3])
}

/// Makes the terminal that is standard input the controlling one of this session, which is new.
pub(super) fn take() -> Result<()> {
    rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
        .context(|| "make it the controlling terminal")
}

/// Makes these the standard input, output and error.
pub(super) fn set_stdio(files: [BorrowedFd<'_>; 3]) -> Result<()> {
    let step = || "set standard input, output and error";
    rustix::stdio::dup2_stdin(files[0]).context(step)?;
    rustix::stdio::dup2_stdout(files[1]).context(step)?;
    rustix::stdio::dup2_stderr(files[2]).context(step)
}

/// Gives standard input, output and error to the user who will use them: `/dev/stdout` opens the file once more, which needs
/// permission. The null device is everybody's, and a file that cannot be given away is left as it is.
pub(super) fn give_stdio(uid: u32) -> Result<()> {
    if uid == 0 {
        return Ok(());
    }
    let step = || format!("give standard input, output and error to user {uid}");
    for file in [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ] {
        let stat = rustix::fs::fstat(file).context(step)?;
        if stat.st_uid == uid || stat.st_rdev == makedev(1, 3) {
            continue;
        }
        match rustix::fs::fchown(file, Some(rustix::fs::Uid::from_raw(uid)), None) {
            Ok(()) | Err(Errno::PERM | Errno::ROFS | Errno::INVAL) => {}
            Err(e) => return Err(Error::sys(step(), e)),
        }
    }
    Ok(())
}

fn root() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/", flags, rustix::fs::Mode::empty()).context(|| "open /")
}

/// The multiplexer of the devpts that is mounted on /dev/pts: in there is nothing that an image could have put.
fn open_master(root: &OwnedFd) -> Result<OwnedFd> {
    let hint = "a terminal needs a devpts mount on /dev/pts, as the default config.json has it";
    let pts = path::handle(root, Path::new("/dev/pts"))
        .map_err(|e| Error::sys("open /dev/pts", e).hint(hint))?;
    let file_system = rustix::fs::fstatfs(&pts).context(|| "statfs /dev/pts")?;
    if file_system.f_type != libc::DEVPTS_SUPER_MAGIC as libc::__fsword_t {
        return Err(Error::new("/dev/pts is no devpts (CVE-2025-52565)").hint(hint));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = path::open_beneath(&pts, Path::new("ptmx"), flags).map_err(|e| {
        Error::sys("open /dev/pts/ptmx", e).hint("is it mounted with ptmxmode=0666?")
    })?;
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
