//! Tells the kernel which devices a cgroup may use: by a list on v1, by a program on v2.

use std::path::{Path, PathBuf};

use super::{Rules, legacy, program};
use crate::cgroup::layout::below;
use crate::cgroup::{Cgroup, Layout, file};
use crate::error::{Context, Error, Result};
use crate::sys::bpf;

/// What the kernel is told, ready to be told.
pub(in crate::cgroup) enum Told {
    /// Nothing: a new cgroup may use whatever the ones above may.
    Nothing,
    Lines(PathBuf, Vec<legacy::Line>),
    Program(Vec<program::Instruction>),
}

impl Told {
    pub(in crate::cgroup) fn plan(layout: &Layout, path: &Path, rules: &Rules) -> Result<Self> {
        if let Some(index) = layout.v1_with("devices") {
            let lines = legacy::lines(rules).context(|| "linux.resources.devices".to_owned())?;
            let dir = below(&layout.v1[index].mount_point, path);
            return Ok(Self::Lines(dir, lines));
        }
        match (program::program(rules), &layout.v2) {
            (None, _) => Ok(Self::Nothing),
            (Some(program), Some(_)) => Ok(Self::Program(program)),
            (Some(_), None) => Err(Error::new(
                "linux.resources.devices: the controller devices is not mounted",
            )
            .hint("devices cannot be denied without it: mount it, or use cgroup v2")),
        }
    }

    /// Tells it of a new cgroup.
    pub(in crate::cgroup) fn tell(&self, cgroup: &Cgroup) -> Result<()> {
        match (self, &cgroup.directory) {
            (Self::Nothing, _) => Ok(()),
            (Self::Lines(dir, lines), _) => write_lines(dir, lines),
            (Self::Program(program), Some(dir)) => bpf::attach_device_program(dir, program),
            (Self::Program(_), None) => Err(Error::new("attach the device program: no cgroup v2")),
        }
    }
}

impl Cgroup {
    /// Replaces the device rules of a cgroup in use.
    ///
    /// # Errors
    /// Rules that v1 cannot express, and the kernel's.
    pub fn set_devices(&self, rules: &Rules) -> Result<()> {
        match (
            Told::plan(&self.layout, &self.path, rules)?,
            &self.directory,
        ) {
            // Of a cgroup that denies something: all of it is allowed now.
            (Told::Lines(dir, lines), _) if lines.is_empty() => {
                write_lines(&dir, &[("devices.allow", "a".to_owned())])
            }
            (Told::Lines(dir, lines), _) => write_lines(&dir, &lines),
            (Told::Nothing, Some(dir)) => bpf::replace_device_program(dir, None),
            (Told::Program(program), Some(dir)) => bpf::replace_device_program(dir, Some(&program)),
            (Told::Nothing | Told::Program(_), None) => {
                Err(Error::new("replace the device program: no cgroup v2"))
            }
        }
    }
}

impl Layout {
    /// Has the kernel check and translate what the next cgroup with these rules is told: that takes it long.
    ///
    /// # Errors
    /// As [`Cgroup::set_devices`].
    pub(in crate::cgroup) fn load_devices(&self, rules: &Rules) -> Result<()> {
        match Told::plan(self, Path::new(""), rules)? {
            Told::Program(program) => bpf::load_device_program(&program),
            Told::Nothing | Told::Lines(..) => Ok(()),
        }
    }
}

fn write_lines(dir: &Path, lines: &[legacy::Line]) -> Result<()> {
    for group in lines.chunk_by(|(a, _), (b, _)| a == b) {
        let path = dir.join(group[0].0);
        file::write_lines(&path, group.iter().map(|(_, line)| line.as_str())).map_err(
            |(line, e)| {
                Error::sys(format!("write {line:?} to {}", path.display()), e)
                    .hint("a cgroup above may deny this device")
            },
        )?;
    }
    Ok(())
}
