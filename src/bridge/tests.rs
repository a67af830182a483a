//! Who may talk to a listener.

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderValue, header};

use super::guard::{Origin, Refused, check_named, check_origin};

#[test]
fn hosts_and_origins_are_compared_with_the_listener() {
    const HOST: Option<Refused> = Some(Refused::Host);
    const ORIGIN: Option<Refused> = Some(Refused::Origin);
    let (v4, v6) = ("127.0.0.1:80", "[::1]:80");
    // Listener, Host, Origin; what is refused, and what is when a page must have sent it.
    let cases = [
        (v4, Some(v4), None, None, ORIGIN),
        (v4, Some(v4), Some("http://127.0.0.1:80"), None, None),
        (v4, Some("localhost:80"), Some("http://localhost:80"), None, None),
        (v4, Some("LOCALHOST:80"), Some("http://LocalHost:80"), None, None),
        (v6, Some(v6), Some("http://[::1]:80"), None, None),
        (v4, None, None, HOST, ORIGIN),
        (v4, Some(""), None, HOST, ORIGIN),
        (v4, Some("127.0.0.1"), None, HOST, ORIGIN),
        (v4, Some("127.0.0.1:81"), None, HOST, ORIGIN),
        (v4, Some("127.0.0.1:80.evil.example"), None, HOST, ORIGIN),
        (v4, Some("rebound.example:80"), Some("http://rebound.example:80"), HOST, ORIGIN),
        (v4, Some(v4), Some("null"), ORIGIN, ORIGIN),
        (v4, Some(v4), Some(""), ORIGIN, ORIGIN),
        (v4, Some(v4), Some("http://evil.example"), ORIGIN, ORIGIN),
        (v4, Some(v4), Some("https://127.0.0.1:80"), ORIGIN, ORIGIN),
        (v4, Some(v4), Some("http://127.0.0.1:81"), ORIGIN, ORIGIN),
        (v4, Some(v4), Some("http://127.0.0.1:80/"), ORIGIN, ORIGIN),
        ("10.0.0.1:80", Some("localhost:80"), None, HOST, ORIGIN),
    ];
    for (listener, host, origin, refused, from_page) in cases {
        let address: SocketAddr = listener.parse().expect("an address");
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::HOST, host), (header::ORIGIN, origin)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        assert_eq!(check_named(&headers, &Origin::plain(address)).err(), refused, "{listener} {headers:?}");
        assert_eq!(
            check_origin(&headers, &Origin::plain(address)).err(),
            from_page,
            "{listener} {headers:?}"
        );
    }
    let mut headers = HeaderMap::new();
    headers.insert(
        header::HOST,
        HeaderValue::from_bytes(b"127.0.0.1:80\xff").expect("bytes that headers may have"),
    );
    let address = v4.parse().expect("an address");
    assert_eq!(check_named(&headers, &Origin::plain(address)), Err(Refused::Host));
}

#[test]
fn a_public_origin_is_met_exactly() {
    const HOST: Option<Refused> = Some(Refused::Host);
    const ORIGIN: Option<Refused> = Some(Refused::Origin);
    let public = Origin::parse("https://Pool.example:443").expect("an origin");
    let ported = Origin::parse("https://10.9.8.7:8443").expect("an origin");
    let cases = [
        (&public, "pool.example", Some("https://pool.example"), None),
        (&public, "POOL.example", Some("https://Pool.example"), None),
        (&public, "pool.example", None, None),
        (&public, "pool.example:443", None, HOST),
        (&public, "pool.example.evil.example", None, HOST),
        (&public, "127.0.0.1", None, HOST),
        (&public, "pool.example", Some("http://pool.example"), ORIGIN),
        (&public, "pool.example", Some("https://pool.example:444"), ORIGIN),
        (&public, "pool.example", Some("https://sub.pool.example"), ORIGIN),
        (&ported, "10.9.8.7:8443", Some("https://10.9.8.7:8443"), None),
        (&ported, "10.9.8.7", None, HOST),
        (&ported, "localhost:8443", None, HOST),
        (&ported, "10.9.8.7:8443", Some("https://10.9.8.7"), ORIGIN),
    ];
    for (name, host, origin, refused) in cases {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        assert_eq!(check_named(&headers, std::slice::from_ref(name)).err(), refused, "{name} {headers:?}");
    }
}

#[test]
fn a_public_origin_is_a_server_that_browsers_trust() {
    let good = [
        ("http://127.0.0.1:81", "http://127.0.0.1:81"),
        ("http://127.9.9.9:81", "http://127.9.9.9:81"),
        ("http://LOCALHOST:80", "http://localhost"),
        ("http://[::1]:81", "http://[::1]:81"),
        ("https://Weft.example:443", "https://weft.example"),
        ("https://10.0.0.1:80", "https://10.0.0.1:80"),
    ];
    for (text, origin) in good {
        let read = Origin::parse(text).unwrap_or_else(|wrong| panic!("{text}: {wrong}"));
        assert_eq!((read.to_string().as_str(), read.is_tls()), (origin, text.starts_with("https")));
    }
    let bad = [
        ("", "HOST:PORT"),
        ("weft.example:81", "HOST:PORT"),
        ("ws://127.0.0.1:81", "HOST:PORT"),
        ("https://", "HOST:PORT"),
        ("https://a:99999", "HOST:PORT"),
        ("https://a:0", "HOST:PORT"),
        ("https://user@a:81", "HOST:PORT"),
        ("https://a:81/", "a path"),
        ("https://a:81/x", "a path"),
        ("https://a:81?x=1", "a path"),
        ("http://10.0.0.1:81", "plain HTTP beyond loopback"),
        ("http://localhost.example:81", "plain HTTP beyond loopback"),
    ];
    for (text, says) in bad {
        let wrong = Origin::parse(text).expect_err(text);
        assert!(wrong.contains(says), "{text}: {wrong}");
    }
}
