//! What a lane is given of a model so that it can load it, and the gate that judges what came of it.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};

use futures_util::future::BoxFuture;

use super::{Entry, Held, Layouts, ModelError, gate::Gate};
use crate::{
    backend::{DeliveredFile, Delivery, LoadOrder, SessionName},
    domain::{Digest, Failure},
    onnx,
};

/// From here on a page is not given a file as a graph: an engine that parses it holds all weights twice in one heap,
/// in the message and in its tensors. Below, that costs less than the daemon's reading of the file.
const LEAN_FROM: u64 = 32 << 20;

/// Keeps a model's files here and whole as long as what it gives lives.
type Hold = Box<dyn Fn(Arc<Entry>) -> BoxFuture<'static, Result<Held, Failure>> + Send + Sync>;

pub struct Loader {
    pub gate: Gate,
    layouts: Layouts,
    hold: Hold,
}

impl Loader {
    pub fn new(
        gate: Gate,
        layouts: Layouts,
        hold: impl Fn(Arc<Entry>) -> BoxFuture<'static, Result<Held, Failure>> + Send + Sync + 'static,
    ) -> Self {
        Self { gate, layouts, hold: Box::new(hold) }
    }

    /// Has a model's files here and whole, for a load and for what it is compared with.
    pub async fn hold(&self, entry: Arc<Entry>) -> Result<Held, Failure> {
        (self.hold)(entry).await
    }

    /// For a backend that reads files of this machine, or for one that is sent them.
    pub async fn order(
        &self,
        entry: &Arc<Entry>,
        session: SessionName,
        native: bool,
    ) -> Result<LoadOrder, ModelError> {
        let delivery = if native { None } else { Some(self.delivery(entry).await?) };
        Ok(LoadOrder { session, path: entry.path.clone(), delivery })
    }

    async fn delivery(&self, entry: &Arc<Entry>) -> Result<Delivery, ModelError> {
        let mut files = vec![self.file(entry.model.digest, entry.model.bytes).await?];
        for (digest, bytes) in &entry.model.external {
            files.push(self.file(*digest, *bytes).await?);
        }
        Ok(Delivery { graph: lean(entry).await?, files })
    }

    async fn file(&self, digest: Digest, bytes: u64) -> Result<DeliveredFile, ModelError> {
        let layout = self.layouts.of(digest).await?;
        let mut leaves = BytesMut::with_capacity(layout.leaves().len() * size_of::<Digest>());
        layout.leaves().for_each(|(_, leaf)| leaves.put_slice(leaf.bytes()));
        Ok(DeliveredFile { digest, bytes, leaves: leaves.freeze() })
    }
}

/// The graph without what makes its file large; nothing where the file is small.
async fn lean(entry: &Arc<Entry>) -> Result<Option<Bytes>, ModelError> {
    if entry.model.bytes < LEAN_FROM {
        return Ok(None);
    }
    let make = || async {
        let (path, name) = (entry.path.clone(), entry.model.digest.to_string());
        let read = tokio::task::spawn_blocking(move || onnx::lean(&path, &name));
        read.await.expect("reading a file does not panic")
    };
    Ok(Some(entry.lean.get_or_try_init(make).await?.clone()))
}
