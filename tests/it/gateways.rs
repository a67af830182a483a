//! Files by CID, from gateways that misbehave on purpose.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::{Value, json};
use weft::content::{Answer, Ask, Cid, Codec, Given, Piece, answer};

use crate::{
    downloads::{daemon, daemon_in, download, ended, failed, is_done},
    ipfs::{LEAF, layout, model, root},
    support::{Heard, Origin, Said, graphs},
};

/// What a good gateway answers that has this file alone.
fn good(heard: &Heard, file: &[u8]) -> Said {
    let (path, query) = heard.path.split_once('?').expect("a format is said");
    let query: Vec<_> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let said = |wanted: &str| query.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    let given = Given {
        format: said("format"),
        dag_scope: said("dag-scope"),
        entity_bytes: said("entity-bytes"),
        accept: heard.header("accept"),
        ..Given::default()
    };
    let cid: Cid = path.strip_prefix("/ipfs/").expect("the gateway's path").parse().expect("a CID");
    match answer(&layout(file), &cid, &Ask::read(&given).expect("a good request")).expect("a good range") {
        None => Said::status("404 Not Found"),
        Some(answer) => told(answer.content_type, &body(file, answer)),
    }
}

fn body(file: &[u8], answer: Answer) -> Vec<u8> {
    let bytes = |piece| match piece {
        Piece::Bytes(bytes) => bytes.to_vec(),
        Piece::File(range) => file[range.start as usize..range.end as usize].to_vec(),
    };
    answer.pieces.flat_map(bytes).collect()
}

const DFS: &str = "application/vnd.ipld.car; version=1; order=dfs; dups=n";

fn told(kind: &str, body: &[u8]) -> Said {
    Said::raw(&format!("200 OK\nContent-Type: {kind}\nContent-Length: {}", body.len()), body)
}

/// All of the file as a CAR.
fn whole(file: &[u8]) -> Vec<u8> {
    let ask = Ask::read(&Given { format: Some("car"), ..Given::default() }).unwrap();
    body(file, answer(&layout(file), &root(file), &ask).unwrap().unwrap())
}

fn is_car(heard: &Heard) -> bool {
    heard.path.contains("format=car")
}

/// What is wrong with a gateway, and what is told of it.
struct Wrong {
    case: &'static str,
    says: fn(&Heard, usize) -> Said,
    /// It is not asked again, because of this.
    lies: Option<&'static str>,
    /// How many requests the good one after it hears, and how many of those for the whole file.
    good_hears: (usize, usize),
}

fn flipped(at: usize) -> Vec<u8> {
    let mut car = whole(&model());
    let at = if at == usize::MAX { car.len() - 1 } else { at };
    car[at] ^= 1;
    car
}

