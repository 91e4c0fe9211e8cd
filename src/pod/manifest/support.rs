//! Every field that Kubernetes has: done, without effect here, or refused.
//!
//! Each type is taken apart without `..`, so that a field which a later Kubernetes adds does not compile until it is
//! decided what to do with it. `_` and used names are done, by the plan or by validation.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler,
    PersistentVolumeClaimSpec, Pod, PodSecurityContext, PodSpec, Probe, ResourceRequirements,
    SecurityContext, Volume, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use crate::pod::network::Network;
use crate::spec::tables;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Support {
    /// And why.
    refused: Vec<(String, String)>,
    /// Fields whose business is to choose or reserve a machine.
    ignored: Vec<String>,
    warnings: Vec<String>,
}

impl Support {
    /// The fields that are not done, by this version or with this network, and why.
    pub(super) fn refused(&self) -> &[(String, String)] {
        &self.refused
    }

    /// What has no effect.
    pub(super) fn warnings(self) -> Vec<String> {
        let mut warnings = self.warnings;
        if !self.ignored.is_empty() {
            let fields = self.ignored.join(", ");
            warnings.insert(0, format!("no meaning on one machine, ignored: {fields}"));
        }
        warnings
    }

    fn refuse(&mut self, path: &str, field: &str, value: &Option<impl Serialize>) {
        self.refuse_unless(path, field, !is_set(value));
    }

    fn refuse_unless(&mut self, path: &str, field: &str, harmless: bool) {
        if !harmless {
            let not_yet = concat!("not supported yet by runp ", env!("CARGO_PKG_VERSION"));
            self.refused
                .push((format!("{path}.{field}"), not_yet.to_owned()));
        }
    }

    /// In the API server's words.
    fn windows(&mut self, path: &str, options: &Option<impl Serialize>) {
        if is_set(options) {
            let why = "Forbidden: windows options cannot be set for a linux pod";
            self.refused
                .push((format!("{path}.windowsOptions"), why.to_owned()));
        }
    }

    fn ignore(&mut self, path: &str, field: &str, value: &Option<impl Serialize>) {
        if is_set(value) {
            self.ignored.push(format!("{path}.{field}"));
        }
    }

    fn warn(&mut self, when: bool, path: &str, field: &str, why: &str) {
        if when {
            self.warnings.push(format!("{path}.{field}: {why}"));
        }
    }
}

/// The API server drops empty lists and mappings.
fn is_set(value: &Option<impl Serialize>) -> bool {
    match value.as_ref().map(serde_json::to_value) {
        None => false,
        Some(Ok(serde_json::Value::Array(list))) => !list.is_empty(),
        Some(Ok(serde_json::Value::String(text))) => !text.is_empty(),
        Some(_) => true,
    }
}

/// Walks through the whole pod.
pub(super) fn check(pod: &Pod, network: &Network) -> Support {
    let mut support = Support::default();
    let Pod {
        metadata,
        spec,
        status,
    } = pod;
    support.metadata(metadata);
    if status.is_some() {
        let text = "status: ignored, it is runp that writes it";
        support.warnings.push(text.to_owned());
    }
    if let Some(spec) = spec {
        support.pod(spec);
        support.parts(spec);
        support.ports(spec, network);
    }
    support
}

impl Support {
    fn metadata(&mut self, metadata: &ObjectMeta) {
        let ObjectMeta {
            name: _,
            namespace: _,
            labels: _,
            annotations: _,
            generate_name: _,
            creation_timestamp,
            deletion_grace_period_seconds,
            deletion_timestamp,
            finalizers,
            generation,
            managed_fields,
            owner_references,
            resource_version,
            self_link,
            uid,
        } = metadata;
        let path = "metadata";
        self.ignore(path, "creationTimestamp", creation_timestamp);
        self.ignore(
            path,
            "deletionGracePeriodSeconds",
            deletion_grace_period_seconds,
        );
        self.ignore(path, "deletionTimestamp", deletion_timestamp);
        self.ignore(path, "finalizers", finalizers);
        self.ignore(path, "generation", generation);
        self.ignore(path, "managedFields", managed_fields);
        self.ignore(path, "ownerReferences", owner_references);
        self.ignore(path, "resourceVersion", resource_version);
        self.ignore(path, "selfLink", self_link);
        self.ignore(path, "uid", uid);
    }

