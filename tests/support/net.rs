//! A network of the test's own: what a runtime does to the host's network it does to that.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::thread::UnshareFlags;
use serde_json::{Value, json};

use super::{Case, eventually};

/// From now on this thread, and what it starts, is in a network namespace of its own, with a loopback and an interface
/// that leads nowhere, 192.0.2.9.
pub(crate) fn leave_the_host() {
    runp::sys::ns::unshare(UnshareFlags::NEWNET).unwrap();
    ip("link set lo up");
    ip("link add up0 type bridge");
    ip("addr add 192.0.2.9/24 dev up0");
    ip("link set up0 up");
    ip("route add default via 192.0.2.1");
}

/// ip(8).
#[track_caller]
pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a server says to whoever connects, once it does.
#[track_caller]
pub(crate) fn hear(address: &str) -> String {
    let address: SocketAddr = address.parse().unwrap();
    eventually(&format!("{address} answers"), || try_hear(address))
}

/// The same, or nothing.
pub(crate) fn try_hear(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"hello\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    (!text.is_empty()).then_some(text)
}

/// A shell script that answers everybody on a port.
pub(crate) fn server(options: &str, answer: &str) -> String {
    format!("while :; do nc -l {options} -e sh -c 'read x; echo {answer}'; done")
}

/// A directory of CNI configurations.
#[derive(Debug)]
pub(crate) struct Cni {
    /// For `--cni-netconfpath`.
    pub(crate) configurations: PathBuf,
    /// For `--cni-path`: the plugins that are installed, and those of the test.
    pub(crate) plugins: String,
    /// What host-local remembers.
    pub(crate) addresses: PathBuf,
    /// What plugins of the test have written down.
    pub(crate) log: PathBuf,
    own: PathBuf,
}

impl Cni {
    /// Empty ones.
    pub(crate) fn new(case: &Case) -> Self {
        let dir = case.dir().join("cni");
        let own = dir.join("bin");
        let configurations = dir.join("net.d");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::create_dir_all(&configurations).unwrap();
        Self {
            plugins: format!("{}:/opt/cni/bin:/usr/lib/cni", own.display()),
            configurations,
            addresses: dir.join("addresses"),
            log: dir.join("log"),
            own,
        }
    }

    /// A list of plugins.
    pub(crate) fn network(&self, name: &str, version: &str, plugins: Value) {
        let list = json!({"cniVersion": version, "name": name, "plugins": plugins});
        let file = self.configurations.join(format!("{name}.conflist"));
        std::fs::write(file, list.to_string()).unwrap();
    }

    /// The plugin of a point-to-point link to the host, with addresses of 10.98.0.0/24 from host-local.
    pub(crate) fn ptp(&self) -> Value {
        let resolv = self.configurations.join("resolv.conf");
        std::fs::write(&resolv, "nameserver 10.98.0.53\nsearch cni.example\n").unwrap();
        json!({"type": "ptp", "ipam": {
            "type": "host-local", "dataDir": self.addresses, "resolvConf": resolv,
            "ranges": [[{"subnet": "10.98.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}})
    }

    /// A plugin that writes down how it is called, and then runs this shell script; `$RESULT` is a result with an address.
    pub(crate) fn plugin(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let text = format!(
            "#!/bin/sh\nRESULT='{{\"cniVersion\": \"1.0.0\", \"ips\": [{{\"address\": \"10.97.0.2/24\"}}]}}'\n\
             CONFIG=$(cat)\n\
             netns=none; [ -z \"$CNI_NETNS\" ] || netns=$(stat -fc %T \"$CNI_NETNS\" 2>&1)\n\
             echo \"{name} $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $netns $CNI_ARGS $CONFIG\" >> {}\n{script}\n",
            self.log.display()
        );
        let path = self.own.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The first words of every line that plugins have written: name and command.
    pub(crate) fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let words = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        text.lines().map(words).collect()
    }

    /// The options that name these directories.
    pub(crate) fn options<'a>(&'a self, network: &'a str) -> [&'a str; 6] {
        [
            "--network",
            network,
            "--cni-path",
            &self.plugins,
            "--cni-netconfpath",
            self.configurations.to_str().unwrap(),
        ]
    }

    /// How many addresses are given away.
    pub(crate) fn given(&self) -> usize {
        let networks = std::fs::read_dir(&self.addresses).into_iter().flatten();
        let files = networks.flat_map(|dir| std::fs::read_dir(dir.unwrap().path()).unwrap());
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("10.")).count()
    }
}
