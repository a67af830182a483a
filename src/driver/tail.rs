//! The last words of a process: a bounded tail of its stderr, and the one line that announces its address.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A browser's crash text and the complaints around it fit; a chatty one costs at most 64 KiB.
const LINES: usize = 128;
const LINE_BYTES: usize = 512;

/// The lines that go into an error's message.
const QUOTED: usize = 12;

/// One read of a pipe.
const CHUNK: usize = 4096;

#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    /// The first line that began as asked, whole up to [`LINE_BYTES`].
    pub(super) announced: Option<String>,
}

impl Tail {
    pub(super) fn push(&mut self, line: String, announcement: &str) {
        if self.announced.is_none() && line.starts_with(announcement) {
            self.announced = Some(line.clone());
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// The last lines in one, for an error's message.
    pub(super) fn quote(&self) -> String {
        let skipped = self.lines.len().saturating_sub(QUOTED);
        let lines: Vec<&str> = self.lines.iter().skip(skipped).map(String::as_str).collect();
        if lines.is_empty() { "none".to_owned() } else { lines.join(" | ") }
    }
}

/// Reads lines until the end; what exceeds a line's limit is dropped.
pub(super) async fn read_lines(mut from: impl AsyncRead + Unpin, mut keep: impl FnMut(String)) {
    let mut chunk = [0; CHUNK];
    let mut line = Vec::new();
    let mut flush = |line: &mut Vec<u8>| {
        let text = String::from_utf8_lossy(line).trim_end().to_owned();
        line.clear();
        if !text.is_empty() {
            keep(text);
        }
    };
    loop {
        // An unreadable pipe has said its last word, as a closed one has.
        let count = from.read(&mut chunk).await.unwrap_or(0);
        if count == 0 {
            flush(&mut line);
            return;
        }
        for byte in &chunk[..count] {
            match byte {
                b'\n' => flush(&mut line),
                byte if line.len() < LINE_BYTES => line.push(*byte),
                _ => {}
            }
        }
    }
}
