//! Which cgroup hierarchies are mounted, and where.

use std::path::{Path, PathBuf};

use super::group::Cgroup;
use super::limits::setting::{Form, Limit, Setting};
use super::{Limits, file, normal};
use crate::error::{Context, Error, Result};

const STANDARD: &str = "/sys/fs/cgroup";

/// What a v1 hierarchy can be made of: `/proc/cgroups`. Everything else among its mount options is not a controller.
const CONTROLLERS: [&str; 14] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "misc",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

/// The mounted hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Where v2 is mounted: alone, or beside v1 (hybrid).
    pub(super) v2: Option<PathBuf>,
    /// Empty on a pure v2 machine.
    pub(super) v1: Vec<Hierarchy>,
}

/// A v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub(super) mount_point: PathBuf,
    /// Which controllers: several if they are mounted together, none if it has a name.
    pub(super) controllers: Vec<String>,
    /// `name=systemd`: it only groups processes.
    pub(super) name: Option<String>,
}

/// A limit and the directory in which it is set: `None` for v2, else the index of the hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) hierarchy: Option<usize>,
    pub(super) field: String,
    pub(super) setting: Setting,
}

/// What a container's `/sys/fs/cgroup` looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// One mount of cgroup2.
    Unified {
        /// The container's cgroup on the host, to bind where it has no cgroup namespace of its own.
        source: PathBuf,
    },
    /// A tmpfs with these directories and symbolic links.
    Legacy {
        /// One per hierarchy.
        mounts: Vec<ViewMount>,
        /// `cpu` to `cpu,cpuacct`: name and target.
        links: Vec<(String, String)>,
    },
}

/// One mount in [`View::Legacy`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewMount {
    /// Its name in the tmpfs.
    pub directory: String,
    /// `cgroup`, or `cgroup2` for the hierarchy of a hybrid machine that has no controllers of v1.
    pub fstype: &'static str,
    /// What selects the hierarchy: `cpu`, or `name` with a value.
    pub options: Vec<(String, Option<String>)>,
    /// The container's cgroup on the host, to bind where it has no cgroup namespace of its own.
    pub source: PathBuf,
}

impl Layout {
    /// Looks at what is mounted: one system call on a pure v2 machine, the mount table on others.
    ///
    /// # Errors
    /// No hierarchy is mounted.
    pub fn detect() -> Result<Self> {
        let standard = rustix::fs::statfs(STANDARD);
        if standard.is_ok_and(|s| s.f_type == libc::CGROUP2_SUPER_MAGIC) {
            return Ok(Self {
                v2: Some(STANDARD.into()),
                v1: Vec::new(),
            });
        }
        let table = "/proc/self/mountinfo";
        let mounts = file::read_table(table).context(|| format!("read {table}"))?;
        let layout = Self::from_mountinfo(&mounts);
        if layout.v2.is_none() && layout.v1.is_empty() {
            return Err(Error::new("no cgroup hierarchy is mounted").hint(format!(
                "`mount -t cgroup2 none {STANDARD}` mounts the one of cgroup v2"
            )));
        }
        Ok(layout)
    }

    /// What a mount table says, proc_pid_mountinfo(5). A hierarchy that is mounted twice counts where it is first.
    pub fn from_mountinfo(text: &str) -> Self {
        let mut layout = Self {
            v2: None,
            v1: Vec::new(),
        };
        for line in text.lines() {
            let Some((mount, file_system)) = line.split_once(" - ") else {
                continue;
            };
            let mut file_system = file_system.split(' ');
            let fstype = file_system.next();
            let (Some(mount_point), Some(options)) = (mount.split(' ').nth(4), file_system.nth(1))
            else {
                continue;
            };
            let mount_point = PathBuf::from(unescaped(mount_point));
            match fstype {
                Some("cgroup2") if layout.v2.is_none() => layout.v2 = Some(mount_point),
                Some("cgroup") => {
                    let options = || options.split(',');
                    let hierarchy = Hierarchy {
                        mount_point,
                        controllers: options()
                            .filter(|o| CONTROLLERS.contains(o))
                            .map(str::to_owned)
                            .collect(),
                        name: options()
                            .find_map(|o| o.strip_prefix("name="))
                            .map(str::to_owned),
                    };
                    let known = layout.v1.iter().any(|h| {
                        h.controllers == hierarchy.controllers && h.name == hierarchy.name
                    });
                    if !known {
                        layout.v1.push(hierarchy);
                    }
                }
                _ => {}
            }
        }
        layout
    }

    /// No hierarchy: for a container without a cgroup of its own, whose user may make none. Its path is empty.
    pub fn none() -> Self {
        Self {
            v2: None,
            v1: Vec::new(),
        }
    }

