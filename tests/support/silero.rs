//! What silero-VAD 6.2.3 needs around its network: 16 kHz audio cut into frames, and probabilities read as speech.
//! It follows the package's own Python; it never runs the model.

#![allow(dead_code, reason = "each target that includes this file uses its own part of it")]

use std::fmt::Write as _;

pub(crate) const SAMPLE_RATE: usize = 16_000;
/// Samples that are new in each frame, the only count the network accepts at 16 kHz.
pub(crate) const WINDOW: usize = 512;
/// Samples of the previous frame that each frame begins with.
pub(crate) const CONTEXT: usize = 64;
/// What the network's input `input` holds, as `[1, FRAME]`.
pub(crate) const FRAME: usize = CONTEXT + WINDOW;
/// The network's `state`, carried from `stateN` of the frame before and zero at first.
pub(crate) const STATE_SHAPE: [usize; 3] = [2, 1, 128];

/// Speech begins at this probability …
const THRESHOLD: f32 = 0.5;
/// … and ends only below this one, so that a wavering voice stays one segment.
const EXIT_THRESHOLD: f32 = 0.35;
/// Shorter speech is a click: 250 ms.
const MIN_SPEECH: usize = SAMPLE_RATE / 4;
/// Shorter silence is a pause within speech: 100 ms.
const MIN_SILENCE: usize = SAMPLE_RATE / 10;
/// Added on both sides of a segment, where words fade: 30 ms.
const PAD: usize = SAMPLE_RATE * 3 / 100;

/// A stretch of speech in samples, the end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Reads a WAV file of 16 kHz, one channel and 16-bit samples into the range -1 to 1.
pub(crate) fn read_wav(bytes: &[u8]) -> Result<Vec<f32>, String> {
    if bytes.get(..4) != Some(b"RIFF") || bytes.get(8..12) != Some(b"WAVE") {
        return Err("not a wav file".to_owned());
    }
    let mut rest = &bytes[12..];
    let mut checked = false;
    while let Some((header, body)) = rest.split_at_checked(8) {
        let declared = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let chunk = body.get(..declared).ok_or("a wav chunk is longer than the file".to_owned())?;
        match &header[..4] {
            b"fmt " => {
                check_format(chunk)?;
                checked = true;
            }
            b"data" if checked => return Ok(samples(chunk)),
            _ => {}
        }
        // Chunks start at even offsets.
        rest = body.get(declared + declared % 2..).unwrap_or_default();
    }
    Err("the wav file has no format and audio in this order".to_owned())
}

fn check_format(chunk: &[u8]) -> Result<(), String> {
    let word = |at: usize| chunk.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let (encoding, channels, bits) = (word(0), word(2), word(14));
    let rate = word(4).zip(word(6)).map(|(low, high)| usize::from(low) | usize::from(high) << 16);
    if (encoding, channels, rate, bits) == (Some(1), Some(1), Some(SAMPLE_RATE), Some(16)) {
        return Ok(());
    }
    Err(format!(
        "the wav file must be 16 kHz mono pcm16, not encoding {encoding:?}, \
         {channels:?} channels, {rate:?} Hz, {bits:?} bits"
    ))
}

fn samples(chunk: &[u8]) -> Vec<f32> {
    chunk.chunks_exact(2).map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0).collect()
}

/// The network's successive inputs: context and window, the last window filled up with silence.
pub(crate) fn frames(samples: &[f32]) -> Vec<Vec<f32>> {
    let mut context = vec![0.0; CONTEXT];
    samples
        .chunks(WINDOW)
        .map(|window| {
            let mut frame = std::mem::take(&mut context);
            frame.extend_from_slice(window);
            frame.resize(FRAME, 0.0);
            context = frame[WINDOW..].to_vec();
            frame
        })
        .collect()
}

/// Where speech is, from one probability per frame of a recording of `length` samples.
pub(crate) fn segments(probabilities: &[f32], length: usize) -> Vec<Segment> {
    let mut found = rough_segments(probabilities, length);
    let count = found.len();
    for i in 0..count {
        if i == 0 {
            found[i].start = found[i].start.saturating_sub(PAD);
        }
        if i + 1 == count {
            found[i].end = length.min(found[i].end + PAD);
            continue;
        }
        let silence = found[i + 1].start - found[i].end;
        let pad = if silence < 2 * PAD { silence / 2 } else { PAD };
        found[i].end += pad;
        found[i + 1].start -= pad;
    }
    found
}

fn rough_segments(probabilities: &[f32], length: usize) -> Vec<Segment> {
    let mut found = Vec::new();
    let mut start = None;
    let mut silent_since = None;
    for (i, &probability) in probabilities.iter().enumerate() {
        let at = i * WINDOW;
        if probability >= THRESHOLD {
            silent_since = None;
            start = start.or(Some(at));
        } else if let Some(from) = start.filter(|_| probability < EXIT_THRESHOLD) {
            let end = *silent_since.get_or_insert(at);
            if at - end >= MIN_SILENCE {
                if end - from > MIN_SPEECH {
                    found.push(Segment { start: from, end });
                }
                (start, silent_since) = (None, None);
            }
        }
    }
    if let Some(from) = start.filter(|&from| length - from > MIN_SPEECH) {
        found.push(Segment { start: from, end: length });
    }
    found
}