    fn pod(&mut self, spec: &PodSpec) {
        let PodSpec {
            containers: _,
            init_containers: _,
            volumes: _,
            security_context: _,
            restart_policy: _,
            termination_grace_period_seconds: _,
            hostname: _,
            host_network: _,
            host_ipc: _,
            host_pid: _,
            share_process_namespace: _,
            enable_service_links: _,
            // There is no cluster: its DNS does not exist here.
            dns_policy: _,
            scheduler_name,
            active_deadline_seconds: _,
            affinity,
            automount_service_account_token,
            dns_config: _,
            ephemeral_containers: _, // forbidden by validation
            eviction_responders,
            host_aliases: _,
            host_users: _,
            hostname_override: _,
            image_pull_secrets,
            node_name,
            node_selector,
            os: _, // validated
            overhead: _,
            preemption_policy,
            priority,
            priority_class_name,
            readiness_gates,
            resource_claims,
            resources: _,
            runtime_class_name,
            scheduling_gates,
            scheduling_group,
            service_account,
            service_account_name,
            set_hostname_as_fqdn: _,
            subdomain: _,
            tolerations,
            topology_spread_constraints,
        } = spec;
        let path = "spec";
        self.refuse(path, "readinessGates", readiness_gates);
        self.refuse(path, "resourceClaims", resource_claims);

        self.ignore(path, "affinity", affinity);
        self.ignore(path, "evictionResponders", eviction_responders);
        self.ignore(path, "imagePullSecrets", image_pull_secrets);
        self.ignore(path, "nodeName", node_name);
        self.ignore(path, "nodeSelector", node_selector);
        self.ignore(path, "preemptionPolicy", preemption_policy);
        self.ignore(path, "priority", priority);
        self.ignore(path, "priorityClassName", priority_class_name);
        self.ignore(path, "runtimeClassName", runtime_class_name);
        let other = |field: &Option<String>, default| field.clone().filter(|f| f != default);
        self.ignore(
            path,
            "schedulerName",
            &other(scheduler_name, "default-scheduler"),
        );
        self.ignore(path, "schedulingGates", scheduling_gates);
        self.ignore(path, "schedulingGroup", scheduling_group);
        self.ignore(path, "serviceAccount", &other(service_account, "default"));
        self.ignore(
            path,
            "serviceAccountName",
            &other(service_account_name, "default"),
        );
        self.ignore(path, "tolerations", tolerations);
        self.ignore(
            path,
            "topologySpreadConstraints",
            topology_spread_constraints,
        );
        self.warn(
            *automount_service_account_token == Some(true),
            path,
            "automountServiceAccountToken",
            "there is no API server here and no token is mounted",
        );
    }

    fn parts(&mut self, spec: &PodSpec) {
        if let Some(context) = &spec.security_context {
            self.pod_security(context);
        }
        if let Some(resources) = &spec.resources {
            self.resources("spec.resources", resources);
        }
        for (index, volume) in spec.volumes.iter().flatten().enumerate() {
            self.volume(&format!("spec.volumes[{index}]"), volume);
        }
        for (index, container) in spec.init_containers.iter().flatten().enumerate() {
            self.container(&format!("spec.initContainers[{index}]"), container);
        }
        for (index, container) in spec.containers.iter().enumerate() {
            self.container(&format!("spec.containers[{index}]"), container);
        }
    }

    fn pod_security(&mut self, context: &PodSecurityContext) {
        let PodSecurityContext {
            run_as_user: _,
            run_as_group: _,
            run_as_non_root: _,
            supplemental_groups: _,
            app_armor_profile: _,
            fs_group: _,
            fs_group_change_policy: _,
            se_linux_change_policy: _,
            se_linux_options: _,
            seccomp_profile: _,
            supplemental_groups_policy: _,
            sysctls: _,
            windows_options,
        } = context;
        self.windows("spec.securityContext", windows_options);
    }

