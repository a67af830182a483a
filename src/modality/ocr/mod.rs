//! Text in images: one model finds where lines are, one tells which of them stand on their heads, one reads them.
//!
//! The models are PaddleOCR's, and the steps, sizes and thresholds those of `rapidocr-onnxruntime` 1.4.4, so that the
//! same image gives the same lines.

mod detect;
mod geometry;
mod read;
mod straighten;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use image::{RgbImage, imageops};

use super::{Dialogue, Finding, Line, ModalityError, Part, Recipe, Subject, Task, Turn, pixels, preparation};
use crate::domain::{Dim, Port, Signature, Tensor};
use detect::Sheet;
use geometry::Corners;
use read::Reading;

/// Lines whose characters are less sure than this are no text.
const SCORE_LEAST: f32 = 0.5;

/// Crops of one request, as PaddleOCR's own batches.
const ROWS_MAX: usize = 6;

/// The models' lines are so high.
const HEIGHT: u32 = 48;

/// Which models read text, and how each is asked.
#[derive(Debug)]
pub struct Ocr {
    detection: Member,
    direction: Option<Member>,
    recognition: Member,
    characters: Vec<String>,
}

#[derive(Clone, Debug)]
struct Member {
    part: Part,
    input: Port,
    output: String,
}

/// What a model does of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Detection,
    Direction,
    Recognition,
}

/// Metadata that a recognition model carries: a character a line.
const CHARACTERS: &str = "character";

impl Ocr {
    pub(super) fn new(subjects: &[Subject<'_>]) -> Result<Self, ModalityError> {
        let (mut detection, mut direction, mut recognition) = (None, None, None);
        let mut characters = Vec::new();
        for (at, subject) in subjects.iter().enumerate() {
            let (role, input, output) = role(subject).ok_or_else(|| {
                wrong(format!(
                    "model {} of {} is none that finds, turns or reads lines",
                    at + 1,
                    subjects.len()
                ))
            })?;
            let member = Member { part: Part(at), input, output };
            let place = match role {
                Role::Detection => &mut detection,
                Role::Direction => &mut direction,
                Role::Recognition => {
                    characters = subject.metadata[CHARACTERS].lines().map(str::to_owned).collect();
                    &mut recognition
                }
            };
            if place.replace(member).is_some() {
                return Err(wrong(format!("two models are for {role:?}").to_lowercase()));
            }
        }
        let missing = |what: &str| wrong(format!("no model that {what} is named"));
        Ok(Self {
            detection: detection.ok_or_else(|| missing("finds lines"))?,
            direction,
            recognition: recognition.ok_or_else(|| missing("reads lines"))?,
            characters,
        })
    }

    pub(super) fn begin(self: Arc<Self>, file: &[u8]) -> Result<Box<dyn Dialogue>, ModalityError> {
        let image = pixels::decode(file)?;
        let sheet = Sheet::new(&image)?;
        Ok(Box::new(Looking {
            models: self,
            size: image.dimensions(),
            sheet,
            lines: Vec::new(),
            stage: Stage::Start,
        }))
    }
}

fn wrong(problem: String) -> ModalityError {
    ModalityError::Signature { task: Task::Ocr, problem }
}

/// By what each takes and gives: a map of the image, two classes, or characters that its metadata lists.
fn role(subject: &Subject<'_>) -> Option<(Role, Port, String)> {
    let Signature { outputs, .. } = subject.signature;
    let input = preparation::port(subject.signature)?;
    let [output] = outputs.as_slice() else { return None };
    let role = match output.shape.as_slice() {
        [_, _, _] if subject.metadata.contains_key(CHARACTERS) => Role::Recognition,
        [_, Dim::Fixed(1), _, _] => Role::Detection,
        [_, Dim::Fixed(2)] => Role::Direction,
        _ => return None,
    };
    Some((role, input, output.name.clone()))
}

/// A line's picture on its way.
#[derive(Debug)]
struct Crop {
    corners: Corners,
    picture: RgbImage,
    upside_down: bool,
    text: String,
    score: f32,
}

enum Stage {
    Start,
    Detection,
    Direction(Reading),
    Recognition(Reading),
}

/// An image in which lines are looked for.
struct Looking {
    models: Arc<Ocr>,
    size: (u32, u32),
    sheet: Sheet,
    lines: Vec<Crop>,
    stage: Stage,
}

impl Dialogue for Looking {
    fn turn(&mut self, answers: Vec<Vec<Tensor>>) -> Result<Turn, ModalityError> {
        let bad = |problem| ModalityError::Answer { task: Task::Ocr, problem };
        match std::mem::replace(&mut self.stage, Stage::Start) {
            Stage::Start => {
                self.stage = Stage::Detection;
                Ok(Turn::Ask(vec![self.sheet.ask(&self.models.detection)]))
            }
            Stage::Detection => {
                let outputs = answers.first().map(Vec::as_slice).unwrap_or_default();
                self.lines = self.sheet.lines(outputs).map_err(bad)?;
                match &self.models.direction {
                    Some(_) => self.go_on(Stage::Direction(Reading::directions(&self.lines))),
                    None => self.go_on(Stage::Recognition(Reading::texts(&self.lines))),
                }
            }
            Stage::Direction(mut reading) => {
                for (at, turned) in reading.turned(&answers).map_err(bad)? {
                    if turned {
                        imageops::rotate180_in_place(&mut self.lines[at].picture);
                        self.lines[at].upside_down = true;
                    }
                }
                self.go_on(Stage::Direction(reading))
            }
            Stage::Recognition(mut reading) => {
                for (at, text, score) in reading.read(&answers, &self.models.characters).map_err(bad)? {
                    (self.lines[at].text, self.lines[at].score) = (text, score);
                }
                self.go_on(Stage::Recognition(reading))
            }
        }
    }
}

impl Looking {
    /// Asks for what is left of a stage, else goes to the next.
    fn go_on(&mut self, stage: Stage) -> Result<Turn, ModalityError> {
        let (mut reading, member) = match (stage, &self.models.direction) {
            (Stage::Direction(reading), Some(member)) => (reading, member),
            (Stage::Recognition(reading), _) => (reading, &self.models.recognition),
            _ => return Err(wrong("there is no model for the direction of lines".to_owned())),
        };
        let asks = reading.asks(&self.lines, member);
        let directing = reading.is_of_directions();
        match (asks.is_empty(), directing) {
            (false, true) => self.stage = Stage::Direction(reading),
            (false, false) => self.stage = Stage::Recognition(reading),
            (true, true) => return self.go_on(Stage::Recognition(Reading::texts(&self.lines))),
            (true, false) => return Ok(Turn::Done(vec![self.finding()])),
        }
        Ok(Turn::Ask(asks))
    }

    fn finding(&mut self) -> Finding {
        let lines = self.lines.drain(..).filter(|line| line.score >= SCORE_LEAST);
        let lines = lines.map(|line| Line {
            text: line.text,
            score: line.score,
            corners: self.sheet.original(line.corners, self.size),
            upside_down: line.upside_down,
        });
        Finding::Lines { lines: lines.collect() }
    }
}

impl Recipe {
    /// Whether a model is one of those that OCR takes together.
    pub(super) fn is_for_ocr(subject: &Subject<'_>) -> bool {
        role(subject).is_some_and(|(role, ..)| role == Role::Recognition)
    }
}
