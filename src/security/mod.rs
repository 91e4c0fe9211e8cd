//! What a program may do: credentials, capabilities, limits.

pub mod credentials;
