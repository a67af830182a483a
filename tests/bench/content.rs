//! How fast the gateway sends a file, as a CAR and block by block, against nginx sending the same file.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
};
use weft::content::{Cid, Codec, Layout, Layouter};

use crate::{
    Measured, graphs,
    load::serving::{self, Serving},
    progress,
    report::{Found, Target},
    requests::Model,
    statistics::{Ratio, median, ratio},
};

/// Of the model's description, which is what makes it large.
const BYTES: usize = 100_000_000;

const LEAF: usize = 1 << 20;
const PAIRS: usize = 30;
const WARM_UP: usize = 3;
const SEED: u64 = 21;

/// Checking what others made costs something; more than half of what it takes to send would be waste.
const LEAST: f64 = 0.5;

/// A read of the client: little enough for the processor's cache.
const READ: usize = 256 << 10;

/// Debian's place, which a user's search path may lack.
const NGINX: [&str; 2] = ["/usr/sbin/nginx", "/usr/bin/nginx"];
const LISTENS_WITHIN: Duration = Duration::from_secs(10);

/// Microseconds for the whole file, one entry per pair.
#[derive(Serialize)]
struct Samples {
    form: &'static str,
    gateway: Vec<u64>,
    nginx: Vec<u64>,
}

#[derive(Serialize)]
struct Summary {
    form: &'static str,
    /// Of the rates: above one the gateway is faster.
    ratio: Ratio,
    gateway_mb_per_s: f64,
    nginx_mb_per_s: f64,
}

pub(crate) async fn measure(program: &Path, model: &Model) -> anyhow::Result<Measured> {
    let Some(nginx) = NGINX.iter().map(Path::new).find(|path| path.exists()) else {
        return Ok(Err(
            "nginx is missing; `apt-get install --no-install-recommends nginx` brings it".to_owned()
        ));
    };
    let origin = serving::origin(program, model, 0).await?;
    let serving = Serving::native(program, "").await?;
    progress("a file of 100 MB from the gateway against nginx");
    let file = large();
    let added = serving.post("/api/v1/blobs", file.clone()).await?;
    let order = json!({"name": "large", "digest": added["digest"], "source": "the bench"});
    serving.post("/api/v1/models", order.to_string()).await?;
    let mut layouter = Layouter::default();
    layouter.update(&file);
    let layout = layouter.finish();
    let nginx = Nginx::start(nginx, &file).await?;
    let mut ends = (Client::connect(&serving.daemon.url).await?, Client::connect(&nginx.url).await?);
    let samples = [
        alternate("CAR", &mut ends, &[car(&layout)], &[Wanted::whole("/file")]).await?,
        alternate("blocks", &mut ends, &blocks(&layout), &ranges(&layout)).await?,
    ];
    serving.daemon.stop().await?;
    let summaries: Vec<_> = samples.iter().map(Samples::summary).collect();
    let targets = summaries.iter().map(Summary::target).collect();
    Ok(Ok(Found::new(origin, targets, Vec::new(), &summaries, &samples)?))
}

/// A model whose bytes are mostly its description, each leaf of its own.
fn large() -> Vec<u8> {
    let mut file = graphs::neg();
    file.push(6 << 3 | 2);
    prost::encode_length_delimiter(BYTES, &mut file).expect("a vector grows");
    file.extend((0..BYTES).map(|at| b' ' + ((at + at / LEAF) % 90) as u8));
    file
}

/// A request, and the block that its answer must be when it is one.
struct Wanted {
    path: String,
    range: Option<(u64, u64)>,
    block: Option<Cid>,
}

impl Wanted {
    fn whole(path: &str) -> Self {
        Self { path: path.to_owned(), range: None, block: None }
    }
}

fn car(layout: &Layout) -> Wanted {
    Wanted::whole(&format!("/ipfs/{}?format=car", layout.cid(layout.root())))
}

fn blocks(layout: &Layout) -> Vec<Wanted> {
    let block = |digest| {
        let cid = Cid { codec: Codec::Raw, digest };
        Wanted { path: format!("/ipfs/{cid}?format=raw"), range: None, block: Some(cid) }
    };
    layout.leaves().map(|(_, digest)| block(digest)).collect()
}

/// The same bytes as the blocks.
fn ranges(layout: &Layout) -> Vec<Wanted> {
    let range = |(range, digest): (std::ops::Range<u64>, _)| Wanted {
        path: "/file".to_owned(),
        range: Some((range.start, range.end - 1)),
        block: Some(Cid { codec: Codec::Raw, digest }),
    };
    layout.leaves().map(range).collect()
}

async fn alternate(
    form: &'static str,
    ends: &mut (Client, Client),
    ours: &[Wanted],
    theirs: &[Wanted],
) -> anyhow::Result<Samples> {
    let mut samples = Samples { form, gateway: Vec::new(), nginx: Vec::new() };
    for pair in 0..WARM_UP + PAIRS {
        let checked = pair == 0;
        let mut took = [Duration::ZERO; 2];
        for turn in 0..2 {
            let second = (pair + turn) % 2 == 1;
            took[usize::from(second)] =
                if second { ends.1.all(theirs, checked).await? } else { ends.0.all(ours, checked).await? };
        }
        if pair >= WARM_UP {
            samples.gateway.push(took[0].as_micros() as u64);
            samples.nginx.push(took[1].as_micros() as u64);
        }
    }
    Ok(samples)
}

