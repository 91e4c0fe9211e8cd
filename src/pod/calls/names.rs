//! A host's name, looked up where the supervisor is: `/etc/hosts`, then the name servers of `/etc/resolv.conf`, over UDP.
//!
//! Not by the C library: in a static program it would load others at run time, and it blocks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Type and class of what is asked for, RFC 1035 section 3.2.2 and RFC 3596.
const A: u16 = 1;
const AAAA: u16 = 28;
const INTERNET: u16 = 1;

/// The address that a hosts(5) file gives a name; `localhost` is always this machine.
pub(super) fn in_hosts(text: &str, name: &str) -> Option<IpAddr> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default());
    let mut found = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words
            .any(|word| word.eq_ignore_ascii_case(name))
            .then_some(address)
    });
    let local = name.eq_ignore_ascii_case("localhost");
    found
        .next()
        .or(local.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST)))
}

/// What is to be asked until there is an answer.
#[derive(Debug)]
pub(super) struct Lookup {
    /// Full names and types, the next one last.
    questions: Vec<(String, u16)>,
    /// Who is asked.
    pub(super) server: SocketAddr,
    id: u16,
}

/// What follows from a message of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The name has this address.
    Address(IpAddr),
    /// It has none; the next question may help.
    No,
    /// It answers something else.
    Stray,
}

impl Lookup {
    /// By a resolv.conf(5); `None` if it names no server. `id` should be hard to guess.
    pub(super) fn new(resolv_conf: &str, name: &str, id: u16) -> Option<Self> {
        let mut servers = Vec::new();
        let mut search: Vec<&str> = Vec::new();
        let mut ndots = 1;
        for line in resolv_conf.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    servers.extend(words.next().and_then(|w| w.parse::<IpAddr>().ok()))
                }
                Some("search" | "domain") => search = words.collect(),
                Some("options") => {
                    let set = words.find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    ndots = set.unwrap_or(ndots);
                }
                _ => {}
            }
        }
        let whole = name.trim_end_matches('.');
        let mut names: Vec<String> = search
            .iter()
            .map(|domain| format!("{whole}.{domain}"))
            .collect();
        let dots = whole.matches('.').count();
        match (name.ends_with('.'), dots >= ndots) {
            (true, _) => names = vec![whole.to_owned()],
            (false, true) => names.insert(0, whole.to_owned()),
            (false, false) => names.push(whole.to_owned()),
        }
        let questions = names
            .into_iter()
            .flat_map(|name| [(name.clone(), A), (name, AAAA)]);
        let mut questions: Vec<_> = questions.collect();
        questions.reverse();
        Some(Self {
            questions,
            server: SocketAddr::new(*servers.first()?, 53),
            id,
        })
    }

    /// The message that asks the next question; `None` if there is none left.
    pub(super) fn ask(&self) -> Option<Vec<u8>> {
        let (name, kind) = self.questions.last()?;
        // Recursion is desired; one question.
        let mut message = self.id.to_be_bytes().to_vec();
        message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in name.split('.') {
            let length = u8::try_from(label.len())
                .ok()
                .filter(|n| (1..64).contains(n))?;
            message.push(length);
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        for number in [*kind, INTERNET] {
            message.extend_from_slice(&number.to_be_bytes());
        }
        Some(message)
    }

    /// Takes what the server says to the last question.
    pub(super) fn take(&mut self, message: &[u8]) -> Answer {
        let asked = self.ask().unwrap_or_default();
        let is_answer = message.get(2).is_some_and(|flags| flags & 0x80 != 0);
        // The question comes back: with the number it tells the answer from anybody else's.
        let same = message.get(..2) == asked.get(..2)
            && message.get(12..asked.len()).map(<[u8]>::to_ascii_lowercase)
                == asked.get(12..).map(<[u8]>::to_ascii_lowercase);
        if !is_answer || !same {
            return Answer::Stray;
        }
        let count = u16::from_be_bytes([message[6], message[7]]);
        if let Some(address) = address(&message[asked.len()..], count) {
            return Answer::Address(address);
        }
        self.questions.pop();
        self.id = self.id.wrapping_add(1);
        Answer::No
    }
}

