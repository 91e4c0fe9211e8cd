//! Kill the runtime anywhere, fail its calls, tear its files, run it a thousand times: nothing may be left.

mod enosys;
mod errors;
mod kills;
mod leaks;
mod strace;
mod torn;
mod world;
