//! Tokens, keys and limits as tables of cases.

use std::{collections::HashSet, num::NonZeroU32, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};

use super::{
    Access, AccessError, Allowance, Credential, Denied, Ended, Exceeded, NewKey, Rules, Settings,
    account::Account,
    key::{self, Presented},
    token::{self, LIFE_MAX_S, TOKEN_MAX, TokenError, TokenKey},
};
use crate::{
    domain::{Caller, Scope, Scopes},
    store::Store,
    tasks::Tasks,
};

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8; 32] = b"a secret that has 32 bytes of it";

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn hs256(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("any seed will do")
}

fn pem() -> String {
    let mut der = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    der.extend_from_slice(pair().public_key().as_ref());
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

fn eddsa(header: &Value, claims: &Value) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(pair().sign(message.as_bytes())))
}

fn claims(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = json!({"sub": "ci", "exp": NOW + 60, "scope": "infer openid read"});
    change(&mut claims);
    claims
}

#[test]
fn tokens_are_believed_for_what_their_key_is_for() {
    let header = json!({"alg": "HS256", "kid": "k"});
    let edwards = json!({"alg": "EdDSA", "kid": "k"});
    let secret = TokenKey::hs256(SECRET).expect("a good secret");
    let public = TokenKey::eddsa(pem().as_bytes()).expect("a good key");
    let good = claims(|_| {});
    let signed = |header: &Value| hs256(header, &good, SECRET);
    let none = format!("{}.{}.", part(&json!({"alg": "none", "kid": "k"})), part(&good));
    let mut tampered: Vec<_> = signed(&header).split('.').map(ToOwned::to_owned).collect();
    tampered[1] = part(&claims(|claims| claims["scope"] = json!("admin")));
    let confused = hs256(&header, &good, pem().as_bytes());
    let cases: [(&str, String, &TokenKey, Result<(), TokenError>); 16] = [
        ("HS256", signed(&header), &secret, Ok(())),
        ("EdDSA", eddsa(&edwards, &good), &public, Ok(())),
        ("none", none, &secret, Err(TokenError::Malformed)),
        (
            "None",
            format!("{}.{}.", part(&json!({"alg": "None"})), part(&good)),
            &public,
            Err(TokenError::Malformed),
        ),
        ("the public key as a secret", confused, &public, Err(TokenError::Algorithm)),
        ("a secret's token for a public key", signed(&header), &public, Err(TokenError::Algorithm)),
        ("a public key's token for a secret", eddsa(&edwards, &good), &secret, Err(TokenError::Algorithm)),
        (
            "HS256 told to be HS512",
            signed(&json!({"alg": "HS512", "kid": "k"})),
            &secret,
            Err(TokenError::Algorithm),
        ),
        (
            "HS256 told to be RS256",
            signed(&json!({"alg": "RS256", "kid": "k"})),
            &secret,
            Err(TokenError::Algorithm),
        ),
        ("other claims", tampered.join("."), &secret, Err(TokenError::Signature)),
        ("another secret", hs256(&header, &good, &[1; 32]), &secret, Err(TokenError::Signature)),
        ("no signature", format!("{}.{}.", part(&header), part(&good)), &secret, Err(TokenError::Signature)),
        ("no kid", signed(&json!({"alg": "HS256"})), &secret, Err(TokenError::NoKey)),
        (
            "crit",
            signed(&json!({"alg": "HS256", "kid": "k", "crit": ["b64"]})),
            &secret,
            Err(TokenError::Critical),
        ),
        ("two parts", "a.b".to_owned(), &secret, Err(TokenError::Malformed)),
        ("too long", "a".repeat(TOKEN_MAX + 1), &secret, Err(TokenError::TooLong)),
    ];
    for (what, token, key, expected) in cases {
        let verified = token::verify(&token, key, &Rules::default(), NOW);
        assert_eq!(verified.clone().map(|_| ()), expected, "{what}");
        if let Ok(claims) = verified {
            assert_eq!((claims.subject.as_str(), claims.scopes.to_string().as_str()), ("ci", "infer read"));
        }
    }
}

