//! Sizes of groups and tiles by class of adapter: the one place for what measurements choose.

use super::Limits;

/// A tile of a product: so many threads across and down, each with so many fours of columns and of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub(super) across: u32,
    pub(super) down: u32,
    pub(super) columns: u32,
    pub(super) rows: u32,
    /// How much of what is summed over lies in shared memory at once.
    pub(super) depth: u32,
}

impl Tile {
    pub(super) fn threads(self) -> u32 {
        self.across * self.down
    }

    /// Elements across the whole tile.
    pub(super) fn width(self) -> u32 {
        self.across * self.columns * 4
    }

    pub(super) fn height(self) -> u32 {
        self.down * self.rows * 4
    }

    /// Fours of the rows' operand in one step of the depth: one more than there are, so that threads which write
    /// different steps meet different banks of memory.
    pub(super) fn pitch(self) -> u32 {
        self.height() / 4 + 1
    }

    fn shared_bytes(self) -> u32 {
        (self.pitch() + self.width() / 4) * self.depth * 16
    }
}

/// Threads of a group, and how many of them work at one row together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Team {
    pub(super) size: u32,
    pub(super) team: u32,
}

impl Team {
    pub(super) fn teams(self) -> u32 {
        self.size / self.team
    }
}

#[derive(Clone, Debug)]
pub(super) struct Tuning {
    software: bool,
    threads_max: u32,
    /// The largest first; the last fits every adapter.
    tiles: Vec<Tile>,
    /// Groups below which a smaller tile is taken, so that more of the adapter works.
    busy: u64,
    /// Threads of a group that work at an element each.
    pub(super) flat: u32,
    /// Keys that a group looks at together.
    pub(super) keys: u32,
}

impl Tuning {
    pub(super) fn of(limits: &Limits) -> Self {
        let threads_max = limits.invocations;
        let tile = |across, down, columns, rows, depth| Tile { across, down, columns, rows, depth };
        let (tiles, busy, flat, keys) = if limits.software {
            (vec![tile(4, 4, 2, 2, 16), tile(4, 4, 1, 1, 16)], 4, 64, 16)
        } else {
            (vec![tile(16, 16, 2, 2, 8), tile(16, 16, 1, 1, 16), tile(8, 8, 1, 1, 16)], 96, 64, 64)
        };
        let fits =
            |tile: &Tile| tile.threads() <= threads_max && tile.shared_bytes() <= limits.workgroup_bytes;
        let tiles = tiles.into_iter().filter(fits).collect();
        Self { software: limits.software, threads_max, tiles, busy, flat, keys }
    }

    /// For a product of this size, so many times.
    pub(super) fn tile(&self, m: usize, n: usize, batch: usize) -> Tile {
        let groups = |tile: &Tile| {
            (m.div_ceil(tile.height() as usize) * n.div_ceil(tile.width() as usize) * batch) as u64
        };
        let filled = |tile: &Tile| m * 2 > tile.height() as usize && n * 2 > tile.width() as usize;
        let busy = self.tiles.iter().find(|tile| groups(tile) >= self.busy && filled(tile));
        *busy.or(self.tiles.last()).expect("the smallest tile fits what WebGPU promises")
    }

    /// For rows of this length, of which each is read by a team.
    pub(super) fn rows(&self, rows: usize, len: usize) -> Team {
        if self.software {
            // Threads of a group that wait for each other cost more there than a loop.
            let team = if rows >= 16 || len < 256 { 1 } else { 16 };
            return Team { size: 16, team };
        }
        let team = (len / 4).next_power_of_two().clamp(1, 256) as u32;
        let team = if rows > 1 << 16 { team.min(32) } else { team };
        self.bounded(team.max(64), team)
    }

    /// The same where neighbours of a row lie apart, so that neighbouring threads should take neighbouring rows.
    pub(super) fn apart(&self, rows: usize, len: usize) -> Team {
        if rows >= 1024 { self.bounded(64, 1) } else { self.rows(rows, len) }
    }

    /// For products with few rows, over columns whose elements lie behind each other.
    pub(super) fn dots(&self, columns: usize, steps: usize) -> Team {
        if self.software {
            return self.rows(columns, steps);
        }
        let team = (steps / 2).next_power_of_two().clamp(1, 32) as u32;
        self.bounded(64, team)
    }

    /// For products with few rows, over rows whose elements lie behind each other; neighbouring threads take these.
    pub(super) fn sums(&self, columns: usize, steps: usize, fours: bool) -> Team {
        if self.software {
            let team = self.rows(columns, steps);
            return if team.team == 1 { Team { size: 64, team: 1 } } else { team };
        }
        let size = 256.min(self.threads_max);
        let apart = if fours { 8 } else { 32 };
        Team { size, team: size / apart }
    }

    /// Columns that a team takes at once, so that what they are multiplied by is read once for them.
    pub(super) fn columns(&self, n: usize) -> u32 {
        if n >= 4096 || self.software { 4 } else { 2 }
    }

    fn bounded(&self, size: u32, team: u32) -> Team {
        let size = size.min(self.threads_max);
        Team { size, team: team.min(size) }
    }
}
