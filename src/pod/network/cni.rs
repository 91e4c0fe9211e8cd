//! CNI: networks that plugins make.
//!
//! Source: the Container Network Interface specification 1.1.0, and libcni where that is silent.

use std::ffi::{CString, OsStr};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Dns, Places, Port, ports};
use crate::cgroup::Cgroup;
use crate::container::host_program::{self, HostProgram};
use crate::error::{Context, Error, Result};
use crate::pod::store::Record;
use crate::sys::process::Exit;

/// Oldest first.
const VERSIONS: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];

/// The pod's interface, as in Kubernetes.
const INTERFACE: &str = "eth0";

/// A plugin may have to ask somebody: that of DHCP waits for 10 s by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// More than this is read of no plugin's answer, in bytes.
const MOST: u64 = 1 << 20;

/// A configuration, and where its plugins were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Its `name`.
    pub name: String,
    version: String,
    disable_check: bool,
    /// `CNI_PATH`: for what plugins call themselves.
    path: String,
    plugins: Vec<Plugin>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Plugin {
    program: PathBuf,
    config: Map<String, Value>,
}

impl Plugin {
    fn kind(&self) -> &str {
        self.config["type"].as_str().unwrap_or_default()
    }

    fn has_capability(&self, name: &str) -> bool {
        let capabilities = self.config.get("capabilities");
        capabilities.is_some_and(|all| all[name] == json!(true))
    }
}

/// Which pod a network is made for.
#[derive(Debug)]
pub struct Pod<'a> {
    /// Its UID: a plugin's own notes go by it.
    id: &'a str,
    name: String,
    namespace: String,
    netns: &'a Path,
    ports: Vec<Port>,
    cgroup: Option<&'a Cgroup>,
}

