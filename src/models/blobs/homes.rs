//! What each home that shares the folder needs of it, also while its daemon does not run: a list per home, beside the
//! files, which the others read before they remove anything.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::domain::Digest;

/// Of the lists, in the folder of the files.
const LISTS: &str = "homes";

/// What a home calls its list, in the home.
const NAME: &str = "cache-id";

/// Held by whoever takes a file in or makes room.
const TURN: &str = "turn";

/// Why a file stays, the weakest reason first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::models) enum Stay {
    /// Its source has it: it may go, and comes back when it is wanted.
    Again,
    /// Nobody else has it.
    Only,
    Pinned,
}

impl Stay {
    fn as_str(self) -> &'static str {
        match self {
            Self::Again => "again",
            Self::Only => "only",
            Self::Pinned => "pinned",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Again, Self::Only, Self::Pinned].into_iter().find(|stay| stay.as_str() == text)
    }
}

/// What a home's names need a file for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::models) struct Claim {
    pub(in crate::models) stay: Stay,
    /// Milliseconds since the Unix epoch.
    pub(in crate::models) used_ms: u64,
}

impl Claim {
    /// Of two names of one file.
    pub(super) fn and(self, other: Self) -> Self {
        Self { stay: self.stay.max(other.stay), used_ms: self.used_ms.max(other.used_ms) }
    }
}

pub(in crate::models) type Claims = BTreeMap<Digest, Claim>;

/// Adds what one more name needs.
pub(in crate::models) fn claim(claims: &mut Claims, file: Digest, claim: Claim) {
    claims.entry(file).and_modify(|known| *known = known.and(claim)).or_insert(claim);
}

pub(super) struct Homes {
    lists: PathBuf,
    home: PathBuf,
    id: String,
}

impl Homes {
    pub(super) fn open(folder: &Path, home: &Path) -> io::Result<Self> {
        let (lists, home) = (folder.join(LISTS), home.canonicalize()?);
        std::fs::create_dir_all(&lists)?;
        let id = own_id(&home)?;
        Ok(Self { lists, home, id })
    }

    /// One at a time, over all daemons on the folder.
    pub(super) fn turn(&self) -> io::Result<File> {
        let file = File::options().create(true).append(true).open(self.lists.join(TURN))?;
        file.lock()?;
        Ok(file)
    }

    /// Tells the others what this home needs.
    pub(super) fn tell(&self, claims: &Claims) -> io::Result<()> {
        let needed = claims.iter();
        let needed =
            needed.map(|(file, Claim { stay, used_ms })| format!("{file} {} {used_ms}", stay.as_str()));
        let lines: Vec<_> = [self.home.display().to_string()].into_iter().chain(needed).collect();
        let text = lines.join("\n") + "\n";
        if std::fs::read_to_string(self.lists.join(&self.id)).is_ok_and(|told| told == text) {
            return Ok(());
        }
        let (list, unfinished) = (self.lists.join(&self.id), self.lists.join(format!("{}.new", self.id)));
        let mut file = File::create(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(unfinished, list)
    }

    /// What the other homes need together. A list that cannot be understood is an error, so that nothing is removed.
    pub(super) fn others(&self) -> io::Result<Claims> {
        let mut claims = Claims::new();
        for entry in std::fs::read_dir(&self.lists)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if is_id(name) && name != self.id {
                let text = std::fs::read_to_string(&path)?;
                for line in text.lines().skip(1) {
                    let unclear = || io::Error::other(format!("{} has a line {line:?}", path.display()));
                    let (file, found) = parse(line).ok_or_else(unclear)?;
                    claim(&mut claims, file, found);
                }
            }
        }
        Ok(claims)
    }
}

fn parse(line: &str) -> Option<(Digest, Claim)> {
    let mut words = line.split(' ');
    let file = words.next()?.parse().ok()?;
    let claim = Claim { stay: Stay::parse(words.next()?)?, used_ms: words.next()?.parse().ok()? };
    words.next().is_none().then_some((file, claim))
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// Made once for a home where it lies: a copy of it is another home.
fn own_id(home: &Path) -> io::Result<String> {
    let (path, place) = (home.join(NAME), home.display().to_string());
    let known = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        known => known.unwrap_or_default(),
    };
    if let Some((id, of)) = known.trim_end().split_once(' ')
        && is_id(id)
        && of == place
    {
        return Ok(id.to_owned());
    }
    let id = format!("{:032x}", rand::random::<u128>());
    let unfinished = home.join(format!("{NAME}.new"));
    std::fs::write(&unfinished, format!("{id} {place}\n"))?;
    std::fs::rename(unfinished, path)?;
    Ok(id)
}
