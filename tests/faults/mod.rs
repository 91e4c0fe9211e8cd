//! Kill the runtime anywhere, run it a thousand times: nothing may be left.

mod kills;
mod leaks;
mod strace;
