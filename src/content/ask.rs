//! What is asked of the gateway, by query and by `Accept`; the query counts first.

use std::ops::Range;

const RAW: &str = "application/vnd.ipld.raw";
const CAR: &str = "application/vnd.ipld.car";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// A trustless gateway has no answer of its own choice.
    #[error(
        "say how: ?format=raw or ?format=car, or Accept: {RAW} or {CAR}; plain bytes are not served here"
    )]
    Unsaid,
    #[error("{0} is not served here: {RAW} and {CAR} of version 1 in depth-first order are")]
    Unserved(String),
    #[error("{name}={value:?} is not understood: {wanted} is wanted")]
    Malformed { name: &'static str, value: String, wanted: &'static str },
}

/// What of a request counts here, as it came.
#[derive(Clone, Debug, Default)]
pub struct Given<'a> {
    pub format: Option<&'a str>,
    pub dag_scope: Option<&'a str>,
    pub entity_bytes: Option<&'a str>,
    pub car_version: Option<&'a str>,
    pub car_order: Option<&'a str>,
    pub car_dups: Option<&'a str>,
    pub accept: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Raw,
    Car,
}

impl Format {
    /// As the query has it, and as a file is named.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Car => "car",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Block,
    Entity,
    All,
}

impl Scope {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Entity => "entity",
            Self::All => "all",
        }
    }
}

/// A range as it is written: both ends belong to it, and what is negative counts from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entity {
    from: i64,
    to: Option<i64>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub format: Format,
    pub(super) scope: Scope,
    pub(super) entity: Option<Entity>,
    /// Whether a block comes as often as the file has it.
    pub(super) dups: bool,
}

impl Ask {
    pub fn read(given: &Given<'_>) -> Result<Self, AskError> {
        let accepted = given.accept.map(accepted).unwrap_or_default();
        let (format, dups) = match given.format {
            Some("raw") => (Format::Raw, false),
            Some("car") => (Format::Car, accepted.iter().find_map(Accepted::car).unwrap_or_default()),
            Some(other) => return Err(AskError::Unserved(format!("format={other}"))),
            None => by_accept(given.accept, &accepted)?,
        };
        let entity = given.entity_bytes.map(Entity::read).transpose()?;
        let scope = match given.dag_scope {
            _ if entity.is_some() => Scope::Entity,
            None | Some("all") => Scope::All,
            Some("entity") => Scope::Entity,
            Some("block") => Scope::Block,
            Some(other) => return Err(malformed("dag-scope", other, "block, entity or all")),
        };
        match given.car_version {
            None | Some("1") => {}
            Some(other) => return Err(AskError::Unserved(format!("car-version={other}"))),
        }
        match given.car_order {
            None | Some("dfs" | "unk") => {}
            Some(other) => return Err(AskError::Unserved(format!("car-order={other}"))),
        }
        let dups = match given.car_dups {
            None => dups,
            Some("y") => true,
            Some("n") => false,
            Some(other) => return Err(malformed("car-dups", other, "y or n")),
        };
        Ok(Self { format, scope, entity, dups })
    }

    /// The query that asks for the same without `Accept`.
    pub fn query(&self) -> String {
        if self.format == Format::Raw {
            return "format=raw".to_owned();
        }
        let scope = match self.entity {
            Some(Entity { from, to }) => {
                let to = to.map_or("*".to_owned(), |to| to.to_string());
                format!("entity-bytes={from}:{to}")
            }
            None => format!("dag-scope={}", self.scope.name()),
        };
        let dups = if self.dups { "y" } else { "n" };
        format!("format=car&{scope}&car-dups={dups}")
    }
}

fn malformed(name: &'static str, value: &str, wanted: &'static str) -> AskError {
    AskError::Malformed { name, value: value.to_owned(), wanted }
}

impl Entity {
    fn read(text: &str) -> Result<Self, AskError> {
        let wrong = || malformed("entity-bytes", text, "FROM:TO with whole numbers, or * for TO");
        let (from, to) = text.split_once(':').ok_or_else(wrong)?;
        let number = |text: &str| text.parse().map_err(|_| wrong());
        let to = if to == "*" { None } else { Some(number(to)?) };
        Ok(Self { from: number(from)?, to })
    }

    /// Which of so many bytes are meant; none when all of it lies outside.
    pub(super) fn within(self, bytes: u64) -> Option<Range<u64>> {
        let all = i128::from(bytes);
        let at = |end: i64| if end < 0 { all + i128::from(end) } else { i128::from(end) };
        let (from, end) = (at(self.from), self.to.map_or(all, |to| at(to) + 1));
        if from >= all || end <= 0 {
            return None;
        }
        let from = from.max(0);
        let end = end.clamp(from, all);
        Some(from as u64..end as u64)
    }
}

/// One entry of `Accept`.
struct Accepted<'a> {
    kind: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    /// In thousandths.
    weight: u32,
}

/// What is accepted, the likeliest first.
fn accepted(text: &str) -> Vec<Accepted<'_>> {
    let mut accepted: Vec<_> = text
        .split(',')
        .map(|entry| {
            let mut parts = entry.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let parameters = parts.filter_map(|part| part.split_once('=')).map(|(a, b)| (a.trim(), b.trim()));
            let parameters: Vec<_> = parameters.collect();
            let weight = parameters.iter().find(|(name, _)| *name == "q").and_then(|(_, q)| q.parse().ok());
            Accepted { kind, parameters, weight: (weight.unwrap_or(1.0f32).clamp(0.0, 1.0) * 1e3) as u32 }
        })
        .filter(|accepted| accepted.weight > 0)
        .collect();
    accepted.sort_by_key(|accepted| std::cmp::Reverse(accepted.weight));
    accepted
}

impl Accepted<'_> {
    /// Whether it is a CAR that can be given, and then whether blocks come again.
    fn car(&self) -> Option<bool> {
        let is = self.kind.eq_ignore_ascii_case(CAR);
        let gives = self.parameters.iter().all(|(name, value)| match *name {
            "version" => *value == "1",
            "order" => matches!(*value, "dfs" | "unk" | ""),
            "dups" => matches!(*value, "y" | "n" | ""),
            _ => true,
        });
        (is && gives).then(|| self.parameters.contains(&("dups", "y")))
    }
}

fn by_accept(text: Option<&str>, accepted: &[Accepted<'_>]) -> Result<(Format, bool), AskError> {
    let known = accepted.iter().find_map(|entry| {
        if entry.kind.eq_ignore_ascii_case(RAW) {
            return Some((Format::Raw, false));
        }
        entry.car().map(|dups| (Format::Car, dups))
    });
    if let Some(known) = known {
        return Ok(known);
    }
    match text {
        Some(text) if !accepted.iter().any(|entry| matches!(entry.kind, "*/*" | "application/*")) => {
            Err(AskError::Unserved(text.to_owned()))
        }
        _ => Err(AskError::Unsaid),
    }
}
