//! The files of one model, from where they lie to the folder of the blobs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Brought, Found, Locator, Remote, Shelf, SourceError,
    archive::{Form, Unpack},
    choose::{choose, companions, folder},
    dag,
    digest::Expected,
    fetch::fetch,
    locator::place,
    parts::{Part, Parts},
    pieces,
    web::Web,
};
use crate::{
    content::Cid,
    domain::Digest,
    models::{Blobs, Layouts, Upload, blobs::Soundness},
};

pub(super) struct Bring<'a> {
    pub(super) web: &'a Web,
    pub(super) parts: &'a Arc<Parts>,
    pub(super) blobs: &'a Blobs,
    pub(super) layouts: &'a Layouts,
}

/// The model's own file, and where it lay.
struct Model {
    at: String,
    upload: Upload,
    /// The version that its server stated.
    etag: Option<String>,
    files: BTreeMap<String, Digest>,
}

impl Bring<'_> {
    pub(super) async fn found(&self, found: Found) -> Result<Brought, SourceError> {
        let Found { shelf, path, source, revision } = found;
        let (inside, model) = match shelf {
            Shelf::Loose { place, files } => (true, self.loose(&place, &files, path.as_deref()).await?),
            Shelf::Lone { name, remote } => (false, self.lone(name, &remote).await?),
            Shelf::Blocks(cid) => (false, self.blocks(cid).await?),
            Shelf::Packed { archive, form } => (true, self.packed(&archive, form, path.as_deref()).await?),
        };
        let Model { at, upload, etag, files } = model;
        let (file, again) = (at[folder(&at).len()..].to_owned(), source.is_kept());
        let source: Locator = if inside { source.at(at) } else { source };
        let (source, revision) = (source.to_string(), revision.or(etag));
        Ok(Brought { digest: upload.digest, bytes: upload.bytes, file, files, source, revision, again })
    }

    async fn loose(
        &self,
        place: &str,
        files: &BTreeMap<String, Remote>,
        wanted: Option<&str>,
    ) -> Result<Model, SourceError> {
        let names: Vec<_> = files.keys().cloned().collect();
        let at = choose(place, &names, wanted)?;
        let (upload, etag) = self.one(&files[&at]).await?;
        let mut beside = companions(&names, &at);
        for piece in self.pieces(&at, upload.digest).await? {
            let lies = format!("{}{piece}", folder(&at));
            if !files.contains_key(&lies) {
                let (place, there) = (place.to_owned(), Vec::new());
                return Err(SourceError::NoFile { place, path: lies, there });
            }
            beside.push((piece, lies));
        }
        let mut brought = BTreeMap::new();
        for (name, lies) in beside {
            brought.insert(name, self.one(&files[&lies]).await?.0.digest);
        }
        Ok(Model { at, upload, etag, files: brought })
    }

    /// What the file names is looked for beside it, and so is what says how to make a model of weights.
    async fn lone(&self, name: String, remote: &Remote) -> Result<Model, SourceError> {
        let (upload, etag) = self.one(remote).await?;
        let mut beside: Vec<_> = self.pieces(&name, upload.digest).await?.into_iter().collect();
        if pieces::is_weights(&name) && !pieces::describes_itself(&name) {
            beside.push(CONFIG.to_owned());
        }
        let mut files = BTreeMap::new();
        for name in beside {
            let url = remote
                .url
                .join(&name)
                .map_err(|error| SourceError::Malformed { text: name.clone(), problem: error.to_string() })?;
            let (upload, _) = self.one(&Remote { url, expected: None, bytes: None }).await?;
            files.insert(name, upload.digest);
        }
        Ok(Model { at: name, upload, etag, files })
    }

    async fn packed(&self, archive: &Remote, form: Form, wanted: Option<&str>) -> Result<Model, SourceError> {
        let part = self.whole(archive).await?.0;
        let (wanted, blobs) = (wanted.map(str::to_owned), self.blobs.clone());
        let (place, limit, expected) =
            (place(&archive.url), self.web.settings.download_max, archive.expected.clone());
        blocking(move || {
            let unpack = Unpack { archive: part.path(), limit };
            let taken = verified(part.path(), expected.as_ref(), &place)
                .and_then(|_| unpacked(&place, &unpack, form, wanted.as_deref(), &part, &blobs));
            // An archive of which another file was meant is wanted again; what was refused or taken is not.
            if !taken.as_ref().is_err_and(SourceError::is_choice) {
                part.discard();
            }
            taken
        })
        .await
    }

    /// A file by its blocks, which may be here under another name.
    async fn blocks(&self, cid: Cid) -> Result<Model, SourceError> {
        let upload = match self.layouts.file(&cid) {
            Some(digest) if self.here(digest).await? => Upload { digest, bytes: self.blobs.bytes(digest)? },
            _ => {
                let part = self.parts.claim(&dag::address(cid))?;
                dag::fetch(self.web, cid, &part).await?;
                let blobs = self.blobs.clone();
                let adopt = move || {
                    let adopted = blobs.adopt(part.path(), Blobs::weigh(part.path())?);
                    part.discard();
                    Ok::<_, SourceError>(adopted?)
                };
                blocking(adopt).await?
            }
        };
        let at = dag::MODEL.to_owned();
        if let Some(piece) = self.pieces(&at, upload.digest).await?.into_iter().next() {
            let problem = format!("its weights lie in {piece:?}, which a CID does not lead to");
            return Err(SourceError::Pieces { file: format!("ipfs:{cid}"), problem });
        }
        Ok(Model { at, upload, etag: None, files: BTreeMap::new() })
    }

    /// One file to the blobs.
    async fn one(&self, remote: &Remote) -> Result<(Upload, Option<String>), SourceError> {
        // Small files of a commit come again; what is known by its digest and here already does not.
        if let Some(Expected::Sha256(digest)) = remote.expected
            && self.here(digest).await?
        {
            return Ok((Upload { digest, bytes: self.blobs.bytes(digest)? }, None));
        }
        if let Some(bytes) = remote.bytes {
            self.blobs.has_room(bytes)?;
        }
        let (part, etag) = self.whole(remote).await?;
        let (blobs, expected, place) = (self.blobs.clone(), remote.expected.clone(), place(&remote.url));
        let upload = blocking(move || {
            let kept = verified(part.path(), expected.as_ref(), &place)
                .and_then(|weighed| Ok(blobs.adopt(part.path(), weighed)?));
            part.discard();
            kept
        });
        Ok((upload.await?, etag))
    }

    /// Whether a file is here and whole already, where it stays for whoever ordered it.
    async fn here(&self, digest: Digest) -> Result<bool, SourceError> {
        let blobs = self.blobs.clone();
        let look = move || {
            let here = blobs.check(digest)? == Soundness::Whole;
            if here {
                blobs.lease(digest)?;
            }
            Ok(here)
        };
        blocking(look).await
    }

    /// All bytes of a file, not yet judged.
    async fn whole(&self, remote: &Remote) -> Result<(Part, Option<String>), SourceError> {
        let part = self.parts.claim(&remote.url)?;
        match fetch(self.web, remote, &part).await {
            Ok(etag) => Ok((part, etag)),
            Err(error) => {
                // Bytes of a file that is refused for its size are no beginning.
                if matches!(error, SourceError::TooLarge { .. } | SourceError::Length { .. }) {
                    part.discard();
                }
                Err(error)
            }
        }
    }

    async fn pieces(&self, file: &str, digest: Digest) -> Result<Vec<String>, SourceError> {
        let (file, path) = (file.to_owned(), self.blobs.path(digest));
        Ok(blocking(move || pieces::named(&file, &path)).await?.into_iter().collect())
    }
}