    fn volume(&mut self, path: &str, volume: &Volume) {
        let Volume {
            name: _,
            empty_dir: _,
            host_path: _,
            aws_elastic_block_store,
            azure_disk,
            azure_file,
            cephfs,
            cinder,
            config_map: _,
            csi,
            downward_api: _,
            ephemeral,
            fc,
            flex_volume,
            flocker,
            gce_persistent_disk,
            git_repo,
            glusterfs,
            image: _,
            iscsi,
            nfs,
            persistent_volume_claim: _,
            photon_persistent_disk,
            portworx_volume,
            projected,
            quobyte,
            rbd,
            scale_io,
            secret: _,
            storageos,
            vsphere_volume,
        } = volume;
        self.refuse(path, "awsElasticBlockStore", aws_elastic_block_store);
        self.refuse(path, "azureDisk", azure_disk);
        self.refuse(path, "azureFile", azure_file);
        self.refuse(path, "cephfs", cephfs);
        self.refuse(path, "cinder", cinder);
        self.refuse(path, "csi", csi);
        let template = ephemeral
            .as_ref()
            .and_then(|ephemeral| ephemeral.volume_claim_template.as_ref());
        if let Some(template) = template {
            let path = format!("{path}.ephemeral.volumeClaimTemplate.spec");
            self.claim_template(&path, &template.spec);
        }
        self.refuse(path, "fc", fc);
        self.refuse(path, "flexVolume", flex_volume);
        self.refuse(path, "flocker", flocker);
        self.refuse(path, "gcePersistentDisk", gce_persistent_disk);
        self.refuse(path, "gitRepo", git_repo);
        self.refuse(path, "glusterfs", glusterfs);
        self.refuse(path, "iscsi", iscsi);
        self.refuse(path, "nfs", nfs);
        self.refuse(path, "photonPersistentDisk", photon_persistent_disk);
        self.refuse(path, "portworxVolume", portworx_volume);
        let sources = projected.iter().flat_map(|p| p.sources.iter().flatten());
        for (index, source) in sources.enumerate() {
            self.projection(&format!("{path}.projected.sources[{index}]"), source);
        }
        self.refuse(path, "quobyte", quobyte);
        self.refuse(path, "rbd", rbd);
        self.refuse(path, "scaleIO", scale_io);
        self.refuse(path, "storageos", storageos);
        self.refuse(path, "vsphereVolume", vsphere_volume);
    }

    /// A directory of the pod's own, whatever its size.
    fn claim_template(&mut self, path: &str, spec: &PersistentVolumeClaimSpec) {
        let PersistentVolumeClaimSpec {
            access_modes: _,
            data_source,
            data_source_ref,
            resources: _,
            selector,
            storage_class_name,
            volume_attributes_class_name,
            volume_mode,
            volume_name,
        } = spec;
        self.refuse(path, "dataSource", data_source);
        self.refuse(path, "dataSourceRef", data_source_ref);
        self.ignore(path, "selector", selector);
        self.ignore(path, "storageClassName", storage_class_name);
        let attributes = volume_attributes_class_name;
        self.ignore(path, "volumeAttributesClassName", attributes);
        let is_directory = volume_mode
            .as_deref()
            .is_none_or(|mode| mode == "Filesystem");
        self.refuse_unless(path, "volumeMode", is_directory);
        self.refuse(path, "volumeName", volume_name);
    }

    fn container(&mut self, path: &str, container: &Container) {
        let Container {
            name: _,
            image: _,
            image_pull_policy: _, // images are local directories: nothing is pulled
            command: _,
            args: _,
            working_dir: _,
            env: _,
            env_from: _,
            lifecycle,
            liveness_probe,
            ports: _,
            readiness_probe,
            resize_policy: _,
            resources,
            restart_policy: _,
            restart_policy_rules: _,
            security_context,
            startup_probe,
            stdin: _,
            stdin_once: _,
            termination_message_path: _,
            termination_message_policy: _,
            tty: _,
            volume_devices,
            volume_mounts: _,
        } = container;
        if let Some(lifecycle) = lifecycle {
            self.lifecycle(&format!("{path}.lifecycle"), lifecycle);
        }
        let probes = [
            ("livenessProbe", liveness_probe),
            ("readinessProbe", readiness_probe),
            ("startupProbe", startup_probe),
        ];
        for (field, probe) in probes {
            if let Some(probe) = probe {
                self.probe(&format!("{path}.{field}"), probe);
            }
        }
        self.refuse(path, "volumeDevices", volume_devices);
        if let Some(resources) = resources {
            self.resources(&format!("{path}.resources"), resources);
        }
        if let Some(context) = security_context {
            self.security(&format!("{path}.securityContext"), context);
        }
    }

    fn lifecycle(&mut self, path: &str, lifecycle: &Lifecycle) {
        let Lifecycle {
            post_start,
            pre_stop,
            stop_signal,
        } = lifecycle;
        // The API server wants spec.os.name with it, for Windows has other signals.
        let signal = stop_signal.as_deref();
        self.refuse_unless(path, "stopSignal", signal.is_none_or(is_known_signal));
        for (field, hook) in [("postStart", post_start), ("preStop", pre_stop)] {
            if let Some(hook) = hook {
                let LifecycleHandler {
                    exec: _,
                    http_get,
                    sleep: _,
                    tcp_socket: _, // accepted, and it fails: as in Kubernetes
                } = hook;
                self.http_get(&format!("{path}.{field}.httpGet"), http_get.as_ref());
            }
        }
    }

