//! OCI containers.

mod attributes;
mod cgroups;
mod errors;
mod hooks;
mod inherited;
mod lifecycle;
mod mounts;
mod namespaces;
mod neighbours;
mod notify;
mod pause;
mod process;
mod reliability;
mod seccomp;
mod security;
mod terminal;
