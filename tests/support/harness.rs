//! A browser with one page of ours and no daemon: whoever uses it loads models into its lanes itself.

#![allow(dead_code, reason = "each target that includes this file uses its own part of it")]

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use weft::{
    backend::{
        Backend, BackendError, DeliveredFile, Delivery, LoadOrder, Loaded, SessionName,
        lowered::Lowered,
        page::{
            PageLane,
            weft::{Kernels, WeftLane},
        },
    },
    bridge::{Bridge, Page, Session},
    domain::{BackendKind, Digest, DimBinding, Environment, InstanceId, LaneId},
    driver::{Driver, Instance, LaunchOrder, recipe::GpuMode},
    protocol::link::{Capability, DaemonToLane, DaemonToPage, LaneToDaemon, PageToDaemon},
    tasks::Tasks,
};

const MIB: usize = 1 << 20;

/// A launch takes half a second here, a loaded machine gets this long.
const WITHIN: Duration = Duration::from_secs(60);

pub(crate) struct Harness {
    bridge: Bridge,
    instance: Box<dyn Instance>,
    page: Page,
    control: Session,
    lanes: u64,
    epoch: u64,
    folder: PathBuf,
    tasks: Tasks,
    /// Why the page keeps no weights.
    pub(crate) fault: Option<String>,
}

impl Harness {
    /// Models' files are to lie in `folder`.
    pub(crate) async fn launch(driver: Arc<dyn Driver>, folder: PathBuf, tasks: &Tasks) -> Self {
        let address: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let bridge = Bridge::bind(address, 500, folder.clone(), tasks).await.expect("a free port");
        let mut page = bridge.open_page(1);
        let order = LaunchOrder {
            name: "harness-1".to_owned(),
            url: page.url.clone(),
            gpu: GpuMode::Software,
            deadline: WITHIN,
        };
        let instance = driver.launch(order).await.expect("the browser starts");
        let (control, fault) = ready(&mut page).await;
        let tasks = tasks.clone();
        Self { bridge, instance, page, control, lanes: 0, epoch: 1, folder, tasks, fault }
    }

    pub(crate) fn version(&self) -> &str {
        self.instance.version()
    }

    /// Another page in the place of this one.
    pub(crate) async fn reload(&mut self) {
        self.epoch += 1;
        self.page = self.bridge.open_page(self.epoch);
        self.instance.navigate(self.page.url.clone(), WITHIN).await.expect("the page opens");
        (self.control, self.fault) = ready(&mut self.page).await;
    }

    /// Another WASM lane.
    pub(crate) async fn lane(&mut self) -> PageLane {
        self.lane_on(BackendKind::Wasm).await.expect("WASM runs everywhere")
    }

    /// Another lane, or why there is none.
    pub(crate) async fn lane_on(&mut self, backend: BackendKind) -> Result<PageLane, String> {
        self.start(backend).await.map(|(lane, _)| lane)
    }

    async fn start(&mut self, backend: BackendKind) -> Result<(PageLane, Capability), String> {
        let mut link = self.link(&backend).await;
        link.sender.control(&DaemonToLane::Welcome).expect("the Worker listens");
        let ready = timeout(WITHIN, link.receiver.receive::<LaneToDaemon>()).await.expect("an engine starts");
        match ready.expect("the link is open").message {
            LaneToDaemon::LaneReady { capability } => {
                let environment = environment(backend);
                let lane = PageLane::start(environment, capability.memory_max, link, &self.tasks);
                Ok((lane, *capability))
            }
            LaneToDaemon::LaneUnavailable { reason, .. } => Err(reason),
            other => panic!("{other:?} before the lane was ready"),
        }
    }

    /// Another lane on our own kernels, or why there is none.
    pub(crate) async fn our_lane(
        &mut self,
        backend: BackendKind,
        lowered: Lowered,
    ) -> Result<WeftLane, String> {
        let (lane, capability) = self.start(backend).await?;
        let kernels = Kernels::of(&capability).expect("a lane on our kernels");
        Ok(WeftLane::over(lane, kernels, lowered))
    }