/// One line for people: `speech at 0.3–2.3 s and 3.3–4.4 s`.
pub(crate) fn describe(segments: &[Segment]) -> String {
    if segments.is_empty() {
        return "no speech".to_owned();
    }
    let seconds = |samples: usize| samples as f64 / SAMPLE_RATE as f64;
    let mut line = "speech at ".to_owned();
    for (i, segment) in segments.iter().enumerate() {
        let before = match i {
            0 => "",
            _ if i + 1 == segments.len() => " and ",
            _ => ", ",
        };
        write!(line, "{before}{:.1}–{:.1} s", seconds(segment.start), seconds(segment.end))
            .expect("a string takes every write");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const SPEECH: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/inputs/speech.wav"));
    const GATE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/inputs/silero-vad.json"));
    const EXPECTED: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/inputs/expected.json"));

    fn expected() -> Value {
        let all: Value = serde_json::from_str(EXPECTED).expect("expected.json is json");
        all["silero-vad"].clone()
    }

    fn floats(value: &Value) -> Vec<f32> {
        let list = value.as_array().expect("a list of numbers");
        list.iter().map(|v| v.as_f64().expect("a number") as f32).collect()
    }

    fn indices(value: &Value) -> Vec<usize> {
        let list = value.as_array().expect("a list of counts");
        list.iter().map(|v| v.as_u64().expect("a count") as usize).collect()
    }

    #[test]
    fn frames_equal_those_that_the_python_package_feeds() {
        let frames = frames(&read_wav(SPEECH).expect("the recording is readable"));
        let gate: Value = serde_json::from_str(GATE).expect("the gate inputs are json");
        let windows = indices(&expected()["gate_windows"]);
        assert_eq!(gate["inputs"].as_array().map(Vec::len), Some(windows.len()));
        for (i, window) in windows.into_iter().enumerate() {
            assert_eq!(frames[window], floats(&gate["inputs"][i]["input"]["data"]), "window {window}");
        }
    }

    #[test]
    fn every_frame_is_full_and_begins_with_the_end_of_the_one_before() {
        let samples: Vec<f32> = (0..WINDOW + 100).map(|i| i as f32).collect();
        let frames = frames(&samples);
        assert_eq!(frames.len(), 2);
        assert!(frames.iter().all(|frame| frame.len() == FRAME));
        assert_eq!(frames[0][..CONTEXT], [0.0; CONTEXT]);
        assert_eq!(frames[1][..CONTEXT], samples[WINDOW - CONTEXT..WINDOW]);
        assert_eq!(frames[1][CONTEXT + 100..], [0.0; WINDOW - 100]);
    }

    #[test]
    fn segments_equal_those_of_the_python_package() {
        let expected = expected();
        let probabilities = floats(&expected["probabilities"]);
        let length = read_wav(SPEECH).expect("the recording is readable").len();
        let found: Vec<Vec<usize>> =
            segments(&probabilities, length).iter().map(|s| vec![s.start, s.end]).collect();
        let wanted: Vec<Vec<usize>> =
            expected["segments"].as_array().expect("a list").iter().map(indices).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn pauses_clicks_and_the_end_of_the_recording_are_told_apart() {
        // Each letter is a frame: S speech, s between the thresholds, . silence.
        let cases: [(&str, &[(usize, usize)]); 6] = [
            ("", &[]),
            ("....SSSSSSS.....", &[]),
            ("....SSSSSSSSS.....", &[(4, 13)]),
            ("....SSSSS...SSSSS.....", &[(4, 17)]),
            ("....SSSSSssssssss....SSSS", &[(4, 25)]),
            (".SSSSSSSSS.....SSSSSSSSSS", &[(1, 10), (15, 25)]),
        ];
        for (letters, wanted) in cases {
            let probabilities: Vec<f32> = letters
                .chars()
                .map(|letter| match letter {
                    'S' => 0.9,
                    's' => 0.4,
                    _ => 0.1,
                })
                .collect();
            let found = rough_segments(&probabilities, letters.len() * WINDOW);
            let wanted: Vec<Segment> = wanted
                .iter()
                .map(|&(start, end)| Segment { start: start * WINDOW, end: end * WINDOW })
                .collect();
            assert_eq!(found, wanted, "{letters}");
        }
    }

    #[test]
    fn speech_is_put_in_words() {
        let at = |start, end| Segment { start, end };
        assert_eq!(describe(&[]), "no speech");
        assert_eq!(describe(&[at(8_000, 24_000)]), "speech at 0.5–1.5 s");
        assert_eq!(
            describe(&[at(0, 16_000), at(32_000, 48_000), at(64_000, 80_000)]),
            "speech at 0.0–1.0 s, 2.0–3.0 s and 4.0–5.0 s"
        );
    }

    #[test]
    fn other_files_and_other_audio_are_refused() {
        let mut stereo = SPEECH.to_vec();
        stereo[22] = 2;
        let cases: [(&[u8], &str); 4] = [
            (b"", "not a wav file"),
            (&SPEECH[..36], "no format and audio"),
            (&SPEECH[..1_000], "longer than the file"),
            (&stereo, "Some(2) channels"),
        ];
        for (bytes, wanted) in cases {
            let refusal = read_wav(bytes).expect_err(wanted);
            assert!(refusal.contains(wanted), "{refusal}");
        }
    }
}
