//! Mount options: one table, each row with its meaning.

use std::ffi::CString;

use libc::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_RELATIME, MOUNT_ATTR_STRICTATIME,
};

use super::field::Field;
use super::plan::{Attributes, Propagation};

/// What an option does.
#[derive(Clone, Copy)]
enum Meaning {
    /// Sets an attribute of the mount.
    Set(u64),
    /// Clears an attribute of the mount.
    Clear(u64),
    /// When access times are written; one of several values of `MOUNT_ATTR__ATIME`.
    Atime(u64),
    /// As `Set`, for all mounts below too.
    SetAll(u64),
    /// As `Clear`, for all mounts below too.
    ClearAll(u64),
    /// As `Atime`, for all mounts below too.
    AtimeAll(u64),
    /// mount_namespaces(7); true: for all mounts below too.
    Propagate(Propagation, bool),
    /// Sets a flag of the superblock, by its name for fsconfig(2).
    Flag(&'static str),
    /// Takes such a flag back.
    NoFlag(&'static str),
    /// Makes it a bind mount; true: with all mounts below. Read by [`bind`].
    Bind,
    /// Changes what is mounted there already. Read by [`is_remount`].
    Remount,
    /// An id-mapped mount; true: with all mounts below.
    IdMap(bool),
    /// A tmpfs begins with the files that it covers.
    CopyUp,
    /// Changes nothing on any kernel that we run on.
    Nothing,
}
use Meaning::*;

/// mount(8), "FILESYSTEM-INDEPENDENT MOUNT OPTIONS", and runtime-spec, config.md, "Linux mount options".
const OPTIONS: &[(&str, Meaning)] = &[
    ("bind", Bind),
    ("rbind", Bind),
    ("defaults", Nothing),
    // Attributes of the mount, mount_setattr(2).
    ("ro", Set(MOUNT_ATTR_RDONLY)),
    ("rw", Clear(MOUNT_ATTR_RDONLY)),
    ("nosuid", Set(MOUNT_ATTR_NOSUID)),
    ("suid", Clear(MOUNT_ATTR_NOSUID)),
    ("nodev", Set(MOUNT_ATTR_NODEV)),
    ("dev", Clear(MOUNT_ATTR_NODEV)),
    ("noexec", Set(MOUNT_ATTR_NOEXEC)),
    ("exec", Clear(MOUNT_ATTR_NOEXEC)),
    ("nodiratime", Set(MOUNT_ATTR_NODIRATIME)),
    ("diratime", Clear(MOUNT_ATTR_NODIRATIME)),
    ("nosymfollow", Set(MOUNT_ATTR_NOSYMFOLLOW)),
    ("symfollow", Clear(MOUNT_ATTR_NOSYMFOLLOW)),
    // relatime is what the kernel does unless told otherwise, since 2.6.30: to take another mode back is relatime, and
    // relatime cannot be taken back.
    ("noatime", Atime(MOUNT_ATTR_NOATIME)),
    ("atime", Atime(MOUNT_ATTR_RELATIME)),
    ("relatime", Atime(MOUNT_ATTR_RELATIME)),
    ("norelatime", Nothing),
    ("strictatime", Atime(MOUNT_ATTR_STRICTATIME)),
    ("nostrictatime", Atime(MOUNT_ATTR_RELATIME)),
    // The same with AT_RECURSIVE.
    ("rro", SetAll(MOUNT_ATTR_RDONLY)),
    ("rrw", ClearAll(MOUNT_ATTR_RDONLY)),
    ("rnosuid", SetAll(MOUNT_ATTR_NOSUID)),
    ("rsuid", ClearAll(MOUNT_ATTR_NOSUID)),
    ("rnodev", SetAll(MOUNT_ATTR_NODEV)),
    ("rdev", ClearAll(MOUNT_ATTR_NODEV)),
    ("rnoexec", SetAll(MOUNT_ATTR_NOEXEC)),
    ("rexec", ClearAll(MOUNT_ATTR_NOEXEC)),
    ("rnodiratime", SetAll(MOUNT_ATTR_NODIRATIME)),
    ("rdiratime", ClearAll(MOUNT_ATTR_NODIRATIME)),
    ("rnosymfollow", SetAll(MOUNT_ATTR_NOSYMFOLLOW)),
    ("rsymfollow", ClearAll(MOUNT_ATTR_NOSYMFOLLOW)),
    ("rnoatime", AtimeAll(MOUNT_ATTR_NOATIME)),
    ("ratime", AtimeAll(MOUNT_ATTR_RELATIME)),
    ("rrelatime", AtimeAll(MOUNT_ATTR_RELATIME)),
    ("rnorelatime", Nothing),
    ("rstrictatime", AtimeAll(MOUNT_ATTR_STRICTATIME)),
    ("rnostrictatime", AtimeAll(MOUNT_ATTR_RELATIME)),
    // Propagation.
    ("private", Propagate(Propagation::Private, false)),
    ("rprivate", Propagate(Propagation::Private, true)),
    ("slave", Propagate(Propagation::Slave, false)),
    ("rslave", Propagate(Propagation::Slave, true)),
    ("shared", Propagate(Propagation::Shared, false)),
    ("rshared", Propagate(Propagation::Shared, true)),
    ("unbindable", Propagate(Propagation::Unbindable, false)),
    ("runbindable", Propagate(Propagation::Unbindable, true)),
    // Flags of the superblock.
    ("sync", Flag("sync")),
    ("async", NoFlag("sync")),
    ("dirsync", Flag("dirsync")),
    ("lazytime", Flag("lazytime")),
    ("nolazytime", NoFlag("lazytime")),
    ("mand", Flag("mand")),
    ("nomand", NoFlag("mand")),
    // These have no name for fsconfig(2): they only quiet the kernel's log, and file systems that have an inode version
    // keep it always.
    ("silent", Nothing),
    ("loud", Nothing),
    ("iversion", Nothing),
    ("noiversion", Nothing),
    ("remount", Remount),
    // The runtime-spec's own.
    ("tmpcopyup", CopyUp),
    ("idmap", IdMap(false)),
    ("ridmap", IdMap(true)),
];

/// All options that every mount can have, in no order: `features` lists them.
pub fn names() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(name, _)| *name)
}

