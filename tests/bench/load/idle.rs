//! Ten thousand connections that ask nothing: what each holds of the daemon's memory, and what one that asks feels of
//! them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

use super::{
    floats,
    serving::{Serving, natively},
};
use crate::{
    Measured,
    origin::Origin,
    processes, progress,
    report::{Found, Target},
    requests::Model,
    statistics::{Ratio, median, quantile, ratio},
    wire::{Answer, Wire},
};

/// The model is too small to be shared among threads.
const CONFIG: &str = "[native]\nthreads = 1\n";

const CONNECTIONS: usize = 10_000;

/// Beside a connection's descriptor each, what either process has open anyway.
const DESCRIPTORS: u64 = CONNECTIONS as u64 + 1000;

const MOST: f64 = 65_536.0;

/// Openings of all; the later ones meet memory that has been used before.
const ROUNDS: usize = 3;

/// Opened at a time, so that the listener's queue does not overflow.
const OPENERS: usize = 16;

const REQUESTS: usize = 1200;
const WARM_UP: usize = 300;
const BLOCK: usize = 60;

/// What the daemon does after an opening or a closing is no rest.
const SETTLE: Duration = Duration::from_secs(2);
const CLOSED_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

const SEED: u64 = 17;

#[derive(Serialize)]
struct Samples {
    /// Bytes of the daemon in memory before the first connection, and with all of them open, per round.
    before: u64,
    open: Vec<u64>,
    /// Microseconds of the one that asks, in turn without and with the others.
    without: Vec<u64>,
    with: Vec<u64>,
}

#[derive(Serialize)]
struct Summary {
    each: Ratio,
    bytes_each: f64,
    p99: Ratio,
    with_p99_us: f64,
    without_p99_us: f64,
    with_median_us: f64,
    without_median_us: f64,
}

pub(crate) async fn measure(program: &Path, model: &Model) -> anyhow::Result<Measured> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if hard < DESCRIPTORS {
        return Ok(Err(format!(
            "the hard limit on open files (RLIMIT_NOFILE, `ulimit -Hn`) is {hard}, and {DESCRIPTORS} are wanted"
        )));
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(DESCRIPTORS), hard)?;
    progress("ten thousand connections that ask nothing");
    let serving = Serving::native(program, CONFIG).await?;
    serving.add(model, &json!({})).await?;
    let pid = serving.daemon.pid()?;
    let address: SocketAddr = serving.daemon.url.trim_start_matches("http://").parse()?;
    let mut wire = Wire::connect(&serving.daemon.socket()).await?;
    let mut asked = Asked { model, number: 0 };
    asked.ask(&mut wire, WARM_UP).await?;
    let resident = || processes::resident(pid).context("the daemon has ended");
    let mut samples =
        Samples { before: resident()?, open: Vec::new(), without: Vec::new(), with: Vec::new() };
    let descriptors = descriptors(pid)?;
    for round in 0..ROUNDS {
        samples.without.extend(asked.ask(&mut wire, REQUESTS).await?);
        let idle = open(address, round).await?;
        tokio::time::sleep(SETTLE).await;
        samples.open.push(resident()?);
        samples.with.extend(asked.ask(&mut wire, REQUESTS).await?);
        drop(idle);
        closed(pid, descriptors).await?;
    }
    let (_, answer) = wire.exchange(model.asking(0, &natively())).await?;
    serving.daemon.stop().await?;
    let summary = samples.summary();
    let (origin, note) = (Origin::of(&Answer::read(&answer)?), summary.note(&samples));
    Ok(Ok(Found::new(origin, summary.targets(), vec![note], &summary, &samples)?))
}

struct Asked<'a> {
    model: &'a Model,
    number: usize,
}

impl Asked<'_> {
    async fn ask(&mut self, wire: &mut Wire, requests: usize) -> anyhow::Result<Vec<u64>> {
        let mut took = Vec::new();
        for _ in 0..requests {
            self.number += 1;
            let (total, answer) = wire.exchange(self.model.asking(self.number, &natively())).await?;
            Answer::read(&answer)?;
            took.push(total.as_micros() as u64);
        }
        Ok(took)
    }
}

