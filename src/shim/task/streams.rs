//! ResizePty and CloseIO: what a client does to the standard files of a process.

use crate::shim::pod::{Pod, Reply};
use crate::shim::proto::Empty;
use crate::shim::proto::task::{CloseIoRequest, ResizePtyRequest};
use crate::shim::ttrpc::Status;

impl Pod {
    pub(super) fn resize_pty(&mut self, request: ResizePtyRequest) -> Reply<Empty> {
        let process = self.container(&request.id)?.process(&request.exec_id)?;
        let size = |value: u32, name: &str| {
            u16::try_from(value).map_err(|_| Status::invalid(format!("{name} {value}")))
        };
        let columns = size(request.width, "width")?;
        let rows = size(request.height, "height")?;
        process.io.resize(columns, rows)?;
        Ok(Empty {})
    }

    pub(super) fn close_io(&mut self, request: CloseIoRequest) -> Reply<Empty> {
        let process = self.container(&request.id)?.process(&request.exec_id)?;
        if request.stdin {
            process.io.close_stdin();
        }
        Ok(Empty {})
    }
}
