//! What a program may do: credentials, capabilities, limits, system calls, labels, its share of the machine.

pub mod credentials;
pub mod labels;
pub mod scheduling;
pub mod seccomp;
