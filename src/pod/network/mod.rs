//! What a pod's network namespace is connected to: `--network`.
//!
//! | network | whose namespace | what is in it |
//! | --- | --- | --- |
//! | `none` | pause's | the loopback interface |
//! | `host` | the host's | |
//! | `path:FILE` | somebody else's | what it has |
//! | `cni`, `cni:NAME` | pause's | what the plugins of a configuration make: [`cni`] |
//! | `pasta` | pause's | the host's own addresses, in user space: [`pasta`] |
//!
//! What plugins make on the host outlives the processes that it is for. So the pod's record says that they are about to be
//! called before they are, the namespace gets a name in the pod's directory, and who removes the pod, or makes its sandbox
//! anew, has them undo it: also after the supervisor was killed.

pub mod cni;
mod pasta;
mod ports;

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde::{Deserialize, Serialize};

use super::sandbox;
use super::store::{PodDir, Record};
use crate::cgroup::{self, Cgroup, Layout, Limits};
use crate::container::in_network;
use crate::error::{Context, Error, Result};
use crate::sys::netlink::{self, Ask, Body, Netlink};
use crate::sys::ns;

pub use pasta::RESOLVER;
pub use ports::{Port, ports};

/// What is typed after `--network`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // see above
pub enum Asked {
    None,
    Host,
    Path(PathBuf),
    /// With a name, or the first configuration that there is.
    Cni(Option<String>),
    Pasta,
}

impl FromStr for Asked {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            None if text == "host" => Ok(Self::Host),
            None if text == "cni" => Ok(Self::Cni(None)),
            None if text == "pasta" => Ok(Self::Pasta),
            Some(("cni", name)) if !name.is_empty() => Ok(Self::Cni(Some(name.to_owned()))),
            Some(("path", path)) if path.starts_with('/') => Ok(Self::Path(path.into())),
            Some(("path", _)) => Err("an absolute path is wanted after path:".into()),
            _ => Err("none, host, path:FILE, cni, cni:NAME or pasta is wanted".into()),
        }
    }
}

/// Where plugins are unless somebody says otherwise: the specification's place, Debian's and Fedora's.
pub const PLUGINS: &str = "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni";
/// The same for configurations.
pub const CONFIGURATIONS: &str = "/etc/cni/net.d";

/// Where the plugins and configurations of CNI are.
#[derive(Debug, Clone)]
pub struct Places {
    /// Searched in this order.
    pub plugins: Vec<PathBuf>,
    /// The directory of configurations.
    pub configurations: PathBuf,
}

/// The network of a pod, with all that is needed to make and to undo it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // see above
pub enum Network {
    #[default]
    None,
    Host,
    Path(PathBuf),
    Cni(cni::Network),
    Pasta {
        /// Where pasta(1) is.
        program: PathBuf,
    },
}

impl Network {
    /// What is asked for, as it is on this machine now.
    ///
    /// # Errors
    /// When it is not there: the namespace, the configuration, a plugin, pasta.
    pub fn find(asked: Asked, places: &Places) -> Result<Self> {
        match asked {
            Asked::None => Ok(Self::None),
            Asked::Host => Ok(Self::Host),
            Asked::Path(path) => {
                joinable(&path).context(|| format!("--network path:{}", path.display()))?;
                Ok(Self::Path(path))
            }
            Asked::Cni(name) => cni::Network::find(name.as_deref(), places).map(Self::Cni),
            Asked::Pasta => pasta::find().map(|program| Self::Pasta { program }),
        }
    }

    /// Whether somebody has to connect it once pause is there.
    pub fn is_attached(&self) -> bool {
        !matches!(self, Self::None | Self::Host)
    }

    /// Whether ports of the host can lead into it.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn check_ports(&self, protocol: Option<&str>) -> std::result::Result<(), String> {
        match self {
            Self::Pasta { .. } if protocol == Some("SCTP") => {
                Err("pasta knows TCP and UDP only".into())
            }
            Self::Host | Self::Pasta { .. } => Ok(()),
            Self::Cni(network) if network.has_capability("portMappings") => Ok(()),
            Self::Cni(network) => Err(format!(
                "the CNI network {:?} has no plugin with the capability portMappings: add portmap to it",
                network.name
            )),
            Self::None => Err(
                "no port of the host leads into a network that is just a loopback: choose one with --network cni:NAME or \
                 --network pasta"
                    .into(),
            ),
            Self::Path(_) => Err(
                "ports of the host are the business of who made the network namespace".into(),
            ),
        }
    }

    /// In a few words.
    pub fn describe(&self) -> String {
        match self {
            Self::None => "loopback only".into(),
            Self::Host => "the host's".into(),
            Self::Path(path) => format!("that of {}", path.display()),
            Self::Cni(network) => network.describe(),
            Self::Pasta { .. } => "the host's addresses, through pasta".into(),
        }
    }
}

