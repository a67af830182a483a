//! Lines' pictures in batches, and what two of the models say of them: which way up, and which characters.

use std::collections::VecDeque;

use super::{
    super::{
        Ask,
        classes::rows,
        embedding::PER_TURN,
        pixels::{self, Filter},
        values,
    },
    Crop, HEIGHT, Member, ROWS_MAX, detect,
};
use crate::domain::Tensor;

/// The direction model's width; longer lines are squeezed.
const DIRECTION_WIDTH: u32 = 192;

/// The recognition model's least width.
const TEXT_WIDTH: u32 = 320;

/// How sure the direction model must be that a line stands on its head.
const TURN_LEAST: f32 = 0.9;

/// Lines that one model is asked about, some at a time.
pub(super) struct Reading {
    directions: bool,
    waiting: VecDeque<Vec<usize>>,
    asked: Vec<Vec<usize>>,
}

impl Reading {
    pub(super) fn directions(lines: &[Crop]) -> Self {
        Self::new(lines, true)
    }

    pub(super) fn texts(lines: &[Crop]) -> Self {
        Self::new(lines, false)
    }

    /// Lines of like shape together, so that few are padded far.
    fn new(lines: &[Crop], directions: bool) -> Self {
        let mut order: Vec<usize> = (0..lines.len()).collect();
        order.sort_by(|a, b| aspect(&lines[*a]).total_cmp(&aspect(&lines[*b])));
        Self {
            directions,
            waiting: order.chunks(ROWS_MAX).map(<[usize]>::to_vec).collect(),
            asked: Vec::new(),
        }
    }

    pub(super) fn is_of_directions(&self) -> bool {
        self.directions
    }

    /// The next requests.
    pub(super) fn asks(&mut self, lines: &[Crop], member: &Member) -> Vec<Ask> {
        let next = self.waiting.len().min(PER_TURN);
        self.asked = self.waiting.drain(..next).collect();
        self.asked.iter().map(|batch| self.ask(batch, lines, member)).collect()
    }

    fn ask(&self, batch: &[usize], lines: &[Crop], member: &Member) -> Ask {
        let width = if self.directions {
            DIRECTION_WIDTH
        } else {
            let least = f64::from(TEXT_WIDTH) / f64::from(HEIGHT);
            let widest = batch.iter().map(|at| aspect(&lines[*at])).fold(least, f64::max);
            (f64::from(HEIGHT) * widest) as u32
        };
        let mut values = Vec::with_capacity(batch.len() * 3 * (HEIGHT * width) as usize);
        for at in batch {
            strip(&lines[*at], width, &mut values);
        }
        let shape = [batch.len(), 3, HEIGHT as usize, width as usize];
        let input = values::floats(&member.input.name, member.input.datatype, &shape, &values);
        Ask { part: member.part, inputs: vec![input], outputs: vec![member.output.clone()] }
    }

    /// Which lines stand on their heads.
    pub(super) fn turned(&mut self, answers: &[Vec<Tensor>]) -> Result<Vec<(usize, bool)>, String> {
        let mut turned = Vec::new();
        for (batch, outputs) in self.asked.drain(..).zip(answers) {
            for (at, scores) in batch.iter().zip(rows(outputs, batch.len())?) {
                let [upright, over] = scores.as_slice() else {
                    return Err(format!("{} directions for two", scores.len()));
                };
                turned.push((*at, over > upright && *over > TURN_LEAST));
            }
        }
        Ok(turned)
    }

    /// Lines with their texts and scores.
    pub(super) fn read(
        &mut self,
        answers: &[Vec<Tensor>],
        characters: &[String],
    ) -> Result<Vec<(usize, String, f32)>, String> {
        let mut read = Vec::new();
        for (batch, outputs) in self.asked.drain(..).zip(answers) {
            let [output] = outputs.as_slice() else {
                return Err(format!("{} outputs for one", outputs.len()));
            };
            let [rows, steps, classes] = *values::shape(output) else {
                return Err(format!("texts have shape {:?}", output.shape));
            };
            // Before the characters stands the one for none, behind them the blank.
            if rows != batch.len() || steps == 0 || classes != characters.len() + 2 {
                return Err(format!("{rows} texts of {classes} characters for {}", characters.len() + 2));
            }
            let scores = values::read_floats(output)?;
            let texts = scores.chunks_exact(steps * classes);
            for (at, scores) in batch.iter().zip(texts) {
                let (text, score) = greedy(scores, classes, characters);
                read.push((*at, text, score));
            }
        }
        Ok(read)
    }
}

fn aspect(line: &Crop) -> f64 {
    f64::from(line.picture.width()) / f64::from(line.picture.height())
}

/// A line's picture at the models' height, grey behind its end.
fn strip(line: &Crop, width: u32, values: &mut Vec<f32>) {
    let own = (f64::from(HEIGHT) * aspect(line)).ceil().max(1.0) as u32;
    let own = own.min(width);
    let picture = pixels::resize(line.picture.clone(), own, HEIGHT, Filter::FourNearest);
    let mut planes = Vec::with_capacity(picture.as_raw().len());
    detect::normalised(&picture, &mut planes);
    for row in planes.chunks_exact(own as usize) {
        values.extend_from_slice(row);
        values.extend(std::iter::repeat_n(0.0, (width - own) as usize));
    }
}

/// The likeliest character of each step; repeated ones are one, and the first class is none.
pub(super) fn greedy(scores: &[f32], classes: usize, characters: &[String]) -> (String, f32) {
    let (mut text, mut sum, mut count, mut last) = (String::new(), 0.0, 0, 0);
    for step in scores.chunks_exact(classes) {
        // Of equals the first, as numpy has it.
        let best = step.iter().enumerate().rev().max_by(|a, b| a.1.total_cmp(b.1));
        let (class, score) = best.expect("there are classes");
        if class != 0 && class != last {
            text.push_str(characters.get(class - 1).map_or(" ", String::as_str));
            sum += score;
            count += 1;
        }
        last = class;
    }
    (text, if count == 0 { 0.0 } else { sum / count as f32 })
}
