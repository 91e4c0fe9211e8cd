//! What containerd's configuration and clients can ask of a runtime: api/types/runc/options/oci.proto,
//! api/types/runtimeoptions/v1/api.proto.

use prost::Message;

/// `containerd.runc.v1.Options`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct RuncOptions {
    #[prost(bool, tag = "1")]
    pub(in crate::shim) no_pivot_root: bool,
    #[prost(bool, tag = "2")]
    pub(in crate::shim) no_new_keyring: bool,
    #[prost(string, tag = "3")]
    pub(in crate::shim) shim_cgroup: String,
    #[prost(uint32, tag = "4")]
    pub(in crate::shim) io_uid: u32,
    #[prost(uint32, tag = "5")]
    pub(in crate::shim) io_gid: u32,
    #[prost(string, tag = "6")]
    pub(in crate::shim) binary_name: String,
    #[prost(string, tag = "7")]
    pub(in crate::shim) root: String,
    #[prost(string, tag = "8")]
    pub(in crate::shim) criu_path: String,
    #[prost(bool, tag = "9")]
    pub(in crate::shim) systemd_cgroup: bool,
    #[prost(string, tag = "10")]
    pub(in crate::shim) criu_image_path: String,
    #[prost(string, tag = "11")]
    pub(in crate::shim) criu_work_path: String,
}

/// `containerd.runc.v1.CheckpointOptions`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct CheckpointOptions {
    /// Its processes end when they are written.
    #[prost(bool, tag = "1")]
    pub(in crate::shim) exit: bool,
    #[prost(bool, tag = "2")]
    pub(in crate::shim) open_tcp: bool,
    #[prost(bool, tag = "3")]
    pub(in crate::shim) external_unix_sockets: bool,
    #[prost(bool, tag = "4")]
    pub(in crate::shim) terminal: bool,
    #[prost(bool, tag = "5")]
    pub(in crate::shim) file_locks: bool,
    #[prost(string, repeated, tag = "6")]
    pub(in crate::shim) empty_namespaces: Vec<String>,
    #[prost(string, tag = "7")]
    pub(in crate::shim) cgroups_mode: String,
    /// Instead of the request's.
    #[prost(string, tag = "8")]
    pub(in crate::shim) image_path: String,
    #[prost(string, tag = "9")]
    pub(in crate::shim) work_path: String,
}

/// `runtimeoptions.v1.Options`: for runtimes that containerd does not know, the `options` table of its configuration.
#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct RuntimeOptions {
    #[prost(string, tag = "1")]
    pub(in crate::shim) type_url: String,
    #[prost(string, tag = "2")]
    pub(in crate::shim) config_path: String,
    /// TOML.
    #[prost(bytes = "vec", tag = "3")]
    pub(in crate::shim) config_body: Vec<u8>,
}

/// `containerd.runc.v1.ProcessDetails`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct ProcessDetails {
    #[prost(string, tag = "1")]
    pub(in crate::shim) exec_id: String,
}
