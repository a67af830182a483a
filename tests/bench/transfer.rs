//! How fast a large tensor moves to a lane and back, against the relay's echo of as many bytes.

use std::path::Path;

use anyhow::ensure;
use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::Serialize;
use serde_json::Value;
use weft::{
    domain::{Datatype, Tensor},
    protocol::frame::PAYLOAD_MESSAGE_MAX,
};

use crate::{
    requests::{BROWSER, Model},
    statistics::{Ratio, median, ratio},
    wire::{Answer, Wire},
};

const ELEMENTS: usize = 4 << 20;
const BYTES: usize = ELEMENTS * size_of::<f32>();

const PAIRS: usize = 30;
const WARM_UP: usize = 3;
const SEED: u64 = 3;

/// Microseconds, one entry per pair.
#[derive(Default, Serialize)]
pub(crate) struct Samples {
    /// The client's total less the lane's `compute`.
    moved: Vec<u64>,
    echo: Vec<u64>,
    compute: Vec<u64>,
    transfer: Vec<u64>,
    codec: Vec<u64>,
    daemon: Vec<u64>,
}

#[derive(Serialize)]
pub(crate) struct Summary {
    /// Of the rates: above one the daemon is faster.
    pub(crate) ratio: Ratio,
    pub(crate) moved_mib_per_s: f64,
    pub(crate) echo_mib_per_s: f64,
    pub(crate) transfer_us: f64,
    pub(crate) codec_us: f64,
    pub(crate) compute_us: f64,
    pub(crate) client_us: f64,
}

/// A model that answers with its input, so that as many bytes come back as with an echo.
pub(crate) fn identity(folder: &Path) -> anyhow::Result<Model> {
    let file = folder.join("identity.onnx");
    std::fs::write(&file, identity_onnx())?;
    let mut random = StdRng::seed_from_u64(SEED);
    let values = (0..ELEMENTS).flat_map(|_| random.random::<f32>().to_le_bytes());
    let tensor = Tensor {
        name: "x".to_owned(),
        datatype: Datatype::Fp32,
        shape: vec![ELEMENTS as u64],
        body: values.collect::<Vec<_>>().into(),
    };
    let (name, sets) = ("identity".to_owned(), vec![vec![tensor]]);
    Ok(Model { name, browser: BROWSER, file, sets, written: Vec::<Value>::new() })
}

/// `y = Identity(x)` over `ELEMENTS` floats: IR version 8, opset 13.
fn identity_onnx() -> Vec<u8> {
    let mut size = Vec::new();
    prost::encode_length_delimiter(ELEMENTS, &mut size).expect("a vector grows");
    let dimension = field(1, &[&[0x08], size.as_slice()].concat());
    let tensor = [&[0x08, 1], field(2, &dimension).as_slice()].concat();
    let port = |name: &[u8]| [field(1, name), field(2, &field(1, &tensor))].concat();
    let node = [field(1, b"x"), field(2, b"y"), field(4, b"Identity")].concat();
    let graph =
        [field(1, &node), field(2, b"identity"), field(11, &port(b"x")), field(12, &port(b"y"))].concat();
    [vec![0x08, 8], field(7, &graph), field(8, &[0x10, 13])].concat()
}

/// A length-delimited protobuf field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encode_length_delimiter(content.len(), &mut field).expect("a vector grows");
    field.extend_from_slice(content);
    field
}

pub(crate) async fn measure(daemon: &mut Wire, relay: &mut Wire, model: &Model) -> anyhow::Result<Samples> {
    let sent = model.sets[0][0].body.contiguous();
    let messages: Vec<Bytes> = (0..BYTES)
        .step_by(PAYLOAD_MESSAGE_MAX)
        .map(|from| sent.slice(from..from + PAYLOAD_MESSAGE_MAX))
        .collect();
    let mut samples = Samples::default();
    for pair in 0..WARM_UP + PAIRS {
        let frame = model.frame(pair);
        let mut echo = None;
        if pair % 2 == 0 {
            echo = Some(relay.stream(messages.clone()).await?);
        }
        let (total, answer) = daemon.exchange(frame).await?;
        let echo = match echo {
            Some(echo) => echo,
            None => relay.stream(messages.clone()).await?,
        };
        let answer = Answer::read(&answer)?;
        ensure!(answer.output == sent, "the lane changed a tensor");
        if pair >= WARM_UP {
            samples.keep(total.as_micros() as u64, echo.as_micros() as u64, &answer);
        }
    }
    Ok(samples)
}

impl Samples {
    fn keep(&mut self, total: u64, echo: u64, answer: &Answer) {
        let timing = answer.timing;
        self.moved.push(total.saturating_sub(timing.compute));
        self.echo.push(echo);
        self.compute.push(timing.compute);
        self.transfer.push(timing.transfer);
        self.codec.push(timing.decode + timing.encode);
        self.daemon.push(timing.total);
    }

    pub(crate) fn summary(&self) -> Summary {
        let rates = |series: &[u64]| series.iter().map(|micros| rate(*micros)).collect::<Vec<_>>();
        let (moved, echo) = (rates(&self.moved), rates(&self.echo));
        let pairs: Vec<_> = moved.iter().copied().zip(echo.iter().copied()).collect();
        let middle = |series: &[u64]| median(&series.iter().map(|micros| *micros as f64).collect::<Vec<_>>());
        let totals = self.moved.iter().zip(&self.compute).zip(&self.daemon);
        let client: Vec<_> =
            totals.map(|((moved, compute), daemon)| (moved + compute).saturating_sub(*daemon)).collect();
        Summary {
            ratio: ratio(&pairs, median, 1, SEED),
            moved_mib_per_s: median(&moved),
            echo_mib_per_s: median(&echo),
            transfer_us: middle(&self.transfer),
            codec_us: middle(&self.codec),
            compute_us: middle(&self.compute),
            client_us: middle(&client),
        }
    }
}

/// MiB of one direction per second.
fn rate(micros: u64) -> f64 {
    (BYTES >> 20) as f64 * 1e6 / micros.max(1) as f64
}