    fn probe(&mut self, path: &str, probe: &Probe) {
        let Probe {
            exec: _,
            failure_threshold: _,
            grpc,
            http_get,
            initial_delay_seconds: _,
            period_seconds: _,
            success_threshold: _,
            tcp_socket: _,
            termination_grace_period_seconds: _,
            timeout_seconds: _,
        } = probe;
        self.http_get(&format!("{path}.httpGet"), http_get.as_ref());
        if let Some(GRPCAction {
            mode,
            port: _,
            service: _,
        }) = grpc
        {
            let plain = mode.as_deref().is_none_or(|mode| mode == "Plaintext");
            self.refuse_unless(&format!("{path}.grpc"), "mode", plain);
        }
    }

    fn http_get(&mut self, path: &str, get: Option<&HTTPGetAction>) {
        let Some(HTTPGetAction {
            host: _,
            http_headers: _,
            path: _,
            port: _,
            protocol,
            scheme: _,
        }) = get
        else {
            return;
        };
        self.refuse(path, "protocol", protocol);
    }

    /// Ports of the host must lead somewhere, and are those of containers that stay.
    fn ports(&mut self, spec: &PodSpec, network: &Network) {
        let inits = spec.init_containers.iter().flatten().enumerate();
        let inits = inits.map(|(i, c)| (format!("spec.initContainers[{i}]"), c));
        let apps = spec.containers.iter().enumerate();
        let apps = apps.map(|(i, c)| (format!("spec.containers[{i}]"), c));
        for (path, container) in inits.chain(apps) {
            let ends = path.starts_with("spec.init")
                && container.restart_policy.as_deref() != Some("Always");
            for (index, port) in container.ports.iter().flatten().enumerate() {
                let path = format!("{path}.ports[{index}]");
                self.port(&path, port, ends, network);
            }
        }
    }

    fn port(&mut self, path: &str, port: &ContainerPort, ends: bool, network: &Network) {
        let ContainerPort {
            container_port: _,
            host_ip,
            host_port,
            name: _,
            protocol,
        } = port;
        if host_port.unwrap_or(0) == 0 {
            return;
        }
        if ends {
            let why = "no effect in an init container, as with the kubelet";
            self.warn(*network != Network::Host, path, "hostPort", why);
            return;
        }
        if let Err(why) = network.check_ports(protocol.as_deref()) {
            self.refused.push((format!("{path}.hostPort"), why));
        }
        let is_host = *network == Network::Host && is_set(host_ip);
        self.warn(is_host, path, "hostIP", "no effect with the host's network");
    }

    /// What only an API server can give.
    fn projection(&mut self, path: &str, source: &VolumeProjection) {
        let VolumeProjection {
            config_map: _,
            downward_api: _,
            secret: _,
            cluster_trust_bundle,
            pod_certificate,
            service_account_token,
        } = source;
        self.refuse(path, "clusterTrustBundle", cluster_trust_bundle);
        self.refuse(path, "podCertificate", pod_certificate);
        self.refuse(path, "serviceAccountToken", service_account_token);
    }

    fn resources(&mut self, path: &str, resources: &ResourceRequirements) {
        let ResourceRequirements {
            claims,
            limits,
            requests,
        } = resources;
        self.refuse(path, "claims", claims);
        for (field, quantities) in [("limits", limits), ("requests", requests)] {
            for name in quantities.iter().flatten().map(|(name, _)| name.as_str()) {
                let field = format!("{field}[{name}]");
                match name {
                    "cpu" | "memory" => {}
                    name if name.starts_with("hugepages-") => {}
                    // A limit is: a container that has written more ends its pod.
                    "ephemeral-storage" => {}
                    _ => self.refuse_unless(path, &field, false),
                }
            }
        }
    }

    fn security(&mut self, path: &str, context: &SecurityContext) {
        let SecurityContext {
            allow_privilege_escalation: _,
            capabilities: _,
            privileged: _,
            read_only_root_filesystem: _,
            run_as_group: _,
            run_as_non_root: _,
            run_as_user: _,
            app_armor_profile: _,
            proc_mount: _,
            se_linux_options: _,
            seccomp_profile: _,
            windows_options,
        } = context;
        self.windows(path, windows_options);
    }
}

fn is_known_signal(name: &str) -> bool {
    tables::signal(name).is_some()
}
