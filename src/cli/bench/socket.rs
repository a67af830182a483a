//! Requests over the daemon's WebSocket, as many at once as a scenario wants.

use std::time::Instant;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::super::{client::Client, wire::Socket as Stream};
use crate::{
    domain::{Datatype, Tensor},
    protocol::frame::{Frame, encode},
};

/// A request as it goes out, and which of the model's inputs it holds.
pub(super) struct Ask {
    pub(super) frame: Bytes,
    pub(super) set: usize,
}

pub(super) struct Answer {
    pub(super) outputs: Vec<Tensor>,
    /// What the daemon says of the run.
    pub(super) parameters: Value,
    pub(super) set: usize,
}

/// Why a request has no answer: a code, and a sentence.
pub(super) struct Refused {
    pub(super) code: String,
    pub(super) message: String,
}

pub(super) struct Socket {
    stream: Stream,
}

/// A binary request; `id` is its place among those that are sent at once.
pub(super) fn request(model: &str, id: usize, inputs: &[Tensor], parameters: &Value) -> Bytes {
    let named = |tensor: &Tensor| {
        json!({"name": tensor.name, "datatype": tensor.datatype.as_str(), "shape": tensor.shape,
            "parameters": {"binary_data_size": tensor.body.len()}})
    };
    let header = json!({
        "type": "infer", "id": id.to_string(), "model_name": model, "parameters": parameters,
        "inputs": inputs.iter().map(named).collect::<Vec<_>>(),
    });
    let bodies: Vec<_> = inputs.iter().map(|tensor| tensor.body.contiguous()).collect();
    encode(&header, &Bytes::from(bodies.concat()).into())
}

impl Socket {
    pub(super) async fn open(client: &Client) -> anyhow::Result<Self> {
        Ok(Self { stream: client.socket().await? })
    }

    /// Waits until something of the pool has changed.
    pub(super) async fn changed(&mut self) -> anyhow::Result<()> {
        self.next().await.map(drop)
    }

    pub(super) async fn subscribe(&mut self) -> anyhow::Result<()> {
        let order = json!({"type": "subscribe", "topics": ["pool"]});
        self.stream.send(Message::text(order.to_string())).await.context("subscribing")
    }

    /// Sends all and waits for every answer; also says when the last came, in microseconds.
    pub(super) async fn ask(&mut self, asks: &[Ask]) -> anyhow::Result<(Result<Vec<Answer>, Refused>, f64)> {
        let started = Instant::now();
        for ask in asks {
            self.stream.feed(Message::Binary(ask.frame.clone())).await.context("sending a request")?;
        }
        self.stream.flush().await.context("sending a request")?;
        let (mut raw, mut refused) = (Vec::with_capacity(asks.len()), None);
        while raw.len() < asks.len() {
            let (header, body) = self.next().await?;
            if header["type"] == "error" {
                let said = |key: &str| header["error"][key].as_str().unwrap_or("?").to_owned();
                refused.get_or_insert(Refused { code: said("code"), message: said("message") });
            }
            raw.push((header, body));
        }
        let took = started.elapsed().as_secs_f64() * 1e6;
        if let Some(refused) = refused {
            return Ok((Err(refused), took));
        }
        let answers = raw.into_iter().map(|(header, body)| {
            let id: Option<usize> = header["id"].as_str().and_then(|id| id.parse().ok());
            let ask = id.and_then(|id| asks.get(id)).context("an answer to nothing")?;
            let outputs = outputs(&header, &body)?;
            Ok(Answer { outputs, parameters: header["parameters"].clone(), set: ask.set })
        });
        Ok((Ok(answers.collect::<anyhow::Result<_>>()?), took))
    }

    /// The next message, with the tensors behind it.
    async fn next(&mut self) -> anyhow::Result<(Value, Bytes)> {
        loop {
            let message = self.stream.next().await.context("the daemon closed the connection")?;
            match message.context("the daemon's answer")? {
                Message::Text(text) => return Ok((serde_json::from_str(&text)?, Bytes::new())),
                Message::Binary(bytes) => {
                    let frame = Frame::split(&bytes)?;
                    return Ok((frame.parse()?, frame.body));
                }
                Message::Close(frame) => bail!("the daemon closed the connection: {frame:?}"),
                _ => {}
            }
        }
    }
}

fn outputs(header: &Value, body: &Bytes) -> anyhow::Result<Vec<Tensor>> {
    let mut rest = body.clone();
    let listed = header["outputs"].as_array().context("an answer without outputs")?;
    let output = |output: &Value| {
        let size =
            output["parameters"]["binary_data_size"].as_u64().context("an output that is not binary")?;
        if size > rest.len() as u64 {
            bail!("an output is cut off");
        }
        let text = |key: &str| output[key].as_str().unwrap_or_default();
        Ok(Tensor {
            name: text("name").to_owned(),
            datatype: text("datatype").parse::<Datatype>().map_err(|_| anyhow!("an unknown datatype"))?,
            shape: serde_json::from_value(output["shape"].clone()).context("an output's shape")?,
            body: rest.split_to(size as usize).into(),
        })
    };
    listed.iter().map(output).collect()
}
