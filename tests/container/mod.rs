//! OCI containers.

mod cgroups;
mod errors;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;
mod security;
mod terminal;
