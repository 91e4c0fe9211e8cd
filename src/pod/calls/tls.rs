//! TLS 1.2 and 1.3, as a kubelet's probes speak it: whoever answers is believed.
//!
//! A certificate that nobody verifies proves nothing, and neither does what is signed with its key. So no signature is looked
//! at, and all that could verify one stays out of the binary; as does what every server has an alternative to.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;

use p256::elliptic_curve::point::AffineCoordinates;
use p256::elliptic_curve::sec1::ToSec1Point;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::ring::{cipher_suite, kx_group};
use rustls::crypto::{ActiveKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::crypto::{CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::SigningKey;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, NamedGroup};
use rustls::{PeerMisbehaved, SignatureScheme, SupportedCipherSuite, version};

use super::Peer;
use crate::error::{Error, Result};

const SUITES: [SupportedCipherSuite; 6] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
];

const GROUPS: [&dyn SupportedKxGroup; 3] = [kx_group::X25519, &P256, kx_group::SECP384R1];

/// What a server may say that it signs with: a key of any kind, as long as it is of this century.
const SIGNATURES: [SignatureScheme; 10] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

/// One connection.
#[derive(Debug)]
pub(super) struct Tls {
    connection: ClientConnection,
    /// Whether the server has said anything yet.
    heard: bool,
}

/// Why the server is not understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It speaks HTTP without TLS.
    Plain,
    /// Something else.
    Other(String),
}

/// In the words of Go's standard library where it has some.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("http: server gave HTTP response to HTTPS client"),
            Self::Other(why) => write!(f, "tls: {why}"),
        }
    }
}

impl Tls {
    /// A connection that says `words` as soon as it stands.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub(super) fn new(peer: &Peer, words: &[u8]) -> Result<Self> {
        let step = |e: rustls::Error| Error::new(format!("begin TLS: {e}"));
        let config = config().map_err(step)?;
        // An address is not sent, and neither is what is no name of DNS.
        let name = peer.name.clone().and_then(|n| ServerName::try_from(n).ok());
        let name = name.unwrap_or_else(|| ServerName::IpAddress(peer.address.ip().into()));
        let mut connection = ClientConnection::new(Arc::new(config), name).map_err(step)?;
        connection.set_buffer_limit(None);
        let heard = false;
        // Into memory without a limit.
        let _ = connection.writer().write_all(words);
        Ok(Self { connection, heard })
    }

    /// What is to be sent now.
    pub(super) fn take_to_send(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.connection.wants_write() && self.connection.write_tls(&mut bytes).is_ok() {}
        bytes
    }

    /// Takes what has come; gives what that says, and whether it is the end.
    pub(super) fn hear(
        &mut self,
        mut bytes: &[u8],
    ) -> std::result::Result<(Vec<u8>, bool), Failure> {
        if !std::mem::replace(&mut self.heard, true) && bytes.starts_with(b"HTTP/") {
            return Err(Failure::Plain);
        }
        let mut words = Vec::new();
        let mut is_over = false;
        while !bytes.is_empty() && !is_over {
            let read = self.connection.read_tls(&mut bytes);
            read.map_err(|e| Failure::Other(e.to_string()))?;
            let state = self.connection.process_new_packets();
            let state = state.map_err(|e| Failure::Other(e.to_string()))?;
            let mut said = vec![0; state.plaintext_bytes_to_read()];
            let read = self.connection.reader().read_exact(&mut said);
            read.map_err(|e| Failure::Other(e.to_string()))?;
            words.append(&mut said);
            is_over = state.peer_has_closed();
        }
        Ok((words, is_over))
    }
}

fn config() -> std::result::Result<ClientConfig, rustls::Error> {
    let provider = CryptoProvider {
        cipher_suites: SUITES.to_vec(),
        kx_groups: GROUPS.to_vec(),
        signature_verification_algorithms: WebPkiSupportedAlgorithms {
            all: &[],
            mapping: &[],
        },
        secure_random: &Kernel,
        key_provider: &NoKeys,
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Takes every certificate.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.to_vec()
    }
}

