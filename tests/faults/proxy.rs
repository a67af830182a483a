//! A userspace TCP proxy between browsers and the bridge, which makes the network's faults.
//!
//! It reads the WebSocket frames of links as far as it must to know whose link one is, to cut an answer in its middle,
//! and to end a Worker behind the daemon's back. Everything else passes as it comes.

#![allow(dead_code, reason = "each target that includes this file uses its own part of it")]

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::mpsc,
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Pieces on their way in one direction of one connection: more than two seconds of steps.
const UNDER_WAY: usize = 4096;

/// Longer than any request's head that a browser sends.
const HEAD_MAX: usize = 16 << 10;

/// The bridge's own limit for a message, and room for the frame around it.
const FRAME_MAX: u64 = (2 << 20) + 16;

/// An unstable network: so long nothing passes, out of so long.
pub(crate) const STALL: Duration = Duration::from_millis(300);
const STALL_EVERY: Duration = Duration::from_millis(700);

/// The most that a gust delays a piece by.
const GUST_MAX_MS: u64 = 60;

/// Turns kept for whoever asks.
const TURNS_MAX: usize = 10_000;

const TEXT: u8 = 1;
const BINARY: u8 = 2;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Weather {
    Clear,
    /// Everything is so late, in each direction.
    Late(Duration),
    /// Everything is late by chance, and nothing passes from time to time.
    Gusty {
        since: Instant,
    },
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    _listening: DropGuard,
}

struct Shared {
    upstream: SocketAddr,
    state: Mutex<State>,
}

struct State {
    weather: Weather,
    chance: StdRng,
    links: BTreeMap<u64, Link>,
    /// Which Worker was given which ticket.
    tickets: BTreeMap<String, String>,
    /// The instance whose next answer is to be cut in its middle.
    halve: Option<String>,
    halved: usize,
    /// When a lane answered last, until a step follows.
    answered: Option<Instant>,
    turns: Vec<Duration>,
}

struct Link {
    owner: Option<Owner>,
    cut: CancellationToken,
    down: mpsc::WeakSender<Piece>,
}

#[derive(Clone)]
enum Owner {
    /// A page's control link, and its latest Worker's name.
    Page {
        instance: String,
        worker: String,
    },
    Lane {
        instance: String,
    },
}

impl Owner {
    fn instance(&self) -> &str {
        match self {
            Self::Page { instance, .. } | Self::Lane { instance } => instance,
        }
    }
}

enum Piece {
    Bytes(Instant, Vec<u8>),
    Cut,
}

impl Proxy {
    /// Listens on a port of its own and passes what comes to `upstream`.
    pub(crate) async fn start(upstream: SocketAddr, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let state = State {
            weather: Weather::Clear,
            chance: StdRng::seed_from_u64(seed),
            links: BTreeMap::new(),
            tickets: BTreeMap::new(),
            halve: None,
            halved: 0,
            answered: None,
            turns: Vec::new(),
        };
        let shared = Arc::new(Shared { upstream, state: Mutex::new(state) });
        let stop = CancellationToken::new();
        tokio::spawn(listen(listener, shared.clone(), stop.clone()));
        Ok(Self { port, shared, _listening: stop.drop_guard() })
    }

    pub(crate) fn weather(&self, weather: Weather) {
        self.shared.state().weather = weather;
    }

    /// Closes every link of an instance, as a network does that is gone; says how many there were.
    pub(crate) fn cut(&self, instance: &str) -> usize {
        let state = self.shared.state();
        let own = state.links.values().filter(|link| link.belongs_to(instance));
        own.map(|link| link.cut.cancel()).count()
    }

    /// Has the instance's next answer cut in its middle.
    pub(crate) fn halve(&self, instance: &str) {
        self.shared.state().halve = Some(instance.to_owned());
    }

    pub(crate) fn halved(&self) -> usize {
        self.shared.state().halved
    }

    /// From lanes' answers to the steps that followed them, since this was last asked.
    pub(crate) fn turns(&self) -> Vec<Duration> {
        std::mem::take(&mut self.shared.state().turns)
    }

    /// Tells an instance's page to end its Worker, which the daemon has not said; says whether the page was told.
    pub(crate) fn end_worker(&self, instance: &str) -> bool {
        let state = self.shared.state();
        state.links.values().any(|link| match &link.owner {
            Some(Owner::Page { instance: own, worker }) if own == instance => {
                let order = serde_json::json!({"type": "stop_lane", "lane": worker}).to_string();
                let length = u8::try_from(order.len()).ok().filter(|length| *length < 126);
                let mut frame = vec![0x80 | TEXT, length.expect("a short order")];
                frame.extend(order.into_bytes());
                let piece = Piece::Bytes(Instant::now(), frame);
                link.down.upgrade().is_some_and(|down| down.try_send(piece).is_ok())
            }
            _ => false,
        })
    }
}