impl<'a> Pod<'a> {
    /// The pod of this record, whose network namespace has this name. Plugins run in the cgroup, if there is one.
    pub fn of(record: &'a Record, netns: &'a Path, cgroup: Option<&'a Cgroup>) -> Self {
        let metadata = &record.manifest.metadata;
        Self {
            id: &record.uid,
            name: metadata.name.clone().unwrap_or_default(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            netns,
            ports: record.manifest.spec.as_ref().map(ports).unwrap_or_default(),
            cgroup,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Command {
    Add,
    Check,
    Del,
}

impl Command {
    fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
        }
    }
}

impl Network {
    /// The configuration of this name, or the first one, with its plugins.
    ///
    /// # Errors
    /// When there is none, or a plugin of it is not there.
    pub fn find(name: Option<&str>, places: &Places) -> Result<Self> {
        let step = || match name {
            Some(name) => format!("CNI network {name:?}"),
            None => "the default CNI network".into(),
        };
        let (path, list) = find_list(name, &places.configurations).context(step)?;
        Self::new(&list, places).context(|| format!("{}: {}", step(), path.display()))
    }

    fn new(list: &Value, places: &Places) -> Result<Self> {
        let name = list["name"].as_str().unwrap_or_default();
        if !is_name(name) {
            return Err(Error::new(format!(
                "name: {name:?} is no name of a network"
            )));
        }
        let mut configs = match &list["plugins"] {
            // A configuration of one plugin, as it was before there were lists.
            Value::Null => vec![list.clone()],
            Value::Array(plugins) => plugins.clone(),
            _ => return Err(Error::new("plugins: a list is wanted")),
        };
        if list["loadOnlyInlinedPlugins"] != json!(true) && !list["plugins"].is_null() {
            configs.extend(beside(&places.configurations.join(name))?);
        }
        let (mut plugins, mut errors) = (Vec::new(), Vec::new());
        for (index, config) in configs.into_iter().enumerate() {
            match plugin(config, places) {
                Ok(plugin) => plugins.push(plugin),
                Err(e) => errors.push(e.step(format!("plugins[{index}]"))),
            }
        }
        Error::all("its plugins", errors)?;
        if plugins.is_empty() {
            return Err(Error::new("plugins: there is none"));
        }
        let path: Vec<_> = places
            .plugins
            .iter()
            .map(|p| p.display().to_string())
            .collect();
        Ok(Self {
            name: name.to_owned(),
            version: version(list)?,
            disable_check: list["disableCheck"] == json!(true),
            path: path.join(":"),
            plugins,
        })
    }

    /// Whether a plugin of it takes this from the runtime.
    pub fn has_capability(&self, name: &str) -> bool {
        self.plugins
            .iter()
            .any(|plugin| plugin.has_capability(name))
    }

    /// `cni:NAME` and its plugins.
    pub fn describe(&self) -> String {
        let plugins: Vec<_> = self.plugins.iter().map(Plugin::kind).collect();
        format!("cni:{} ({})", self.name, plugins.join(", "))
    }

    /// From 0.4.0 on a plugin is told later what was said at ADD, and can be asked whether that still holds.
    fn tells_results(&self) -> bool {
        !self.version.starts_with("0.1.")
            && !self.version.starts_with("0.2.")
            && !self.version.starts_with("0.3.")
    }

    /// Has all plugins make their part; the result of the last one.
    ///
    /// # Errors
    /// The first plugin that cannot, in its own words. What was made is to be undone with [`Self::del`].
    pub fn add(&self, pod: &Pod<'_>) -> Result<Value> {
        let mut result = None;
        for plugin in &self.plugins {
            let said = self.call(plugin, Command::Add, pod, result.as_ref())?;
            let parsed: Value = serde_json::from_slice(&said)
                .map_err(|e| self.failed(plugin, Command::Add, &format!("its result: {e}")))?;
            result = Some(parsed);
        }
        Ok(result.unwrap_or_default())
    }

    /// Asks all plugins whether their part is as they made it.
    ///
    /// # Errors
    /// The first that misses something.
    pub fn check(&self, pod: &Pod<'_>, result: &Value) -> Result<()> {
        if self.disable_check || !self.tells_results() {
            return Ok(());
        }
        for plugin in &self.plugins {
            self.call(plugin, Command::Check, pod, Some(result))?;
        }
        Ok(())
    }

    /// Has all plugins undo their part, the last one first. All of them are asked, whatever one says.
    ///
    /// # Errors
    /// Those that could not.
    pub fn del(&self, pod: &Pod<'_>, result: Option<&Value>) -> Result<()> {
        let result = result.filter(|_| self.tells_results());
        let plugins = self.plugins.iter().rev();
        let failed =
            plugins.filter_map(|plugin| self.call(plugin, Command::Del, pod, result).err());
        Error::all("remove it", failed.collect())
    }

    /// What the plugin reads.
    fn config(&self, plugin: &Plugin, pod: &Pod<'_>, result: Option<&Value>) -> Value {
        let mut config = plugin.config.clone();
        config.insert("name".into(), self.name.clone().into());
        config.insert("cniVersion".into(), self.version.clone().into());
        if let Some(result) = result {
            config.insert("prevResult".into(), result.clone());
        }
        if plugin.has_capability("portMappings") && !pod.ports.is_empty() {
            let mappings: Vec<Value> = pod.ports.iter().map(mapping).collect();
            config.insert("runtimeConfig".into(), json!({"portMappings": mappings}));
        }
        config.into()
    }

    fn call(
        &self,
        plugin: &Plugin,
        command: Command,
        pod: &Pod<'_>,
        result: Option<&Value>,
    ) -> Result<Vec<u8>> {
        let step = || format!("CNI plugin {:?}: {}", plugin.kind(), command.name());
        let config = self.config(plugin, pod, result).to_string();
        let env = self.environment(command, pod);
        let env: Vec<CString> = env
            .iter()
            .map(|entry| c_string(entry.as_ref()))
            .collect::<Result<_>>()?;
        let program = c_string(plugin.program.as_os_str())?;
        let memory = |bytes: &[u8]| host_program::memory(bytes).context(step);
        let (input, output, errors) = (memory(config.as_bytes())?, memory(b"")?, memory(b"")?);
        let exit = HostProgram {
            path: &program,
            args: std::slice::from_ref(&program),
            env: &env,
            directory: None,
            timeout: Some(PATIENCE),
            ends_with_us: true,
            cgroup: pod.cgroup,
            first: None,
        }
        .run([input.as_fd(), output.as_fd(), errors.as_fd()])
        .context(step)?;
        let said = host_program::written(output, MOST);
        match exit {
            Some(Exit::Code(0)) => Ok(said),
            Some(exit) => Err(self.failed(plugin, command, &told(exit.code(), &said, errors))),
            None => {
                let why = format!("it took more than {} s", PATIENCE.as_secs());
                Err(self.failed(plugin, command, &why))
            }
        }
    }

    fn failed(&self, plugin: &Plugin, command: Command, why: &str) -> Error {
        Error::new(format!(
            "CNI plugin {:?} of network {:?}: {}: {why}",
            plugin.kind(),
            self.name,
            command.name()
        ))
    }

    fn environment(&self, command: Command, pod: &Pod<'_>) -> Vec<String> {
        let Pod {
            id,
            name,
            namespace,
            netns,
            ports: _,
            cgroup: _,
        } = pod;
        // Plugins call iptables and the like.
        let path = std::env::var("PATH").unwrap_or_default();
        vec![
            format!("PATH={path}:/usr/local/sbin:/usr/sbin:/sbin"),
            format!("CNI_COMMAND={}", command.name()),
            format!("CNI_CONTAINERID={id}"),
            format!("CNI_NETNS={}", netns.display()),
            format!("CNI_IFNAME={INTERFACE}"),
            format!("CNI_PATH={}", self.path),
            // As containerd and CRI-O have it. A plugin may refuse what it does not know, unless told to ignore it.
            format!(
                "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};\
                 K8S_POD_INFRA_CONTAINER_ID={id};K8S_POD_UID={id}"
            ),
        ]
    }
}

fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes()).map_err(|e| Error::new(format!("{}: {e}", text.display())))
}

