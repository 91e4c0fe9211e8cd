//! OCI containers.

mod cgroups;
mod errors;
mod lifecycle;
mod mounts;
mod namespaces;
mod neighbours;
mod process;
mod reliability;
mod security;
mod terminal;