    /// The link of another lane, which has said hello and waits for its welcome.
    pub(crate) async fn link(&mut self, backend: &BackendKind) -> Session {
        let mut expected = self.bridge.expect_lane(self.epoch);
        self.lanes += 1;
        let start = DaemonToPage::StartLane {
            lane: format!("{backend}#{}", self.lanes),
            ticket: expected.ticket.clone(),
            backend: backend.clone(),
            threads: 1,
            webnn_device: None,
            memory_max: 1 << 32,
        };
        self.control.sender.control(&start).expect("the page listens");
        timeout(WITHIN, expected.session()).await.expect("a Worker starts").expect("its link")
    }

    /// The next lane that the page misses, and why.
    pub(crate) async fn exited(&mut self) -> (String, String) {
        let exited = async {
            loop {
                let said = self.control.receiver.receive().await.expect("the link is open").message;
                if let PageToDaemon::LaneExited { lane, message } = said {
                    return (lane, message);
                }
            }
        };
        timeout(WITHIN, exited).await.expect("the page misses a Worker")
    }

    /// Ends the Worker of the latest lane: a browser has address space for a few of their heaps.
    pub(crate) fn end_lane(&self, backend: &BackendKind) {
        let stop = DaemonToPage::StopLane { lane: format!("{backend}#{}", self.lanes) };
        self.control.sender.control(&stop).expect("the page listens");
    }

    pub(crate) fn put(&self, bytes: &[u8]) -> DeliveredFile {
        let file = delivered(bytes);
        fs::write(self.path(&file), bytes).expect("room for a file");
        file
    }

    pub(crate) fn path(&self, file: &DeliveredFile) -> PathBuf {
        self.folder.join(file.digest.to_string())
    }

    pub(crate) async fn close(self) {
        self.instance.close().await;
    }
}

async fn ready(page: &mut Page) -> (Session, Option<String>) {
    let mut control = timeout(WITHIN, page.control.session()).await.expect("a page opens").expect("its link");
    control.sender.control(&DaemonToPage::Welcome).expect("the page listens");
    let said = timeout(WITHIN, control.receiver.receive::<PageToDaemon>()).await.expect("the page reports");
    match said.expect("the link is open").message {
        PageToDaemon::PageReady { environment } => (control, environment.cache_fault),
        other => panic!("{other:?} before the page was ready"),
    }
}

fn environment(backend: BackendKind) -> Environment {
    Environment {
        instance: InstanceId::new("harness-1"),
        lane: LaneId::new("harness-1/wasm"),
        browser: "a test's".to_owned(),
        browser_version: String::new(),
        backend,
        adapter: None,
        webnn_device: None,
        sandbox: None,
        engine: String::new(),
        threads: 1,
        flags: Vec::new(),
    }
}

pub(crate) fn delivered(bytes: &[u8]) -> DeliveredFile {
    let leaves: Vec<u8> = bytes.chunks(MIB).flat_map(|leaf| Sha256::digest(leaf).to_vec()).collect();
    let digest = Digest::new(Sha256::digest(bytes).into());
    DeliveredFile { digest, bytes: bytes.len() as u64, leaves: leaves.into() }
}

/// Loads the model whose own file is the first; `graph` comes with the message.
pub(crate) async fn load(
    lane: &PageLane,
    files: &[&DeliveredFile],
    graph: Option<Bytes>,
) -> Result<Loaded, BackendError> {
    load_shaped(lane, session(files[0].digest), files, graph).await
}

/// The same for sizes that are fixed.
pub(crate) async fn load_shaped(
    lane: &PageLane,
    session: SessionName,
    files: &[&DeliveredFile],
    graph: Option<Bytes>,
) -> Result<Loaded, BackendError> {
    let order = LoadOrder {
        session,
        path: "/nowhere".into(),
        delivery: Some(Delivery { graph, files: files.iter().map(|file| (*file).clone()).collect() }),
    };
    timeout(WITHIN, lane.load(order)).await.expect("a load ends")
}

pub(crate) fn session(model: Digest) -> SessionName {
    SessionName { model, shapes: DimBinding::new() }
}
