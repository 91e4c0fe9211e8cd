//! What the kubelet says of a pod, `runtime.v1.PodSandboxConfig`: k8s.io/cri-api, pkg/apis/runtime/v1/api.proto. Only what a
//! sandbox needs.

use std::collections::HashMap;

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct PodSandboxConfig {
    #[prost(string, tag = "2")]
    pub(in crate::shim) hostname: String,
    #[prost(message, optional, tag = "4")]
    pub(in crate::shim) dns_config: Option<DnsConfig>,
    #[prost(message, optional, tag = "8")]
    pub(in crate::shim) linux: Option<LinuxPodSandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct DnsConfig {
    #[prost(string, repeated, tag = "1")]
    pub(in crate::shim) servers: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(in crate::shim) searches: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(in crate::shim) options: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct LinuxPodSandboxConfig {
    #[prost(string, tag = "1")]
    pub(in crate::shim) cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    pub(in crate::shim) security_context: Option<SecurityContext>,
    #[prost(map = "string, string", tag = "3")]
    pub(in crate::shim) sysctls: HashMap<String, String>,
}

/// `LinuxSandboxSecurityContext`. The others of its fields are about a pause container's program, which there is none of.
#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct SecurityContext {
    #[prost(message, optional, tag = "1")]
    pub(in crate::shim) namespace_options: Option<NamespaceOption>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct NamespaceOption {
    /// Numbers as in [`mode`], like the two below.
    #[prost(int32, tag = "1")]
    pub(in crate::shim) network: i32,
    #[prost(int32, tag = "2")]
    pub(in crate::shim) pid: i32,
    #[prost(int32, tag = "3")]
    pub(in crate::shim) ipc: i32,
    #[prost(message, optional, tag = "5")]
    pub(in crate::shim) userns_options: Option<UserNamespace>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct UserNamespace {
    #[prost(int32, tag = "1")]
    pub(in crate::shim) mode: i32,
    #[prost(message, repeated, tag = "2")]
    pub(in crate::shim) uids: Vec<IdMapping>,
    #[prost(message, repeated, tag = "3")]
    pub(in crate::shim) gids: Vec<IdMapping>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(in crate::shim) struct IdMapping {
    #[prost(uint32, tag = "1")]
    pub(in crate::shim) host_id: u32,
    #[prost(uint32, tag = "2")]
    pub(in crate::shim) container_id: u32,
    #[prost(uint32, tag = "3")]
    pub(in crate::shim) length: u32,
}

/// `NamespaceMode`.
pub(in crate::shim) mod mode {
    pub(in crate::shim) const POD: i32 = 0;
    pub(in crate::shim) const CONTAINER: i32 = 1;
    pub(in crate::shim) const NODE: i32 = 2;
}
