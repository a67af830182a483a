//! Certificates: what a result is, where it was measured and what was checked, signed with Ed25519. Pure but for the
//! randomness of new keys.
//!
//! A certificate is a JSON object of three texts: the statement, the signer's public key, and the signature over the
//! statement's bytes. It is refused when any byte differs from what is written here.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    rand::{SecureRandom as _, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Environment, Results, Validation};
use crate::domain::Digest;

/// Of the statement's form.
const VERSION: u32 = 1;

/// Before the statement, so that a signature is good for nothing else.
const PURPOSE: &[u8] = b"weft benchmark certificate\0";

/// What stands before a key's 32 bytes in PKCS #8 and in a `SubjectPublicKeyInfo` (RFC 8410).
const PRIVATE: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
const PUBLIC: [u8; 12] = *b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("no key of Ed25519 can be made of it: {0}")]
    Key(String),
    #[error("it is no certificate: {0}")]
    Malformed(String),
    #[error("it is not as weft writes it: it was changed")]
    Rewritten,
    #[error("its signature does not fit: it was changed, or another key signed it")]
    Signature,
    #[error("its statement has version {0}, and this weft knows {VERSION}")]
    Newer(u32),
    #[error("it is signed by {found}, and not by {wanted}")]
    Signer { found: String, wanted: String },
    #[error(
        "the result's digest is {found}, and it certifies {wanted}: the result was changed, or is another"
    )]
    Result { found: Digest, wanted: Digest },
}

/// What is signed
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    pub version: u32,
    /// Microseconds since the Unix epoch.
    pub issued_at_us: i64,
    pub id: String,
    pub suite: String,
    pub suite_sha256: String,
    /// Of the result's document.
    pub result_sha256: Digest,
    pub environment: Environment,
    pub validation: Validation,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Certificate {
    statement: String,
    /// The signer's 32 bytes.
    key: String,
    signature: String,
}

/// A key that signs.
pub struct Signer(Ed25519KeyPair);

/// A key that tells who signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trusted([u8; 32]);

/// The digest that a certificate has of a result.
#[must_use]
pub fn digest(results: &Results) -> Digest {
    let text =
        serde_json::to_vec(results).expect("a result holds only strings, numbers and string-keyed maps");
    Digest::new(Sha256::digest(text).into())
}

impl Signer {
    /// A new key as PEM, the private one and the public one.
    pub fn generate() -> Result<(String, String), CertificateError> {
        let mut seed = [0; 32];
        let random = SystemRandom::new();
        random
            .fill(&mut seed)
            .map_err(|_| CertificateError::Key("the system has no randomness".to_owned()))?;
        let signer = Self(Ed25519KeyPair::from_seed_unchecked(&seed).map_err(rejected)?);
        let private = pem("PRIVATE KEY", &[&PRIVATE[..], &seed].concat());
        Ok((private, signer.public().pem()))
    }

    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
            .map_err(|error| CertificateError::Key(error.to_string()))?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.secret_pkcs8_der()).map(Self).map_err(rejected)
    }

    pub fn public(&self) -> Trusted {
        let bytes: &[u8] = self.0.public_key().as_ref();
        Trusted(bytes.try_into().expect("a public key of Ed25519 has 32 bytes"))
    }

    /// The certificate as it is written.
    #[must_use]
    pub fn certify(&self, results: &Results, validation: Validation, issued_at_us: i64) -> String {
        let statement = Statement {
            version: VERSION,
            issued_at_us,
            id: results.id.clone(),
            suite: results.suite.clone(),
            suite_sha256: results.suite_sha256.clone(),
            result_sha256: digest(results),
            environment: results.environment.clone(),
            validation,
        };
        let statement =
            serde_json::to_string(&statement).expect("a statement holds only strings and numbers");
        let signature = self.0.sign(&signed(&statement));
        written(&Certificate {
            key: STANDARD.encode(self.public().0),
            signature: STANDARD.encode(signature.as_ref()),
            statement,
        })
    }
}

fn rejected(error: ring::error::KeyRejected) -> CertificateError {
    CertificateError::Key(error.to_string())
}

impl Trusted {
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let key = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes())
            .map_err(|error| CertificateError::Key(error.to_string()))?;
        let bytes = key.strip_prefix(&PUBLIC[..]).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| CertificateError::Key("it is another kind's".to_owned()))
    }

    fn pem(&self) -> String {
        pem("PUBLIC KEY", &[&PUBLIC[..], &self.0].concat())
    }

    /// Short enough to be read out: SHA-256 of the key.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        Digest::new(Sha256::digest(self.0).into()).to_string()
    }
}

/// What a certificate says and who says it, where nothing was changed and, where one is given, that key signed it.
pub fn verify(text: &str, trusted: Option<&Trusted>) -> Result<(Statement, Trusted), CertificateError> {
    let malformed = |error: serde_json::Error| CertificateError::Malformed(error.to_string());
    let certificate: Certificate = serde_json::from_str(text).map_err(malformed)?;
    if written(&certificate) != text {
        return Err(CertificateError::Rewritten);
    }
    let bytes = |text: &str| STANDARD.decode(text).map_err(|_| CertificateError::Signature);
    let key: [u8; 32] = bytes(&certificate.key)?.try_into().map_err(|_| CertificateError::Signature)?;
    let signature = bytes(&certificate.signature)?;
    UnparsedPublicKey::new(&ED25519, &key)
        .verify(&signed(&certificate.statement), &signature)
        .map_err(|_| CertificateError::Signature)?;
    let signer = Trusted(key);
    if let Some(trusted) = trusted.filter(|trusted| **trusted != signer) {
        let (found, wanted) = (signer.fingerprint(), trusted.fingerprint());
        return Err(CertificateError::Signer { found, wanted });
    }
    let version: serde_json::Value = serde_json::from_str(&certificate.statement).map_err(malformed)?;
    let version = version["version"].as_u64().unwrap_or_default() as u32;
    if version != VERSION {
        return Err(CertificateError::Newer(version));
    }
    Ok((serde_json::from_str(&certificate.statement).map_err(malformed)?, signer))
}

impl Statement {
    /// Whether this is the result that was certified.
    pub fn is_of(&self, results: &Results) -> Result<(), CertificateError> {
        let (found, wanted) = (digest(results), self.result_sha256);
        if found == wanted { Ok(()) } else { Err(CertificateError::Result { found, wanted }) }
    }
}

fn signed(statement: &str) -> Vec<u8> {
    [PURPOSE, statement.as_bytes()].concat()
}

fn written(certificate: &Certificate) -> String {
    serde_json::to_string(certificate).expect("texts") + "\n"
}

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}