#[allow(clippy::too_many_lines, reason = "a table of cases is as long as there are cases")]
#[tokio::test]
async fn one_bad_gateway_is_left_for_the_next() {
    const CUT: usize = 2 << 20;
    let bad = [
        Wrong {
            case: "a wrong byte in the last leaf",
            says: |_, _| told(DFS, &flipped(usize::MAX)),
            lies: Some("is not what it is called"),
            good_hears: (1, 0),
        },
        Wrong {
            case: "a wrong byte in the root",
            says: |_, _| told(DFS, &flipped(120)),
            lies: Some("is not what it is called"),
            good_hears: (1, 1),
        },
        Wrong {
            case: "another file",
            says: |_, _| told(DFS, &whole(&graphs::neg())),
            lies: Some("belongs to nothing that was asked for"),
            good_hears: (1, 1),
        },
        Wrong {
            case: "more than the file",
            says: |_, _| told(DFS, &[whole(&model()), whole(&graphs::neg())[59..].to_vec()].concat()),
            lies: None,
            good_hears: (0, 0),
        },
        Wrong {
            case: "no CAR",
            says: |_, _| told(DFS, &[b'<'; 100]),
            lies: Some("it sent a header"),
            good_hears: (1, 1),
        },
        Wrong {
            case: "a wrong block",
            says: |heard, _| {
                if is_car(heard) {
                    Said::status("406 Not Acceptable")
                } else {
                    told("application/vnd.ipld.raw", b"wrong")
                }
            },
            lies: Some("is not what it is called"),
            good_hears: (1, 1),
        },
        Wrong {
            case: "a block without an end",
            says: |heard, _| {
                if is_car(heard) {
                    Said::status("406 Not Acceptable")
                } else {
                    told("application/vnd.ipld.raw", &vec![0; 3 << 20])
                }
            },
            lies: Some("a block of over 2097152 bytes"),
            good_hears: (1, 1),
        },
        Wrong {
            case: "a CAR that breaks off",
            says: |_, _| told(DFS, &whole(&model())).short(CUT),
            lies: None,
            good_hears: (1, 0),
        },
        Wrong {
            case: "a CAR that ends early, and no blocks",
            says: |heard, _| {
                if heard.path.contains("dag-scope") {
                    told(DFS, &whole(&model())[..CUT])
                } else {
                    Said::status("404 Not Found")
                }
            },
            lies: None,
            good_hears: (1, 0),
        },
        Wrong { case: "404", says: |_, _| Said::status("404 Not Found"), lies: None, good_hears: (1, 1) },
        Wrong { case: "401", says: |_, _| Said::status("401 Unauthorized"), lies: None, good_hears: (1, 1) },
        Wrong {
            case: "429",
            says: |_, _| Said::status("429 Too Many Requests\nRetry-After: 100"),
            lies: None,
            good_hears: (1, 1),
        },
        Wrong {
            case: "503",
            says: |_, _| Said::status("503 Service Unavailable"),
            lies: None,
            good_hears: (1, 1),
        },
        Wrong { case: "a reset", says: |_, _| Said::default().reset(), lies: None, good_hears: (1, 1) },
    ];
    let file = model();
    for Wrong { case, says, lies, good_hears } in bad {
        let liar = Origin::start(says).await;
        let served = file.clone();
        let honest = Origin::start(move |heard, _| good(heard, &served)).await;
        let urls = [&liar.url, &honest.url].map(|url| url.parse().unwrap());
        let daemon = daemon(|settings| settings.gateways = urls.to_vec()).await;
        let done = download(&daemon, &format!("ipfs:{}", root(&file))).await;
        is_done(&done, &file);
        assert_eq!(done["revision"], root(&file).to_string(), "{case}");
        let told = done["distrusted"].as_array().unwrap();
        match lies {
            None => assert!(told.is_empty(), "{case}: {told:?}"),
            Some(says) => {
                let told = told[0].as_str().unwrap();
                assert!(told.contains(says) && told.contains(&liar.url), "{case}: {told}");
            }
        }
        let heard = honest.heard();
        let all = heard.iter().filter(|heard| heard.path.contains("dag-scope=entity")).count();
        assert_eq!((heard.len(), all), good_hears, "{case}: {heard:?}");
        daemon.stop().await;
    }
}

#[tokio::test]
async fn one_gateway_gives_all_whatever_form_it_gives_it_in() {
    let cases: [(&str, fn(&Heard, usize) -> Said, usize); 5] = [
        ("a CAR", |heard, _| good(heard, &model()), 1),
        // The root, and four leaves.
        (
            "blocks alone",
            |heard, _| if is_car(heard) { Said::status("406 Not Acceptable") } else { good(heard, &model()) },
            1 + 5,
        ),
        (
            "a CAR in any order",
            |heard, _| {
                if is_car(heard) {
                    told("application/vnd.ipld.car; version=1", &whole(&model()))
                } else {
                    good(heard, &model())
                }
            },
            1 + 5,
        ),
        (
            "no ranges",
            |heard, _| {
                if heard.path.contains("dag-scope") {
                    told(DFS, &whole(&model())[..2 << 20])
                } else if is_car(heard) {
                    told(DFS, &whole(&model()))
                } else {
                    good(heard, &model())
                }
            },
            2,
        ),
        (
            "CARs that end early",
            |heard, _| {
                if heard.path.contains("dag-scope") {
                    told(DFS, &whole(&model())[..2 << 20])
                } else {
                    good(heard, &model())
                }
            },
            2,
        ),
    ];
    let file = model();
    for (case, says, requests) in cases {
        let origin = Origin::start(says).await;
        let url = format!("{}/", origin.url).parse().unwrap();
        let daemon = daemon(|settings| settings.gateways = vec![url]).await;
        let done = download(&daemon, &format!("ipfs://{}", root(&file))).await;
        is_done(&done, &file);
        assert_eq!((&done["bytes"], &done["total"]), (&json!(file.len()), &json!(file.len())), "{case}");
        assert_eq!(origin.count(), requests, "{case}: {:?}", origin.heard());
        daemon.stop().await;
    }
}

