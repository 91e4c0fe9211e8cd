//! `containerd.task.v2` and `v3`, which are the same: api/runtime/task/v3/shim.proto.

use prost::Message;

use super::{Any, Mount, Timestamp};

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct CreateRequest {
    #[prost(string, tag = "1")]
    pub(in crate::shim) id: String,
    #[prost(string, tag = "2")]
    pub(in crate::shim) bundle: String,
    #[prost(message, repeated, tag = "3")]
    pub(in crate::shim) rootfs: Vec<Mount>,
    #[prost(bool, tag = "4")]
    pub(in crate::shim) terminal: bool,
    #[prost(string, tag = "5")]
    pub(in crate::shim) stdin: String,
    #[prost(string, tag = "6")]
    pub(in crate::shim) stdout: String,
    #[prost(string, tag = "7")]
    pub(in crate::shim) stderr: String,
    #[prost(string, tag = "8")]
    pub(in crate::shim) checkpoint: String,
    #[prost(string, tag = "9")]
    pub(in crate::shim) parent_checkpoint: String,
    #[prost(message, optional, tag = "10")]
    pub(in crate::shim) options: Option<Any>,
}

/// The answer to Create and to Start.
#[derive(Clone, Copy, PartialEq, Message)]
pub(in crate::shim) struct PidResponse {
    #[prost(uint32, tag = "1")]
    pub(in crate::shim) pid: u32,
}

/// Start, Delete, State and Wait: of a container, or with `exec_id` of another process in it. Pids, Pause, Resume, Stats
/// and Connect have the first field only.
#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct ProcessRequest {
    #[prost(string, tag = "1")]
    pub(in crate::shim) id: String,
    #[prost(string, tag = "2")]
    pub(in crate::shim) exec_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct IdRequest {
    #[prost(string, tag = "1")]
    pub(in crate::shim) id: String,
}

/// Also what `shim delete` prints.
#[derive(Clone, Copy, PartialEq, Message)]
pub(in crate::shim) struct DeleteResponse {
    #[prost(uint32, tag = "1")]
    pub(in crate::shim) pid: u32,
    #[prost(uint32, tag = "2")]
    pub(in crate::shim) exit_status: u32,
    #[prost(message, optional, tag = "3")]
    pub(in crate::shim) exited_at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct ExecRequest {
    #[prost(string, tag = "1")]
    pub(in crate::shim) id: String,
    #[prost(string, tag = "2")]
    pub(in crate::shim) exec_id: String,
    #[prost(bool, tag = "3")]
    pub(in crate::shim) terminal: bool,
    #[prost(string, tag = "4")]
    pub(in crate::shim) stdin: String,
    #[prost(string, tag = "5")]
    pub(in crate::shim) stdout: String,
    #[prost(string, tag = "6")]
    pub(in crate::shim) stderr: String,
    #[prost(message, optional, tag = "7")]
    pub(in crate::shim) spec: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct ResizePtyRequest {
    #[prost(string, tag = "1")]
    pub(in crate::shim) id: String,
    #[prost(string, tag = "2")]
    pub(in crate::shim) exec_id: String,
    #[prost(uint32, tag = "3")]
    pub(in crate::shim) width: u32,
    #[prost(uint32, tag = "4")]
    pub(in crate::shim) height: u32,
}

/// `containerd.v1.types.Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(in crate::shim) enum Status {
    Created = 1,
    Running = 2,
    Stopped = 3,
    Paused = 4,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct StateResponse {
    #[prost(string, tag = "1")]
    pub(in crate::shim) id: String,
    #[prost(string, tag = "2")]
    pub(in crate::shim) bundle: String,
    #[prost(uint32, tag = "3")]
    pub(in crate::shim) pid: u32,
    /// A [`Status`].
    #[prost(int32, tag = "4")]
    pub(in crate::shim) status: i32,
    #[prost(string, tag = "5")]
    pub(in crate::shim) stdin: String,
    #[prost(string, tag = "6")]
    pub(in crate::shim) stdout: String,
    #[prost(string, tag = "7")]
    pub(in crate::shim) stderr: String,
    #[prost(bool, tag = "8")]
    pub(in crate::shim) terminal: bool,
    #[prost(uint32, tag = "9")]
    pub(in crate::shim) exit_status: u32,
    #[prost(message, optional, tag = "10")]
    pub(in crate::shim) exited_at: Option<Timestamp>,
    #[prost(string, tag = "11")]
    pub(in crate::shim) exec_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct KillRequest {
    #[prost(string, tag = "1")]
    pub(in crate::shim) id: String,
    #[prost(string, tag = "2")]
    pub(in crate::shim) exec_id: String,
    #[prost(uint32, tag = "3")]
    pub(in crate::shim) signal: u32,
    #[prost(bool, tag = "4")]
    pub(in crate::shim) all: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct CloseIoRequest {
    #[prost(string, tag = "1")]
    pub(in crate::shim) id: String,
    #[prost(string, tag = "2")]
    pub(in crate::shim) exec_id: String,
    #[prost(bool, tag = "3")]
    pub(in crate::shim) stdin: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct PidsResponse {
    #[prost(message, repeated, tag = "1")]
    pub(in crate::shim) processes: Vec<ProcessInfo>,
}

/// `containerd.v1.types.ProcessInfo`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct ProcessInfo {
    #[prost(uint32, tag = "1")]
    pub(in crate::shim) pid: u32,
    #[prost(message, optional, tag = "2")]
    pub(in crate::shim) info: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct UpdateRequest {
    #[prost(string, tag = "1")]
    pub(in crate::shim) id: String,
    #[prost(message, optional, tag = "2")]
    pub(in crate::shim) resources: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct CheckpointRequest {
    #[prost(string, tag = "1")]
    pub(in crate::shim) id: String,
    /// The directory of the images.
    #[prost(string, tag = "2")]
    pub(in crate::shim) path: String,
    #[prost(message, optional, tag = "3")]
    pub(in crate::shim) options: Option<Any>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(in crate::shim) struct WaitResponse {
    #[prost(uint32, tag = "1")]
    pub(in crate::shim) exit_status: u32,
    #[prost(message, optional, tag = "2")]
    pub(in crate::shim) exited_at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct StatsResponse {
    #[prost(message, optional, tag = "1")]
    pub(in crate::shim) stats: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct ConnectResponse {
    #[prost(uint32, tag = "1")]
    pub(in crate::shim) shim_pid: u32,
    #[prost(uint32, tag = "2")]
    pub(in crate::shim) task_pid: u32,
    #[prost(string, tag = "3")]
    pub(in crate::shim) version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct ShutdownRequest {
    #[prost(string, tag = "1")]
    pub(in crate::shim) id: String,
    #[prost(bool, tag = "2")]
    pub(in crate::shim) now: bool,
}
