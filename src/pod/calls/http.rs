//! `httpGet`: the request, and how an answer is judged. The rules are those of the kubelet's `pkg/probe/http`.

use super::{HttpGet, MOST, Outcome, Peer, Scheme};

/// A kubelet says its version here.
pub(super) const USER_AGENT: &str = "kube-probe/1.35";

/// The request, for one connection.
pub(super) fn request(get: &HttpGet, peer: &Peer, path: &str) -> Vec<u8> {
    let given = |name: &str| {
        get.headers
            .iter()
            .any(|(n, _)| n.eq_ignore_ascii_case(name))
    };
    let mut text = format!("GET {path} HTTP/1.1\r\n");
    let defaults = [
        ("Host", peer.to_string()),
        ("User-Agent", USER_AGENT.to_owned()),
        ("Accept", "*/*".to_owned()),
        ("Connection", "close".to_owned()),
    ];
    for (name, value) in defaults {
        if !given(name) {
            text += &format!("{name}: {value}\r\n");
        }
    }
    // An empty one takes a default away.
    for (name, value) in get.headers.iter().filter(|(_, value)| !value.is_empty()) {
        text += &format!("{name}: {value}\r\n");
    }
    (text + "\r\n").into_bytes()
}

/// What is asked for, as Go's standard library writes it.
pub(super) fn url(get: &HttpGet, peer: &Peer) -> String {
    format!("{}://{peer}{}", get.scheme, get.path)
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is not complete.
    Wait,
    /// It is to be asked there instead: how, port and path.
    Elsewhere(Scheme, u16, String),
    /// That is all.
    Over(Outcome),
}

/// Judges what has come so far; `end` says that no more will.
pub(super) fn judge(get: &HttpGet, peer: &Peer, answer: &[u8], end: bool) -> Judgement {
    let fail = |why: &str| {
        let url = url(get, peer);
        Judgement::Over(Outcome::Failure(format!("Get {url:?}: {why}")))
    };
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return match (end, answer.len() >= MOST) {
            (true, _) => fail("EOF"),
            (_, true) => fail("the header of the answer is too long"),
            _ => Judgement::Wait,
        };
    };
    let text = String::from_utf8_lossy(&answer[..head]);
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|word| word.parse::<u16>().ok());
    let Some(status) = status.filter(|_| version.starts_with("HTTP/1.")) else {
        return fail("malformed HTTP response");
    };
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
    let header = |name: &str| {
        let mut all = headers.iter();
        let found = all.find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    };
    let body = &answer[head + 4..];
    if !end && answer.len() < MOST && !is_complete(body, status, header) {
        return Judgement::Wait;
    }
    let moved = matches!(status, 301 | 302 | 303 | 307 | 308);
    match header("Location")
        .filter(|_| moved)
        .map(|to| elsewhere(get.scheme, peer, to))
    {
        Some(Elsewhere::Here(scheme, port, path)) => {
            return Judgement::Elsewhere(scheme, port, path);
        }
        Some(Elsewhere::Unknown(scheme)) => {
            return fail(&format!("unsupported protocol scheme {scheme:?}"));
        }
        // The kubelet warns and is content: it does not ask anybody else.
        Some(Elsewhere::Other) | None => {}
    }
    Judgement::Over(match get.judged && !(200..400).contains(&status) {
        true => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
        false => Outcome::Success,
    })
}

fn is_complete<'a>(body: &[u8], status: u16, header: impl Fn(&str) -> Option<&'a str>) -> bool {
    let length = header("Content-Length").and_then(|text| text.parse::<usize>().ok());
    match length {
        _ if matches!(status, 204 | 304) => true,
        Some(length) => body.len() >= length,
        None => body.ends_with(b"\r\n0\r\n\r\n") || body == b"0\r\n\r\n",
    }
}

enum Elsewhere {
    Here(Scheme, u16, String),
    Unknown(String),
    Other,
}

