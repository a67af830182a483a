//! Compressed bodies, both ways.

use async_compression::tokio::bufread::{
    GzipDecoder, GzipEncoder, ZlibDecoder, ZlibEncoder, ZstdDecoder, ZstdEncoder,
};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{
    oip::{told, x},
    support::{TestDaemon, graphs, soon, wire},
};

async fn whole(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).await.expect("a good stream");
    bytes
}

async fn encoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => whole(GzipEncoder::new(bytes)).await,
        "deflate" => whole(ZlibEncoder::new(bytes)).await,
        _ => whole(ZstdEncoder::new(bytes)).await,
    }
}

async fn decoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => whole(GzipDecoder::new(bytes)).await,
        "deflate" => whole(ZlibDecoder::new(bytes)).await,
        _ => whole(ZstdDecoder::new(bytes)).await,
    }
}

/// The header's length counts what comes out of the decompression.
#[tokio::test]
async fn bodies_come_and_go_compressed() {
    let daemon = TestDaemon::start(&[]).await;
    let rows = 1000usize;
    let input = json!({"name": "x", "datatype": "FP32", "shape": [rows, 4], "parameters": {"binary_data_size": rows * 16}});
    let header = json!({"inputs": [input], "parameters": {"binary_data_output": true}}).to_string();
    let body = [header.as_bytes(), &1.0f32.to_le_bytes().repeat(rows * 4)].concat();
    for coding in ["gzip", "deflate", "zstd"] {
        let small = encoded(coding, &body).await;
        assert!(small.len() < body.len() / 4, "{coding}: {} bytes", small.len());
        let request = daemon.infer("neg").header("inference-header-content-length", header.len());
        let request = request.header("content-encoding", coding).header("accept-encoding", coding);
        let response = soon("an answer", request.body(small).send()).await.expect("the daemon answers");
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-encoding"]),
            (200, &coding.parse().expect("a value"))
        );
        let length =
            response.headers()["inference-header-content-length"].to_str().expect("digits").to_owned();
        let bytes = response.bytes().await.expect("a whole answer");
        assert!(bytes.len() < body.len() / 4, "{coding}: {} bytes", bytes.len());
        let bytes = decoded(coding, &bytes).await;
        let tensors = bytes::Bytes::from(bytes).slice(length.parse::<usize>().expect("a number")..);
        assert_eq!(wire::floats(&tensors), vec![-1.0; rows * 4], "{coding}");

        // A refusal comes as it is, so that no client has to decompress before it knows what happened.
        let refused = daemon.infer("nobody").header("accept-encoding", coding).body(vec![b'x'; 4096]);
        let answer = told(refused).await;
        assert!(answer.status == 404 && !answer.headers.contains_key("content-encoding"), "{}", answer.json);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_cannot_or_must_not_be_decompressed_is_refused() {
    let daemon = TestDaemon::start(&[]).await;
    daemon.add("octets", graphs::identity(2)).await;
    let good = json!({"inputs": [x()]}).to_string().into_bytes();
    for coding in ["gzip", "deflate", "zstd"] {
        // A little over the limit, out of a few kilobytes; blanks before a request are no error of JSON.
        let bomb = encoded(coding, &vec![b' '; (64 << 20) + 1]).await;
        assert!(bomb.len() < 100_000, "{coding}: {} bytes", bomb.len());
        let whole = encoded(coding, &good).await;
        let broken = [&whole[..whole.len() / 2], b"broken"].concat();
        let cases = [
            ("/v2/models/neg/infer", bomb.clone(), 413, "over the limit of 67108864 bytes"),
            ("/v2/models/neg/infer", broken, 400, ""),
            ("/v2/models/neg/infer", whole[..whole.len() / 2].to_vec(), 400, ""),
            ("/v2/models/neg/infer", good.clone(), 400, ""),
            ("/v2/repository/index", bomb.clone(), 413, "over the limit of 67108864 bytes"),
        ];
        for (path, body, status, says) in cases {
            let request =
                daemon.http.post(format!("{}{path}", daemon.url)).header("content-encoding", coding);
            let answer = told(request.body(body)).await;
            let said = answer.json["error"].as_str().expect("an error");
            assert!(
                answer.status == status && said.contains(says),
                "{coding} {path}: {} {said}",
                answer.status
            );
        }
        let request =
            daemon.http.post(format!("{}/api/v1/models", daemon.url)).header("content-encoding", coding);
        let answer = told(request.body(bomb)).await;
        assert_eq!((answer.status, &answer.json["code"]), (413, &json!("too_large")), "{}", answer.json);
    }
    for coding in ["br", "gzip, gzip", "identity, gzip", ""] {
        let answer = told(daemon.infer("neg").header("content-encoding", coding).body(good.clone())).await;
        let said = answer.json["error"].as_str().expect("an error");
        assert!(
            answer.status == 415 && said.contains("gzip, zstd, deflate"),
            "{coding:?}: {} {said}",
            answer.status
        );
    }
    let answer = told(daemon.infer("neg").header("content-encoding", "identity").body(good)).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    daemon.stop().await;
}
