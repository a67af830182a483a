//! What a model does with inputs, read from its companions once somebody asks.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::{Blobs, Entry};
use crate::{
    domain::{Code, Failure, Model, Retry},
    modality::{COMPANION_BYTES_MAX, Companions, Recipe, Subject, Task, WANTED},
};

/// What a recipe is read from, and the recipe that the model's files alone tell.
#[derive(Debug, Default)]
pub struct Recipes {
    metadata: BTreeMap<String, String>,
    /// Where the companions lie that are read, by the names that their source has for them.
    files: BTreeMap<String, PathBuf>,
    told: OnceCell<Result<Recipe, Failure>>,
}

impl Recipes {
    pub(super) fn new(blobs: &Blobs, model: &Model, metadata: BTreeMap<String, String>) -> Self {
        let names = || model.companions.keys().map(String::as_str);
        let wanted = WANTED.iter().filter_map(|wanted| Companions::choose(wanted, names()));
        let files = wanted.map(|name| (name.to_owned(), blobs.path(model.companions[name]))).collect();
        Self { metadata, files, told: OnceCell::new() }
    }

    /// Blocks for as long as the disk takes.
    fn companions(&self) -> Result<Companions, Failure> {
        let read = |(name, path): (&String, &PathBuf)| Ok((name.clone(), read(name, path)?));
        Ok(Companions::new(self.files.iter().map(read).collect::<Result<_, Failure>>()?))
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

impl Entry {
    /// What the model's own files say that it does. They do not change, and so neither does the answer.
    pub async fn recipe(self: &Arc<Self>) -> Result<Recipe, Failure> {
        let told = self.recipes.told.get_or_try_init(|| async {
            match of(vec![self.clone()], None).await {
                // The disk may be of another mind the next time.
                Err(failure) if failure.retry != Retry::Never => Err(failure),
                told => Ok(told),
            }
        });
        told.await?.clone()
    }
}

/// What these models do, alone or together; `task` says it where their files leave it open.
pub async fn recipe(entries: &[Arc<Entry>], task: Option<Task>) -> Result<Recipe, Failure> {
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
            entries.iter().map(|entry| entry.recipes.companions()).collect::<Result<_, _>>()?;
        let subjects = entries.iter().zip(&companions).map(|(entry, companions)| Subject {
            signature: &entry.model.signature,
            kind: entry.model.kind,
            metadata: &entry.recipes.metadata,
            companions,
        });
        Ok(Recipe::of(&subjects.collect::<Vec<_>>(), task)?)
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| {
        // What a library makes of a file that nobody has tried it with.
        let message = "what came with the model made its reader panic";
        Err(Failure::new(Code::InvalidRequest, Retry::Never, message))
    })
}
