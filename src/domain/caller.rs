//! Who asks: what admission and fairness go by.

use std::sync::Arc;

/// A caller as the daemon knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// A key's id or a token's subject; [`Caller::LOCAL`] where none is asked for.
    pub id: Arc<str>,
    /// Its share of the lanes' time beside other callers' that ask at the same time; at least 1.
    pub weight: u32,
}

impl Caller {
    pub const LOCAL: &str = "local";

    /// Whoever asks where nobody has to say who they are.
    pub fn local() -> Self {
        Self { id: Self::LOCAL.into(), weight: 1 }
    }
}
