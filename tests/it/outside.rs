//! The bridge's listener for browsers on other hosts: TLS, its one name, and nothing but the harness.

use std::{net::SocketAddr, path::Path, sync::Arc};

use axum::body::Body;
use http::{Request, StatusCode};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use rustls::{ClientConfig, RootCertStore};
use weft::{
    bridge::{Bridge, BridgeError, Certificate, Door, Outside, guard::Origin},
    tasks::Tasks,
};

use crate::support::soon;

const ANY: &str = "127.0.0.1:0";

fn door(certificate: Option<Certificate>, public: Option<&str>) -> Door {
    let any: SocketAddr = ANY.parse().expect("an address");
    let public = public.map(|public| Origin::parse(public).expect("an origin"));
    Door { local: any, outside: Some(Outside { listen: any, certificate, made: None }), public }
}

/// Makes a certificate for this host and writes it where a configuration may name it.
fn certificate(folder: &Path) -> (Certificate, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let files = Certificate { chain: folder.join("chain.pem"), key: folder.join("key.pem") };
    std::fs::write(&files.chain, made.cert.pem()).expect("room for a file");
    std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("room for a file");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    (files, roots)
}

/// What the server at `url` answers to somebody who trusts `roots`.
async fn get(url: &str, headers: &[(&str, &str)], roots: &RootCertStore) -> Result<StatusCode, String> {
    let settings =
        ClientConfig::builder().with_root_certificates(Arc::new(roots.clone())).with_no_client_auth();
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(settings).https_or_http().enable_http1().build();
    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(connector);
    let request =
        headers.iter().fold(Request::get(url), |request, (name, value)| request.header(*name, *value));
    let answer = client.request(request.body(Body::empty()).expect("a good request"));
    soon("an answer", answer).await.map(|answer| answer.status()).map_err(|error| format!("{error:?}"))
}

#[tokio::test]
async fn other_hosts_get_the_harness_over_tls_by_its_one_name() {
    let (tasks, folder) = (Tasks::new(), tempfile::tempdir().expect("a temporary folder"));
    let (files, roots) = certificate(folder.path());
    let bridge = Bridge::bind(door(Some(files), None), 1000, folder.path().to_owned(), &tasks);
    let bridge = bridge.await.expect("a good start");
    let (near, far) = (bridge.open_page(1), bridge.open_far_page(2));
    assert!(near.url.starts_with(&format!("http://{}/", bridge.address())), "{}", near.url);
    let origin = far.url.split("/harness/").next().expect("an origin").to_owned();
    let place = origin.strip_prefix("https://").expect("TLS").to_owned();
    let none = format!("{origin}/harness/none");
    let cases: [(&str, &[(&str, &str)], u16); 8] = [
        (&far.url, &[], 200),
        (&far.url, &[], 404),
        (&none, &[("host", &place), ("origin", &origin)], 404),
        (&none, &[("host", &bridge.address().to_string())], 403),
        (&none, &[("host", "weft.example")], 403),
        (&none, &[("origin", &format!("http://{place}"))], 403),
        (&none, &[("origin", "https://weft.example")], 403),
        (&format!("{origin}/v2"), &[], 404),
    ];
    for (at, (url, headers, status)) in cases.iter().enumerate() {
        let answer = get(url, headers, &roots).await;
        assert_eq!(answer.map(|answer| answer.as_u16()), Ok(*status), "case {at}: {url} {headers:?}");
    }
    // The loopback listener does not answer to the other's name, and plain HTTP is not answered where TLS is.
    let answer = get(&format!("http://{}/harness/none", bridge.address()), &[("host", &place)], &roots).await;
    assert_eq!(answer.map(|answer| answer.as_u16()), Ok(403));
    assert!(get(&format!("http://{place}/harness/none"), &[], &roots).await.is_err());
    soon("stopping", tasks.stop()).await;
}

#[tokio::test]
async fn a_certificate_is_made_when_none_is_named_and_nobody_trusts_it() {
    let (tasks, folder) = (Tasks::new(), tempfile::tempdir().expect("a temporary folder"));
    let (files, roots) = certificate(folder.path());
    let public = Some("https://weft.example:8443");
    let bridge = Bridge::bind(door(None, public), 1000, folder.path().to_owned(), &tasks);
    let bridge = bridge.await.expect("a good start");
    assert!(bridge.open_far_page(1).url.starts_with("https://weft.example:8443/harness/"));
    let untrusted = Bridge::bind(door(None, None), 1000, folder.path().to_owned(), &tasks);
    let url = untrusted.await.expect("a good start").open_far_page(1).url.clone();
    let refused = get(&url, &[], &roots).await.expect_err("a stranger's certificate");
    assert!(refused.contains("InvalidCertificate"), "{refused}");

    std::fs::write(&files.key, "no key").expect("room for a file");
    let broken = Bridge::bind(door(Some(files), None), 1000, folder.path().to_owned(), &tasks).await;
    match broken.err() {
        Some(error @ BridgeError::Certificate { .. }) => {
            assert!(error.to_string().contains("key.pem"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    soon("stopping", tasks.stop()).await;
}
