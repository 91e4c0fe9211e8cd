//! An object of Kubernetes as a user gives it. Its status is the cluster's to say, so it is not looked into: the code that
//! would read the types of it is large.

use std::fmt;

use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, LocalVolumeSource, PersistentVolumeClaimSpec, Pod, PodSpec, PodStatus,
    ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// An object, whose kind is known.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object<S> {
    #[serde(rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(rename = "kind")]
    _kind: Option<String>,
    pub(super) metadata: Option<ObjectMeta>,
    pub(super) spec: Option<S>,
    status: Option<serde_json::Value>,
}

pub(super) type PersistentVolume = Object<PersistentVolumeSpec>;
pub(super) type PersistentVolumeClaim = Object<PersistentVolumeClaimSpec>;
pub(super) type Service = Object<ServiceSpec>;

impl<S> Object<S> {
    /// Its name, or nothing.
    pub(super) fn name(&mut self) -> String {
        let metadata = self.metadata.as_mut();
        metadata.and_then(|m| m.name.take()).unwrap_or_default()
    }
}

impl From<Object<PodSpec>> for Pod {
    fn from(object: Object<PodSpec>) -> Self {
        Self {
            metadata: object.metadata.unwrap_or_default(),
            spec: object.spec,
            status: object.status.map(|_| PodStatus::default()),
        }
    }
}

/// Of a PersistentVolumeSpec, what can be on one machine; the rest is known by name.
#[derive(Default)]
pub(super) struct PersistentVolumeSpec {
    pub(super) host_path: Option<HostPathVolumeSource>,
    pub(super) local: Option<LocalVolumeSource>,
}

impl PersistentVolumeSpec {
    const FIELDS: [&str; 31] = [
        "accessModes",
        "awsElasticBlockStore",
        "azureDisk",
        "azureFile",
        "capacity",
        "cephfs",
        "cinder",
        "claimRef",
        "csi",
        "fc",
        "flexVolume",
        "flocker",
        "gcePersistentDisk",
        "glusterfs",
        "hostPath",
        "iscsi",
        "local",
        "mountOptions",
        "nfs",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "photonPersistentDisk",
        "portworxVolume",
        "quobyte",
        "rbd",
        "scaleIO",
        "storageClassName",
        "storageos",
        "volumeAttributesClassName",
        "volumeMode",
        "vsphereVolume",
    ];
}

impl<'de> Deserialize<'de> for PersistentVolumeSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = PersistentVolumeSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("PersistentVolumeSpec")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut spec = PersistentVolumeSpec::default();
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "hostPath" => spec.host_path = map.next_value()?,
                        "local" => spec.local = map.next_value()?,
                        _ => drop(map.next_value::<serde_json::Value>()?),
                    }
                }
                Ok(spec)
            }
        }

        let fields = &PersistentVolumeSpec::FIELDS;
        deserializer.deserialize_struct("PersistentVolumeSpec", fields, Fields)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// k8s-openapi's own type knows the same fields.
    #[test]
    fn all_fields_of_a_persistent_volume_are_known() {
        struct Asked(Vec<&'static str>);

        impl<'de> Deserializer<'de> for &mut Asked {
            type Error = serde::de::value::Error;

            fn deserialize_struct<V: Visitor<'de>>(
                self,
                _: &'static str,
                fields: &'static [&'static str],
                visitor: V,
            ) -> Result<V::Value, Self::Error> {
                self.0 = fields.to_vec();
                visitor.visit_map(serde::de::value::MapDeserializer::new(std::iter::empty::<(
                    &str,
                    &str,
                )>()))
            }

            fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
                unreachable!()
            }

            serde::forward_to_deserialize_any! {
                bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
                newtype_struct seq tuple tuple_struct map enum identifier ignored_any
            }
        }

        let mut asked = Asked(Vec::new());
        k8s_openapi::api::core::v1::PersistentVolumeSpec::deserialize(&mut asked).unwrap();
        assert_eq!(asked.0, PersistentVolumeSpec::FIELDS);
    }
}