/// What a plugin that failed says: the specification's error object, or else whatever it has written.
fn told(code: i32, said: &[u8], errors: std::os::fd::OwnedFd) -> String {
    let error: Value = serde_json::from_slice(said).unwrap_or_default();
    let text = |field: &str| error[field].as_str().unwrap_or_default().trim().to_owned();
    let (message, details) = (text("msg"), text("details"));
    if message.is_empty() && details.is_empty() {
        let wrote = match host_program::tail(errors) {
            wrote if wrote.is_empty() => String::from_utf8_lossy(said)
                .trim()
                .escape_debug()
                .to_string(),
            wrote => wrote,
        };
        return format!("exit code {code}: {wrote}");
    }
    let code = error["code"].as_u64().unwrap_or_default();
    match (message.as_str(), details.as_str()) {
        (all, "") | ("", all) => format!("{all} (code {code})"),
        (message, details) => format!("{message}; {details} (code {code})"),
    }
}

/// As the capability `portMappings` has it.
fn mapping(port: &Port) -> Value {
    let mut mapping = json!({
        "hostPort": port.host,
        "containerPort": port.container,
        "protocol": port.protocol.to_lowercase(),
    });
    if let Some(ip) = port.host_ip {
        mapping["hostIP"] = ip.to_string().into();
    }
    mapping
}

/// The specification's rule for names of networks.
fn is_name(name: &str) -> bool {
    let rest = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(rest)
}

/// The newest that the configuration and this program have in common.
fn version(list: &Value) -> Result<String> {
    let one = list["cniVersion"].as_str();
    let offered: Vec<&str> = match list["cniVersions"].as_array() {
        Some(all) => all.iter().filter_map(Value::as_str).chain(one).collect(),
        None => vec![one.unwrap_or(VERSIONS[0])],
    };
    let known = VERSIONS
        .iter()
        .rev()
        .find(|version| offered.contains(version));
    known.map(|version| (*version).to_owned()).ok_or_else(|| {
        Error::new(format!("cniVersion: {}: not known", offered.join(", ")))
            .hint(format!("known are {}", VERSIONS.join(", ")))
    })
}

