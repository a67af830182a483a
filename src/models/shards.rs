//! Models that are cut: a graph as whoever splits it sees it, and its parts as models of their own.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    sync::Arc,
};

use tokio::sync::OwnedMutexGuard;

use super::{
    Blobs, Entry, Held, ModelError, NewModel, Plans, PlansError,
    plans::{judged_by, named_values},
    registry::BatchLimits,
};
use crate::{
    domain::{Activations, Chain, Digest, Dim, DimBinding, MODEL_NAME_MAX, ModelName, Signature, Tensor},
    onnx::{
        Sizes,
        cut::{CutError, Piece, Shard, Whole},
    },
};

/// What a shard calls the file of its weights until that has a digest.
const WEIGHTS: &str = "weights";

/// Digits of a shard's digest in its name: enough that a model's shards are told apart.
const NAME_DIGITS: usize = 8;

/// A model that is open for being cut, with its files.
pub struct Open {
    entry: Arc<Entry>,
    whole: Arc<Whole>,
    _held: Held,
    /// A graph may take as much memory as its file has bytes, so that one is open at a time.
    _turn: OwnedMutexGuard<()>,
}

impl Open {
    pub fn chain(&self) -> &Chain {
        self.whole.chain()
    }

    /// In how many ways its products were split.
    pub fn ways(&self) -> Option<usize> {
        self.whole.ways()
    }

    /// Bytes that a shard of these units reads, whose floats pass in half precision or as they are made.
    pub fn bytes_read(&self, units: &[usize], half: bool) -> f64 {
        self.whole.bytes_read(units, half)
    }
}

/// How a model is opened for being cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opening {
    /// In how many ways its products are split; none where they stay whole.
    pub ways: Option<usize>,
    pub activations: Activations,
}

/// Shards that were made, with those among them that were not there before.
pub struct Cut {
    pub shards: Vec<Arc<Entry>>,
    pub new: Vec<Arc<Entry>>,
}

impl Plans {
    /// Opens a model, at the sizes of the first inputs that it is judged by.
    pub async fn open_whole(&self, entry: &Arc<Entry>, opening: Opening) -> Result<Open, PlansError> {
        let held = self.cache.hold(entry).await?;
        let turn = self.opening.clone().lock_owned().await;
        let inputs = entry.gate_inputs(&DimBinding::new());
        let sizes = inputs.first().map(|inputs| sizes(&entry.model.signature, inputs)).unwrap_or_default();
        let (path, digest) = (self.registry.blobs.path(entry.model.digest), entry.model.digest);
        let read = move || {
            let file = std::fs::read(&path).map_err(|source| ModelError::Keep { path, source })?;
            let file = file.into();
            let whole = match opening.ways {
                None => Whole::read(&file, digest, &sizes)?,
                Some(ways) => Whole::read_split(&file, digest, &sizes, ways)?,
            };
            let whole = if opening.activations == Activations::Fp16 { whole.in_half() } else { whole };
            Ok::<_, PlansError>((whole, turn))
        };
        let (whole, turn) = tokio::task::spawn_blocking(read).await.expect("reading does not panic")?;
        Ok(Open { entry: entry.clone(), whole: Arc::new(whole), _held: held, _turn: turn })
    }

    /// Makes a model of each group of units, in an order in which they can run. Each is judged by what passes to it when
    /// the whole computes what it is judged by.
    pub async fn cut(&self, open: &Open, groups: Vec<Vec<u32>>, now_us: i64) -> Result<Cut, PlansError> {
        let (blobs, whole) = (self.registry.blobs.clone(), open.whole.clone());
        let write = move || {
            let shards = whole.groups(&groups)?;
            shards.iter().map(|shard| written(&blobs, shard)).collect::<Result<Vec<_>, PlansError>>()
        };
        let files = tokio::task::spawn_blocking(write).await.expect("cutting does not panic")?;
        let mut cut = Cut { shards: Vec::new(), new: Vec::new() };
        let added = self.add_shards(open, files, now_us, &mut cut).await;
        if added.is_err() {
            // What was made for nothing goes again.
            for shard in &cut.new {
                self.registry.remove(&shard.model.name, Some(shard.model.digest)).await?;
            }
        }
        added.map(|()| cut)
    }

