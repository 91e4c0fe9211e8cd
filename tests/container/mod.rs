//! OCI containers.

mod cgroups;
mod errors;
mod lifecycle;
mod mount_features;
mod mounts;
mod namespaces;
mod neighbours;
mod process;
mod security;
mod terminal;