fn elsewhere(scheme: Scheme, peer: &Peer, location: &str) -> Elsewhere {
    if let Some(path) = location.strip_prefix('/').filter(|p| !p.starts_with('/')) {
        return Elsewhere::Here(scheme, peer.address.port(), format!("/{path}"));
    }
    let (scheme, rest) = match location.split_once("://") {
        Some(("http", rest)) => (Ok((Scheme::Http, 80)), rest),
        Some(("https", rest)) => (Ok((Scheme::Https, 443)), rest),
        Some((other, rest)) => (Err(other), rest),
        None => {
            let default = if scheme == Scheme::Http { 80 } else { 443 };
            let rest = location.strip_prefix("//").unwrap_or_default();
            (Ok((scheme, default)), rest)
        }
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map(Some)),
        _ => (authority, Ok(None)),
    };
    match (scheme, port) {
        (Ok((scheme, default)), Ok(port)) if peer.is(host) => {
            let path = format!("/{}", path.trim_start_matches('/'));
            Elsewhere::Here(scheme, port.unwrap_or(default), path)
        }
        (Err(scheme), _) if peer.is(host) => Elsewhere::Unknown(scheme.to_owned()),
        _ => Elsewhere::Other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Host, Target};
    use super::*;

    fn get() -> HttpGet {
        HttpGet {
            scheme: Scheme::Http,
            target: Target {
                host: Host::Pod,
                port: 80,
            },
            path: "/healthz?x=1".into(),
            headers: vec![
                ("host".into(), "web.example".into()),
                ("Accept".into(), String::new()),
            ],
            judged: true,
        }
    }

    fn here() -> Peer {
        Peer {
            name: None,
            address: "127.0.0.1:80".parse().unwrap(),
        }
    }

    fn of(answer: &str, end: bool) -> Judgement {
        judge(&get(), &here(), answer.as_bytes(), end)
    }

    fn failure(why: &str) -> Judgement {
        Judgement::Over(Outcome::Failure(why.into()))
    }

    #[test]
    fn asks_as_the_kubelet_does() {
        let request = String::from_utf8(request(&get(), &here(), "/healthz?x=1")).unwrap();
        assert_eq!(
            request,
            "GET /healthz?x=1 HTTP/1.1\r\nUser-Agent: kube-probe/1.35\r\nConnection: close\r\n\
             host: web.example\r\n\r\n"
        );
    }

    #[test]
    fn two_hundred_to_three_hundred_ninety_nine_is_success() {
        for (status, ok) in [
            (199, false),
            (200, true),
            (204, true),
            (399, true),
            (400, false),
            (503, false),
        ] {
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            let expected = match ok {
                true => Judgement::Over(Outcome::Success),
                false => failure(&format!("HTTP probe failed with statuscode: {status}")),
            };
            assert_eq!(of(&answer, false), expected);
        }
    }

    #[test]
    fn an_answer_is_awaited_to_its_end() {
        let over = || Judgement::Over(Outcome::Success);
        assert_eq!(of("HTTP/1.0 200 OK\r\n", false), Judgement::Wait);
        assert_eq!(of("HTTP/1.0 200 OK\r\n\r\nhel", false), Judgement::Wait);
        assert_eq!(of("HTTP/1.0 200 OK\r\n\r\nhel", true), over());
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        assert_eq!(of(chunked, false), over());
        assert_eq!(of(&chunked[..chunked.len() - 2], false), Judgement::Wait);
        let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(MOST));
        assert_eq!(of(&long, false), over(), "no more than that is read");
        assert_eq!(
            of("", true),
            failure("Get \"http://127.0.0.1:80/healthz?x=1\": EOF")
        );
        let other = failure("Get \"http://127.0.0.1:80/healthz?x=1\": malformed HTTP response");
        assert_eq!(of("SSH-2.0-x\r\n\r\n", false), other);
    }

    #[test]
    fn only_what_leads_to_the_same_host_is_followed() {
        let to = |location: &str| {
            of(
                &format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n"),
                true,
            )
        };
        let there = |scheme, port, path: &str| Judgement::Elsewhere(scheme, port, path.into());
        assert_eq!(to("/ready"), there(Scheme::Http, 80, "/ready"));
        let other_port = there(Scheme::Http, 81, "/x?y");
        assert_eq!(to("http://127.0.0.1:81/x?y"), other_port);
        assert_eq!(to("http://127.0.0.1"), there(Scheme::Http, 80, "/"));
        assert_eq!(to("https://127.0.0.1/"), there(Scheme::Https, 443, "/"));
        assert_eq!(to("http://example.com/"), Judgement::Over(Outcome::Success));
        let named = Peer {
            name: Some("web".into()),
            ..here()
        };
        let over_tls = HttpGet {
            scheme: Scheme::Https,
            ..get()
        };
        for (location, followed) in [
            ("http://web:81/x", there(Scheme::Http, 81, "/x")),
            ("//web/x", there(Scheme::Https, 443, "/x")),
            ("/x", there(Scheme::Https, 80, "/x")),
        ] {
            let answer = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n");
            let judged = judge(&over_tls, &named, answer.as_bytes(), true);
            assert_eq!(judged, followed);
        }
        assert_eq!(to("//10.0.0.1/"), Judgement::Over(Outcome::Success));
        let no = "Get \"http://127.0.0.1:80/healthz?x=1\": unsupported protocol scheme \"ftp\"";
        assert_eq!(to("ftp://127.0.0.1/"), failure(no));
    }

    proptest::proptest! {
        #[test]
        fn no_answer_upsets_it(answer: Vec<u8>, head in "HTTP/1.[01] [0-9]{0,6} ?\r\n([LlC][a-z-]{0,12}: ?[ -~]{0,9}\r\n){0,3}\r\n") {
            let bytes = [head.as_bytes(), &answer].concat();
            judge(&get(), &here(), &answer, false);
            proptest::prop_assert!(judge(&get(), &here(), &bytes, true) != Judgement::Wait);
        }
    }
}