/// Which options a mount can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Those of mount(8), and what else the file system understands.
    Everything,
    /// Attributes and propagation; the file system behind has its superblock already. Carries what it is.
    Attributes(&'static str),
}

/// The options of one mount, told apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) attributes: Attributes,
    pub(crate) recursive_attributes: Attributes,
    pub(crate) propagation: Vec<(Propagation, bool)>,
    /// Whether it is id-mapped, and then whether with all mounts below.
    pub(crate) id_map: Option<bool>,
    pub(crate) copy_up: bool,
    /// Flags of the superblock, then what only the file system understands.
    pub(crate) parameters: Vec<(CString, Option<CString>)>,
}

/// Whether the options make it a bind mount, and then whether with all mounts below.
pub(crate) fn bind(options: &[String]) -> Option<bool> {
    let has = |name: &str| options.iter().any(|option| option == name);
    match (has("bind"), has("rbind")) {
        (_, true) => Some(true),
        (true, false) => Some(false),
        (false, false) => None,
    }
}

/// Whether the options change what is mounted already.
pub(crate) fn is_remount(options: &[String]) -> bool {
    options.iter().any(|option| option == "remount")
}

/// Tells the options apart; of contradicting ones the last counts, as in mount(8).
pub(crate) fn parse(options: &[String], takes: Takes, field: &mut Field<'_>) -> Options {
    let mut parsed = Options::default();
    let mut flags: Vec<&str> = Vec::new();
    for (index, option) in options.iter().enumerate() {
        let field = &mut field.item(index);
        let meaning = OPTIONS.iter().find(|(name, _)| name == option);
        match (meaning.map(|(_, meaning)| *meaning), takes) {
            (Some(Flag(_)), Takes::Attributes(what)) => field.refuse_and_hint(
                format_args!("option {option:?} belongs to a file system, {what} cannot change it"),
                "see mount(8)",
            ),
            (Some(Flag(name)), Takes::Everything) if !flags.contains(&name) => flags.push(name),
            (Some(NoFlag(name)), _) => flags.retain(|flag| *flag != name),
            (Some(meaning), _) => parsed.apply(meaning),
            (None, Takes::Attributes(what)) => field.refuse_and_hint(
                format_args!("unknown option {option:?} for {what}"),
                nearest(option),
            ),
            (None, Takes::Everything) => parsed.parameters.extend(parameter(option, field)),
        }
    }
    let flags = flags.into_iter().map(|flag| (field.c_string(flag), None));
    parsed.parameters.splice(0..0, flags);
    parsed
}

