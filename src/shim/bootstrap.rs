//! The first words between containerd and `start`, which are others in each of its versions.
//!
//! | containerd | says on standard input | wants to hear |
//! | --- | --- | --- |
//! | 1.6 | the runtime's options, or nothing | the bare address |
//! | 1.7 to 2.2 | the same, and `MAX_SHIM_VERSION=2` in the environment | JSON, version 2 |
//! | 2.3 and later | `BootstrapParams` | JSON, version 3: then it executes `start` once for each pod |

use std::path::PathBuf;

use prost::Message;
use serde::Serialize;

use super::arguments::Arguments;
use super::options::Options;
use super::proto::Any;
use super::proto::bootstrap::Bootstrap;
use crate::error::{Error, Result};

/// What containerd has said.
#[derive(Debug)]
pub(super) struct Greeting {
    /// As far as they are told here. Those of a task come with Create, and are refused there if need be.
    pub(super) options: Options,
    /// Its socket for events.
    pub(super) events: PathBuf,
    /// Of the protocol, if it is not 1.6.
    version: Option<u32>,
}

impl Greeting {
    /// Understands it. `variable` reads the environment.
    pub(super) fn new(
        input: &[u8],
        arguments: &Arguments,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let bootstrap = Bootstrap::decode(input).ok().filter(|bootstrap| {
            bootstrap.instance_id == arguments.id && bootstrap.namespace == arguments.namespace
        });
        let known = |any: Any| Options::read(Some(&any)).ok();
        let (options, address, version) = match bootstrap {
            Some(bootstrap) => {
                let values = bootstrap.extensions.into_iter().filter_map(|e| e.value);
                let options = values
                    .filter_map(known)
                    .find(|found| *found != Options::default());
                (options, bootstrap.containerd_ttrpc_address, Some(3))
            }
            None => {
                let options = Any::decode(input).ok().and_then(known);
                let version = variable("MAX_SHIM_VERSION").map(|_| 2);
                (options, String::new(), version)
            }
        };
        let given = [address, variable("TTRPC_ADDRESS").unwrap_or_default()];
        let given = given.into_iter().find(|address| !address.is_empty());
        let events = given.unwrap_or_else(|| format!("{}.ttrpc", arguments.address));
        Self {
            options: options.unwrap_or_default(),
            events: events.trim_start_matches("unix://").into(),
            version,
        }
    }

    /// What containerd wants to hear of the address.
    ///
    /// # Errors
    /// Never, in fact.
    pub(super) fn answer(&self, address: &str) -> Result<String> {
        #[derive(Serialize)]
        struct Answer<'a> {
            version: u32,
            address: &'a str,
            protocol: &'static str,
        }
        let Some(version) = self.version else {
            return Ok(address.to_owned());
        };
        let answer = Answer {
            version,
            address,
            protocol: "ttrpc",
        };
        serde_json::to_string(&answer).map_err(|e| Error::new(format!("write as JSON: {e}")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::shim::arguments;
    use crate::shim::proto::bootstrap::Extension;
    use crate::shim::proto::options::RuncOptions;

    fn typed() -> Arguments {
        let line = "-namespace k8s.io -address /run/c.sock -id abc start";
        arguments::parse(line.split(' ').map(str::to_owned)).unwrap()
    }

    fn systemd() -> Any {
        let options = RuncOptions {
            systemd_cgroup: true,
            ..RuncOptions::default()
        };
        Any::of("containerd.runc.v1.Options", &options)
    }

    #[test]
    fn each_containerd_is_answered_in_its_own_way() {
        let nothing = |_: &str| None;
        let old = Greeting::new(&[], &typed(), nothing);
        assert_eq!(old.answer("unix:///x").unwrap(), "unix:///x");
        assert_eq!(old.events, Path::new("/run/c.sock.ttrpc"));

        let variable = |name: &str| match name {
            "MAX_SHIM_VERSION" => Some("2".to_owned()),
            _ => Some("/run/events".to_owned()),
        };
        let middle = Greeting::new(&systemd().encode_to_vec(), &typed(), variable);
        assert!(middle.options.systemd_cgroup);
        assert_eq!(middle.events, Path::new("/run/events"));
        assert!(
            middle
                .answer("unix:///x")
                .unwrap()
                .contains("\"version\":2")
        );

        let bootstrap = Bootstrap {
            instance_id: "abc".into(),
            namespace: "k8s.io".into(),
            containerd_ttrpc_address: "unix:///run/new".into(),
            extensions: vec![Extension {
                value: Some(systemd()),
            }],
        };
        let new = Greeting::new(&bootstrap.encode_to_vec(), &typed(), variable);
        assert!(new.options.systemd_cgroup);
        assert_eq!(new.events, Path::new("/run/new"));
        assert!(new.answer("unix:///x").unwrap().contains("\"version\":3"));
    }

    #[test]
    fn an_option_is_not_taken_for_a_greeting() {
        // An `Any` has a string first, too.
        let any = Any {
            type_url: "abc".into(),
            value: b"other".to_vec(),
        };
        let greeting = Greeting::new(&any.encode_to_vec(), &typed(), |_| None);
        assert_eq!(greeting.version, None);
    }
}