/// The first address among so many records.
fn address(mut records: &[u8], count: u16) -> Option<IpAddr> {
    for _ in 0..count {
        let name = records
            .iter()
            .position(|&byte| byte == 0 || byte & 0xc0 == 0xc0)?;
        let end = name + if records[name] == 0 { 1 } else { 2 };
        let fixed = records.get(end..end + 10)?;
        let kind = u16::from_be_bytes([fixed[0], fixed[1]]);
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let data = records.get(end + 10..end + 10 + length)?;
        if let (A, Ok(bytes)) = (kind, <[u8; 4]>::try_from(data)) {
            return Some(IpAddr::V4(Ipv4Addr::from(bytes)));
        }
        if let (AAAA, Ok(bytes)) = (kind, <[u8; 16]>::try_from(data)) {
            return Some(IpAddr::V6(Ipv6Addr::from(bytes)));
        }
        records = &records[end + 10 + length..];
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_hosts_goes_first() {
        let text = "127.0.0.1 localhost\n# 10.0.0.1 web\n10.0.0.2  db Web.example # the web\nrubbish web\n";
        assert_eq!(in_hosts(text, "web.EXAMPLE"), "10.0.0.2".parse().ok());
        assert_eq!(in_hosts(text, "web"), None);
        assert_eq!(in_hosts("", "localhost"), "127.0.0.1".parse().ok());
    }

    fn names(lookup: &Lookup) -> Vec<&str> {
        let four = lookup.questions.iter().rev().filter(|(_, kind)| *kind == A);
        four.map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn a_short_name_is_searched_for_first() {
        let conf = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch a.example b.example\noptions ndots:2\n";
        let lookup = |name: &str| Lookup::new(conf, name, 7).unwrap();
        assert_eq!(lookup("web").server, "192.0.2.1:53".parse().unwrap());
        assert_eq!(
            names(&lookup("web")),
            ["web.a.example", "web.b.example", "web"]
        );
        assert_eq!(names(&lookup("x.y.z"))[0], "x.y.z");
        assert_eq!(names(&lookup("web.")), ["web"]);
        assert!(Lookup::new("search x\n", "web", 7).is_none());
    }

    #[test]
    fn an_answer_is_taken_that_fits_the_question() {
        let mut lookup = Lookup::new("nameserver 192.0.2.1", "web.example", 0x0102).unwrap();
        let asked = lookup.ask().unwrap();
        let answer = |asked: &[u8], count: u8, records: &[u8]| {
            let mut message = asked.to_vec();
            (message[2], message[7]) = (0x81, count);
            message.extend_from_slice(records);
            message
        };
        // An alias, then its address.
        let alias = [0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12];
        let four = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 1];
        let good = answer(&asked, 2, &[&alias[..], &four].concat());
        let mut other = good.clone();
        other[1] ^= 1;
        assert_eq!(lookup.take(&other), Answer::Stray, "to somebody else");
        assert_eq!(lookup.take(&asked), Answer::Stray, "our own question");
        assert_eq!(
            lookup.take(&good),
            Answer::Address("10.0.0.1".parse().unwrap())
        );
        assert_eq!(lookup.take(&answer(&asked, 0, &[])), Answer::No);
        let next = lookup.ask().unwrap();
        assert_eq!(
            next[next.len() - 4..],
            [0, 28, 0, 1],
            "then its other addresses"
        );
        assert_eq!(lookup.take(&good), Answer::Stray, "too late");
    }

    proptest::proptest! {
        #[test]
        fn no_answer_upsets_it(more: Vec<u8>, count: u8) {
            let mut lookup = Lookup::new("nameserver 192.0.2.1", "web", 1).unwrap();
            let mut message = lookup.ask().unwrap();
            (message[2], message[7]) = (0x80, count);
            message.extend_from_slice(&more);
            lookup.take(&message);
            lookup.take(&more);
        }
    }
}
