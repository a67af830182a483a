//! The gateway.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use reqwest::{Method, StatusCode, header};
use serde_json::json;
use weft::content::{Cid, Codec, Layout, Layouter, Reader};

use crate::{
    downloads::{daemon, daemon_in},
    support::{TestDaemon, graphs},
};

pub(crate) const LEAF: usize = 1 << 20;

/// A model of a little over three leaves, no two of them alike: the rest is its description.
pub(crate) fn model() -> Vec<u8> {
    let told: String = (0..3 * LEAF).map(|at| char::from(b' ' + ((at + at / LEAF) % 90) as u8)).collect();
    let mut model = graphs::neg();
    model.push(6 << 3 | 2);
    prost::encode_length_delimiter(told.len(), &mut model).unwrap();
    model.extend_from_slice(told.as_bytes());
    model
}

pub(crate) fn layout(file: &[u8]) -> Arc<Layout> {
    let mut layouter = Layouter::default();
    layouter.update(file);
    Arc::new(layouter.finish())
}

pub(crate) fn root(file: &[u8]) -> Cid {
    let layout = layout(file);
    layout.cid(layout.root())
}

fn leaf(file: &[u8], at: usize) -> Cid {
    Cid { codec: Codec::Raw, digest: layout(file).leaves().nth(at).unwrap().1 }
}

