//! One file from a web server to the disk, however often the way breaks.

use http::StatusCode;
use tokio::io::{AsyncWriteExt as _, BufWriter};

use super::{
    Remote, SourceError,
    backoff::Tries,
    locator::place,
    parts::Part,
    web::{Answer, Web},
};

/// A write to the disk costs a hand-over to another thread.
const BUFFER: usize = 1 << 20;

/// Brings the whole file, and says which version it is when the server does.
pub(super) async fn fetch(web: &Web, remote: &Remote, part: &Part) -> Result<Option<String>, SourceError> {
    promised(web, remote, place(&remote.url), remote.bytes)?;
    // All of it came already, and its digest will tell.
    if remote.expected.is_some() && remote.bytes == Some(part.len()) {
        return Ok(None);
    }
    let mut tries = Tries::new(web.settings.backoff);
    loop {
        match attempt(web, remote, part).await {
            Ok(etag) => return Ok(etag),
            Err(error) => {
                let told = |wait, error: &SourceError| web.progress.waits(wait, error);
                tries.again(error, part.len(), told).await?;
                web.progress.goes_on();
            }
        }
    }
}

async fn attempt(web: &Web, remote: &Remote, part: &Part) -> Result<Option<String>, SourceError> {
    let rest = part.rest();
    let mut answer = web.open(&remote.url, rest.as_ref()).await?;
    let etag = answer.etag().map(str::to_owned);
    let (file, from, total) = match &rest {
        Some(rest) if let Some(total) = answer.continues(rest) => {
            (part.resume(rest.from)?, rest.from, Some(total))
        }
        // The server has another version, or gives no parts.
        _ if answer.status == StatusCode::OK => {
            check(remote, &answer)?;
            (part.begin(etag.as_deref())?, 0, answer.length())
        }
        _ => {
            part.begin(None)?;
            return Err(SourceError::Changed { place: answer.place() });
        }
    };
    promised(web, remote, answer.place(), total)?;
    web.progress.at(from, total);
    let keep = |source| SourceError::Keep { path: part.path().to_owned(), source };
    let mut file = BufWriter::with_capacity(BUFFER, tokio::fs::File::from_std(file));
    let received = receive(web, &mut answer, &mut file, from, total, &keep).await;
    // What came is kept, also when more was to come.
    file.flush().await.map_err(keep)?;
    let bytes = received?;
    file.get_ref().sync_all().await.map_err(keep)?;
    match total.or(remote.bytes) {
        Some(wanted) if wanted != bytes => {
            Err(SourceError::Length { place: answer.place(), is: bytes, wanted })
        }
        _ => Ok(etag.or(rest.map(|rest| rest.etag).filter(|_| from > 0))),
    }
}

async fn receive(
    web: &Web,
    answer: &mut Answer,
    file: &mut BufWriter<tokio::fs::File>,
    from: u64,
    total: Option<u64>,
    keep: &(impl Fn(std::io::Error) -> SourceError + Sync),
) -> Result<u64, SourceError> {
    let (mut at, limit) = (from, web.settings.download_max);
    while let Some(bytes) = answer.next(at, total).await? {
        at += bytes.len() as u64;
        if at > limit {
            return Err(SourceError::TooLarge { place: answer.place(), bytes: None, limit });
        }
        file.write_all(&bytes).await.map_err(keep)?;
        web.progress.at(at, total);
    }
    Ok(at)
}

/// A body whose end cannot be told from a loss is worth something only when its digest is known.
fn check(remote: &Remote, answer: &Answer) -> Result<(), SourceError> {
    if answer.ends() || remote.expected.is_some() || remote.bytes.is_some() {
        return Ok(());
    }
    Err(SourceError::Endless { place: answer.place() })
}

/// Judges a file by its length before any of it comes.
fn promised(web: &Web, remote: &Remote, place: String, total: Option<u64>) -> Result<(), SourceError> {
    let limit = web.settings.download_max;
    if let Some(bytes) = total.filter(|bytes| *bytes > limit) {
        return Err(SourceError::TooLarge { place, bytes: Some(bytes), limit });
    }
    match (total, remote.bytes) {
        (Some(is), Some(wanted)) if is != wanted => Err(SourceError::Length { place, is, wanted }),
        _ => Ok(()),
    }
}
