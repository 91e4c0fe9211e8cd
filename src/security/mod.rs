//! What a program may do: credentials, capabilities, limits, system calls.

pub mod credentials;
pub mod seccomp;