#[test]
fn tokens_are_good_for_a_time_an_audience_and_an_issuer() {
    let header = json!({"alg": "HS256", "kid": "k"});
    let key = TokenKey::hs256(SECRET).expect("a good secret");
    let free = Rules::default();
    let strict = Rules { audience: Some("weft".into()), issuer: Some("https://id.example".into()) };
    let ours = |aud: Value| claims(|c| (c["aud"], c["iss"]) = (aud, json!("https://id.example")));
    let with = |name: &str, value: Value| claims(|claims| claims[name] = value);
    let cases: [(Value, &Rules, Result<(), TokenError>); 20] = [
        (with("exp", json!(NOW)), &free, Ok(())),
        (with("exp", json!(NOW - 9)), &free, Ok(())),
        (with("exp", json!(NOW - 10)), &free, Err(TokenError::Expired)),
        (with("exp", json!(0)), &free, Err(TokenError::Expired)),
        (with("exp", json!(NOW + LIFE_MAX_S + 11)), &free, Err(TokenError::LivesTooLong)),
        (with("exp", json!(1e300)), &free, Err(TokenError::LivesTooLong)),
        (with("exp", json!(-1)), &free, Err(TokenError::Claim("exp"))),
        (with("exp", Value::Null), &free, Err(TokenError::Claim("exp"))),
        (with("exp", json!("never")), &free, Err(TokenError::Malformed)),
        (with("nbf", json!(NOW + 10)), &free, Ok(())),
        (with("nbf", json!(NOW + 11)), &free, Err(TokenError::NotYet)),
        (with("sub", Value::Null), &free, Err(TokenError::Claim("sub"))),
        (with("sub", json!("")), &free, Err(TokenError::Claim("sub"))),
        (with("sub", json!("a\nb")), &free, Err(TokenError::Claim("sub"))),
        (with("aud", json!("another")), &free, Err(TokenError::Audience)),
        (ours(json!(["other", "weft"])), &strict, Ok(())),
        (ours(json!("other")), &strict, Err(TokenError::Audience)),
        (claims(|c| c["iss"] = json!("https://id.example")), &strict, Err(TokenError::Audience)),
        (claims(|c| (c["aud"], c["iss"]) = (json!("weft"), json!("x"))), &strict, Err(TokenError::Issuer)),
        (claims(|c| c["aud"] = json!("weft")), &strict, Err(TokenError::Issuer)),
    ];
    for (claims, rules, expected) in cases {
        let verified = token::verify(&hs256(&header, &claims, SECRET), &key, rules, NOW);
        assert_eq!(verified.map(|_| ()), expected, "{claims}");
    }
}

#[test]
fn weak_and_foreign_keys_of_tokens_are_refused() {
    assert!(TokenKey::hs256(&SECRET[1..]).is_err());
    let rsa = "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAL\n-----END PUBLIC KEY-----\n";
    for pem in ["", "no PEM", rsa, &pem().replace("PUBLIC KEY", "PRIVATE KEY")] {
        assert!(TokenKey::eddsa(pem.as_bytes()).is_err(), "{pem}");
    }
}

#[test]
fn keys_are_of_one_form_and_never_the_same() {
    let made: HashSet<_> = (0..100).map(|_| key::make()).collect();
    assert_eq!(made.len(), 100);
    for (id, text) in &made {
        let read = Presented::read(text).expect("what we make we read");
        assert!(read.id == id && read.is(&key::of(text)), "{text}");
        let (head, tail) = text.split_at(text.len() - 1);
        let wrong = format!("{head}{}", if tail == "0" { "1" } else { "0" });
        assert!(!Presented::read(&wrong).expect("its form is good").is(&key::of(text)));
    }
    let (_, text) = key::make();
    let long = format!("{text}0");
    for bad in ["", "weft_", "weft__", &text[1..], &text[..text.len() - 1], &long, &text.to_uppercase()] {
        assert!(Presented::read(bad).is_none(), "{bad}");
    }
}

#[test]
fn limits_count_and_say_when_to_come_back() {
    let some = NonZeroU32::new;
    let account = |allowance| Arc::new(Account::new("key/a", allowance));
    let rated = account(Allowance { rate_per_second: some(3), ..Allowance::default() });
    let good = (0..10).filter(|_| rated.enter(NOW).is_ok()).count();
    assert!((3..=4).contains(&good), "{good} of 10 at once");
    let refused = rated.enter(NOW).expect_err("too many");
    assert!(
        matches!(refused, Exceeded::Rate { rate: 3, after } if after <= Duration::from_secs(1)),
        "{refused}"
    );
    assert_eq!(rated.standings(NOW)[0].remaining, 0);

    let daily = account(Allowance { quota_per_day: some(2), ..Allowance::default() });
    let noon = NOW - NOW % 86_400 + 43_200;
    assert!(daily.enter(noon).is_ok() && daily.enter(noon).is_ok());
    let half = Duration::from_secs(43_200);
    assert_eq!(daily.enter(noon).err(), Some(Exceeded::Quota { quota: 2, after: half }));
    let day = u32::try_from(noon / 86_400).unwrap();
    let spent = daily.unwritten().expect("two came");
    assert_eq!((spent.caller.as_str(), spent.day, spent.used), ("key/a", day, 2));
    daily.wrote(&spent);
    assert_eq!(daily.unwritten(), None);
    assert!(daily.enter(noon + 43_200).is_ok(), "the next day");
    daily.wrote(&spent);
    assert_eq!(daily.unwritten().map(|spent| (spent.day, spent.used)), Some((day + 1, 1)));
    let resumed = account(Allowance { quota_per_day: some(2), ..Allowance::default() });
    resumed.resume(day, 1);
    assert_eq!(resumed.unwritten(), None);
    assert!(resumed.enter(noon).is_ok() && resumed.enter(noon).is_err(), "one of two was used before");
    assert_eq!(daily.standings(noon + 43_200)[0].remaining, 1);

    let single = account(Allowance { in_flight: some(1), ..Allowance::default() });
    let first = single.enter(NOW).expect("a place");
    assert_eq!(single.enter(NOW).err(), Some(Exceeded::InFlight { most: 1 }));
    drop(first);
    assert!(single.enter(NOW).is_ok());
}

