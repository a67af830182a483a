//! What a caller may do.

use std::{fmt, str::FromStr};

/// One right; `admin` includes the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Ask models.
    Infer,
    /// See browsers, lanes, models and one's own runs.
    Read,
    /// Change what the daemon holds, and see everybody's runs.
    Admin,
}

impl Scope {
    pub const ALL: [Self; 3] = [Self::Infer, Self::Read, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Infer => "infer",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of rights, written with spaces between them as in a token's `scope`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Those that are ours in a list that others may have their own in.
    pub fn known_in(text: &str) -> Self {
        let ours = |word: &str| Scope::ALL.into_iter().find(|scope| scope.as_str() == word);
        text.split(' ').filter_map(ours).collect()
    }

    pub fn holds(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

/// From words with spaces or commas between them; every one must be a right.
impl FromStr for Scopes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let scope = |word: &str| {
            Scope::ALL
                .into_iter()
                .find(|scope| scope.as_str() == word)
                .ok_or_else(|| format!("{word:?} is no scope: there are infer, read and admin"))
        };
        let words = text.split([' ', ',']).filter(|word| !word.is_empty());
        let scopes = words.map(scope).collect::<Result<Self, String>>()?;
        if scopes.is_empty() {
            return Err("at least one scope is wanted: infer, read or admin".to_owned());
        }
        Ok(scopes)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = Scope::ALL.into_iter().filter(|scope| self.0 & scope.bit() != 0);
        f.write_str(&held.map(Scope::as_str).collect::<Vec<_>>().join(" "))
    }
}