impl Samples {
    fn summary(&self) -> Summary {
        let rates = |series: &[u64]| series.iter().map(|micros| BYTES as f64 / *micros as f64).collect();
        let (gateway, nginx): (Vec<_>, Vec<_>) = (rates(&self.gateway), rates(&self.nginx));
        let pairs: Vec<_> = gateway.iter().copied().zip(nginx.iter().copied()).collect();
        Summary {
            form: self.form,
            ratio: ratio(&pairs, median, 1, SEED),
            gateway_mb_per_s: median(&gateway),
            nginx_mb_per_s: median(&nginx),
        }
    }
}

impl Summary {
    fn target(&self) -> Target {
        Target {
            what: format!("a file of 100 MB from the gateway, as {}", self.form),
            found: format!("{:.0} MB/s", self.gateway_mb_per_s),
            bound: format!("nginx {:.0} MB/s", self.nginx_mb_per_s),
            ratio: self.ratio,
            wanted: format!(">= {LEAST}"),
            met: Some(self.ratio.value >= LEAST),
        }
    }
}

/// One kept connection, whose answers are read and dropped: the same for both servers, and no work beside theirs.
struct Client {
    stream: TcpStream,
    host: String,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(url: &str) -> anyhow::Result<Self> {
        let host = url.strip_prefix("http://").context("a plain URL")?.to_owned();
        let stream = TcpStream::connect(&host).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, host, buffer: vec![0; READ] })
    }

    async fn all(&mut self, wanted: &[Wanted], checked: bool) -> anyhow::Result<Duration> {
        let started = Instant::now();
        for wanted in wanted {
            let kept = self.get(wanted, checked).await?;
            if let Some(block) = wanted.block.filter(|_| checked) {
                ensure!(block.names(&kept), "{} is not {block}", wanted.path);
            }
        }
        Ok(started.elapsed())
    }

    /// Asks, and reads the whole body; gives it when it is wanted.
    async fn get(&mut self, wanted: &Wanted, keep: bool) -> anyhow::Result<Vec<u8>> {
        let range = wanted.range.map(|(from, to)| format!("range: bytes={from}-{to}\r\n"));
        let (path, host) = (&wanted.path, &self.host);
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{}\r\n", range.unwrap_or_default());
        self.stream.write_all(request.as_bytes()).await?;
        let mut read = 0;
        let end = loop {
            if let Some(at) = self.buffer[..read].windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            let more = self.stream.read(&mut self.buffer[read..]).await?;
            ensure!(more > 0, "{path}: the server closed the connection");
            read += more;
        };
        let head = std::str::from_utf8(&self.buffer[..end])?.to_lowercase();
        ensure!(head.starts_with("http/1.1 20"), "{path}: the server said {head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("an answer has a length")?.trim().parse()?;
        let mut kept = if keep { self.buffer[end..read].to_vec() } else { Vec::new() };
        let mut left = length.checked_sub(read - end).context("no more than the body came")?;
        while left > 0 {
            let most = left.min(READ);
            let more = self.stream.read(&mut self.buffer[..most]).await?;
            ensure!(more > 0, "{path}: {left} bytes are missing");
            if keep {
                kept.extend_from_slice(&self.buffer[..more]);
            }
            left -= more;
        }
        Ok(kept)
    }
}

/// A running nginx as it comes, without a log of requests; it ends when dropped.
struct Nginx {
    url: String,
    _child: Child,
    _folder: tempfile::TempDir,
}

impl Nginx {
    async fn start(program: &Path, file: &[u8]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("a folder for nginx")?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        std::fs::write(folder.path().join("file"), file)?;
        let conf: PathBuf = folder.path().join("nginx.conf");
        std::fs::write(&conf, configuration(folder.path(), port))?;
        let child = Command::new(program)
            .arg("-e")
            .arg(folder.path().join("error.log"))
            .arg("-c")
            .arg(&conf)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let url = format!("http://127.0.0.1:{port}");
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            ensure!(started.elapsed() < LISTENS_WITHIN, "nginx does not listen");
            tokio::task::yield_now().await;
        }
        Ok(Self { url, _child: child, _folder: folder })
    }
}

/// One process, as one connection needs, in the foreground; all it writes goes to its folder.
fn configuration(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    // Else its process would have to read the folder as another user.
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {folder}/{kind};\n"))
        .concat();
    format!(
        "{user}\ndaemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n\
         http {{\n  access_log off;\n  sendfile on;\n  keepalive_requests 1000000;\n{temporary}  \
         server {{ listen 127.0.0.1:{port}; root {folder}; }}\n}}\n"
    )
}