impl Options {
    fn apply(&mut self, meaning: Meaning) {
        match meaning {
            Set(bits) => self.attributes.set(bits),
            Clear(bits) => self.attributes.clear(bits),
            Atime(mode) => self.attributes.atime(mode),
            SetAll(bits) => self.recursive_attributes.set(bits),
            ClearAll(bits) => self.recursive_attributes.clear(bits),
            AtimeAll(mode) => self.recursive_attributes.atime(mode),
            Propagate(propagation, all) => self.propagation.push((propagation, all)),
            IdMap(all) => self.id_map = Some(all),
            CopyUp => self.copy_up = true,
            Flag(_) | NoFlag(_) | Bind | Remount | Nothing => {}
        }
    }
}

impl Attributes {
    fn set(&mut self, bits: u64) {
        self.set |= bits;
        self.clear &= !bits;
    }

    fn clear(&mut self, bits: u64) {
        self.clear |= bits;
        self.set &= !bits;
    }

    /// `MOUNT_ATTR__ATIME` is a number in three bits: the kernel refuses (EINVAL) to set one of its values without
    /// clearing all of them, and relatime is 0, which cannot be set but only be what is left.
    fn atime(&mut self, mode: u64) {
        self.clear(MOUNT_ATTR__ATIME);
        self.set |= mode;
    }
}

/// The longest key or value that fsconfig(2) takes, in bytes without its NUL.
const MAX_PARAMETER: usize = 255;

/// `key` or `key=value` for fsconfig(2). A value stays one string: overlayfs' `lowerdir=a:b` and tmpfs' `mpol=bind:0,1`
/// are the file system's to read.
fn parameter(option: &str, field: &mut Field<'_>) -> Vec<(CString, Option<CString>)> {
    let (key, value) = match option.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (option, None),
    };
    if key.is_empty() {
        field.refuse(format_args!("option {option:?} has no name"));
        return Vec::new();
    }
    if key.contains(',') {
        field.refuse_and_hint(
            format_args!("unknown option {option:?}"),
            "one option per element of the list",
        );
        return Vec::new();
    }
    if key == "lowerdir"
        && let Some(layers) = value.and_then(long_lowerdir)
    {
        let layer = |layer: String| (c"lowerdir+".into(), Some(field.c_string(layer)));
        return layers.into_iter().map(layer).collect();
    }
    if key.len().max(value.map_or(0, str::len)) > MAX_PARAMETER {
        field.refuse(format_args!(
            "option {key:.32?} is longer than the {MAX_PARAMETER} bytes that fsconfig(2) takes"
        ));
        return Vec::new();
    }
    let value = value.map(|value| field.c_string(value));
    vec![(field.c_string(key), value)]
}

/// The layers of an overlay whose list is too long for one parameter, to be given one by one (`lowerdir+`, Linux 6.7).
/// There a colon is a colon, and no `\:` any more. `None` if the list is short enough, or a layer is too long by itself.
fn long_lowerdir(list: &str) -> Option<Vec<String>> {
    if list.len() <= MAX_PARAMETER {
        return None;
    }
    let mut layers = vec![String::new()];
    let mut rest = list.chars();
    while let Some(c) = rest.next() {
        match c {
            ':' => layers.push(String::new()),
            '\\' => layers.last_mut()?.extend(rest.next()),
            c => layers.last_mut()?.push(c),
        }
    }
    let fits = |layer: &String| (1..=MAX_PARAMETER).contains(&layer.len());
    layers.iter().all(fits).then_some(layers)
}

