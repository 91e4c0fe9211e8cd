//! OCI containers.

mod cgroups;
mod errors;
mod inherited;
mod lifecycle;
mod mounts;
mod namespaces;
mod neighbours;
mod notify;
mod pause;
mod process;
mod reliability;
mod security;
mod terminal;
