//! On what something was measured, and whether two results can be compared at all.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::domain::Digest;

/// The machine and the programs that a result rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// weft's version.
    pub weft: String,
    /// What weft was built of, where that is known.
    #[serde(default = "unknown")]
    pub commit: String,
    /// The processor's name as the kernel has it.
    pub processor: String,
    /// A digest of what the processor can do.
    pub processor_flags: String,
    pub cores: usize,
    pub memory_bytes: u64,
    pub kernel: String,
    /// What the control group allows of processor time, as `cpu.max` says; null without a limit.
    pub cpu_limit: Option<String>,
    pub memory_limit: Option<String>,
    /// By lane, as `firefox/wasm`.
    pub places: BTreeMap<String, Place>,
}

/// Of the first documents, and of weft built outside of its repository.
fn unknown() -> String {
    "unknown".to_owned()
}

/// A lane, as it said of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    pub browser_version: Option<String>,
    pub engine: String,
    pub threads: u32,
    pub adapter: Option<String>,
    pub software_adapter: bool,
    pub sandbox: Option<bool>,
    /// `hardware` or `software`: the flags that the browser was launched with.
    pub gpu: Option<String>,
}

/// A part in which two environments differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    pub part: Cow<'static, str>,
    pub base: String,
    pub head: String,
}

/// Enough of a digest that two machines never share it.
const MACHINE_DIGITS: usize = 12;

impl Environment {
    /// What those have in common whose times can be compared.
    #[must_use]
    pub fn machine(&self) -> String {
        let told = format!("{:?}", self.parts());
        Digest::new(Sha256::digest(told).into()).to_string()[..MACHINE_DIGITS].to_owned()
    }

    fn parts(&self) -> [(&'static str, String); 7] {
        let limit = |limit: &Option<String>| limit.clone().unwrap_or_else(|| "none".to_owned());
        [
            ("processor", self.processor.clone()),
            ("processor's flags", self.processor_flags.clone()),
            ("cores", self.cores.to_string()),
            ("memory", self.memory_bytes.to_string()),
            ("kernel", self.kernel.clone()),
            ("limit of processor time", limit(&self.cpu_limit)),
            ("limit of memory", limit(&self.memory_limit)),
        ]
    }
}

/// What keeps times of these two machines from being compared.
#[must_use]
pub fn differences(base: &Environment, head: &Environment) -> Vec<Difference> {
    differing(base.parts(), head.parts())
}

fn differing<const N: usize>(
    base: [(&'static str, String); N],
    head: [(&'static str, String); N],
) -> Vec<Difference> {
    let both = base.into_iter().zip(head).filter(|((_, base), (_, head))| base != head);
    both.map(|((part, base), (_, head))| Difference { part: part.into(), base, head }).collect()
}

impl Place {
    /// In what another lane of the same name differs.
    #[must_use]
    pub fn differences(&self, head: &Self) -> Vec<Difference> {
        let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "none".to_owned());
        let parts = |of: &Self| {
            [
                ("browser", word(&of.browser_version)),
                ("engine", of.engine.clone()),
                ("threads", of.threads.to_string()),
                ("adapter", word(&of.adapter)),
                ("software adapter", of.software_adapter.to_string()),
                ("sandbox", of.sandbox.map_or_else(|| "none".to_owned(), |on| on.to_string())),
                ("flags for the GPU", word(&of.gpu)),
            ]
        };
        differing(parts(self), parts(head))
    }
}
