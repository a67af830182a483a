//! The client's end of a WebSocket: frames out, frames back, and the time between.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use http::{HeaderValue, header::AUTHORIZATION};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{
        Message, client::IntoClientRequest, handshake::client::Request, protocol::WebSocketConfig,
    },
};
use weft::{domain::Timing, protocol::frame::Frame};

/// The daemon's own limit for a client's frame.
pub(crate) const MESSAGE_MAX: usize = weft::http::FRAME_MAX;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) type Sending = SplitSink<Socket, Message>;
pub(crate) type Receiving = SplitStream<Socket>;

pub(crate) struct Wire {
    socket: Socket,
}

impl Wire {
    /// Connects without Nagle's delay; the library offers no compression.
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        Self::request(url.into_client_request()?).await
    }

    /// The same as whoever has this key.
    pub(crate) async fn connect_as(url: &str, key: &str) -> anyhow::Result<Self> {
        let mut request = url.into_client_request()?;
        let shown = HeaderValue::from_str(&format!("Bearer {key}")).context("a key is plain text")?;
        request.headers_mut().insert(AUTHORIZATION, shown);
        Self::request(request).await
    }

    async fn request(request: Request) -> anyhow::Result<Self> {
        let url = request.uri().to_string();
        let config =
            WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX)).max_frame_size(Some(MESSAGE_MAX));
        let connected = tokio_tungstenite::connect_async_with_config(request, Some(config), true).await;
        let (socket, _) = connected.context(url)?;
        Ok(Self { socket })
    }

    /// For whoever sends without waiting for answers.
    pub(crate) fn halves(self) -> (Sending, Receiving) {
        self.socket.split()
    }

    pub(crate) async fn send(&mut self, frame: Bytes) -> anyhow::Result<()> {
        Ok(self.socket.send(Message::Binary(frame)).await?)
    }

    pub(crate) async fn receive(&mut self) -> anyhow::Result<Bytes> {
        match self.socket.next().await.context("the connection ended")?? {
            Message::Binary(frame) => Ok(frame),
            other => bail!("instead of a binary frame came {other}"),
        }
    }

    /// One frame out, one back.
    pub(crate) async fn exchange(&mut self, frame: Bytes) -> anyhow::Result<(Duration, Bytes)> {
        let started = Instant::now();
        self.send(frame).await?;
        let answer = self.receive().await?;
        Ok((started.elapsed(), answer))
    }

    /// All frames out while what comes back is read, until as many have come.
    pub(crate) async fn stream(&mut self, frames: Vec<Bytes>) -> anyhow::Result<Duration> {
        let (count, bytes) = (frames.len(), frames.iter().map(Bytes::len).sum::<usize>());
        let started = Instant::now();
        let (mut sink, stream) = (&mut self.socket).split();
        let send = async {
            for frame in frames {
                sink.send(Message::Binary(frame)).await?;
            }
            anyhow::Ok(())
        };
        let receive = async {
            let mut stream = stream.take(count);
            let mut received = 0;
            while let Some(message) = stream.next().await {
                received += message?.len();
            }
            anyhow::Ok(received)
        };
        let ((), received) = tokio::try_join!(send, receive)?;
        let took = started.elapsed();
        ensure!(received == bytes, "{received} of {bytes} bytes came back");
        Ok(took)
    }
}

/// What the benchmark reads of a daemon's result.
pub(crate) struct Answer {
    pub(crate) id: String,
    pub(crate) timing: Timing,
    pub(crate) provenance: serde_json::Value,
    /// The first output's bytes.
    pub(crate) output: Bytes,
}

#[derive(Deserialize)]
struct Header {
    id: String,
    outputs: Vec<Output>,
    parameters: Parameters,
}

#[derive(Deserialize)]
struct Output {
    parameters: Size,
}

#[derive(Deserialize)]
struct Size {
    binary_data_size: usize,
}

#[derive(Deserialize)]
struct Parameters {
    provenance: serde_json::Value,
    timing_us: Timing,
}

impl Answer {
    pub(crate) fn read(frame: &Bytes) -> anyhow::Result<Self> {
        let frame = Frame::split(frame)?;
        let Header { id, outputs, parameters } = frame.parse().context("the daemon's answer")?;
        let first = outputs.first().context("an answer has outputs")?.parameters.binary_data_size;
        let Parameters { provenance, timing_us } = parameters;
        Ok(Self { id, timing: timing_us, provenance, output: frame.body.slice(..first) })
    }

    pub(crate) fn told(&self, key: &str) -> String {
        self.provenance[key].as_str().unwrap_or("?").to_owned()
    }

    pub(crate) fn threads(&self) -> u64 {
        self.provenance["threads"].as_u64().unwrap_or(1)
    }
}
