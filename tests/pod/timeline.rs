//! The timeline's page in a real browser.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::support::{Case, Need, Pod, sh};

/// What Chromium makes of a page: its screenshot's size in bytes.
fn screenshot(case: &Case, page: &Path) -> u64 {
    let picture = page.with_extension("png");
    let mut command = Command::new("chromium");
    let home = case.dir().join("home");
    command
        .env("HOME", &home)
        .arg("--headless")
        .arg("--no-sandbox");
    command.arg("--disable-gpu").arg("--disable-dev-shm-usage");
    // Nothing but what the page itself wants.
    command
        .arg("--disable-background-networking")
        .arg("--no-first-run");
    command.arg(format!("--user-data-dir={}", home.display()));
    command.arg(format!("--screenshot={}", picture.display()));
    command
        .arg("--window-size=1060,1400")
        .arg(format!("file://{}", page.display()));
    case.finish(command).ok();
    let picture = fs::read(picture).unwrap();
    assert!(picture.starts_with(b"\x89PNG"));
    picture.len() as u64
}

/// What has been asked for on a port.
struct Seen(Arc<Mutex<String>>);

impl Seen {
    /// Hears everybody out, and answers nothing.
    fn by(listener: TcpListener) -> Self {
        let said = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let mut request = [0; 512];
                connection
                    .set_read_timeout(Some(Duration::from_secs(1)))
                    .unwrap();
                let length = connection.read(&mut request).unwrap_or(0);
                *heard.lock().unwrap() += &String::from_utf8_lossy(&request[..length]);
            }
        });
        Self(said)
    }

    /// A browser may also connect ahead of time, and then says nothing.
    fn asked(&self) -> bool {
        !self.0.lock().unwrap().is_empty()
    }
}

#[test]
fn a_browser_shows_the_page_and_no_request_leaves_it() {
    let Some(case) = Case::new(&[Need::Runp, Need::Program("chromium")]) else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let seen = Seen::by(listener);
    let says = format!("echo '<img src={url}>' > /dev/termination-log; exit 3");
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "initContainers": [sh("init", "true")],
            "containers": [sh("app", &says)],
        }),
    );
    pod.run().code(3);
    let page = case.dir().join("page.html");
    case.pod(["timeline", "--html", page.to_str().unwrap(), &pod.name])
        .ok();
    let size = screenshot(&case, &page);
    assert!(!seen.asked(), "a request left the page");

    let text = fs::read_to_string(&page).unwrap();
    let loads = format!(
        "<img src='{url}a'><script src='{url}b'></script><link rel=stylesheet href='{url}c'><iframe src='{url}d'></iframe>"
    );
    let worse = text.replace("</main>", &format!("{loads}</main>"));
    let bad = case.dir().join("bad.html");
    fs::write(&bad, &worse).unwrap();
    screenshot(&case, &bad);
    assert!(!seen.asked(), "its policy forbids all of it");
    // The same page without its policy, to know that this was it; and empty, to know that the other was not.
    let bare = worse.replace("http-equiv=\"Content-Security-Policy\"", "");
    fs::write(&bad, bare).unwrap();
    screenshot(&case, &bad);
    assert!(seen.asked(), "this would have been seen");
    fs::write(&bad, "<!doctype html>").unwrap();
    let empty = screenshot(&case, &bad);
    assert!(size > 5 * empty, "{size} bytes, and {empty} of nothing");
    pod.delete().ok();
    case.assert_nothing_left();
}
