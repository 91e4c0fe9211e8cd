//! What a process that sleeps gives back of its memory.

use std::ops::Range;

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Result;

/// Between the frame of [`forget_stack`] and what it gives back, in bytes: more than it and what it calls from then on can use.
const MARGIN: usize = 16 * 1024;

/// poll(2), for a process that is likely to sleep for long: gives back what only other work needs of its code, heap and stack,
/// and touches hardly anything between that and the sleep. Whatever it needs again costs a fault then.
///
/// # Errors
/// As poll(2).
pub fn rest(files: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> Result<usize> {
    forget_stack();
    // SAFETY: it is thread-safe, and moves nothing that is in use.
    unsafe { libc::malloc_trim(0) };
    forget_code();
    poll(files, timeout)
}

/// Gives back what deeper calls have left on the program's first stack, if this is called there.
#[inline(never)]
fn forget_stack() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let here = (&raw const maps).addr();
    let Some(stack) = stack(&maps).filter(|stack| stack.contains(&here)) else {
        return;
    };
    let below = here.saturating_sub(MARGIN) & !(rustix::param::page_size() - 1);
    // SAFETY: a stack grows downwards, and this thread is the one on it: what lies below the frames that are in use belongs to
    // calls that are over. No signal has a handler here that could be about to use it.
    unsafe { forget(stack.start..below) };
}

/// Where it is, from proc(5), `/proc/self/maps`.
fn stack(maps: &str) -> Option<Range<usize>> {
    let line = maps.lines().find(|line| line.ends_with("[stack]"))?;
    let (start, end) = line.split_once(' ')?.0.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

/// Gives back the pages of the program's own code and constants: they come back from its file.
fn forget_code() {
    unsafe extern "C" {
        static __executable_start: u8;
        static etext: u8;
    }
    let page = |address: usize| address & !(rustix::param::page_size() - 1);
    let start = page((&raw const __executable_start).addr());
    // SAFETY: the linker puts these labels around the headers, the constants and the code, which are mapped from the program's
    // file, privately and read-only: nothing was ever written there that could be lost.
    unsafe { forget(start..page((&raw const etext).addr())) };
}

/// madvise(2), `MADV_DONTNEED`. Where the kernel does not want to, nothing is lost.
///
/// # Safety
/// What is mapped there and of no file, nobody reads any more before it is written again; the range consists of whole pages.
unsafe fn forget(pages: Range<usize>) {
    if !pages.is_empty() {
        let start = std::ptr::with_exposed_provenance_mut(pages.start);
        // SAFETY: as the caller promises.
        unsafe { libc::madvise(start, pages.len(), libc::MADV_DONTNEED) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_is_found() {
        let maps = "7f0000000000-7f0000001000 r-xp 00000000 00:00 0          [vdso]\n\
                    7ffd1031b000-7ffd1033c000 rw-p 00000000 00:00 0          [stack]\n";
        assert_eq!(stack(maps), Some(0x7ffd_1031_b000..0x7ffd_1033_c000));
        assert_eq!(stack(""), None);
    }

    #[test]
    fn what_is_in_use_stays() {
        let (heap, constant) = (vec![7_u8; 1 << 20], "constant");
        let local = std::hint::black_box([7_u8; 64]);
        let now = Timespec::default();
        assert_eq!(rest(&mut [], Some(&now)), Ok(0));
        assert!(heap.iter().chain(&local).all(|byte| *byte == 7));
        assert_eq!(std::hint::black_box(constant), "constant");
    }
}
