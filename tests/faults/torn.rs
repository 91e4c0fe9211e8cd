//! Files of the state root that were cut off, or damaged: `list` shows the others, and `delete --force` removes all.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::world::{Running, World};
use crate::support::{Bundle, Need};

/// A container whose files are damaged, and another one beside it.
struct Two<'a> {
    world: &'a World,
    torn: &'a Bundle<'a>,
    other: &'a Bundle<'a>,
    running: Running<'a>,
}

impl Two<'_> {
    /// Makes the container, lets `damage` be done to one of its files, and looks.
    fn survive(&self, file: &str, what: &str, damage: impl Fn(Vec<u8>) -> Vec<u8>) {
        let what = format!("{file}, {what}");
        self.torn.create().ok();
        let path = self.file(file);
        let damaged = damage(fs::read(&path).unwrap());
        fs::write(&path, &damaged).unwrap();
        let what = format!("{what}: {}", String::from_utf8_lossy(&damaged));

        let list = self.world.case.run(["list", "--format", "json"]);
        let listed: Value =
            serde_json::from_str(&list.stdout).unwrap_or_else(|e| panic!("{what}: {e}: {list:#?}"));
        let is_other = |c: &&Value| c["id"] == self.other.id && c["status"] == "running";
        let others = listed.as_array().into_iter().flatten().filter(is_other);
        assert_eq!(others.count(), 1, "{what}: {list:#?}");

        let deleted = self.torn.delete_force();
        assert!(deleted.status.success(), "{what}: {deleted:#?}");
        self.running.is_alone(&what);
        let left = self.world.case.left_behind();
        let left: Vec<_> = left.iter().filter(|l| l.contains(&self.torn.id)).collect();
        assert!(left.is_empty(), "{what}: {left:#?}");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.world.case.state_root().join(&self.torn.id).join(name)
    }

    fn length(&self, file: &str) -> usize {
        self.torn.create().ok();
        let length = fs::read(self.file(file)).unwrap().len();
        self.torn.delete_force().ok();
        length
    }
}

/// The two, in the world of the test of this name.
fn two(test: &str, act: impl Fn(&Two<'_>)) {
    let Some(world) = World::of(test, &[Need::Runp]) else {
        return;
    };
    // A short record: every byte of it costs a container.
    let bundle = |name| {
        let c = world.case.bundle(name);
        c.args(&["/bin/sleep", "1000"])
            .with("/process/capabilities", json!({}))
            .with("/process/env", json!(["PATH=/bin"]))
    };
    let (torn, other) = (bundle("torn"), bundle("other"));
    act(&Two {
        running: Running::new(&other),
        world: &world,
        torn: &torn,
        other: &other,
    });
    world.delete(&other, "all");
}

fn cut_everywhere(test: &str, file: &str) {
    two(test, |two| {
        for length in 0..two.length(file) {
            two.survive(file, "cut", |mut text| {
                text.truncate(length);
                text
            });
        }
    });
}

fn flipped_everywhere(test: &str, file: &str) {
    two(test, |two| {
        for at in 0..two.length(file) {
            two.survive(file, "with a bit flipped", |mut text| {
                // One digit more or less in a number: the length is not always the same.
                if let Some(byte) = text.get_mut(at) {
                    *byte ^= 1;
                }
                text
            });
        }
    });
}

#[test]
fn a_record_cut_at_every_byte() {
    cut_everywhere("faults::torn::a_record_cut_at_every_byte", "state.json");
}

#[test]
fn an_intent_cut_at_every_byte() {
    cut_everywhere("faults::torn::an_intent_cut_at_every_byte", "intent.json");
}

#[test]
fn a_record_flipped_at_every_byte() {
    flipped_everywhere("faults::torn::a_record_flipped_at_every_byte", "state.json");
}

#[test]
fn an_intent_flipped_at_every_byte() {
    flipped_everywhere(
        "faults::torn::an_intent_flipped_at_every_byte",
        "intent.json",
    );
}

#[test]
fn other_damage() {
    two("faults::torn::other_damage", |two| {
        for file in ["state.json", "intent.json"] {
            two.survive(file, "NULs", |text| vec![0; text.len()]);
            two.survive(file, "NULs at the end", |mut text| {
                let half = text.len() / 2;
                text[half..].fill(0);
                text
            });
            two.survive(file, "noise", |text| {
                text.iter().map(|b| b ^ 0x5a).collect()
            });
            two.survive(file, "deep", |_| vec![b'['; 1 << 20]);
            two.survive(file, "of another version", |text| {
                let text = String::from_utf8(text).unwrap();
                text.replacen("\"version\":1", "\"version\":18446744073709551616", 1)
                    .into()
            });
            two.survive(file, "of the other", |text| {
                let text = String::from_utf8(text).unwrap();
                text.replace(&two.torn.id, &two.other.id).into()
            });
        }
    });
}
