//! Files by their CIDs, from gateways that nothing is believed: each block is checked before any of it is kept.
//!
//! A gateway is asked for a CAR of what is missing, and block by block for what its CARs do not have.
//! One that lies is not asked again; one that fails is left for the next, which goes on where it ended.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _, path::PathBuf, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use url::Url;

use super::{
    Found, Locator, Shelf, Source, SourceError,
    backoff::Tries,
    locator::place,
    parts::Part,
    web::{Answer, Web, below},
};
use crate::content::{Assembly, BLOCK_MAX, CarError, Cid, Codec, Missing, Reader, Refused};

/// What a file is called that came by its CID, which tells no name.
pub(super) const MODEL: &str = "model.onnx";

const CAR: &str = "application/vnd.ipld.car; version=1; order=dfs; dups=n";
const RAW: &str = "application/vnd.ipld.raw";

/// A file that a CID means.
pub(super) struct Dag(pub(super) Cid);

impl Source for Dag {
    fn find<'a>(&'a self, _: &'a Web) -> BoxFuture<'a, Result<Found, SourceError>> {
        let Self(cid) = *self;
        let (source, revision) = (Locator::Ipfs(cid), Some(cid.to_string()));
        Box::pin(async move { Ok(Found { shelf: Shelf::Blocks(cid), path: None, source, revision }) })
    }
}

/// What a part of it is kept under.
pub(super) fn address(cid: Cid) -> Url {
    Url::parse(&format!("ipfs:{cid}")).expect("a CID is letters and digits")
}

/// Brings the whole file into the part.
pub(super) async fn fetch(web: &Web, cid: Cid, part: &Part) -> Result<(), SourceError> {
    let mut trusted = web.settings.gateways.clone();
    if trusted.is_empty() {
        return Err(SourceError::NoGateways { cid });
    }
    let (mut fetch, mut tries) = (Fetch::new(web, cid, part)?, Tries::new(web.settings.backoff));
    loop {
        let (mut told, mut passes) = (Vec::new(), None::<Duration>);
        for gateway in trusted.clone() {
            let error = match fetch.from(&gateway).await {
                Ok(()) => return fetch.finish().await,
                Err(error) if error.is_for_all() => return Err(error),
                Err(error) => error,
            };
            tracing::warn!(%cid, gateway = place(&gateway), %error, "a gateway did not give all of a file");
            if matches!(error, SourceError::Lied { .. }) {
                trusted.retain(|trusted| *trusted != gateway);
                web.progress.distrusts(&error);
            }
            passes = error.passes().into_iter().chain(passes).min();
            told.push(error.to_string());
        }
        let error = SourceError::Gateways { cid, told, passes };
        let waits = |wait, error: &SourceError| web.progress.waits(wait, error);
        tries.again(error, fetch.present(), waits).await?;
        web.progress.goes_on();
    }
}

/// What is there, on the disk and of the tree. It goes to the thread that reads, checks and writes, and comes back.
struct Held {
    assembly: Assembly,
    file: File,
    cid: Cid,
    path: PathBuf,
}

struct Fetch<'a> {
    web: &'a Web,
    cid: Cid,
    held: Option<Held>,
    /// Whether the file may have leaves that came in an earlier life.
    looked: bool,
}

/// What an answer of a gateway's brought.
#[derive(PartialEq)]
enum Came {
    /// Something new.
    New,
    /// Nothing that was missing, or no CAR that can be used.
    Nothing,
}