/// What a pod's network has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Attachment {
    /// There may be something to undo.
    pub live: bool,
    /// `status.podIPs`: at most one of each family, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Who knows names there, if the network says so.
    pub dns: Dns,
    /// What the last CNI plugin has said.
    pub result: Option<serde_json::Value>,
}

/// What a network says of resolv.conf(5).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)] // resolv.conf's own words
pub struct Dns {
    pub nameservers: Vec<String>,
    pub domain: String,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

/// The pod's network namespace by name, in the pod's directory: it is there as long as something of it is to be undone.
const NETNS: &str = "netns";

/// Connects the network namespace that pause holds. What was connected before for this pod is undone first.
///
/// # Errors
/// What could not be done, with the plugin's own words; then it is undone.
pub fn attach(dir: &PodDir, pause: i32) -> Result<Attachment> {
    let mut record = dir.record()?;
    detach(dir, &mut record)?;
    record.attachment = Some(Attachment {
        live: !matches!(record.network, Network::Path(_)),
        ..Attachment::default()
    });
    dir.write(&record)?;
    match connect(dir, &record, pause) {
        Ok(attachment) => {
            record.attachment = Some(attachment.clone());
            dir.write(&record)?;
            Ok(attachment)
        }
        Err(e) => Err(e.and_cleanup(detach(dir, &mut record))),
    }
    .context(|| format!("network {}", record.network.describe()))
}

fn connect(dir: &PodDir, record: &Record, pause: i32) -> Result<Attachment> {
    match &record.network {
        Network::None | Network::Host => Ok(Attachment::default()),
        Network::Path(path) => Ok(Attachment {
            addresses: addresses(path)?,
            ..Attachment::default()
        }),
        Network::Cni(network) => {
            let (cgroup, netns) = (make_cgroup(dir)?, pin(dir, pause)?);
            let result = network.add(&cni::Pod::of(record, &netns, Some(&cgroup)))?;
            Ok(Attachment {
                live: true,
                addresses: cni::addresses(&result),
                dns: cni::dns(&result),
                result: Some(result),
            })
        }
        Network::Pasta { program } => {
            let (cgroup, netns) = (make_cgroup(dir)?, pin(dir, pause)?);
            let ports = record.manifest.spec.as_ref().map(ports);
            pasta::start(program, &cgroup, &netns, &ports.unwrap_or_default())?;
            Ok(Attachment {
                live: true,
                addresses: addresses(&netns)?,
                ..Attachment::default()
            })
        }
    }
}

/// Undoes what [`attach`] has done, wholly or in part; again, or nothing, is fine.
///
/// # Errors
/// What could not be undone; it can be tried again.
pub fn detach(dir: &PodDir, record: &mut Record) -> Result<()> {
    let live = record.attachment.as_ref().is_some_and(|a| a.live);
    if live {
        // Whoever was still at it.
        end_helpers(dir)?;
        let cgroup = make_cgroup(dir)?;
        let netns = netns(dir);
        // It was not named yet, or the machine has booted anew.
        let netns = match is_netns(&netns) {
            true => netns,
            false => PathBuf::new(),
        };
        let undone = match &record.network {
            Network::Cni(network) => {
                let result = record.attachment.as_ref().and_then(|a| a.result.as_ref());
                network.del(&cni::Pod::of(record, &netns, Some(&cgroup)), result)
            }
            _ => Ok(()),
        };
        undone.context(|| format!("undo network {}", record.network.describe()))?;
        end_helpers(dir)?;
    }
    unpin(dir)?;
    match &mut record.attachment {
        Some(attachment) if live => {
            attachment.live = false;
            dir.write(record)
        }
        _ => Ok(()),
    }
}

/// Whether the network of a pod that lives is as it was made.
///
/// # Errors
/// What the plugin that misses something says.
pub fn check(dir: &PodDir, record: &Record) -> Result<()> {
    match (&record.network, &record.attachment) {
        (
            Network::Cni(network),
            Some(Attachment {
                live: true,
                result: Some(result),
                ..
            }),
        ) => network.check(&cni::Pod::of(record, &netns(dir), None), result),
        _ => Ok(()),
    }
}

/// What is left of the network of a pod whose record cannot be read: nobody knows what plugins have done.
///
/// # Errors
/// The kernel's.
pub fn abandon(dir: &PodDir) -> Result<()> {
    end_helpers(dir)?;
    unpin(dir)
}

/// The cgroup of what makes the network, and of what it leaves running. It is none of the pod's: what it needs is not taken
/// from the pod's limits.
fn cgroup(dir: &PodDir) -> String {
    format!("{}/net@{}", cgroup::HOME, dir.name())
}

fn make_cgroup(dir: &PodDir) -> Result<Cgroup> {
    let plan = cgroup::Plan::around(cgroup(dir), Limits::default());
    Layout::detect()?.create(&plan)
}

fn end_helpers(dir: &PodDir) -> Result<()> {
    let cgroup = cgroup(dir);
    sandbox::kill(&cgroup)?;
    sandbox::remove_cgroup(&cgroup)
}

fn netns(dir: &PodDir) -> PathBuf {
    dir.path().join(NETNS)
}

fn pin(dir: &PodDir, pause: i32) -> Result<PathBuf> {
    let path = netns(dir);
    let step = || format!("name the network namespace {}", path.display());
    std::fs::File::create(&path).context(step)?;
    mount_bind(format!("/proc/{pause}/ns/net"), &path).context(step)?;
    Ok(path)
}

fn unpin(dir: &PodDir) -> Result<()> {
    let path = netns(dir);
    let step = || format!("remove {}", path.display());
    match unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // EINVAL: nothing was mounted yet.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(Error::sys(step(), e)),
    }
    match rustix::fs::unlink(&path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(Error::sys(step(), e)),
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open {}", path.display()))
}

fn is_netns(path: &Path) -> bool {
    open(path).is_ok_and(|file| is_network(&file))
}

fn is_network(file: &OwnedFd) -> bool {
    ns::kind(file).is_ok_and(|kind| kind == libc::CLONE_NEWNET as u32)
}

/// A network namespace that is not the host's own: with that a pod could change settings of the host.
fn joinable(path: &Path) -> Result<OwnedFd> {
    let file = open(path)?;
    if !is_network(&file) {
        let error = Error::new(format!("{} is no network namespace", path.display()));
        return Err(error.hint("`ip netns add NAME` makes one, /run/netns/NAME"));
    }
    let step = || "look at it";
    let it = rustix::fs::fstat(&file).context(step)?;
    let own = rustix::fs::stat("/proc/self/ns/net").context(step)?;
    match (it.st_dev, it.st_ino) == (own.st_dev, own.st_ino) {
        true => Err(Error::new("it is the host's own").hint("--network host")),
        false => Ok(file),
    }
}

/// Opens a namespace for pause to join.
///
/// # Errors
/// When it is not there any more.
pub fn open_joined(network: &Network) -> Result<Option<OwnedFd>> {
    match network {
        Network::Path(path) => joinable(path).map(Some),
        _ => Ok(None),
    }
}

/// The addresses of a network namespace that hold everywhere: the first of each family, IPv4 first.
fn addresses(netns: &Path) -> Result<Vec<IpAddr>> {
    let step = || format!("read the addresses of {}", netns.display());
    let file = open(netns)?;
    let netlink = in_network(file.as_fd(), Netlink::open)?.context(step)?;
    let answers = netlink
        .request(libc::RTM_GETADDR, Ask::All, &Body::of_address(0, 0, 0))
        .context(step)?;
    let mut found = Vec::new();
    for answer in &answers {
        let address = netlink::address(answer).context(step)?;
        if address.scope == libc::RT_SCOPE_UNIVERSE {
            found.extend(ip(&address));
        }
    }
    Ok(one_of_each(found))
}

/// The interface's own end, where it has two.
fn ip(address: &netlink::Address) -> Option<IpAddr> {
    let of = |kind| {
        let mut all = address.attributes.iter();
        all.find(|(k, _)| *k == kind).map(|(_, value)| value)
    };
    let bytes = of(libc::IFA_LOCAL).or_else(|| of(libc::IFA_ADDRESS))?;
    match bytes.len() {
        4 => <[u8; 4]>::try_from(&bytes[..]).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(&bytes[..]).ok().map(IpAddr::from),
    }
}

fn one_of_each(mut all: Vec<IpAddr>) -> Vec<IpAddr> {
    all.sort_by_key(IpAddr::is_ipv6);
    all.dedup_by_key(|address| address.is_ipv6());
    all
}

#[cfg(test)]
mod tests;
