//! Where speech is in a recording, by silero-VAD: 16 kHz sound cut into frames, and probabilities read as speech.
//! It follows the rules of the package's own Python, version 6.2.3.

use bytes::Bytes;

use super::{Ask, Dialogue, Finding, ModalityError, Task, Turn, audio, dialogue, values};
use crate::domain::{Datatype, Dim, Signature, Tensor};

pub const SAMPLE_RATE: usize = 16_000;
/// Samples that are new in each frame, the only count the network accepts at 16 kHz.
pub const WINDOW: usize = 512;
/// Samples of the previous frame that each frame begins with.
pub const CONTEXT: usize = 64;
/// What the network's input `input` holds, as `[1, FRAME]`.
pub const FRAME: usize = CONTEXT + WINDOW;
/// The network's `state`, carried from `stateN` of the frame before and zero at first.
pub const STATE_SHAPE: [usize; 3] = [2, 1, 128];

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
pub struct Segment {
    pub start: usize,
    pub end: usize,
}

/// Whether a model has the inputs and outputs of silero-VAD, which no other kind has.
pub(super) fn fits(signature: &Signature) -> bool {
    let input = |name: &str, datatype, rank: usize| {
        let port = signature.inputs.iter().find(|port| port.name == name);
        port.is_some_and(|port| port.datatype == datatype && port.shape.len() == rank)
    };
    let state = signature.inputs.iter().find(|port| port.name == "state");
    let state = state.and_then(|port| port.shape.last()) == Some(&Dim::Fixed(STATE_SHAPE[2] as u64));
    let output = |name: &str| signature.outputs.iter().any(|port| port.name == name);
    signature.inputs.len() == 3
        && input("input", Datatype::Fp32, 2)
        && input("state", Datatype::Fp32, 3)
        && input("sr", Datatype::Int64, 0)
        && state
        && output("output")
        && output("stateN")
}

/// A recording that is heard frame by frame, each with the state that the one before left.
pub(super) struct Listening {
    samples: Vec<f32>,
    /// The frame that is asked about next.
    at: usize,
    frames: Vec<Vec<f32>>,
    probabilities: Vec<f32>,
}

pub(super) fn begin(file: &Bytes) -> Result<Listening, ModalityError> {
    let samples = samples(file)?;
    Ok(Listening { frames: frames(&samples), samples, at: 0, probabilities: Vec::new() })
}

impl Dialogue for Listening {
    fn turn(&mut self, mut answers: Vec<Vec<Tensor>>) -> Result<Turn, ModalityError> {
        let wrong = |problem: String| ModalityError::Answer { task: Task::SpeechDetection, problem };
        let mut state = None;
        if let Some(mut outputs) = answers.pop() {
            let (Some(left), Some(output), true) = (outputs.pop(), outputs.pop(), outputs.is_empty()) else {
                return Err(wrong("two outputs are wanted".to_owned()));
            };
            match values::read_floats(&output).map_err(wrong)?.as_slice() {
                [probability] => self.probabilities.push(*probability),
                other => return Err(wrong(format!("{} probabilities for one frame", other.len()))),
            }
            state = Some(left);
        }
        let Some(frame) = self.frames.get(self.at) else { return Ok(Turn::Done(vec![self.finding()])) };
        self.at += 1;
        let silence = || vec![0.0; STATE_SHAPE.iter().product()];
        let state = match state {
            Some(left) => Tensor { name: "state".to_owned(), ..left },
            None => values::floats("state", Datatype::Fp32, &STATE_SHAPE, &silence()),
        };
        let inputs = vec![
            values::floats("input", Datatype::Fp32, &[1, FRAME], frame),
            state,
            values::integers("sr", Datatype::Int64, &[], &[SAMPLE_RATE.cast_signed() as i64]),
        ];
        Ok(Turn::Ask(vec![Ask::one(inputs, vec!["output".to_owned(), "stateN".to_owned()])]))
    }
}

impl Listening {
    fn finding(&mut self) -> Finding {
        let seconds = |samples: usize| samples as f64 / SAMPLE_RATE as f64;
        let segments = segments(&self.probabilities, self.samples.len());
        let segments = segments.into_iter().map(|Segment { start, end }| dialogue::Segment {
            start_seconds: seconds(start),
            end_seconds: seconds(end),
        });
        Finding::Speech {
            seconds: seconds(self.samples.len()),
            step_seconds: seconds(WINDOW),
            segments: segments.collect(),
            probabilities: std::mem::take(&mut self.probabilities),
        }
    }
}

/// A recording as the network hears it.
pub fn samples(file: &Bytes) -> Result<Vec<f32>, ModalityError> {
    audio::resample(audio::decode(file)?, SAMPLE_RATE as u32)
}

/// The network's successive inputs: context and window, the last window filled up with silence.
pub fn frames(samples: &[f32]) -> Vec<Vec<f32>> {
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
pub fn segments(probabilities: &[f32], length: usize) -> Vec<Segment> {
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

pub(super) fn rough_segments(probabilities: &[f32], length: usize) -> Vec<Segment> {
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
