//! What a model does with inputs, read from its companions and its file once somebody asks.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::{Entry, ModelError};
use crate::{
    domain::{Code, Failure, Retry},
    modality::{COMPANION_BYTES_MAX, Companions, Recipe, Subject, Task, WANTED, speaks},
    onnx,
};

/// What a model's own files have told. They do not change, and so neither does this.
#[derive(Debug, Default)]
pub(super) struct Told {
    metadata: OnceLock<BTreeMap<String, String>>,
    recipe: OnceCell<Result<Recipe, Failure>>,
}

impl Entry {
    /// What the model's own files say that it does.
    pub async fn recipe(self: &Arc<Self>) -> Result<Recipe, Failure> {
        let told = self.told.recipe.get_or_try_init(|| async {
            match of(vec![self.clone()], None).await {
                // The disk may be of another mind the next time.
                Err(failure) if failure.retry != Retry::Never => Err(failure),
                told => Ok(told),
            }
        });
        told.await?.clone()
    }

    /// Blocks for as long as the disk takes.
    fn companions(&self) -> Result<Companions, Failure> {
        let names = || self.model.companions.keys().map(String::as_str);
        let wanted = WANTED.iter().filter_map(|wanted| Companions::choose(wanted, names()));
        let file = |name: &str| {
            // All of a model's files lie in one folder, by digest.
            let path = self.path.with_file_name(self.model.companions[name].to_string());
            Ok((name.to_owned(), read(name, &path)?))
        };
        Ok(Companions::new(wanted.map(file).collect::<Result<_, Failure>>()?))
    }

    /// What the file says of itself, where that tells more than its signature. Blocks for as long as the disk takes.
    fn metadata(&self) -> Result<&BTreeMap<String, String>, Failure> {
        if let Some(known) = self.told.metadata.get() {
            return Ok(known);
        }
        let found = if speaks(&self.model.signature) {
            onnx::metadata(&self.path).map_err(ModelError::from)?
        } else {
            BTreeMap::new()
        };
        Ok(self.told.metadata.get_or_init(|| found))
    }
}

fn read(name: &str, path: &Path) -> Result<Bytes, Failure> {
    let unread = |error: io::Error| {
        let message = format!("the model's {name} cannot be read: {error}");
        Failure::new(Code::Internal, Retry::Same, message)
    };
    let bytes = std::fs::metadata(path).map_err(unread)?.len();
    if bytes > COMPANION_BYTES_MAX {
        let message = format!("the model's {name} is over the limit of {COMPANION_BYTES_MAX} bytes");
        return Err(Failure::new(Code::TooLarge, Retry::Never, message));
    }
    Ok(std::fs::read(path).map_err(unread)?.into())
}

/// What these models do, as far as it has been told: nothing has to be read for it.
pub(super) fn known(entries: &[Arc<Entry>], task: Option<Task>) -> Option<Recipe> {
    let [entry] = entries else { return None };
    let recipe = entry.told.recipe.get()?.as_ref().ok()?;
    task.is_none_or(|task| recipe.task() == task).then(|| recipe.clone())
}

/// What these models do, alone or together; `task` says it where their files leave it open.
pub(super) async fn recipe(entries: &[Arc<Entry>], task: Option<Task>) -> Result<Recipe, Failure> {
    match (entries, task) {
        ([entry], None) => entry.recipe().await,
        ([entry], Some(task)) => match entry.recipe().await {
            Ok(recipe) if recipe.task() == task => Ok(recipe),
            _ => of(entries.to_vec(), Some(task)).await,
        },
        _ => of(entries.to_vec(), task).await,
    }
}

async fn of(entries: Vec<Arc<Entry>>, task: Option<Task>) -> Result<Recipe, Failure> {
    let read = move || {
        let companions: Vec<_> =
            entries.iter().map(|entry| entry.companions()).collect::<Result<_, Failure>>()?;
        let subjects = entries.iter().zip(&companions).map(|(entry, companions)| {
            let (signature, kind) = (&entry.model.signature, entry.model.kind);
            Ok(Subject { signature, kind, metadata: entry.metadata()?, companions })
        });
        Ok(Recipe::of(&subjects.collect::<Result<Vec<_>, Failure>>()?, task)?)
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| {
        // What a library makes of a file that nobody has tried it with.
        let message = "what came with the model made its reader panic";
        Err(Failure::new(Code::InvalidRequest, Retry::Never, message))
    })
}
