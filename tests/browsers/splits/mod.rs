//! `make prove`: models split by the daemon over engines in every order, against the whole model in the native lane.
//!
//! Each model over one set of lanes is a slice with a file of its own, written when it is whole; it is then not run again.
//! The tables of `docs/sharding.md` are made of them.

mod fetched;
mod light;
mod slice;
mod subjects;
mod tables;
mod timing;
mod transformer;

use serde_json::Value;

use crate::serve::Served;
use slice::Lanes;
use subjects::{Source, Subject};
use transformer::Transformer;

/// Every engine in WASM, and the native lane.
const ENGINES: Lanes = Lanes {
    name: "wasm",
    browsers: "chromium=1,firefox=1,webkitgtk=1",
    backends: &["wasm"],
    names: &["chromium-1/wasm", "firefox-1/wasm", "webkitgtk-1/wasm", "native/ort-cpu"],
};

const WEBNN: Lanes = Lanes {
    name: "webnn",
    browsers: "chromium-webnn=1,firefox=1",
    backends: &["wasm", "webnn"],
    names: &["chromium-webnn-1/webnn", "firefox-1/wasm", "native/ort-cpu"],
};

/// On software adapters: for what they compute, not for how fast.
const WEBGPU: Lanes = Lanes {
    name: "webgpu",
    browsers: "chromium=1,firefox=1",
    backends: &["wasm", "webgpu"],
    names: &["chromium-1/webgpu", "firefox-1/webgpu", "native/ort-cpu"],
};

const fn made(name: &'static str, layers: usize, width: u64, orders: Option<usize>) -> Subject {
    Subject { name, from: Source::Made(Transformer { layers, width }), orders }
}

const fn light(name: &'static str, input: &'static str) -> Subject {
    Subject { name, from: Source::Light(input), orders: Some(4) }
}

const SILERO: Subject = Subject {
    name: "silero-vad",
    from: Source::Catalogue("models.toml", &[&[("input", 0), ("state", 1)]]),
    orders: None,
};
const MAGIKA: Subject =
    Subject { name: "magika", from: Source::Catalogue("models.toml", &[&[("bytes", 0)]]), orders: None };
const MINILM: Subject = Subject {
    name: "all-minilm-l6-v2",
    from: Source::Catalogue(
        "precision.toml",
        &[
            &[("input_ids", 0), ("attention_mask", 0), ("token_type_ids", 0)],
            &[("input_ids", 1), ("attention_mask", 1), ("token_type_ids", 1)],
        ],
    ),
    orders: Some(6),
};
const DETECTION: Subject = Subject {
    name: "ocr-detection",
    from: Source::Catalogue("ocr.toml", &[&[("x", 0)], &[("x", 2)], &[("x", 3)]]),
    orders: None,
};
const RECOGNITION: Subject = Subject {
    name: "ocr-recognition",
    from: Source::Catalogue("ocr.toml", &[&[("x", 0)], &[("x", 3)]]),
    orders: None,
};
const SMALL: Subject = made("transformer-10", 0, 64, None);
const MIDDLE: Subject = made("transformer-106", 6, 128, None);

/// A test for each slice, so that each has a limit of its own.
macro_rules! slices {
    ($($test:ident: $subject:expr, $lanes:expr;)*) => {
        const SLICES: &[(Subject, Lanes)] = &[$(($subject, $lanes)),*];
        $(
            #[tokio::test]
            #[ignore = "a full matrix: run by `make prove`"]
            async fn $test() {
                slice::run(&$subject, &$lanes).await;
            }
        )*
    };
}

slices! {
    silero: SILERO, ENGINES;
    magika: MAGIKA, ENGINES;
    minilm: MINILM, ENGINES;
    ocr_detection: DETECTION, ENGINES;
    ocr_recognition: RECOGNITION, ENGINES;
    transformer_10: SMALL, ENGINES;
    transformer_106: MIDDLE, ENGINES;
    transformer_1002: made("transformer-1002", 62, 64, Some(6)), ENGINES;
    transformer_500_mb: made("transformer-500-mb", 10, 1024, Some(2)), ENGINES;
    light_bvlc_alexnet: light("light-bvlc-alexnet", "data_0"), ENGINES;
    light_densenet121: light("light-densenet121", "data_0"), ENGINES;
    light_inception_v1: light("light-inception-v1", "data_0"), ENGINES;
    light_inception_v2: light("light-inception-v2", "data_0"), ENGINES;
    light_resnet50: light("light-resnet50", "gpu_0/data_0"), ENGINES;
    light_shufflenet: light("light-shufflenet", "gpu_0/data_0"), ENGINES;
    light_squeezenet: light("light-squeezenet", "data_0"), ENGINES;
    light_vgg19: light("light-vgg19", "data_0"), ENGINES;
    light_zfnet512: light("light-zfnet512", "gpu_0/data_0"), ENGINES;
    silero_on_webnn: SILERO, WEBNN;
    magika_on_webnn: MAGIKA, WEBNN;
    transformer_106_on_webnn: MIDDLE, WEBNN;
    silero_on_webgpu: SILERO, WEBGPU;
    magika_on_webgpu: MAGIKA, WEBGPU;
    transformer_10_on_webgpu: SMALL, WEBGPU;
}

async fn post(served: &Served, path: &str, body: impl Into<reqwest::Body>) -> Value {
    let request = reqwest::Client::new().post(format!("{}{path}", served.url)).body(body);
    let text = request.send().await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path} answered {text:?}"))
}

async fn get(served: &Served, path: &str) -> Value {
    let text = reqwest::get(format!("{}{path}", served.url)).await.unwrap().text().await.unwrap();
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path} answered {text:?}"))
}