/// What says how to make a model of weights.
const CONFIG: &str = "config.json";

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("reading a file does not panic")
}

/// What a file is, which is what it was to be.
fn verified(path: &Path, expected: Option<&Expected>, place: &str) -> Result<Upload, SourceError> {
    let weighed = Blobs::weigh(path)?;
    let is = match expected {
        None => return Ok(weighed),
        Some(Expected::Sha256(wanted)) => {
            (*wanted != weighed.digest).then_some(Expected::Sha256(weighed.digest))
        }
        Some(other) => {
            let keep = |source| SourceError::Keep { path: path.to_owned(), source };
            other.differs(path).map_err(keep)?
        }
    };
    match (is, expected) {
        (Some(is), Some(wanted)) => Err(SourceError::Mismatch {
            place: place.to_owned(),
            algorithm: wanted.algorithm(),
            is: is.text(),
            wanted: wanted.text(),
        }),
        _ => Ok(weighed),
    }
}

fn unpacked(
    place: &str,
    unpack: &Unpack<'_>,
    form: Form,
    wanted: Option<&str>,
    part: &Part,
    blobs: &Blobs,
) -> Result<Model, SourceError> {
    let refused = |problem| SourceError::archive(place, problem);
    let names = unpack.names(form).map_err(refused)?;
    let at = choose(place, &names, wanted)?;
    let folder_of_members = part.members()?;
    let target = |number: usize| folder_of_members.path().join(number.to_string());
    let keep = |file: PathBuf| Ok::<_, SourceError>(blobs.adopt(&file, Blobs::weigh(&file)?)?);
    unpack.take(form, &BTreeMap::from([(at.clone(), target(0))])).map_err(refused)?;
    let mut beside = companions(&names, &at);
    for piece in pieces::named(&at, &target(0))? {
        let lies = format!("{}{piece}", folder(&at));
        if !names.contains(&lies) {
            let (place, there) = (place.to_owned(), Vec::new());
            return Err(SourceError::NoFile { place, path: lies, there });
        }
        beside.push((piece, lies));
    }
    let upload = keep(target(0))?;
    let targets: BTreeMap<_, _> =
        beside.iter().enumerate().map(|(number, (_, lies))| (lies.clone(), target(number + 1))).collect();
    if !targets.is_empty() {
        unpack.take(form, &targets).map_err(refused)?;
    }
    let mut files = BTreeMap::new();
    for (name, lies) in beside {
        files.insert(name, keep(targets[&lies].clone())?.digest);
    }
    Ok(Model { at, upload, etag: None, files })
}
