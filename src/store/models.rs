//! The models' part of the store: a row per name and file, and how often each was used.

use duckdb::{Connection, OptionalExt as _, Row, params};

use super::{
    Store, StoreError, all,
    rows::{Cells, json},
};
use crate::domain::{Anatomy, Batching, Digest, Model, ModelName, Tolerance, Uses, Verification};

#[derive(Clone, Debug, PartialEq)]
pub struct StoredModel {
    pub model: Model,
    /// Microseconds since the Unix epoch.
    pub added_at_us: i64,
    /// Absent for what was added before this was kept, like the verification.
    pub anatomy: Option<Anatomy>,
    pub verification: Option<Verification>,
    /// Whether its files stay whatever room others need.
    pub pinned: bool,
    /// Whether its files came from where they can be had again.
    pub again: bool,
    pub uses: Uses,
}

/// A version's uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredUses {
    pub name: ModelName,
    pub digest: Digest,
    pub uses: Uses,
}

impl Store {
    /// Adds the model as its name's latest version, in place of what that name had of the same file.
    /// `inputs` is what the correctness gate feeds it, as JSON text that the store does not look into.
    pub async fn put_model(&self, model: StoredModel, inputs: Option<String>) -> Result<(), StoreError> {
        self.change("model", move |connection| put_model(connection, &model, inputs.as_deref())).await
    }

    /// Whether there was one. Its verdicts stay: they are about the file, not the name.
    pub async fn remove_model(&self, name: ModelName, digest: Digest) -> Result<bool, StoreError> {
        self.change("model", move |connection| {
            let key = params![name.as_str(), digest.to_string()];
            connection.execute(include_str!("queries/remove_uses.sql"), key)?;
            Ok(connection.execute(include_str!("queries/remove_model.sql"), key)? > 0)
        })
        .await
    }

    /// By name, of each name the latest version first.
    pub async fn models(&self) -> Result<Vec<StoredModel>, StoreError> {
        self.read("models", |connection| {
            all(connection, include_str!("queries/models.sql"), None, read_model)
        })
        .await
    }

    /// The gate's inputs as they were put; `None` for an unknown model and for one without.
    pub async fn model_inputs(&self, name: ModelName, digest: Digest) -> Result<Option<String>, StoreError> {
        let sql = include_str!("queries/model_inputs.sql");
        self.read("model inputs", move |connection| {
            let key = params![name.as_str(), digest.to_string()];
            let found = connection.query_row(sql, key, |row| row.get(0)).optional()?;
            Ok(found.flatten())
        })
        .await
    }

    /// Keeps what became of a model's last verification, and what it has shown: how requests share steps, and inputs, if any.
    pub async fn put_verification(
        &self,
        model: StoredModel,
        inputs: Option<String>,
    ) -> Result<(), StoreError> {
        let sql = include_str!("queries/put_verification.sql");
        self.change("verification", move |connection| {
            let StoredModel { model, verification, .. } = model;
            let columns = params![
                verification.as_ref().map(json),
                verification.as_ref().map(|verification| verification.at_us),
                json(&model.batching),
                inputs,
                model.name.as_str(),
                model.digest.to_string(),
            ];
            connection.execute(sql, columns).map(drop)
        })
        .await
    }

    pub async fn put_pinned(&self, name: ModelName, digest: Digest, pinned: bool) -> Result<(), StoreError> {
        self.change("pin", move |connection| {
            let columns = params![pinned, name.as_str(), digest.to_string()];
            connection.execute(include_str!("queries/put_pinned.sql"), columns).map(drop)
        })
        .await
    }

    /// Keeps how often models were used, in place of what was written before; models that are gone are left out.
    pub async fn put_uses(&self, used: Vec<StoredUses>) -> Result<(), StoreError> {
        self.change("uses", move |connection| {
            let mut put = connection.prepare(include_str!("queries/put_uses.sql"))?;
            for StoredUses { name, digest, uses } in used {
                put.execute(params![uses.uses, uses.last_used_ms, name.as_str(), digest.to_string()])?;
            }
            Ok(())
        })
        .await
    }
}

pub(super) fn put_model(
    connection: &Connection,
    stored: &StoredModel,
    inputs: Option<&str>,
) -> duckdb::Result<()> {
    let StoredModel { model, added_at_us, anatomy, verification, pinned, again, .. } = stored;
    let columns = params![
        model.name.as_str(),
        model.digest.to_string(),
        model.bytes,
        json(&model.signature),
        model.tolerance.0,
        model.source,
        model.licence,
        model.opset,
        inputs,
        added_at_us,
        json(&model.batching),
        model.kind.as_str(),
        model.revision,
        json(&model.external),
        json(&model.companions),
        model.conversion.as_ref().map(json),
        anatomy.as_ref().map(|anatomy| json(&anatomy.operators)),
        anatomy.as_ref().map(|anatomy| anatomy.parameters),
        anatomy.as_ref().map(|anatomy| anatomy.parameter_bytes),
        anatomy.as_ref().map(|anatomy| json(&anatomy.cost)),
        verification.as_ref().map(json),
        verification.as_ref().map(|verification| verification.at_us),
        pinned,
        again,
    ];
    connection.execute(include_str!("queries/put_model.sql"), columns).map(drop)
}

/// Of a model from a weft that did not join requests.
const NEVER_TRIED: &str = "it was added before this could be proven; add it again";

fn read_model(row: &Row<'_>) -> duckdb::Result<StoredModel> {
    let mut cells = Cells::new(row);
    let model = Model {
        name: cells.parse()?,
        digest: cells.parse()?,
        bytes: cells.next()?,
        signature: cells.json()?,
        tolerance: Tolerance(cells.next()?),
        source: cells.next()?,
        licence: cells.next()?,
        opset: cells.next()?,
        kind: cells.parse()?,
        batching: cells.optional_json()?.unwrap_or_else(|| Batching::barred(NEVER_TRIED)),
        revision: cells.next()?,
        external: cells.optional_json()?.unwrap_or_default(),
        companions: cells.optional_json()?.unwrap_or_default(),
        conversion: cells.optional_json()?,
    };
    let added_at_us = cells.next()?;
    let operators = cells.optional_json()?;
    let sizes: (Option<u64>, Option<u64>) = (cells.next()?, cells.next()?);
    let cost = cells.optional_json()?;
    let anatomy = match (operators, sizes, cost) {
        (Some(operators), (Some(parameters), Some(parameter_bytes)), Some(cost)) => {
            Some(Anatomy { operators, parameters, parameter_bytes, cost })
        }
        _ => None,
    };
    let verification = cells.optional_json()?;
    let (pinned, again) = (cells.next()?, cells.next()?);
    let uses = Uses { uses: cells.next()?, last_used_ms: cells.next()? };
    Ok(StoredModel { model, added_at_us, anatomy, verification, pinned, again, uses })
}
