//! OCI containers.

mod cgroups;
mod errors;
mod lifecycle;
mod mounts;
mod namespaces;
mod neighbours;
mod pause;
mod process;
mod security;
mod terminal;
mod update;