#[tokio::test]
async fn what_came_before_is_not_asked_for_again_even_by_another_daemon() {
    let better = Arc::new(Mutex::new(false));
    let is_better = better.clone();
    let origin = Origin::start(move |heard, _| {
        if *is_better.lock().unwrap() {
            return good(heard, &model());
        }
        if heard.path.contains("dag-scope") {
            told(DFS, &whole(&model())).short(1 << 20)
        } else {
            Said::status("503 No")
        }
    });
    let origin = origin.await;
    let url: url::Url = origin.url.parse().unwrap();
    let daemon = daemon(|settings| settings.gateways = vec![url.clone()]).await;
    let source = format!("ipfs:{}", root(&model()));
    failed(&download(&daemon, &source).await, "source_unavailable", "same", "no gateway gave all of ipfs:");
    let (home, before) = (daemon.stop().await, origin.count());
    *better.lock().unwrap() = true;
    let daemon = daemon_in(home, |settings| settings.gateways = vec![url]).await;
    is_done(&download(&daemon, &source).await, &model());
    let heard: Vec<_> = origin.heard()[before..].iter().map(|heard| heard.path.clone()).collect();
    let cid = root(&model());
    let (from, to) = (2 * LEAF, model().len() - 1);
    assert_eq!(
        heard,
        [format!("/ipfs/{cid}?format=raw"), format!("/ipfs/{cid}?format=car&entity-bytes={from}:{to}")]
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_cid_that_nobody_can_give_says_why() {
    let folder = Bytes::from_static(b"\x0a\x02\x08\x01");
    let folder_cid = Cid::of(Codec::DagPb, &folder);
    let large = root(&model());
    let origin = Origin::start(move |heard, _| {
        if heard.path.contains(&folder_cid.to_string()) {
            if is_car(heard) { Said::status("406 No") } else { told("application/vnd.ipld.raw", &folder) }
        } else if heard.path.contains(&large.to_string()) {
            good(heard, &model())
        } else {
            Said::status("404 Not Found")
        }
    });
    let origin = origin.await;
    let url: url::Url = origin.url.parse().unwrap();
    let daemon = daemon(|settings| (settings.gateways, settings.download_max) = (vec![url], 1000)).await;
    let absent = Cid::of(Codec::Raw, b"nobody has this");
    let cases = [
        (absent, "source_unavailable", "never", "is not there (404)"),
        (folder_cid, "invalid_request", "never", "it is a folder"),
        (large, "too_large", "never", "over the limit of 1000"),
    ];
    for (cid, code, retry, says) in cases {
        failed(&download(&daemon, &format!("ipfs:{cid}")).await, code, retry, says);
    }
    for wrong in ["ipfs:", "ipfs:nonsense", "ipfs:bafkqaaa", &format!("ipfs://{absent}/below")] {
        let (status, said) = daemon.post("/api/v1/downloads", json!({"source": wrong}).to_string()).await;
        assert_eq!(status, 422, "{wrong}: {said}");
    }
    daemon.stop().await;
    let alone = self::daemon(|_| {}).await;
    failed(
        &download(&alone, &format!("ipfs:{absent}")).await,
        "invalid_request",
        "never",
        "no gateway is known",
    );
    alone.stop().await;
}

#[tokio::test]
async fn another_weft_is_a_gateway_and_what_is_here_needs_none() {
    let first = daemon(|_| {}).await;
    let file = model();
    first.add("big", file.clone()).await;
    let url: url::Url = first.url.parse().unwrap();
    let second = daemon(|settings| settings.gateways = vec![url]).await;
    let source = format!("ipfs:{}", root(&file));
    let done = download(&second, &source).await;
    is_done(&done, &file);
    let named = json!({"name": "big", "download": done["id"]});
    let (status, added) = second.post("/api/v1/models", named.to_string()).await;
    assert_eq!(
        (status, &added["source"], &added["cid"]),
        (200, &json!(source), &json!(root(&file).to_string()))
    );
    second.stop().await;
    // It came by an upload, and has a CID nevertheless.
    for order in [json!({"source": source}), json!({"source": source, "offline": true})] {
        let here: Value = ended(&first, &order).await;
        is_done(&here, &file);
    }
    first.stop().await;
}