    /// The cgroup at `path` as recorded in a state file: there may be all of it, a part, or nothing. An empty path is that
    /// of [`Self::none`].
    ///
    /// # Errors
    /// A path that leads elsewhere.
    pub fn open(&self, path: &Path) -> Result<Cgroup> {
        if path.as_os_str().is_empty() {
            return Ok(Cgroup {
                layout: Self::none(),
                path: PathBuf::new(),
                directory: None,
                unit: None,
            });
        }
        let cgroup = Cgroup {
            layout: self.clone(),
            path: normal(path).context(|| "open cgroup")?,
            directory: None,
            unit: None,
        };
        match cgroup.v2().map(|dir| file::open_dir(&dir)) {
            Some(Ok(directory)) => Ok(Cgroup {
                directory: Some(directory),
                ..cgroup
            }),
            None | Some(Err(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV)) => Ok(cgroup),
            Some(Err(e)) => Err(Error::sys(format!("open cgroup {}", path.display()), e)),
        }
    }

    /// What the `/sys/fs/cgroup` of a container in the cgroup `path` looks like.
    pub fn view(&self, path: &Path) -> View {
        if let (Some(v2), []) = (&self.v2, self.v1.as_slice()) {
            return View::Unified {
                source: below(v2, path),
            };
        }
        let mut mounts: Vec<ViewMount> = self.v1.iter().map(|h| h.view(path)).collect();
        let mut links = Vec::new();
        for hierarchy in self.v1.iter().filter(|h| h.controllers.len() > 1) {
            for controller in &hierarchy.controllers {
                links.push((controller.clone(), hierarchy.directory()));
            }
        }
        mounts.extend(self.v2.iter().map(|v2| ViewMount {
            directory: "unified".to_owned(),
            fstype: "cgroup2",
            options: Vec::new(),
            source: below(v2, path),
        }));
        View::Legacy { mounts, links }
    }

    /// The index of the v1 hierarchy that has this controller.
    pub(super) fn v1_with(&self, controller: &str) -> Option<usize> {
        self.v1
            .iter()
            .position(|h| h.controllers.iter().any(|c| c == controller))
    }

    /// Whether a hierarchy is mounted: the second field of a line in `/proc/<pid>/cgroup`, empty for v2.
    pub(super) fn has(&self, names: &str) -> bool {
        match names {
            "" => self.v2.is_some(),
            names => self.v1.iter().any(|hierarchy| hierarchy.is_named(names)),
        }
    }

    /// Decides for each limit where it is set, and how.
    pub(super) fn place(&self, limits: &Limits) -> Result<Vec<Placed>> {
        let mut placed = Vec::new();
        let mut errors = Vec::new();
        for limit in limits.table() {
            match self.place_one(&limit) {
                Ok((hierarchy, settings)) => placed.extend(settings.iter().map(|setting| Placed {
                    hierarchy,
                    field: limit.field.clone(),
                    setting: setting.clone(),
                })),
                Err(error) => errors.push(error),
            }
        }
        Error::all("cgroup", errors)?;
        Ok(placed)
    }

    fn place_one<'a>(&self, limit: &'a Limit) -> Result<(Option<usize>, &'a [Setting])> {
        let field = &limit.field;
        let impossible = |why: &str| {
            Err(Error::new(format!("{field}: {why}")).hint("leave it out on this machine"))
        };
        let v1 = match (&limit.v1, self.v1.is_empty()) {
            (_, true) => None,
            (Form::Impossible(why), false) => return impossible(why),
            (Form::Files(settings), false) => {
                let controller = &settings[0].controller;
                if let Some(hierarchy) = self.v1_with(controller) {
                    return Ok((Some(hierarchy), settings));
                }
                Some(controller)
            }
        };
        // On a hybrid machine the controllers that no v1 hierarchy has are with v2.
        match (&self.v2, &limit.v2, v1) {
            (Some(_), Form::Files(settings), _) => Ok((None, settings)),
            (_, _, Some(controller)) => Err(Error::new(format!(
                "{field}: the controller {controller} is not mounted"
            ))
            .hint(format!(
                "`mount -t cgroup -o {controller} none {STANDARD}/{controller}` if /proc/cgroups lists it"
            ))),
            (_, Form::Impossible(why), None) => impossible(why),
            (None, Form::Files(_), None) => impossible("no cgroup hierarchy is mounted"),
        }
    }
}