fn plugin(config: Value, places: &Places) -> Result<Plugin> {
    let Value::Object(config) = config else {
        return Err(Error::new("an object is wanted"));
    };
    let kind = config
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let program = program(kind, places).context(|| "type")?;
    // Only what has an address of its own from another plugin says which.
    let ipam = config.get("ipam").and_then(|ipam| ipam["type"].as_str());
    if let Some(ipam) = ipam.filter(|ipam| !ipam.is_empty()) {
        self::program(ipam, places).context(|| "ipam.type")?;
    }
    Ok(Plugin { program, config })
}

fn program(kind: &str, places: &Places) -> Result<PathBuf> {
    if kind.is_empty() || kind.starts_with('.') || kind.contains('/') {
        return Err(Error::new(format!("{kind:?} is no name of a plugin")));
    }
    let mut all = places.plugins.iter().map(|dir| dir.join(kind));
    all.find(|path| path.is_file()).ok_or_else(|| {
        let searched: Vec<_> = places.plugins.iter().map(|p| p.display().to_string()).collect();
        Error::new(format!("there is no plugin {kind:?} in {}", searched.join(", "))).hint(
            "the usual ones are Debian's package containernetworking-plugins; another place is told with --cni-path",
        )
    })
}

/// Files with these endings are configurations.
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let step = || format!("read {}", directory.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).context(step)? {
        let path = entry.context(step)?.path();
        let ending = path.extension().and_then(OsStr::to_str);
        if ending.is_some_and(|ending| ENDINGS.contains(&ending)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Value> {
    let step = || format!("read {}", path.display());
    let text = std::fs::read(path).context(step)?;
    serde_json::from_slice(&text).map_err(|e| Error::new(format!("{}: {e}", step())))
}

/// The first file that has this network, or any.
fn find_list(name: Option<&str>, directory: &Path) -> Result<(PathBuf, Value)> {
    let hint = "another place is told with --cni-netconfpath";
    let mut names = Vec::new();
    let mut unread = Vec::new();
    for path in files(directory).map_err(|e| e.hint(hint))? {
        match read(&path) {
            Ok(list) => {
                let its = list["name"].as_str().unwrap_or_default().to_owned();
                if name.is_none_or(|name| name == its) {
                    return Ok((path, list));
                }
                names.push(its);
            }
            Err(e) => unread.push(e),
        }
    }
    Error::all("no other file has it", unread)?;
    let error = Error::new(format!("there is none in {}", directory.display()));
    Err(match names.is_empty() {
        true => error.hint(hint),
        false => error.hint(format!("it has: {}", names.join(", "))),
    })
}

/// Plugins that others have put beside a list, in a directory that is called like the network.
fn beside(directory: &Path) -> Result<Vec<Value>> {
    match directory.is_dir() {
        true => files(directory)?
            .iter()
            .filter(|path| path.extension().is_some_and(|ending| ending == "conf"))
            .map(|path| read(path))
            .collect(),
        false => Ok(Vec::new()),
    }
}

/// The pod's addresses in a result: those of its own interface.
pub fn addresses(result: &Value) -> Vec<IpAddr> {
    let inside = |entry: &&Value| match entry["interface"].as_u64() {
        Some(index) => {
            let interface = usize::try_from(index)
                .ok()
                .map(|i| &result["interfaces"][i]);
            interface.is_some_and(|i| i["sandbox"].as_str().is_some_and(|s| !s.is_empty()))
        }
        None => true,
    };
    let list = result["ips"].as_array().into_iter().flatten();
    let listed = list.filter(inside).map(|entry| &entry["address"]);
    // Until 0.2.0 there was one of each.
    let old = [&result["ip4"]["ip"], &result["ip6"]["ip"]];
    let all = listed.chain(old).filter_map(|address| {
        let (address, _) = address.as_str()?.split_once('/')?;
        address.parse().ok()
    });
    super::one_of_each(all.collect())
}

/// What a result says of name servers.
pub fn dns(result: &Value) -> Dns {
    // As lenient as can be: a plugin may leave out or null anything.
    let list = |field: &str| -> Vec<String> {
        let values = result["dns"][field].as_array().into_iter().flatten();
        values
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect()
    };
    Dns {
        nameservers: list("nameservers"),
        domain: result["dns"]["domain"].as_str().unwrap_or_default().into(),
        search: list("search"),
        options: list("options"),
    }
}