/// What was probably meant.
fn nearest(option: &str) -> String {
    let similarity = |name: &str| strsim::jaro_winkler(name, option);
    let best = OPTIONS
        .iter()
        .map(|(name, _)| (similarity(name), *name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((similarity, name)) if similarity > 0.8 => {
            format!("did you mean {name:?}? see mount(8)")
        }
        _ => "see mount(8)".into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn parsed(options: &[&str], takes: Takes) -> (Options, Vec<String>) {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let mut errors = Vec::new();
        let parsed = parse(&options, takes, &mut Field::new("options", &mut errors));
        (parsed, errors.iter().map(ToString::to_string).collect())
    }

    fn fine(options: &[&str]) -> Options {
        let (parsed, errors) = parsed(options, Takes::Everything);
        assert!(errors.is_empty(), "{options:?}: {errors:?}");
        parsed
    }

    const BIND: Takes = Takes::Attributes("a bind mount");

    /// As the kernel does it: clear, then set. It refuses what is asserted here, mount_setattr(2).
    fn applied(before: u64, attributes: Attributes) -> u64 {
        let atime = MOUNT_ATTR__ATIME;
        assert!(
            attributes.set & atime == 0 || attributes.clear & atime == atime,
            "sets an atime mode without clearing the others: {attributes:x?}"
        );
        assert!([0, atime].contains(&(attributes.clear & atime)));
        (before & !attributes.clear) | attributes.set
    }

    #[test]
    fn every_attribute_has_its_bit() {
        for (option, before, after) in [
            ("ro", 0, 0x1),
            ("rw", 0x1, 0),
            ("nosuid", 0, 0x2),
            ("suid", 0x2, 0),
            ("nodev", 0, 0x4),
            ("dev", 0x4, 0),
            ("noexec", 0, 0x8),
            ("exec", 0x8, 0),
            ("noatime", 0x20, 0x10),
            ("atime", 0x10, 0),
            ("relatime", 0x10, 0),
            ("norelatime", 0, 0),
            ("strictatime", 0x10, 0x20),
            ("nostrictatime", 0x20, 0),
            ("nodiratime", 0x10, 0x90),
            ("diratime", 0x90, 0x10),
            ("nosymfollow", 0, 0x20_0000),
            ("symfollow", 0x20_0000, 0),
        ] {
            let alone = fine(&[option]);
            assert_eq!(applied(before, alone.attributes), after, "{option}");
            assert_eq!(alone.recursive_attributes, Attributes::default());
            let all = fine(&[&format!("r{option}")]);
            assert_eq!(
                applied(before, all.recursive_attributes),
                after,
                "r{option}"
            );
            assert_eq!(all.attributes, Attributes::default());
        }
    }

    #[test]
    fn of_contradicting_options_the_last_counts() {
        for (options, after) in [
            (["ro", "rw"], 0),
            (["rw", "ro"], 0x1),
            (["noatime", "strictatime"], 0x20),
            (["strictatime", "noatime"], 0x10),
            (["strictatime", "relatime"], 0),
            (["noatime", "norelatime"], 0x10),
        ] {
            assert_eq!(applied(0, fine(&options).attributes), after, "{options:?}");
        }
        assert!(fine(&["sync", "async"]).parameters.is_empty());
        assert_eq!(fine(&["async", "sync", "sync"]).parameters.len(), 1);
    }

    #[test]
    fn propagation_keeps_its_order() {
        assert_eq!(
            fine(&["rslave", "shared"]).propagation,
            [(Propagation::Slave, true), (Propagation::Shared, false)]
        );
        for option in ["private", "slave", "shared", "unbindable"] {
            let recursive = format!("r{option}");
            let [alone, all] = [option, &recursive].map(|o| fine(&[o]).propagation);
            assert_eq!((alone[0].0, false), alone[0]);
            assert_eq!((alone[0].0, true), all[0]);
        }
    }

    #[test]
    fn what_mount_does_not_know_is_for_the_file_system() {
        let options = fine(&[
            "lowerdir=/a:/b",
            "lazytime",
            "newinstance",
            "mpol=bind:0,1",
            "x=",
        ]);
        let text: Vec<String> = options
            .parameters
            .iter()
            .map(|(key, value)| format!("{key:?} {value:?}"))
            .collect();
        assert_eq!(
            text,
            [
                "\"lazytime\" None",
                "\"lowerdir\" Some(\"/a:/b\")",
                "\"newinstance\" None",
                "\"mpol\" Some(\"bind:0,1\")",
                "\"x\" Some(\"\")"
            ]
        );
    }

    #[test]
    fn harmless_options_do_nothing() {
        for takes in [BIND, Takes::Everything] {
            for option in [
                "defaults",
                "silent",
                "loud",
                "iversion",
                "noiversion",
                "async",
                "nomand",
                "nolazytime",
            ] {
                assert_eq!(
                    parsed(&[option], takes),
                    (Options::default(), vec![]),
                    "{option}"
                );
            }
        }
    }

    #[test]
    fn refusals_name_option_and_reason() {
        let long = format!("lowerdir={}", "x".repeat(256));
        for (option, takes, message) in [
            (
                "nosiud",
                BIND,
                "unknown option \"nosiud\" for a bind mount (did you mean \"nosuid\"? see mount(8))",
            ),
            (
                "size=1k",
                BIND,
                "unknown option \"size=1k\" for a bind mount (see mount(8))",
            ),
            (
                "sync",
                BIND,
                "option \"sync\" belongs to a file system, a bind mount cannot change it (see mount(8))",
            ),
            ("", Takes::Everything, "option \"\" has no name"),
            ("=1", Takes::Everything, "option \"=1\" has no name"),
            (
                "nosuid,ro",
                Takes::Everything,
                "unknown option \"nosuid,ro\" (one option per element of the list)",
            ),
            ("a=\0", Takes::Everything, "\"\\0\" contains a NUL byte"),
            (
                &long,
                Takes::Everything,
                "option \"lowerdir\" is longer than the 255 bytes that fsconfig(2) takes",
            ),
        ] {
            let (_, errors) = parsed(&["ro", option], takes);
            assert_eq!(errors, [format!("options[1]: {message}")]);
        }
    }

    #[test]
    fn the_layers_of_a_long_list_are_given_one_by_one() {
        let [a, b] = ["a", "b"].map(|name| name.repeat(200));
        let given = fine(&[&format!("lowerdir=/{a}:/{b}\\:c"), "upperdir=/u"]);
        let text: Vec<String> = given
            .parameters
            .iter()
            .map(|(key, value)| format!("{key:?} {value:?}"))
            .collect();
        assert_eq!(
            text,
            [
                format!("\"lowerdir+\" Some(\"/{a}\")"),
                format!("\"lowerdir+\" Some(\"/{b}:c\")"),
                "\"upperdir\" Some(\"/u\")".into(),
            ]
        );
    }

    #[test]
    fn every_option_of_the_runtime_spec_is_known() {
        // runtime-spec 1.3, config.md, "Linux mount options".
        let spec = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev \
            nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private \
            ratime rbind rdev rdiratime relatime remount rexec rnoatime rnodiratime rnoexec rnorelatime \
            rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid \
            rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable \
            idmap ridmap rnodev";
        let names: Vec<&str> = names().collect();
        for option in spec.split_whitespace() {
            assert!(names.contains(&option), "{option}");
        }
    }

    #[test]
    fn bind_is_recursive_if_any_option_says_so() {
        let bind = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(ToString::to_string).collect();
            super::bind(&options)
        };
        assert_eq!(bind(&["ro"]), None);
        assert_eq!(bind(&["ro", "bind"]), Some(false));
        assert_eq!(bind(&["rbind", "bind"]), Some(true));
    }
}
