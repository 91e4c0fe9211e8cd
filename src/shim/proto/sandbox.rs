//! `containerd.runtime.sandbox.v1`: api/runtime/sandbox/v1/sandbox.proto.

use std::collections::HashMap;

use prost::Message;

use super::{Any, Mount, Timestamp};

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct CreateRequest {
    #[prost(string, tag = "1")]
    pub(in crate::shim) sandbox_id: String,
    #[prost(string, tag = "2")]
    pub(in crate::shim) bundle_path: String,
    #[prost(message, repeated, tag = "3")]
    pub(in crate::shim) rootfs: Vec<Mount>,
    #[prost(message, optional, tag = "4")]
    pub(in crate::shim) options: Option<Any>,
    #[prost(string, tag = "5")]
    pub(in crate::shim) netns_path: String,
}

/// All the others, of which only StopSandbox and SandboxStatus have more than this, which is not needed: it is stopped at
/// once, and its status has no more to tell.
#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct IdRequest {
    #[prost(string, tag = "1")]
    pub(in crate::shim) sandbox_id: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(in crate::shim) struct StartResponse {
    #[prost(uint32, tag = "1")]
    pub(in crate::shim) pid: u32,
    #[prost(message, optional, tag = "2")]
    pub(in crate::shim) created_at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct PlatformResponse {
    #[prost(message, optional, tag = "1")]
    pub(in crate::shim) platform: Option<Platform>,
}

/// `containerd.types.Platform`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct Platform {
    #[prost(string, tag = "1")]
    pub(in crate::shim) os: String,
    #[prost(string, tag = "2")]
    pub(in crate::shim) architecture: String,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct StatusResponse {
    #[prost(string, tag = "1")]
    pub(in crate::shim) sandbox_id: String,
    #[prost(uint32, tag = "2")]
    pub(in crate::shim) pid: u32,
    #[prost(string, tag = "3")]
    pub(in crate::shim) state: String,
    #[prost(map = "string, string", tag = "4")]
    pub(in crate::shim) info: HashMap<String, String>,
    #[prost(message, optional, tag = "5")]
    pub(in crate::shim) created_at: Option<Timestamp>,
    #[prost(message, optional, tag = "6")]
    pub(in crate::shim) exited_at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct MetricsResponse {
    #[prost(message, optional, tag = "1")]
    pub(in crate::shim) metrics: Option<Metric>,
}

/// `containerd.types.Metric`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct Metric {
    #[prost(message, optional, tag = "1")]
    pub(in crate::shim) timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    pub(in crate::shim) id: String,
    #[prost(message, optional, tag = "3")]
    pub(in crate::shim) data: Option<Any>,
}