async fn asked(
    daemon: &TestDaemon,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> reqwest::Response {
    let mut request = daemon.http.request(method, format!("{}{path}", daemon.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("the daemon answers")
}

#[allow(clippy::needless_pass_by_value, reason = "names of headers are constants, and read best as they are")]
fn header(response: &reqwest::Response, name: header::HeaderName) -> &str {
    response.headers().get(&name).map_or("", |value| value.to_str().unwrap())
}

fn blocks(car: &[u8]) -> Vec<(Cid, Bytes)> {
    let (mut reader, mut blocks) = (Reader::default(), Vec::new());
    reader.push(car);
    while let Some(block) = reader.block().unwrap() {
        assert!(block.0.names(&block.1));
        blocks.push(block);
    }
    assert!(reader.may_end());
    blocks
}

#[tokio::test]
async fn the_gateway_answers_as_the_specification_says() {
    let daemon = daemon(|_| {}).await;
    let file = model();
    daemon.add("big", file.clone()).await;
    daemon.add("neg", graphs::neg()).await;
    let (cid, single, last) = (root(&file), root(&graphs::neg()), leaf(&file, 3));
    let absent = Cid::of(Codec::Raw, b"nobody has this");
    let raw = ("accept", "application/vnd.ipld.raw");
    let cases: [(String, &[(&str, &str)], u16); 27] = [
        (format!("{cid}?format=raw"), &[], 200),
        (format!("{cid}?format=car"), &[], 200),
        (format!("{cid}?format=raw"), &[("accept", "text/html")], 200),
        (cid.to_string(), &[raw], 200),
        (cid.to_string(), &[("accept", "application/vnd.ipld.car; version=1; order=dfs; dups=y")], 200),
        (format!("{last}?format=raw"), &[], 200),
        (format!("{single}?format=car&dag-scope=block"), &[], 200),
        ("bafkqaaa?format=raw".to_owned(), &[], 200),
        ("bafkqaaa?format=car".to_owned(), &[], 200),
        (cid.to_string(), &[], 400),
        (cid.to_string(), &[("accept", "*/*")], 400),
        (cid.to_string(), &[("accept", "text/html")], 406),
        (cid.to_string(), &[("accept", "application/vnd.ipld.car; version=2")], 406),
        (format!("{cid}?format=tar"), &[], 406),
        (format!("{cid}?format=car&car-version=2"), &[], 406),
        (format!("{cid}?format=car&dag-scope=some"), &[], 400),
        (format!("{cid}?format=car&entity-bytes=5"), &[], 400),
        (format!("{cid}?format=car&entity-bytes=99999999:*"), &[], 400),
        (format!("{cid}?format=raw&format=car"), &[], 400),
        ("nonsense?format=raw".to_owned(), &[], 400),
        // dag-cbor, and sha2-512
        ("bafyreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq?format=raw".to_owned(), &[], 400),
        (
            "bafkrgqe3ohjcjplc6n4f3fwunlj6upltggn7xqujbsvnvyw764srszz4u4rshq6ztos4chl4plgg4ffyyxnayrtdi5oc4xb2332g645433aeg?format=raw".to_owned(),
            &[],
            400,
        ),
        (format!("{cid}?format=raw"), &[("service-worker", "script")], 400),
        (format!("{absent}?format=raw"), &[], 404),
        (format!("{absent}?format=car"), &[], 404),
        (format!("{absent}?format=raw"), &[("cache-control", "only-if-cached")], 412),
        (format!("{cid}/below?format=car"), &[], 404),
    ];
    for (path, headers, status) in cases {
        let path = format!("/ipfs/{path}");
        let get = asked(&daemon, Method::GET, &path, headers).await;
        let head = asked(&daemon, Method::HEAD, &path, headers).await;
        assert_eq!((get.status().as_u16(), head.status().as_u16()), (status, status), "{path} {headers:?}");
        if status == 200 {
            for name in [header::ETAG, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CACHE_CONTROL] {
                assert_eq!(header(&get, name.clone()), header(&head, name.clone()), "{path}: {name}");
            }
            assert_eq!(header(&get, header::CACHE_CONTROL), "public, max-age=29030400, immutable");
            assert_eq!(header(&get, header::X_CONTENT_TYPE_OPTIONS), "nosniff");
            assert!(header(&get, header::CONTENT_DISPOSITION).starts_with("attachment; filename=\"baf"));
            let length: usize = header(&get, header::CONTENT_LENGTH).parse().unwrap();
            assert_eq!(get.bytes().await.unwrap().len(), length, "{path}");
        } else {
            assert_eq!(header(&get, header::CONTENT_TYPE), "application/problem+json", "{path}");
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_sent_is_the_file_and_says_what_it_is() {
    let daemon = daemon(|_| {}).await;
    let file = model();
    daemon.add("big", file.clone()).await;
    let cid = root(&file);
    let get = async |query: &str| asked(&daemon, Method::GET, &format!("/ipfs/{cid}?{query}"), &[]).await;
    let car = get("format=car").await;
    assert_eq!(header(&car, header::CONTENT_TYPE), "application/vnd.ipld.car; version=1; order=dfs; dups=n");
    let whole = blocks(&car.bytes().await.unwrap());
    assert_eq!(whole[0].0, cid);
    assert!(whole[1..].iter().flat_map(|(_, block)| block.iter()).eq(file.iter()));
    let part = blocks(
        &get(&format!("format=car&entity-bytes={}:{}", LEAF + 5, LEAF + 5)).await.bytes().await.unwrap(),
    );
    assert!(part == [whole[0].clone(), whole[2].clone()]);
    let block = get("format=raw").await;
    assert_eq!(header(&block, header::CONTENT_DISPOSITION), format!("attachment; filename=\"{cid}.bin\""));
    assert_eq!(header(&block, header::CONTENT_LOCATION), "");
    assert!(cid.names(&block.bytes().await.unwrap()));
    let named = get("format=raw&filename=m%C3%B6%22.bin").await;
    assert_eq!(
        header(&named, header::CONTENT_DISPOSITION),
        "attachment; filename=\"m__.bin\"; filename*=UTF-8''m%C3%B6%22.bin"
    );
    // By `Accept` alone it says where a cache finds the same.
    let accept = [("accept", "application/vnd.ipld.car;dups=y")];
    let negotiated = asked(&daemon, Method::GET, &format!("/ipfs/{cid}"), &accept).await;
    assert_eq!(
        header(&negotiated, header::CONTENT_LOCATION),
        format!("/ipfs/{cid}?format=car&dag-scope=all&car-dups=y")
    );
    daemon.stop().await;
}

#[tokio::test]
async fn what_a_caller_has_already_is_not_sent_again() {
    let daemon = daemon(|_| {}).await;
    daemon.add("neg", graphs::neg()).await;
    let cid = root(&graphs::neg());
    let queries = [
        "format=raw",
        "format=car",
        "format=car&dag-scope=entity",
        "format=car&dag-scope=block",
        "format=car&entity-bytes=0:3",
        "format=car&car-dups=y",
    ];
    let mut etags = Vec::new();
    for query in queries {
        let path = format!("/ipfs/{cid}?{query}");
        let first = asked(&daemon, Method::GET, &path, &[]).await;
        let etag = header(&first, header::ETAG).to_owned();
        let weak = format!("\"other\", W/{etag}");
        for known in [etag.as_str(), "*", &weak] {
            let again = asked(&daemon, Method::GET, &path, &[("if-none-match", known)]).await;
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{query} {known}");
            assert_eq!(header(&again, header::ETAG), etag);
            assert_eq!(again.bytes().await.unwrap().len(), 0);
        }
        let other = asked(&daemon, Method::GET, &path, &[("if-none-match", "\"other\"")]).await;
        assert_eq!(other.status(), StatusCode::OK);
        assert!(!etags.contains(&etag), "{query}: {etag} is not its own");
        etags.push(etag);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_models_cid_is_told_and_survives_the_daemon_and_damage() {
    let daemon = daemon(|_| {}).await;
    let file = model();
    let cid = json!(root(&file).to_string());
    let (status, added) = daemon.try_add("big", file.clone()).await;
    assert_eq!((status, &added["cid"]), (200, &cid));
    assert_eq!(daemon.get("/api/v1/models/big").await["cid"], cid);
    assert_eq!(daemon.get("/api/v1/models").await["items"][0]["cid"], cid);
    let kept =
        daemon.home.path().join("models").join(format!("{}.layout", added["digest"].as_str().unwrap()));
    let good = std::fs::read(&kept).expect("the layout is kept beside the file");
    let home = daemon.stop().await;
    for damage in [good[..good.len() - 1].to_vec(), vec![0; good.len()], Vec::new()] {
        std::fs::write(&kept, damage).unwrap();
        let daemon = daemon_in(home.clone(), |_| {}).await;
        let path = format!("/ipfs/{}?format=raw", root(&file));
        // At once, whether or not the file has been read again.
        assert_eq!(asked(&daemon, Method::GET, &path, &[]).await.status(), StatusCode::OK);
        assert_eq!(std::fs::read(&kept).unwrap(), good);
        daemon.stop().await;
    }
    let daemon = daemon_in(home, |_| {}).await;
    daemon.http.delete(format!("{}/api/v1/models/big", daemon.url)).send().await.unwrap();
    assert!(!kept.exists());
    let gone = asked(&daemon, Method::GET, &format!("/ipfs/{}?format=raw", root(&file)), &[]).await;
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
    daemon.stop().await;
}

#[tokio::test]
async fn many_that_ask_at_once_are_all_answered() {
    let daemon = daemon(|_| {}).await;
    let file = model();
    daemon.add("big", file.clone()).await;
    let home = daemon.stop().await;
    for layout in std::fs::read_dir(home.path().join("models")).unwrap().flatten() {
        if layout.path().extension().is_some_and(|extension| extension == "layout") {
            std::fs::remove_file(layout.path()).unwrap();
        }
    }
    // Nobody knows yet which blocks there are.
    let daemon = daemon_in(home, |_| {}).await;
    let path = format!("/ipfs/{}?format=car", root(&file));
    let answers = join_all((0..40).map(|_| asked(&daemon, Method::GET, &path, &[]))).await;
    for answer in answers {
        let blocks = blocks(&answer.bytes().await.unwrap());
        assert!(blocks[1..].iter().flat_map(|(_, block)| block.iter()).eq(file.iter()));
    }
    daemon.stop().await;
}

#[tokio::test]
async fn behind_a_login_no_shared_cache_keeps_what_is_sent() {
    let daemon = TestDaemon::start_in(crate::support::home(), &[], |config| config.access.required = true);
    let daemon = daemon.await.unwrap();
    daemon.add("neg", graphs::neg()).await;
    let path = format!("/ipfs/{}?format=raw", root(&graphs::neg()));
    let owner = asked(&daemon, Method::GET, &path, &[]).await;
    assert_eq!(header(&owner, header::CACHE_CONTROL), "private, max-age=29030400, immutable");
    let nobody = reqwest::Client::builder().no_proxy().build().unwrap();
    let nobody = nobody.get(format!("{}{path}", daemon.url)).send().await.unwrap();
    assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED);
    let key = daemon.key("infers", json!({"scopes": "infer"})).await;
    let infers = reqwest::Client::builder().no_proxy().build().unwrap();
    let infers = infers.get(format!("{}{path}", daemon.url)).bearer_auth(key).send().await.unwrap();
    assert_eq!(infers.status(), StatusCode::FORBIDDEN);
    daemon.stop().await;
}