impl<'a> Fetch<'a> {
    fn new(web: &'a Web, cid: Cid, part: &Part) -> Result<Self, SourceError> {
        let path = part.path().to_owned();
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|source| SourceError::Keep { path: path.clone(), source })?;
        let assembly = Assembly::new(cid, web.settings.download_max);
        Ok(Self { web, cid, held: Some(Held { assembly, file, cid, path }), looked: false })
    }

    fn assembly(&self) -> &Assembly {
        &self.held.as_ref().expect("nobody else has it between two steps").assembly
    }

    fn present(&self) -> u64 {
        self.assembly().present()
    }

    /// Does what takes the disk or the processor on a thread for that.
    async fn aside<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Held) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let mut held = self.held.take().expect("nobody else has it between two steps");
        let work = move || {
            let done = work(&mut held);
            (held, done)
        };
        let (held, done) = tokio::task::spawn_blocking(work).await.expect("reading a file does not panic");
        self.web.progress.at(held.assembly.present(), held.assembly.bytes());
        self.held = Some(held);
        done
    }

    /// Brings what is missing, as far as this gateway has it.
    async fn from(&mut self, gateway: &Url) -> Result<(), SourceError> {
        if !self.looked {
            self.look(gateway).await?;
        }
        let mut cars = true;
        loop {
            let missing = self.assembly().missing();
            let Some(next) = self.assembly().next() else { return Ok(()) };
            if cars && self.car(gateway, &missing).await? == Came::New {
                continue;
            }
            cars = false;
            self.block(gateway, next).await?;
        }
    }

    /// Finds what came in an earlier life, which takes the tree.
    async fn look(&mut self, gateway: &Url) -> Result<(), SourceError> {
        let length =
            self.aside(|held| Ok(held.file.metadata().map_err(|error| held.keep(error))?.len())).await?;
        while length > 0
            && let Some(node) = self.assembly().next_node()
        {
            self.block(gateway, node).await?;
        }
        self.aside(move |held| held.look(length)).await?;
        self.looked = true;
        Ok(())
    }

    async fn car(&mut self, gateway: &Url, missing: &Missing) -> Result<Came, SourceError> {
        let mut url = below(gateway, ["ipfs", &self.cid.to_string()])?;
        url.set_query(Some(&match missing {
            Missing::Bytes(Range { start, end }) => format!("format=car&entity-bytes={start}:{}", end - 1),
            Missing::All | Missing::Nothing => "format=car&dag-scope=entity".to_owned(),
        }));
        let mut answer = match self.web.open_as(&url, CAR, None).await {
            Ok(answer) if in_order(&answer) => answer,
            Ok(_) | Err(SourceError::Status { status: 400 | 405 | 406 | 415 | 501, .. }) => {
                return Ok(Came::Nothing);
            }
            Err(error) => return Err(error),
        };
        let lied = |problem: &CarError| SourceError::Lied {
            place: place(&url),
            problem: format!("it sent {problem}"),
        };
        let (mut reader, mut came, mut again) = (Reader::default(), Came::Nothing, 0);
        while let Some(bytes) = answer.next(self.present(), self.assembly().bytes()).await? {
            reader.push(&bytes);
            while let Some((cid, block)) = reader.block().map_err(|error| lied(&error))? {
                if self.take(&url, cid, block).await? {
                    came = Came::New;
                    if self.assembly().next().is_none() {
                        return Ok(came);
                    }
                    continue;
                }
                // Each once at most, on the way to what is missing.
                again += 1;
                if again > self.assembly().had() {
                    let problem = "it sent the same blocks over and over".to_owned();
                    return Err(SourceError::Lied { place: place(&url), problem });
                }
            }
        }
        // An end within a block is a loss like any other: what is whole is kept, and the rest is asked for.
        Ok(came)
    }

    async fn block(&mut self, gateway: &Url, cid: Cid) -> Result<(), SourceError> {
        let mut url = below(gateway, ["ipfs", &cid.to_string()])?;
        url.set_query(Some("format=raw"));
        let mut answer = self.web.open_as(&url, RAW, None).await?;
        let mut block = BytesMut::new();
        while let Some(bytes) = answer.next(block.len() as u64, None).await? {
            if block.len() + bytes.len() > BLOCK_MAX {
                let problem = format!("it sent a block of over {BLOCK_MAX} bytes");
                return Err(SourceError::Lied { place: place(&url), problem });
            }
            block.extend_from_slice(&bytes);
        }
        self.take(&url, cid, block.freeze()).await.map(drop)
    }

    /// Keeps a block that is good; says whether it is new.
    async fn take(&mut self, url: &Url, cid: Cid, block: Bytes) -> Result<bool, SourceError> {
        let place = place(url);
        self.aside(move |held| held.take(&place, &cid, &block)).await
    }

    async fn finish(&mut self) -> Result<(), SourceError> {
        self.aside(|held| {
            let bytes = held.assembly.bytes().expect("a whole file has a root");
            // An earlier life may have left more.
            held.file.set_len(bytes).map_err(|error| held.keep(error))
        })
        .await
    }
}

impl Held {
    fn keep(&self, source: io::Error) -> SourceError {
        SourceError::Keep { path: self.path.clone(), source }
    }

    fn take(&mut self, place: &str, cid: &Cid, block: &Bytes) -> Result<bool, SourceError> {
        let taken = self.assembly.accept(cid, block).map_err(|refused| match refused {
            Refused::Dag(problem) => SourceError::Dag { cid: self.cid, problem: Box::new(problem) },
            refused => SourceError::Lied { place: place.to_owned(), problem: refused.to_string() },
        })?;
        let Some(writes) = taken else { return Ok(false) };
        for write in writes {
            self.file.write_all_at(&write.bytes, write.at).map_err(|error| self.keep(error))?;
        }
        Ok(true)
    }

    /// Notes the leaves that the file's first so many bytes hold already.
    fn look(&mut self, length: u64) -> Result<(), SourceError> {
        for (range, digest) in self.assembly.leaves() {
            let size = range.end - range.start;
            if range.end > length || size > BLOCK_MAX as u64 {
                continue;
            }
            let mut leaf = vec![0; size as usize];
            self.file.read_exact_at(&mut leaf, range.start).map_err(|error| self.keep(error))?;
            let is = Cid { codec: Codec::Raw, digest };
            if is.names(&leaf) {
                self.assembly.found(range.start);
            }
        }
        Ok(())
    }
}

/// Whether it is a CAR whose blocks come after what links to them.
fn in_order(answer: &Answer) -> bool {
    let Some(text) = answer.content_type() else { return false };
    let mut parts = text.split(';').map(str::trim);
    parts.next() == Some("application/vnd.ipld.car")
        && parts.any(|part| part.eq_ignore_ascii_case("order=dfs"))
}
