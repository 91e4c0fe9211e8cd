//! What a container's directory may hold after anything happened to it: read without a panic, or refused with a hint.
#![no_main]

use std::cell::LazyCell;
use std::fs;

use libfuzzer_sys::fuzz_target;
use runp::security::seccomp::Filter;
use runp::state::{ContainerId, Store};
use tempfile::TempDir;

thread_local! {
    static ROOT: LazyCell<TempDir> = LazyCell::new(|| {
        let root = tempfile::tempdir_in("/dev/shm").expect("a directory in /dev/shm");
        fs::create_dir(root.path().join("c")).expect("a container's directory");
        root
    });
}

// The first byte says which file it is: the state, the intent, the filter, or a pod's journal.
fuzz_target!(|bytes: &[u8]| {
    let Some((&which, bytes)) = bytes.split_first() else {
        return;
    };
    match which % 4 {
        0 => record("state.json", bytes),
        1 => record("intent.json", bytes),
        2 => {
            if let Ok(filter) = Filter::from_bytes(bytes) {
                let again = filter.to_bytes().expect("what was read can be written");
                assert_eq!(Filter::from_bytes(&again).ok(), Some(filter));
            }
        }
        _ => drop(runp::pod::journal::parse(bytes)),
    }
});

fn record(name: &str, bytes: &[u8]) {
    ROOT.with(|root| {
        let file = root.path().join("c").join(name);
        fs::write(&file, bytes).expect("write the file");
        let id: ContainerId = "c".parse().expect("an id");
        let store = Store::new(root.path());
        assert_eq!(store.ids().expect("the list of containers"), [id.clone()]);
        let entry = store.look(&id).expect("the container");
        match entry.record() {
            Ok(record) => assert_eq!(record.version, runp::state::Record::VERSION),
            Err(error) => assert!(error.to_string().contains("delete --force"), "{error}"),
        }
        fs::remove_file(file).expect("remove the file");
    });
}