/// Opens them all, with nothing in this process but a socket each.
async fn open(address: SocketAddr, round: usize) -> anyhow::Result<Vec<TcpStream>> {
    // From an address of its own each round: ports of closed connections rest for a minute.
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 1, u8::try_from(round)? + 1), 0));
    let mut opening = JoinSet::new();
    for _ in 0..OPENERS {
        opening.spawn(async move {
            let mut sockets = Vec::new();
            for _ in 0..CONNECTIONS / OPENERS {
                sockets.push(handshake(from, address).await?);
            }
            anyhow::Ok(sockets)
        });
    }
    let opened = opening.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let opened: Vec<_> = opened.into_iter().flatten().collect();
    ensure!(opened.len() == CONNECTIONS, "{} connections are open", opened.len());
    Ok(opened)
}

/// The least that opens a WebSocket (RFC 6455, section 4.1); its example's key does.
async fn handshake(from: SocketAddr, address: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(from)?;
    let mut stream = socket.connect(address).await?;
    let request = format!(
        "GET /v2/ws HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let (mut answer, mut read) = ([0; 1024], 0);
    while !answer[..read].ends_with(b"\r\n\r\n") {
        let more = stream.read(&mut answer[read..]).await?;
        ensure!(more > 0, "a handshake ended with {:?}", String::from_utf8_lossy(&answer[..read]));
        read += more;
    }
    let answer = String::from_utf8_lossy(&answer[..read]);
    ensure!(answer.starts_with("HTTP/1.1 101 "), "a handshake was answered {answer}");
    Ok(stream)
}

fn descriptors(pid: i32) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd")).context("the daemon's descriptors")?.count())
}

/// Waits until the daemon has let go of them too.
async fn closed(pid: i32, before: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + CLOSED_WITHIN;
    // A few of its own may have come and gone.
    while descriptors(pid)? > before + 50 {
        ensure!(Instant::now() < deadline, "the daemon keeps {} descriptors", descriptors(pid)?);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    tokio::time::sleep(SETTLE).await;
    Ok(())
}

impl Samples {
    fn summary(&self) -> Summary {
        let each: Vec<_> = self
            .open
            .iter()
            .map(|open| open.saturating_sub(self.before) as f64 / CONNECTIONS as f64)
            .collect();
        let pairs: Vec<_> = each.iter().map(|bytes| (*bytes, MOST)).collect();
        let (with, without) = (floats(&self.with), floats(&self.without));
        let both: Vec<_> = with.iter().copied().zip(without.iter().copied()).collect();
        let p99 = |series: &[f64]| quantile(series, 0.99);
        Summary {
            // The worst opening counts, not a typical one.
            each: ratio(&pairs, |series| quantile(series, 1.0), 1, SEED),
            bytes_each: quantile(&each, 1.0),
            p99: ratio(&both, p99, BLOCK, SEED),
            with_p99_us: p99(&with),
            without_p99_us: p99(&without),
            with_median_us: median(&with),
            without_median_us: median(&without),
        }
    }
}

impl Summary {
    fn targets(&self) -> Vec<Target> {
        vec![
            Target {
                what: format!("memory of an idle connection, of {CONNECTIONS}"),
                found: format!("{:.1} KiB", self.bytes_each / 1024.0),
                bound: "limit 64 KiB".to_owned(),
                ratio: self.each,
                wanted: "≤ 1.00".to_owned(),
                met: Some(self.each.value <= 1.0),
            },
            Target {
                what: "who asks beside them, p99".to_owned(),
                found: format!("{:.0} µs", self.with_p99_us),
                bound: format!("without {:.0} µs", self.without_p99_us),
                ratio: self.p99,
                wanted: String::new(),
                met: None,
            },
        ]
    }

    fn note(&self, samples: &Samples) -> String {
        let mib = |bytes: &u64| format!("{:.0}", *bytes as f64 / f64::from(1 << 20));
        let open: Vec<_> = samples.open.iter().map(mib).collect();
        format!(
            "idle connections: the daemon holds {} MiB without, {} MiB with them, opening by opening; \
             who asks has a median of {:.0} µs without and {:.0} µs with them",
            mib(&samples.before),
            open.join(", "),
            self.without_median_us,
            self.with_median_us
        )
    }
}
