//! Requests over the daemon's WebSocket, as many at once as a scenario wants.

use std::time::Instant;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message};

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

    /// Waits until something of the pool has changed, and says what of which instance.
    pub(super) async fn changed(&mut self) -> anyhow::Result<Value> {
        let (mut message, _) = self.next().await?;
        Ok(message["event"].take())
    }

    /// Hears of the pool from now on.
    pub(super) async fn subscribe(&mut self) -> anyhow::Result<()> {
        // Nothing answers a subscription, but messages are read in their order, and this one is refused.
        let orders =
            [json!({"type": "subscribe", "topics": ["pool"]}), json!({"type": "cancel", "id": "subscribed"})];
        for order in orders {
            self.stream.send(Message::text(order.to_string())).await.context("subscribing")?;
        }
        while self.next().await?.0["type"] != "error" {}
        Ok(())
    }

    /// Sends all and waits for every answer; also says when the last came, in microseconds.
    pub(super) async fn ask(&mut self, asks: &[Ask]) -> anyhow::Result<(Result<Vec<Answer>, Refused>, f64)> {
        let started = self.send(asks).await?;
        let (mut raw, mut refused) = (Vec::with_capacity(asks.len()), None);
        while raw.len() < asks.len() {
            let (header, body) = self.next().await?;
            refused = refused.or_else(|| refusal(&header));
            raw.push((header, body));
        }
        let took = started.elapsed().as_secs_f64() * 1e6;
        if let Some(refused) = refused {
            return Ok((Err(refused), took));
        }
        let answers = raw.into_iter().map(|(header, body)| {
            let ask = asks.get(number(&header)?).context("an answer to nothing")?;
            answer(&header, &body, ask.set)
        });
        Ok((Ok(answers.collect::<anyhow::Result<_>>()?), took))
    }

    /// Sends all and waits for every answer, each with when it came, in microseconds since the first was sent.
    pub(super) async fn ask_each(
        &mut self,
        asks: &[Ask],
    ) -> anyhow::Result<Vec<(Result<Answer, Refused>, f64)>> {
        let started = self.send(asks).await?;
        let mut heard = Vec::with_capacity(asks.len());
        while heard.len() < asks.len() {
            let (header, body) = self.next().await?;
            let took = started.elapsed().as_secs_f64() * 1e6;
            heard.push((number(&header)?, header, body, took));
        }
        heard.sort_by_key(|(number, ..)| *number);
        let said = heard.into_iter().zip(asks).map(|((_, header, body, took), ask)| match refusal(&header) {
            Some(refused) => Ok((Err(refused), took)),
            None => Ok((Ok(answer(&header, &body, ask.set)?), took)),
        });
        said.collect()
    }

    async fn send(&mut self, asks: &[Ask]) -> anyhow::Result<Instant> {
        let started = Instant::now();
        for ask in asks {
            self.stream.feed(Message::Binary(ask.frame.clone())).await.context("sending a request")?;
        }
        self.stream.flush().await.context("sending a request")?;
        Ok(started)
    }

    /// One half sends, the other hears.
    pub(super) fn halves(self) -> (SplitSink<Stream, Message>, SplitStream<Stream>) {
        self.stream.split()
    }

    async fn next(&mut self) -> anyhow::Result<(Value, Bytes)> {
        next(&mut self.stream).await
    }
}

/// The next message, with the tensors behind it.
pub(super) async fn next<S>(stream: &mut S) -> anyhow::Result<(Value, Bytes)>
where
    S: futures_util::Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
{
    loop {
        let message = stream.next().await.context("the daemon closed the connection")?;
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

/// The number of the request that a message is about.
pub(super) fn number(header: &Value) -> anyhow::Result<usize> {
    let number = header["id"].as_str().and_then(|id| id.parse().ok());
    number.with_context(|| format!("an answer to nothing: {header}"))
}

/// Why a message is no answer.
pub(super) fn refusal(header: &Value) -> Option<Refused> {
    let said = |key: &str| header["error"][key].as_str().unwrap_or("?").to_owned();
    (header["type"] == "error").then(|| Refused { code: said("code"), message: said("message") })
}

/// The answer to a request with this set of inputs.
pub(super) fn answer(header: &Value, body: &Bytes, set: usize) -> anyhow::Result<Answer> {
    Ok(Answer { outputs: outputs(header, body)?, parameters: header["parameters"].clone(), set })
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
