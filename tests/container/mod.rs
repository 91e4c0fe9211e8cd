//! OCI containers.

mod cgroups;
mod errors;
mod hooks;
mod lifecycle;
mod mounts;
mod namespaces;
mod neighbours;
mod process;
mod seccomp;
mod security;
mod terminal;
