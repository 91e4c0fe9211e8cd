//! What happens to tasks, api/events/task.proto, and how containerd is told, api/services/ttrpc/events/v1/events.proto.

use prost::Message;

use super::{Any, Mount, Timestamp};

/// An event, its topic and its type's name.
pub(in crate::shim) trait Event: Message {
    const TOPIC: &'static str;
    const NAME: &'static str;
}

macro_rules! event {
    ($type:ident, $topic:literal) => {
        impl Event for $type {
            const TOPIC: &'static str = $topic;
            const NAME: &'static str = concat!("containerd.events.", stringify!($type));
        }
    };
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct TaskCreate {
    #[prost(string, tag = "1")]
    pub(in crate::shim) container_id: String,
    #[prost(string, tag = "2")]
    pub(in crate::shim) bundle: String,
    #[prost(message, repeated, tag = "3")]
    pub(in crate::shim) rootfs: Vec<Mount>,
    #[prost(message, optional, tag = "4")]
    pub(in crate::shim) io: Option<TaskIo>,
    #[prost(string, tag = "5")]
    pub(in crate::shim) checkpoint: String,
    #[prost(uint32, tag = "6")]
    pub(in crate::shim) pid: u32,
}
event!(TaskCreate, "/tasks/create");

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct TaskIo {
    #[prost(string, tag = "1")]
    pub(in crate::shim) stdin: String,
    #[prost(string, tag = "2")]
    pub(in crate::shim) stdout: String,
    #[prost(string, tag = "3")]
    pub(in crate::shim) stderr: String,
    #[prost(bool, tag = "4")]
    pub(in crate::shim) terminal: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct TaskStart {
    #[prost(string, tag = "1")]
    pub(in crate::shim) container_id: String,
    #[prost(uint32, tag = "2")]
    pub(in crate::shim) pid: u32,
}
event!(TaskStart, "/tasks/start");

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct TaskDelete {
    #[prost(string, tag = "1")]
    pub(in crate::shim) container_id: String,
    #[prost(uint32, tag = "2")]
    pub(in crate::shim) pid: u32,
    #[prost(uint32, tag = "3")]
    pub(in crate::shim) exit_status: u32,
    #[prost(message, optional, tag = "4")]
    pub(in crate::shim) exited_at: Option<Timestamp>,
    /// Of the exec; empty for the container itself.
    #[prost(string, tag = "5")]
    pub(in crate::shim) id: String,
}
event!(TaskDelete, "/tasks/delete");

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct TaskExit {
    #[prost(string, tag = "1")]
    pub(in crate::shim) container_id: String,
    /// Of the exec, or the container's own again.
    #[prost(string, tag = "2")]
    pub(in crate::shim) id: String,
    #[prost(uint32, tag = "3")]
    pub(in crate::shim) pid: u32,
    #[prost(uint32, tag = "4")]
    pub(in crate::shim) exit_status: u32,
    #[prost(message, optional, tag = "5")]
    pub(in crate::shim) exited_at: Option<Timestamp>,
}
event!(TaskExit, "/tasks/exit");

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct TaskOOM {
    #[prost(string, tag = "1")]
    pub(in crate::shim) container_id: String,
}
event!(TaskOOM, "/tasks/oom");

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct TaskExecAdded {
    #[prost(string, tag = "1")]
    pub(in crate::shim) container_id: String,
    #[prost(string, tag = "2")]
    pub(in crate::shim) exec_id: String,
}
event!(TaskExecAdded, "/tasks/exec-added");

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct TaskExecStarted {
    #[prost(string, tag = "1")]
    pub(in crate::shim) container_id: String,
    #[prost(string, tag = "2")]
    pub(in crate::shim) exec_id: String,
    #[prost(uint32, tag = "3")]
    pub(in crate::shim) pid: u32,
}
event!(TaskExecStarted, "/tasks/exec-started");

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct TaskPaused {
    #[prost(string, tag = "1")]
    pub(in crate::shim) container_id: String,
}
event!(TaskPaused, "/tasks/paused");

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct TaskResumed {
    #[prost(string, tag = "1")]
    pub(in crate::shim) container_id: String,
}
event!(TaskResumed, "/tasks/resumed");

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct TaskCheckpointed {
    #[prost(string, tag = "1")]
    pub(in crate::shim) container_id: String,
    /// The directory of the images.
    #[prost(string, tag = "2")]
    pub(in crate::shim) checkpoint: String,
}
event!(TaskCheckpointed, "/tasks/checkpointed");

/// The request of `containerd.services.events.ttrpc.v1.Events/Forward`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct ForwardRequest {
    #[prost(message, optional, tag = "1")]
    pub(in crate::shim) envelope: Option<Envelope>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct Envelope {
    #[prost(message, optional, tag = "1")]
    pub(in crate::shim) timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    pub(in crate::shim) namespace: String,
    #[prost(string, tag = "3")]
    pub(in crate::shim) topic: String,
    #[prost(message, optional, tag = "4")]
    pub(in crate::shim) event: Option<Any>,
}