    async fn add_shards(
        &self,
        open: &Open,
        files: Vec<Written>,
        now_us: i64,
        cut: &mut Cut,
    ) -> Result<(), PlansError> {
        let sets = open.entry.gate_inputs(&DimBinding::new());
        let mut values: Vec<_> = sets.into_iter().map(named_values).collect();
        for file in files {
            let inputs: Vec<Vec<Tensor>> = values
                .iter()
                .map(|values| file.reads.iter().filter_map(|name| values.get(name).cloned()).collect())
                .collect();
            let known = self.of_file(file.digest).filter(|known| known.unusable().is_none());
            let shard = match known {
                Some(known) => known,
                None => {
                    let new = self.registry.add(named(&open.entry, file, &inputs), now_us).await?;
                    cut.new.push(new.clone());
                    new
                }
            };
            cut.shards.push(shard.clone());
            for (values, made) in values.iter_mut().zip(self.run(&shard, &inputs).await?) {
                values.extend(named_values(made));
            }
        }
        Ok(())
    }
}

/// The sizes of a model's dimensions in these inputs; one without a name is called by its place, as `x[0]`.
fn sizes(signature: &Signature, inputs: &[Tensor]) -> Sizes {
    let ports = signature.inputs.iter().filter_map(|port| {
        let tensor = inputs.iter().find(|tensor| tensor.name == port.name)?;
        Some((port, tensor))
    });
    let named = ports.flat_map(|(port, tensor)| {
        port.shape.iter().zip(&tensor.shape).enumerate().filter_map(move |(at, (dim, size))| match dim {
            Dim::Symbol(symbol) => Some((symbol.clone(), *size)),
            Dim::Free(_) => Some((format!("{}[{at}]", port.name), *size)),
            Dim::Fixed(_) => None,
        })
    });
    named.collect()
}

/// A shard's file among the blobs.
struct Written {
    digest: Digest,
    files: BTreeMap<String, Digest>,
    reads: Vec<String>,
}

fn written(blobs: &Blobs, shard: &Shard<'_>) -> Result<Written, PlansError> {
    let pieces = shard.pieces();
    let mut files = BTreeMap::new();
    let upload = if pieces.is_empty() {
        blobs.write(|out| shard.write(out).map_err(PlansError::from))?
    } else {
        // They lie in files that are called by their digests.
        let weights = blobs.write(|out| gathered(blobs, &pieces, out).map_err(PlansError::from))?;
        files.insert(WEIGHTS.to_owned(), weights.digest);
        blobs.write(|out| shard.write_beside(WEIGHTS, out).map_err(PlansError::from))?
    };
    let reads = shard.inputs().map(ToOwned::to_owned).collect();
    Ok(Written { digest: upload.digest, files, reads })
}

/// Brings the bytes of the pieces together, each at its place.
fn gathered(blobs: &Blobs, pieces: &[Piece], out: &mut dyn Write) -> Result<(), CutError> {
    let mut end = 0;
    for piece in pieces {
        io::copy(&mut io::repeat(0).take(piece.to - end), out)
            .and_then(|_| {
                let mut file = File::open(blobs.folder().join(&piece.file))?;
                file.seek(SeekFrom::Start(piece.from))?;
                io::copy(&mut file.take(piece.bytes), out)
            })
            .map_err(|source| CutError::Write { source })?;
        end = piece.to + piece.bytes;
    }
    Ok(())
}

/// How the name of a shard ends that was cut here.
fn ending(digest: Digest) -> String {
    format!(".shard-{}", &digest.to_string()[..NAME_DIGITS])
}

/// Whether this is a shard of the model under the name that it was cut with.
pub(super) fn is_cut_of(entry: &Entry, model: Digest) -> bool {
    let of = entry.model.conversion.as_ref().and_then(|made| made.shard_of.as_deref());
    of == Some(model.to_string().as_str()) && entry.model.name.as_str().ends_with(&ending(entry.model.digest))
}

/// The shard as a model: what it is called, and what it shares with the whole.
fn named(whole: &Entry, file: Written, inputs: &[Vec<Tensor>]) -> NewModel {
    let end = ending(file.digest);
    let room = MODEL_NAME_MAX - end.len();
    let start: String = whole.model.name.as_str().chars().take(room).collect();
    NewModel {
        name: format!("{start}{end}").parse::<ModelName>().expect("made of a name and letters"),
        digest: file.digest,
        files: file.files,
        tolerance: Some(whole.model.tolerance),
        source: format!("cut from {}", whole.model.digest),
        revision: None,
        again: false,
        licence: whole.model.licence.clone(),
        kind: whole.model.kind,
        batch: BatchLimits::default(),
        inputs: judged_by(inputs),
    }
}