/// The kernel's random numbers.
#[derive(Debug)]
struct Kernel;

impl SecureRandom for Kernel {
    fn fill(&self, mut buffer: &mut [u8]) -> std::result::Result<(), GetRandomFailed> {
        while !buffer.is_empty() {
            let flags = rustix::rand::GetRandomFlags::empty();
            let filled = rustix::rand::getrandom(&mut *buffer, flags);
            buffer = &mut buffer[filled.map_err(|_| GetRandomFailed)?..];
        }
        Ok(())
    }
}

/// A client without a certificate has no key to load.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(
        &self,
        _: PrivateKeyDer<'static>,
    ) -> std::result::Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("there is no key".into()))
    }
}

/// secp256r1, which older servers have nothing beside. Ring's is faster and has a table of 150 KB for that.
#[derive(Debug)]
struct P256;

impl SupportedKxGroup for P256 {
    fn start(&self) -> std::result::Result<Box<dyn ActiveKeyExchange>, rustls::Error> {
        loop {
            let mut number = [0; 32];
            Kernel.fill(&mut number)?;
            // Not every number is a key: one in 2^32 is too large.
            if let Ok(secret) = p256::SecretKey::from_slice(&number) {
                let public = secret.public_key().to_sec1_point(false).as_bytes().to_vec();
                return Ok(Box::new(Exchange { secret, public }));
            }
        }
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}

struct Exchange {
    secret: p256::SecretKey,
    public: Vec<u8>,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> std::result::Result<SharedSecret, rustls::Error> {
        let theirs = p256::PublicKey::from_sec1_bytes(peer)
            .map_err(|_| rustls::Error::from(PeerMisbehaved::InvalidKeyShare))?;
        let shared = theirs.to_projective() * *self.secret.to_nonzero_scalar();
        Ok(SharedSecret::from(shared.to_affine().x().as_slice()))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tls(name: Option<&str>) -> Tls {
        let peer = Peer {
            name: name.map(str::to_owned),
            address: "127.0.0.1:443".parse().unwrap(),
        };
        Tls::new(&peer, b"GET / HTTP/1.1\r\n\r\n").unwrap()
    }

    fn contains(bytes: &[u8], part: &[u8]) -> bool {
        bytes.windows(part.len()).any(|window| window == part)
    }

    #[test]
    fn a_name_is_sent_and_an_address_is_not() {
        let hello = tls(Some("web.example")).take_to_send();
        assert_eq!(hello[0], 22, "a handshake: {hello:?}");
        assert!(contains(&hello, b"web.example"));
        assert!(!contains(&hello, b"GET"), "before the handshake's end");
        for name in [None, Some("10.0.0.1"), Some("no name")] {
            let hello = tls(name).take_to_send();
            assert_eq!(hello[0], 22, "{name:?}");
            assert!(!contains(&hello, name.unwrap_or("127").as_bytes()));
        }
    }

    #[test]
    fn a_server_without_tls_is_told_from_one_that_is_broken() {
        let heard = tls(None).hear(b"HTTP/1.1 200 OK\r\n");
        assert_eq!(heard, Err(Failure::Plain));
        let heard = tls(None).hear(b"SSH-2.0-OpenSSH\r\n");
        assert!(matches!(heard, Err(Failure::Other(_))), "{heard:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_answer_upsets_it(kind in 20_u8..24, answer: Vec<u8>, rest: Vec<u8>) {
            let mut tls = tls(None);
            let length = (answer.len() as u16).to_be_bytes();
            let record = [&[kind, 3, 3][..], &length, &answer].concat();
            if tls.hear(&record).is_ok() {
                let _ = tls.hear(&rest); // whatever it makes of that
            }
            tls.take_to_send();
        }
    }
}