impl Link {
    fn belongs_to(&self, instance: &str) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.instance() == instance)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the proxy's state panics")
    }

    /// When what has just come is to leave.
    fn due(&self) -> Instant {
        let now = Instant::now();
        let mut state = self.state();
        match state.weather {
            Weather::Clear => now,
            Weather::Late(by) => now + by,
            Weather::Gusty { since } => {
                let late = now + Duration::from_millis(state.chance.random_range(0..=GUST_MAX_MS));
                let phase = (now - since).as_nanos() % STALL_EVERY.as_nanos();
                let stalled = STALL
                    .saturating_sub(Duration::from_nanos(u64::try_from(phase).expect("less than a second")));
                late.max(now + stalled)
            }
        }
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        // Without file descriptors there is nothing to pass; the test that waits for it says so.
        let Ok((browser, _)) = accepted else { return };
        number += 1;
        let (shared, stop) = (shared.clone(), stop.clone());
        tokio::spawn(async move {
            let cut = CancellationToken::new();
            tokio::select! {
                // Either end may go at any time; that is what is tested.
                _ = carry(&shared, browser, number, &cut) => {}
                () = cut.cancelled() => {}
                () = stop.cancelled() => {}
            }
            shared.state().links.remove(&number);
        });
    }
}

async fn carry(shared: &Shared, browser: TcpStream, number: u64, cut: &CancellationToken) -> io::Result<()> {
    let daemon = TcpStream::connect(shared.upstream).await?;
    browser.set_nodelay(true)?;
    daemon.set_nodelay(true)?;
    let (from_browser, to_browser) = browser.into_split();
    let (from_daemon, to_daemon) = daemon.into_split();
    let (mut from_browser, mut from_daemon) = (BufReader::new(from_browser), BufReader::new(from_daemon));
    let (up, going_up) = mpsc::channel(UNDER_WAY);
    let (down, going_down) = mpsc::channel(UNDER_WAY);
    let head = head(&mut from_browser).await?;
    let link = head.starts_with(b"GET /harness/link");
    if link {
        let link = Link { owner: None, cut: cut.clone(), down: down.downgrade() };
        shared.state().links.insert(number, link);
    }
    pass(shared, &up, head).await?;
    let upwards = async {
        if link {
            answers(shared, number, from_browser, up).await
        } else {
            plain(shared, from_browser, up).await
        }
    };
    let downwards = async {
        if link {
            pass(shared, &down, self::head(&mut from_daemon).await?).await?;
            orders(shared, number, from_daemon, down).await
        } else {
            plain(shared, from_daemon, down).await
        }
    };
    tokio::try_join!(
        upwards,
        downwards,
        write(going_up, to_daemon, cut),
        write(going_down, to_browser, cut)
    )?;
    Ok(())
}

/// A request's or an answer's head, the empty line included.
async fn head(from: &mut BufReader<OwnedReadHalf>) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(from.read_u8().await?);
        if head.len() > HEAD_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(head)
}

