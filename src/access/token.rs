//! JSON Web Tokens: `EdDSA` and HS256, each key for its one algorithm, every claim that matters checked.
//!
//! Pure: keys and the time are given. The cryptography is ring's, which TLS uses already.

use std::sync::Once;

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Validation,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    decode, decode_header,
    errors::{Error, ErrorKind},
    signature,
};
use ring::{
    hmac,
    signature::{ED25519, UnparsedPublicKey},
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde::Deserialize;

use crate::domain::Scopes;

/// A token with all its claims has some hundreds of bytes.
pub const TOKEN_MAX: usize = 4096;

/// Clocks of machines that keep time differ by less.
const LEEWAY_S: u64 = 10;

/// A token is good for whoever holds it until it expires, so it may not be for long.
pub const LIFE_MAX_S: u64 = 24 * 3600;

/// Goes into a caller's name, which is kept with each run.
const SUBJECT_MAX: usize = 128;

/// As long as the hash, as RFC 7518 wants it.
pub const SECRET_MIN: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is longer than {TOKEN_MAX} bytes")]
    TooLong,
    #[error("this is no token that can be read")]
    Malformed,
    #[error("the token names no key (kid)")]
    NoKey,
    #[error("the token is signed with a key that is not trusted here")]
    UnknownKey,
    #[error("the token names another algorithm than its key is for")]
    Algorithm,
    #[error("the token has header fields that must be understood and are not (crit)")]
    Critical,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token expires later than {} hours from now, which is the most", LIFE_MAX_S / 3600)]
    LivesTooLong,
    #[error("the token lacks {0}, or has it in a form that cannot be read")]
    Claim(&'static str),
    #[error("the token is meant for another audience")]
    Audience,
    #[error("the token comes from another issuer")]
    Issuer,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenKeyError {
    #[error("a secret for HS256 has at least {SECRET_MIN} bytes, this one has {0}")]
    Short(usize),
    #[error("no Ed25519 public key in PEM form (SubjectPublicKeyInfo)")]
    NoEd25519,
}

/// A key with the one algorithm that it is for.
pub struct TokenKey {
    algorithm: Algorithm,
    decoding: DecodingKey,
}

/// How an Ed25519 public key begins in DER (RFC 8410); the key itself is all that follows.
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl TokenKey {
    pub fn hs256(secret: &[u8]) -> Result<Self, TokenKeyError> {
        if secret.len() < SECRET_MIN {
            return Err(TokenKeyError::Short(secret.len()));
        }
        Ok(Self { algorithm: Algorithm::HS256, decoding: DecodingKey::from_secret(secret) })
    }

    pub fn eddsa(pem: &[u8]) -> Result<Self, TokenKeyError> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| TokenKeyError::NoEd25519)?;
        let key = der.strip_prefix(&ED25519_SPKI).filter(|key| key.len() == 32);
        let key = key.ok_or(TokenKeyError::NoEd25519)?;
        Ok(Self { algorithm: Algorithm::EdDSA, decoding: DecodingKey::from_ed_der(key) })
    }
}

/// What a token must say beside who it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub audience: Option<String>,
    pub issuer: Option<String>,
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub subject: String,
    pub scopes: Scopes,
    pub expires_at_s: u64,
}

#[derive(Deserialize)]
struct Said {
    sub: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
    scope: Option<String>,
}

/// The token's name for its key, before anything in it can be believed.
pub fn key_name(token: &str) -> Result<String, TokenError> {
    if token.len() > TOKEN_MAX {
        return Err(TokenError::TooLong);
    }
    let header = decode_header(token).map_err(|error| named(&error))?;
    if header.crit.is_some() {
        return Err(TokenError::Critical);
    }
    header.kid.ok_or(TokenError::NoKey)
}

/// Whether `token` was signed with `key`, and says what it must at `now_s` seconds after the Unix epoch.
pub fn verify(token: &str, key: &TokenKey, rules: &Rules, now_s: u64) -> Result<Claims, TokenError> {
    key_name(token)?;
    install();
    let mut validation = Validation::new(key.algorithm);
    // Times are checked below, where the clock is given.
    (validation.validate_exp, validation.validate_nbf) = (false, false);
    validation.required_spec_claims.clear();
    if let Some(audience) = &rules.audience {
        validation.set_audience(&[audience]);
        validation.required_spec_claims.insert("aud".to_owned());
    }
    if let Some(issuer) = &rules.issuer {
        validation.set_issuer(&[issuer]);
        validation.required_spec_claims.insert("iss".to_owned());
    }
    let said = decode::<Said>(token, &key.decoding, &validation).map_err(|error| named(&error))?.claims;
    let subject = said.sub.ok_or(TokenError::Claim("sub"))?;
    if subject.is_empty() || subject.len() > SUBJECT_MAX || subject.chars().any(char::is_control) {
        return Err(TokenError::Claim("sub"));
    }
    let seconds = |claim: Option<f64>| claim.filter(|at| at.is_finite() && *at >= 0.0);
    let expires_at_s = seconds(said.exp).ok_or(TokenError::Claim("exp"))? as u64;
    if said.nbf.is_some() && seconds(said.nbf).ok_or(TokenError::Claim("nbf"))? as u64 > now_s + LEEWAY_S {
        return Err(TokenError::NotYet);
    }
    if expires_at_s.saturating_add(LEEWAY_S) <= now_s {
        return Err(TokenError::Expired);
    }
    if expires_at_s > now_s + LIFE_MAX_S + LEEWAY_S {
        return Err(TokenError::LivesTooLong);
    }
    let scopes = Scopes::known_in(&said.scope.unwrap_or_default());
    // Accepted for the leeway's time after it has expired, and no longer.
    Ok(Claims { subject, scopes, expires_at_s: expires_at_s + LEEWAY_S })
}

fn named(error: &Error) -> TokenError {
    match error.kind() {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::InvalidKeyFormat => {
            TokenError::Algorithm
        }
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => TokenError::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => TokenError::Issuer,
        _ => TokenError::Malformed,
    }
}

/// The library asks the process for its cryptography.
fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // Another one can only have been put there by whoever embeds this library, and is theirs to answer for.
        let _ = PROVIDER.install_default();
    });
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// The daemon signs no tokens.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the library's signature")]
fn no_signer(_: &Algorithm, _: &EncodingKey) -> jsonwebtoken::errors::Result<Box<dyn JwtSigner>> {
    Err(ErrorKind::InvalidAlgorithm.into())
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the library's signature")]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> jsonwebtoken::errors::Result<Box<dyn JwtVerifier>> {
    let bytes = key.try_get_as_bytes()?;
    match (algorithm, key.family()) {
        (Algorithm::HS256, AlgorithmFamily::Hmac) => {
            Ok(Box::new(Hs256(hmac::Key::new(hmac::HMAC_SHA256, bytes))))
        }
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => {
            Ok(Box::new(EdDsa(UnparsedPublicKey::new(&ED25519, bytes.to_vec()))))
        }
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

struct Hs256(hmac::Key);

impl signature::Verifier<Vec<u8>> for Hs256 {
    /// Compares in constant time.
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        hmac::verify(&self.0, message, signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

struct EdDsa(UnparsedPublicKey<Vec<u8>>);

impl signature::Verifier<Vec<u8>> for EdDsa {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        self.0.verify(message, signature).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for EdDsa {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}
