//! The client's end of HTTP/1.1 on one kept connection: nothing that a library would do beside it is timed.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Heads of servers on loopback are a few hundred bytes.
const HEAD_MAX: usize = 16 << 10;

pub(crate) struct Http {
    stream: TcpStream,
    host: String,
    read: BytesMut,
}

/// An answer's body, and how much of it is JSON ahead of tensors.
pub(crate) struct Answered {
    pub(crate) body: Bytes,
    pub(crate) json: usize,
}

impl Http {
    /// Connects to `http://HOST:PORT` without Nagle's delay.
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        let host = url.strip_prefix("http://").context("a plain URL")?.trim_end_matches('/').to_owned();
        let address: SocketAddr = host.parse().with_context(|| format!("{host} is no address"))?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, host, read: BytesMut::new() })
    }

    /// A whole request as it is written; with `json` the body's first so many bytes are JSON and tensors follow.
    pub(crate) fn post(&self, path: &str, body: &[u8], json: Option<usize>) -> Bytes {
        let about = match json {
            Some(json) => format!(
                "content-type: application/octet-stream\r\ninference-header-content-length: {json}\r\n"
            ),
            None => "content-type: application/json\r\n".to_owned(),
        };
        let (host, length) = (&self.host, body.len());
        let head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\n{about}content-length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat().into()
    }

    /// One request out, one answer back.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<(Duration, Answered)> {
        let started = Instant::now();
        self.stream.write_all(request).await?;
        let answered = self.answer().await?;
        Ok((started.elapsed(), answered))
    }

    async fn answer(&mut self) -> anyhow::Result<Answered> {
        let head = loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break self.read.split_to(at + 4);
            }
            ensure!(self.read.len() < HEAD_MAX, "an answer's head does not end");
            self.more().await?;
        };
        let head = std::str::from_utf8(&head).context("an answer's head")?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "the server said {head}");
        let length = number(head, "content-length")?.context("an answer has a length")?;
        while self.read.len() < length {
            self.more().await?;
        }
        let json = number(head, "inference-header-content-length")?.unwrap_or(length);
        Ok(Answered { body: self.read.split_to(length).freeze(), json })
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        self.read.reserve(16 << 10);
        ensure!(self.stream.read_buf(&mut self.read).await? > 0, "the server closed the connection");
        Ok(())
    }
}

fn number(head: &str, name: &str) -> anyhow::Result<Option<usize>> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim().parse().context("a number of bytes")).transpose()
}
