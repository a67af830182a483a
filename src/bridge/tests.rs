//! Who may talk to a listener.

use std::net::SocketAddr;

use axum::http::{HeaderMap, HeaderValue, header};

use super::guard::{Refused, check, check_origin};

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
        assert_eq!(check(&headers, address).err(), refused, "{listener} {headers:?}");
        assert_eq!(check_origin(&headers, address).err(), from_page, "{listener} {headers:?}");
    }
    let mut headers = HeaderMap::new();
    headers.insert(
        header::HOST,
        HeaderValue::from_bytes(b"127.0.0.1:80\xff").expect("bytes that headers may have"),
    );
    assert_eq!(check(&headers, v4.parse().expect("an address")), Err(Refused::Host));
}