async fn pass(shared: &Shared, to: &mpsc::Sender<Piece>, bytes: Vec<u8>) -> io::Result<()> {
    to.send(Piece::Bytes(shared.due(), bytes)).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

async fn plain(
    shared: &Shared,
    mut from: BufReader<OwnedReadHalf>,
    to: mpsc::Sender<Piece>,
) -> io::Result<()> {
    loop {
        let mut bytes = Vec::with_capacity(64 << 10);
        if from.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        pass(shared, &to, bytes).await?;
    }
}

/// Sends each piece when it is due; a direction that has ended is closed.
async fn write(
    mut pieces: mpsc::Receiver<Piece>,
    mut to: OwnedWriteHalf,
    cut: &CancellationToken,
) -> io::Result<()> {
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::Bytes(due, bytes) => {
                // A sleep until now would last until the timer's next millisecond.
                if due > Instant::now() {
                    tokio::time::sleep_until(due).await;
                }
                to.write_all(&bytes).await?;
            }
            Piece::Cut => {
                // What comes after would fill the hole that the cut has left, as no network does.
                cut.cancel();
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }
    to.shutdown().await
}

/// One WebSocket frame as it travels.
struct Frame {
    raw: Vec<u8>,
    /// Where its payload begins.
    payload: usize,
    mask: Option<[u8; 4]>,
}

impl Frame {
    async fn read(from: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Self>> {
        let mut raw = vec![0; 2];
        if from.read(&mut raw[..1]).await? == 0 {
            return Ok(None);
        }
        from.read_exact(&mut raw[1..]).await?;
        let more = match raw[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let masked = raw[1] & 0x80 != 0;
        let payload = 2 + more + if masked { 4 } else { 0 };
        raw.resize(payload, 0);
        from.read_exact(&mut raw[2..]).await?;
        let length = match more {
            0 => u64::from(raw[1] & 0x7f),
            _ => raw[2..2 + more].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        if length > FRAME_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mask = masked.then(|| [raw[payload - 4], raw[payload - 3], raw[payload - 2], raw[payload - 1]]);
        raw.resize(payload + usize::try_from(length).expect("below the limit"), 0);
        from.read_exact(&mut raw[payload..]).await?;
        Ok(Some(Self { raw, payload, mask }))
    }

    fn opcode(&self) -> u8 {
        self.raw[0] & 0x0f
    }

    fn message(&self) -> Option<Value> {
        let mask = self.mask.unwrap_or_default();
        let text: Vec<u8> = self.raw[self.payload..]
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask)
            .collect();
        serde_json::from_slice(&text).ok()
    }

    /// Whether `words` are in what the daemon sends, which is not masked.
    fn says(&self, words: &[u8]) -> bool {
        self.raw.windows(words.len()).any(|window| window == words)
    }
}

fn instance_of(worker: &str) -> String {
    worker.split('/').next().unwrap_or_default().to_owned()
}

/// From a browser to the daemon.
async fn answers(
    shared: &Shared,
    number: u64,
    mut from: BufReader<OwnedReadHalf>,
    to: mpsc::Sender<Piece>,
) -> io::Result<()> {
    while let Some(mut frame) = Frame::read(&mut from).await? {
        if frame.opcode() == TEXT
            && let Some(hello) = frame.message()
            && hello["type"] == "hello"
            && let Some(ticket) = hello["ticket"].as_str()
        {
            let mut state = shared.state();
            let worker = state.tickets.remove(ticket);
            if let (Some(worker), Some(link)) = (worker, state.links.get_mut(&number)) {
                link.owner = Some(Owner::Lane { instance: instance_of(&worker) });
            }
        }
        let cut = frame.opcode() == BINARY && shared.state().answer(number);
        if cut {
            frame.raw.truncate(frame.raw.len() / 2);
        }
        pass(shared, &to, frame.raw).await?;
        if cut {
            to.send(Piece::Cut).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
    }
    Ok(())
}

/// From the daemon to a browser.
async fn orders(
    shared: &Shared,
    number: u64,
    mut from: BufReader<OwnedReadHalf>,
    to: mpsc::Sender<Piece>,
) -> io::Result<()> {
    while let Some(frame) = Frame::read(&mut from).await? {
        if frame.opcode() == TEXT
            && let Some(order) = frame.message()
            && order["type"] == "start_lane"
            && let (Some(worker), Some(ticket)) = (order["lane"].as_str(), order["ticket"].as_str())
        {
            let mut state = shared.state();
            state.tickets.insert(ticket.to_owned(), worker.to_owned());
            if let Some(link) = state.links.get_mut(&number) {
                link.owner = Some(Owner::Page { instance: instance_of(worker), worker: worker.to_owned() });
            }
        }
        if frame.opcode() == BINARY && frame.says(br#""type":"step""#) {
            shared.state().step();
        }
        pass(shared, &to, frame.raw).await?;
    }
    Ok(())
}

impl State {
    fn lane_of(&self, link: u64) -> Option<String> {
        match self.links.get(&link)?.owner.as_ref()? {
            Owner::Lane { instance } => Some(instance.clone()),
            Owner::Page { .. } => None,
        }
    }

    /// Takes note of an answer; says whether it is to be cut.
    fn answer(&mut self, link: u64) -> bool {
        self.answered = Some(Instant::now());
        let lane = self.lane_of(link);
        let hit = self.halve.is_some() && self.halve == lane;
        if hit {
            self.halve = None;
            self.halved += 1;
        }
        hit
    }

    fn step(&mut self) {
        self.turns.extend(self.answered.take().map(|answered| answered.elapsed()));
        if self.turns.len() > TURNS_MAX {
            self.turns.clear();
        }
    }
}
