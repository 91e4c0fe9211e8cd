//! `runp pod port-forward`.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::str::FromStr;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::socket_error;

use super::Places;
use crate::cli::print;
use crate::error::{Context, Error, Result};
use crate::pod::calls::dial;
use crate::pod::sandbox;
use crate::pod::store::PodName;
use crate::sys::process::Child;

/// `LOCAL:REMOTE`, or one port for both; local 0 is any that is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    local: u16,
    remote: u16,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (local, remote) = text.split_once(':').unwrap_or((text, text));
        let local = if local.is_empty() { "0" } else { local };
        match (local.parse(), remote.parse()) {
            (Ok(local), Ok(remote)) if remote > 0 => Ok(Self { local, remote }),
            _ => Err("[LOCAL:]PORT is wanted".into()),
        }
    }
}

/// Forward ports of this machine into a pod's network
///
/// Connections to LOCAL are made again inside the pod's network namespace, to its own loopback. Ends with Ctrl-C.
#[derive(Debug, clap::Args)]
pub(super) struct PortForward {
    /// The pod's name
    name: PodName,
    /// Ports: PORT, LOCAL:PORT, or :PORT for any local one that is free
    #[arg(required = true, value_name = "[LOCAL:]PORT")]
    ports: Vec<Ports>,
    /// Where to listen
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
}

impl PortForward {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let record = places.pods.open(&self.name)?.record()?;
        let pause = sandbox::pause(&record.cgroup)?;
        let pause = pause.ok_or_else(|| {
            Error::new(format!("pod {:?} has no network", self.name.as_str()))
                .hint("it does not run: see runp pod status")
        })?;
        let mut listeners = Vec::new();
        for Ports { local, remote } in self.ports {
            let address = SocketAddr::new(self.address, local);
            let listener = TcpListener::bind(address).context(|| format!("listen on {address}"))?;
            let local = listener.local_addr().context(|| "getsockname")?;
            print(&format!("Forwarding from {local} -> {remote}\n"))?;
            listeners.push((listener, remote));
        }
        let pause = Arc::new(pause);
        std::thread::scope(|scope| {
            for (listener, remote) in &listeners {
                scope.spawn(|| serve(listener, *remote, &pause));
            }
        });
        Ok(0)
    }
}

/// Each thread has its own network namespace: going into the pod's for a moment concerns nobody else.
fn serve(listener: &TcpListener, port: u16, pause: &Arc<Child>) {
    for client in listener.incoming() {
        let Ok(client) = client else { continue };
        let pause = Arc::clone(pause);
        std::thread::spawn(move || {
            if let Err(e) = forward(client, port, &pause) {
                log::warn!("port {port}: {e}");
            }
        });
    }
}

fn forward(client: TcpStream, port: u16, pause: &Child) -> Result<()> {
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let server = dial(address, Some(pause.pidfd.as_fd()))?;
    let server = connected(server).context(|| format!("connect to {address} in the pod"))?;
    let (mut from, mut to) = (clone(&client)?, clone(&server)?);
    let up = std::thread::spawn(move || copy(&mut from, &mut to));
    copy(&mut clone(&server)?, &mut clone(&client)?);
    let _ = up.join(); // it has nothing to tell
    Ok(())
}

fn clone(stream: &TcpStream) -> Result<TcpStream> {
    stream.try_clone().context(|| "dup")
}

/// Waits until the connection stands; from then on the socket blocks.
fn connected(socket: OwnedFd) -> io::Result<TcpStream> {
    let mut files = [PollFd::new(&socket, PollFlags::OUT)];
    rustix::io::retry_on_intr(|| poll(&mut files, None))?;
    socket_error(&socket)??;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// To the end, which is told to the other side.
fn copy(from: &mut TcpStream, to: &mut TcpStream) {
    let mut chunk = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut chunk) {
        if to.write_all(&chunk[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write); // it has gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_for_kubectl() {
        let ports = |local, remote| Ok(Ports { local, remote });
        assert_eq!("80".parse(), ports(80, 80));
        assert_eq!("8080:80".parse(), ports(8080, 80));
        assert_eq!(":80".parse(), ports(0, 80));
        for bad in ["", "a", "1:", "1:0", "70000", "1:2:3"] {
            assert!(bad.parse::<Ports>().is_err(), "{bad:?}");
        }
    }
}
