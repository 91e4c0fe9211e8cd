//! Cgroups below a container's own, into which an exec can be put: `runp exec --cgroup`.

use std::path::{Path, PathBuf};

use super::{Cgroup, file, layout, normal};
use crate::error::{Context, Error, Result};

/// Which cgroups of those that exist below a container's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Below {
    /// The same path in all hierarchies.
    All(PathBuf),
    /// Of some v1 controllers; in the other hierarchies the container's own.
    Some(Vec<(String, PathBuf)>),
}

impl Below {
    /// As runc takes them: one `PATH`, or any number of `CONTROLLER[,CONTROLLER]:PATH`. `None` if there are none.
    ///
    /// # Errors
    /// With what is wrong with one of them.
    pub fn parse(given: &[String]) -> Result<Option<Self>> {
        let mut some: Vec<(String, PathBuf)> = Vec::new();
        for text in given {
            let refuse = |why: &str| Err(Error::new(format!("--cgroup {text:?}: {why}")));
            let Some((controllers, path)) = text.split_once(':') else {
                return match given {
                    [_] => Ok(Some(Self::All(below(text)?))),
                    _ => refuse("several need a controller each, CONTROLLER:PATH"),
                };
            };
            for controller in controllers.split(',') {
                if controller.is_empty() {
                    return refuse("the name of a controller is empty");
                }
                if some.iter().any(|(other, _)| other == controller) {
                    return refuse("a controller is there twice");
                }
                some.push((controller.into(), below(path)?));
            }
        }
        Ok((!some.is_empty()).then_some(Self::Some(some)))
    }
}

/// A path that stays below the container's cgroup.
fn below(path: &str) -> Result<PathBuf> {
    let normal = normal(Path::new(path)).context(|| "--cgroup")?;
    Ok(normal.strip_prefix("/").unwrap_or(&normal).into())
}

impl Cgroup {
    /// The cgroup of all hierarchies that an exec shall be in: this one, or one below.
    ///
    /// # Errors
    /// There is no such cgroup.
    pub fn at(self, below: Option<&Below>) -> Result<Self> {
        match below {
            Some(Below::All(path)) => {
                let cgroup = self.layout.open(&self.path.join(path))?;
                let missing = cgroup.mounted().find(|(_, dir)| !dir.exists());
                missing.map_or(Ok(()), |(_, dir)| Err(absent(&dir)))?;
                Ok(cgroup)
            }
            Some(Below::Some(paths)) => {
                for (controller, path) in paths {
                    let dir = self.v1_dir(controller, path)?;
                    if !dir.exists() {
                        return Err(absent(&dir));
                    }
                }
                Ok(self)
            }
            None => Ok(self),
        }
    }

    /// Moves the calling process, which has joined the cgroup, on into those below.
    ///
    /// # Errors
    /// The kernel's, with the file.
    pub fn join_below(&self, below: Option<&Below>) -> Result<()> {
        let Some(Below::Some(paths)) = below else {
            return Ok(());
        };
        for (controller, path) in paths {
            let tasks = self.v1_dir(controller, path)?.join("tasks");
            file::write(&tasks, "0").context(|| format!("write \"0\" to {}", tasks.display()))?;
        }
        Ok(())
    }

    fn v1_dir(&self, controller: &str, below: &Path) -> Result<PathBuf> {
        let Some(hierarchy) = self.layout.v1_with(controller) else {
            return Err(
                Error::new(format!("no v1 hierarchy has the controller {controller:?}"))
                    .hint("on cgroup v2 give --cgroup a path only"),
            );
        };
        let mount_point = &self.layout.v1[hierarchy].mount_point;
        Ok(layout::below(mount_point, &self.path.join(below)))
    }
}

fn absent(dir: &Path) -> Error {
    Error::new(format!("--cgroup: {} does not exist", dir.display()))
        .hint("an exec joins a cgroup that is there already")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parsed(given: &[&str]) -> Option<Below> {
        let given: Vec<_> = given.iter().map(|text| (*text).to_owned()).collect();
        Below::parse(&given).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn one_path_or_paths_of_controllers() {
        assert_eq!(parsed(&[]), None);
        assert_eq!(parsed(&["a//b/"]), Some(Below::All("a/b".into())));
        assert_eq!(parsed(&["/a"]), Some(Below::All("a".into())));
        assert_eq!(
            parsed(&["cpu,cpuacct:x", "memory:/y"]),
            Some(Below::Some(vec![
                ("cpu".into(), "x".into()),
                ("cpuacct".into(), "x".into()),
                ("memory".into(), "y".into()),
            ]))
        );
    }

    #[test]
    fn what_is_ambiguous_or_leads_out_is_refused() {
        for bad in [
            &["a", "b"][..],
            &["cpu:a", "b"],
            &["cpu:a", "cpu:b"],
            &[":a"],
            &["cpu,:a"],
            &["../a"],
            &["cpu:a/../../b"],
            &[""],
        ] {
            let given: Vec<_> = bad.iter().map(|text| (*text).to_owned()).collect();
            assert!(Below::parse(&given).is_err(), "{bad:?}");
        }
    }
}
