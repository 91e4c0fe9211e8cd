//! Sets limits, all or none, and reads each of them back.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::layout::Placed;
use super::limits::setting::{Absent, Expect, Setting, numbers};
use super::limits::{Bound, Limits};
use super::{Cgroup, file};
use crate::error::{Context, Error, Result};

/// What a file said before it was written.
struct Before<'a> {
    limit: &'a Placed,
    /// The one that this kernel has.
    setting: &'a Setting,
    path: PathBuf,
    said: String,
}

impl Cgroup {
    /// Changes limits of a cgroup in use, and does `then`. `limits` are all that it has: a period without its quota means
    /// no quota.
    ///
    /// # Errors
    /// As [`super::Layout::create`], and those of `then`; in either case all limits are what they were.
    pub fn set(&self, limits: &Limits, then: impl FnOnce() -> Result<()>) -> Result<()> {
        let step = || format!("set limits of cgroup {}", self.path.display());
        let placed = self.layout.place(limits).context(step)?;
        self.enable(&placed).context(step)?;
        let before = self.read_before(&placed).context(step)?;
        self.apply(limits, &placed)
            .and_then(|()| then())
            .map_err(|e| e.and_cleanup(go_back(&before)).step(step()))
    }

    /// Enables the controllers that the limits need, and sets the limits.
    pub(super) fn apply(&self, limits: &Limits, placed: &[Placed]) -> Result<()> {
        self.enable(placed)?;
        if limits.memory.check_before_update {
            self.refuse_below_usage(limits)?;
        }
        in_any_order(placed.iter().collect(), |limit| self.set_one(limit))
    }

    fn set_one(&self, limit: &Placed) -> Result<()> {
        let dir = self.dir(limit.hierarchy);
        let mut setting = &limit.setting;
        loop {
            let path = dir.join(&setting.file);
            match (set(&path, setting), &setting.absent) {
                (Err(Errno::NOENT), Absent::Skip) => return Ok(()),
                (Err(Errno::NOENT), Absent::Instead(other)) => setting = other,
                (Err(e), _) => {
                    let value = &setting.value;
                    let what = format!("{}: write {value:?} to {}", limit.field, path.display());
                    return Err(explain(Error::sys(what, e), e));
                }
                (Ok(is), _) if !setting.expect.is_met_by(&is) => {
                    return Err(Error::new(format!(
                        "{}: the kernel made {is:?} of {:?} in {}",
                        limit.field,
                        setting.value,
                        path.display()
                    )));
                }
                (Ok(_), _) => return check_effective(limit, setting, &path),
            }
        }
    }

    fn read_before<'a>(&self, placed: &'a [Placed]) -> Result<Vec<Before<'a>>> {
        let mut all = Vec::new();
        for limit in placed {
            let dir = self.dir(limit.hierarchy);
            let mut setting = &limit.setting;
            loop {
                let path = dir.join(&setting.file);
                match (file::read(&path), &setting.absent) {
                    (Err(Errno::NOENT), Absent::Instead(other)) => setting = other,
                    // Setting it will tell.
                    (Err(Errno::NOENT), _) => break,
                    (Err(e), _) => return Err(Error::sys(format!("read {}", path.display()), e)),
                    (Ok(said), _) => {
                        all.push(Before {
                            limit,
                            setting,
                            path,
                            said,
                        });
                        break;
                    }
                }
            }
        }
        Ok(all)
    }

    fn refuse_below_usage(&self, limits: &Limits) -> Result<()> {
        let Some(Bound::At(limit)) = limits.memory.limit else {
            return Ok(());
        };
        let hierarchy = self.layout.v1_with("memory");
        let name = match hierarchy {
            Some(_) => "memory.usage_in_bytes",
            None => "memory.current",
        };
        let path = self.dir(hierarchy).join(name);
        let usage = file::read(&path).context(|| format!("read {}", path.display()))?;
        if usage.parse::<u64>().is_ok_and(|usage| usage > limit) {
            return Err(Error::new(format!(
                "{}.memory.limit: {limit}: less than the {usage} bytes in use",
                limits.field
            ))
            .hint("checkBeforeUpdate asks to refuse this"));
        }
        Ok(())
    }
}

/// The kernel checks some limits against the old value of another (memory against memory with swap, quota against period
/// and burst): which one can go first depends on where they come from. So those that are refused are tried again after the
/// others, for as long as that helps.
fn in_any_order<'a, T>(mut all: Vec<&'a T>, set: impl Fn(&'a T) -> Result<()>) -> Result<()> {
    loop {
        let mut refused = Vec::new();
        for one in &all {
            match set(one) {
                Err(e) if e.errno() == Some(libc::EINVAL) => refused.push((*one, e)),
                result => result?,
            }
        }
        match refused.first() {
            None => return Ok(()),
            Some((_, error)) if refused.len() == all.len() => return Err(error.clone()),
            Some(_) => all = refused.into_iter().map(|(one, _)| one).collect(),
        }
    }
}

/// Writes one limit, and returns what the file says then.
fn set(path: &Path, setting: &Setting) -> std::result::Result<String, Errno> {
    match setting.expect {
        Expect::Anything => file::write(path, &setting.value).map(|()| String::new()),
        _ => file::write_and_read(path, &setting.value),
    }
}

/// Makes all files say what they said before.
fn go_back(before: &[Before<'_>]) -> Result<()> {
    in_any_order(before.iter().collect(), |before| {
        let step = || format!("{}: go back to {:?}", before.limit.field, before.said);
        if file::read(&before.path).context(step)? == before.said {
            return Ok(());
        }
        file::write(&before.path, &before.setting.back_to(&before.said)).context(step)
    })
}

/// A cpuset of v2 takes any list, and uses what of it the cgroups above have: none of it is all of theirs.
fn check_effective(limit: &Placed, setting: &Setting, path: &Path) -> Result<()> {
    let (Expect::Numbers(list), None) = (&setting.expect, limit.hierarchy) else {
        return Ok(());
    };
    let path = format!("{}.effective", path.display());
    let effective = file::read(&path).context(|| format!("read {path}"))?;
    match (numbers(list), numbers(&effective)) {
        (Some(wanted), Some(is)) if !wanted.is_subset(&is) => Err(Error::new(format!(
            "{}: {list:?}: not all of these are to be had",
            limit.field
        ))
        .hint(format!("{path} has {effective:?}"))),
        _ => Ok(()),
    }
}

fn explain(error: Error, errno: Errno) -> Error {
    match errno {
        Errno::NOENT => error.hint("this kernel does not have this limit"),
        Errno::BUSY => error.hint("it is below what is in use now"),
        Errno::INVAL | Errno::ACCESS | Errno::RANGE => {
            error.hint("not within what this machine and the cgroups above allow")
        }
        Errno::NODEV => error.hint("there is no such device: `lsblk` lists them"),
        Errno::OPNOTSUPP => error.hint("what this limit needs is not switched on in this kernel"),
        _ => error,
    }
}
