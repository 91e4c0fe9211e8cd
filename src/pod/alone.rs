//! What only one pod can have at a time: users of its own, and ports of the host.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::network;
use super::plan::IDS;
use super::store::{PodName, Pods, Record};
use crate::error::{Error, Result};

impl Pods {
    /// The records of all pods that can be read, but for one: to close a file of a pod whose lock this process holds would
    /// give the lock back, fcntl(2).
    fn records(&self, but: Option<&PodName>) -> impl Iterator<Item = (PodName, Record)> {
        let mut names = self.names().unwrap_or_default();
        names.retain(|name| Some(name) != but);
        names.into_iter().filter_map(|name| {
            let record = self.open(&name).ok()?.read().ok()??;
            Some((name, record))
        })
    }

    /// The first id of a range that no pod has. Above those of systemd's containers and of subuid(5), below the highest
    /// that some programs take. Who asks at the same time for another pod, `uid`, is hardly told the same: see
    /// [`Pods::check_alone`].
    pub fn free_ids(&self, uid: &str) -> u32 {
        let records = self.records(None);
        let taken: Vec<u32> = records.filter_map(|(_, record)| record.ids).collect();
        let ranges: Vec<u32> = (0x7000_0000..0x7fff_0000).step_by(IDS as usize).collect();
        let mut hasher = DefaultHasher::new();
        uid.hash(&mut hasher);
        let start = hasher.finish() as usize % ranges.len();
        let mut ranges = ranges.iter().cycle().skip(start).take(ranges.len());
        let free = ranges.find(|first| !taken.contains(first));
        free.copied().unwrap_or(0x7000_0000)
    }

    /// Makes sure that what only one pod can have at a time is no other pod's: its users, and ports of the host.
    ///
    /// # Errors
    /// With the other pod's name.
    pub fn check_alone(&self, name: &PodName, record: &Record) -> Result<()> {
        let ports = |record: &Record| match record.network.is_attached() {
            true => record.manifest.spec.as_ref().map(network::ports),
            false => None,
        };
        let own = ports(record).unwrap_or_default();
        if record.ids.is_none() && own.is_empty() {
            return Ok(());
        }
        for (other, its) in self.records(Some(name)) {
            if record.ids.is_some() && record.ids == its.ids {
                let what = format!("pod {other} is being made with the same users: try again");
                return Err(Error::new(what));
            }
            // Of a pod that is over nothing leads anywhere.
            let over = its.attachment.as_ref().is_some_and(|made| !made.live);
            let taken = ports(&its).filter(|_| !over).unwrap_or_default();
            let clash = own
                .iter()
                .find(|port| taken.iter().any(|t| t.clashes(port)));
            if let Some(port) = clash {
                return Err(Error::new(format!(
                    "port {}/{} of the host leads into pod {other}",
                    port.host, port.protocol
                ))
                .hint("choose another hostPort"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use k8s_openapi::api::core::v1::Pod;

    use super::super::network::{Attachment, Network};
    use super::super::store::tests::{pods, record};
    use super::*;

    #[test]
    fn no_two_pods_have_the_same_users_or_ports() {
        let dir = tempfile::tempdir().unwrap();
        let pods = pods(&dir);
        let ids = pods.free_ids("a");
        assert_eq!(pods.free_ids("a"), ids, "it goes by the pod");
        assert_ne!(pods.free_ids("b"), ids);
        let with = |ids, port: serde_json::Value| Record {
            ids,
            network: Network::Pasta {
                program: "pasta".into(),
            },
            manifest: Pod {
                spec: serde_json::from_value(
                    serde_json::json!({"containers": [{"name": "c", "ports": [port]}]}),
                )
                .unwrap(),
                ..Pod::default()
            },
            ..record()
        };
        let port = |port: u16, ip: &str| serde_json::json!({"containerPort": 80, "hostPort": port, "hostIP": ip, "protocol": "TCP"});
        let first = pods
            .create(
                &"a".parse().unwrap(),
                &with(Some(ids), port(80, "127.0.0.1")),
            )
            .unwrap();
        assert_ne!(pods.free_ids("a"), ids);
        for (other, why) in [
            (
                with(Some(ids), port(81, "")),
                "pod a is being made with the same users",
            ),
            (
                with(None, port(80, "")),
                "port 80/TCP of the host leads into pod a",
            ),
            (with(None, port(80, "127.0.0.1")), "port 80/TCP"),
        ] {
            let error = pods
                .create(&"b".parse().unwrap(), &other)
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{error}");
            assert_eq!(pods.names().unwrap().len(), 1, "nothing is left of it");
        }
        let fine = with(None, port(80, "127.0.0.2"));
        pods.create(&"b".parse().unwrap(), &fine)
            .unwrap()
            .remove()
            .unwrap();
        // One that is over has given it back.
        let mut over = with(None, port(80, ""));
        over.attachment = Some(Attachment::default());
        first.write(&over).unwrap();
        pods.create(&"b".parse().unwrap(), &with(None, port(80, "")))
            .unwrap();
    }
}