#[test]
fn scopes_are_words_and_admin_holds_all() {
    let read: Scopes = "read,infer".parse().expect("scopes");
    assert_eq!(read.to_string(), "infer read");
    assert!(read.holds(Scope::Infer) && read.holds(Scope::Read) && !read.holds(Scope::Admin));
    let admin: Scopes = "admin".parse().expect("scopes");
    assert!(Scope::ALL.into_iter().all(|scope| admin.holds(scope)));
    assert!("root".parse::<Scopes>().is_err() && "".parse::<Scopes>().is_err());
    assert!(Scopes::known_in("profile email").is_empty());
}

fn order(name: &str) -> NewKey {
    NewKey {
        name: name.to_owned(),
        scopes: Scopes::known_in("infer"),
        allowance: Allowance::default(),
        expires_at_us: None,
    }
}

async fn access(store: &Arc<Store>) -> Access {
    let settings = Settings { required: true, session: Duration::from_secs(60), tokens: None };
    Access::open(settings, store.clone(), &Tasks::new()).await.expect("a good start")
}

#[tokio::test]
async fn a_key_lets_in_until_it_is_revoked_also_after_a_restart() {
    let store = Arc::new(Store::open_in_memory().expect("a store"));
    let before = access(&store).await;
    let (key, text) = before.keys().add(order("ci")).await.expect("a key");
    let (_, other) = before.keys().add(order("ci")).await.expect("a key");
    assert!(!format!("{:?}", store.keys().await).contains(&text[18..]), "the secret is kept nowhere");

    let access = access(&store).await;
    let grant = access.admit(Credential::Bearer(&text)).expect("a grant");
    assert_eq!(&*grant.caller().id, format!("key/{}", key.id));
    let (cookie, life) = access.begin_session(&grant);
    assert!(life <= Duration::from_secs(60));
    assert!(access.admit(Credential::Cookie(&cookie)).is_ok());
    assert!(matches!(access.keys().revoke("ci").await, Err(AccessError::Ambiguous(_))));
    assert!(matches!(access.keys().revoke("nobody").await, Err(AccessError::UnknownKey(_))));
    access.keys().revoke(&key.id).await.expect("a key");
    assert_eq!(grant.ended().await, Ended::Withdrawn);
    let denied = |credential| access.admit(credential).err();
    assert_eq!(denied(Credential::Bearer(&text)), Some(Denied::Ended(Ended::Withdrawn)));
    assert_eq!(denied(Credential::Cookie(&cookie)), Some(Denied::Ended(Ended::Withdrawn)));
    let unknown = "0".repeat(64);
    assert_eq!(denied(Credential::Cookie(&unknown)), Some(Denied::NoSession));
    assert_eq!(denied(Credential::Bearer("a.b.c")), Some(Denied::NoTokens));
    // The same id with another secret.
    let forged = format!("{}{}", &text[..18], &other[18..]);
    assert_eq!(denied(Credential::Bearer(&forged)), Some(Denied::NoKey));
    assert!(access.admit(Credential::Bearer(&other)).is_ok());
    let owner = access.admit(Credential::Bearer(access.owner_key())).expect("the owner");
    assert!(&*owner.caller().id == Caller::LOCAL && owner.holds(Scope::Admin));
    assert_eq!(denied(Credential::Bearer(before.owner_key())), Some(Denied::NoKey), "another run's");
}

#[tokio::test]
async fn keys_that_cannot_be_are_refused() {
    let store = Arc::new(Store::open_in_memory().expect("a store"));
    let access = access(&store).await;
    let weight = |weight| Allowance { weight, ..Allowance::default() };
    let cases = [
        (order(""), "name"),
        (order("a\nb"), "name"),
        (order(&"x".repeat(129)), "name"),
        (NewKey { allowance: weight(0), ..order("a") }, "weight"),
        (NewKey { allowance: weight(1001), ..order("a") }, "weight"),
        (NewKey { expires_at_us: Some(1), ..order("a") }, "expired"),
    ];
    for (new, says) in cases {
        let refused = access.keys().add(new).await.expect_err(says);
        assert!(refused.to_string().contains(says), "{refused}");
    }
}
