//! OCI containers.

mod attributes;
mod cgroups;
mod checkpoint;
mod checkpoint_options;
mod command_line;
mod errors;
mod events;
mod hooks;
mod hostile;
mod inherited;
mod lifecycle;
mod mount_features;
mod mounts;
mod namespaces;
mod neighbours;
mod notify;
mod pause;
mod process;
mod reliability;
mod rootless;
mod seccomp;
mod security;
mod systemd;
mod terminal;
mod update;