impl Hierarchy {
    /// Whether the second field of a line in `/proc/<pid>/cgroup` means it.
    pub(super) fn is_named(&self, names: &str) -> bool {
        names
            .split(',')
            .any(|name| match name.strip_prefix("name=") {
                Some(name) => self.name.as_deref() == Some(name),
                None => self.controllers.iter().any(|c| c == name),
            })
    }

    /// As distributions name its directory.
    fn directory(&self) -> String {
        match (&self.name, self.mount_point.file_name()) {
            (_, Some(name)) if self.mount_point.parent() == Some(Path::new(STANDARD)) => {
                name.to_string_lossy().into_owned()
            }
            (Some(name), _) if self.controllers.is_empty() => name.clone(),
            _ => self.controllers.join(","),
        }
    }

    fn view(&self, path: &Path) -> ViewMount {
        let name = self
            .name
            .clone()
            .map(|name| ("name".to_owned(), Some(name)));
        let controllers = self.controllers.iter().map(|c| (c.clone(), None));
        ViewMount {
            directory: self.directory(),
            fstype: "cgroup",
            options: controllers.chain(name).collect(),
            source: below(&self.mount_point, path),
        }
    }
}

/// A cgroup's directory.
pub(super) fn below(mount_point: &Path, path: &Path) -> PathBuf {
    mount_point.join(path.strip_prefix("/").unwrap_or(path))
}

/// Mount tables write space, tab, line break and backslash as three octal digits.
fn unescaped(field: &str) -> String {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    escapes
        .iter()
        .fold(field.to_owned(), |s, (code, c)| s.replace(code, c))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
35 31 0:31 / /mnt/pids\\040again rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";

    fn limits(json: &str) -> Limits {
        Limits::from_resources(&serde_json::from_str(json).unwrap(), "r", &mut Vec::new())
    }

    #[test]
    fn reads_the_mount_table() {
        let layout = Layout::from_mountinfo(HYBRID);
        assert_eq!(
            layout.v2.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified"))
        );
        assert_eq!(layout.v1.len(), 3);
        assert_eq!(layout.v1[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(layout.v1[2].name.as_deref(), Some("systemd"));
        assert_eq!(layout.v1[2].controllers, Vec::<String>::new());
    }

    #[test]
    fn shows_a_container_the_same_hierarchies() {
        let View::Legacy { mounts, links } =
            Layout::from_mountinfo(HYBRID).view(Path::new("/runp/c"))
        else {
            panic!("not legacy");
        };
        let directories: Vec<_> = mounts.iter().map(|m| m.directory.as_str()).collect();
        assert_eq!(directories, ["cpu,cpuacct", "pids", "systemd", "unified"]);
        assert_eq!(
            mounts[2].options,
            [("name".to_owned(), Some("systemd".to_owned()))]
        );
        assert_eq!(
            mounts[0].source,
            Path::new("/sys/fs/cgroup/cpu,cpuacct/runp/c")
        );
        assert_eq!(links[1], ("cpuacct".to_owned(), "cpu,cpuacct".to_owned()));
    }

    #[test]
    fn puts_each_limit_where_its_controller_is() {
        let layout = Layout::from_mountinfo(HYBRID);
        let placed = layout
            .place(&limits(
                r#"{"pids": {"limit": 5}, "hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}"#,
            ))
            .unwrap();
        assert_eq!(placed[0].hierarchy, Some(1));
        assert_eq!(placed[1].hierarchy, None);
        assert_eq!(placed[1].setting.file, "hugetlb.2MB.max");
    }

    #[test]
    fn refuses_what_the_machine_cannot_do() {
        let pure = Layout {
            v2: Some(STANDARD.into()),
            v1: Vec::new(),
        };
        let mut only_v1 = Layout::from_mountinfo(HYBRID);
        only_v1.v2 = None;
        let hybrid = Layout::from_mountinfo(HYBRID);
        let table = [
            (
                &pure,
                r#"{"memory": {"swappiness": 5}}"#,
                "cgroup: r.memory.swappiness: cgroup v2 has no such limit",
            ),
            (
                &hybrid,
                r#"{"unified": {"memory.high": "1"}}"#,
                "cgroup: r.unified.memory.high: only a pure cgroup v2",
            ),
            (
                &hybrid,
                r#"{"network": {"classID": 1}}"#,
                "cgroup: r.network.classID: the controller net_cls is not mounted",
            ),
            (
                &only_v1,
                r#"{"memory": {"limit": 4096}}"#,
                "cgroup: r.memory.limit: the controller memory is not mounted",
            ),
        ];
        for (layout, json, start) in table {
            let error = layout.place(&limits(json)).unwrap_err().to_string();
            assert!(error.starts_with(start), "{json}: {error}");
        }
    }
}
