//! Where lines of text are: the image as the detection model wants it, and rectangles from the map that it gives.

use image::{GrayImage, Luma, RgbImage, imageops};
use imageproc::contours::{BorderType, find_contours};

use super::{
    super::{
        Ask, ModalityError,
        pixels::{self, Filter},
        values,
    },
    Crop, Member,
    geometry::{self, Corners, distance},
    straighten::straightened,
};
use crate::domain::Tensor;

/// The longest side that is looked at, and the shortest.
const SIDE_MAX: u32 = 2000;
const SIDE_MIN: u32 = 30;

/// The shortest side as the detection model sees it.
const SEEN_MIN: u32 = 736;

/// Sides are multiples of this, by which the model halves them.
const STEP: f64 = 32.0;

/// An image lower than this, or wider than so many times its height, is put between bars.
const HEIGHT_MIN: u32 = 30;
const ASPECT_MAX: u32 = 8;

/// A pixel of the map over this is text …
const THRESHOLD: f32 = 0.3;
/// … and a rectangle whose pixels are so sure in the mean.
const BOX_THRESHOLD: f32 = 0.5;
/// The map shows the heart of a line, which is smaller by this share of area over length.
const GROWTH: f32 = 1.6;
/// Shorter sides of the map's rectangles are specks.
const SPECK: f32 = 3.0;
/// Lines of one image.
const LINES_MAX: usize = 1000;
/// Lines that begin within so many pixels of height are side by side.
const SAME_ROW: f32 = 10.0;
/// A line that is higher than wide by this runs downwards.
const UPRIGHT: f32 = 1.5;

/// An image in the size in which it is looked at, bars included.
pub(super) struct Sheet {
    picture: RgbImage,
    /// What the image's pixels are to these.
    ratio: [f32; 2],
    /// Height of the bar above.
    bar: u32,
}

/// Pillow's and Python's rounding.
fn stepped(side: f64) -> u32 {
    ((side.trunc() / STEP).round_ties_even() * STEP) as u32
}

impl Sheet {
    pub(super) fn new(image: &RgbImage) -> Result<Self, ModalityError> {
        let (width, height) = image.dimensions();
        let (long, short) = (width.max(height), width.min(height));
        let mut picture = image.clone();
        let mut scale = |ratio: f64| {
            let (width, height) = (stepped(f64::from(width) * ratio), stepped(f64::from(height) * ratio));
            if width == 0 || height == 0 || width.max(height) > 4 * SIDE_MAX {
                return Err(ModalityError::Input("the image is too narrow to be read".to_owned()));
            }
            picture = pixels::resize(image.clone(), width, height, Filter::FourNearest);
            Ok(())
        };
        if long > SIDE_MAX {
            scale(f64::from(SIDE_MAX) / f64::from(long))?;
        } else if short < SIDE_MIN {
            scale(f64::from(SIDE_MIN) / f64::from(short))?;
        }
        let ratio = [width as f32 / picture.width() as f32, height as f32 / picture.height() as f32];
        let (width, height) = picture.dimensions();
        let low = height <= HEIGHT_MIN || f64::from(width) / f64::from(height) > f64::from(ASPECT_MAX);
        let wanted = (width / ASPECT_MAX).max(HEIGHT_MIN) * 2;
        let bar = if low { wanted.abs_diff(height) / 2 } else { 0 };
        if bar > 0 {
            let mut between = RgbImage::new(width, height + 2 * bar);
            imageops::replace(&mut between, &picture, 0, i64::from(bar));
            picture = between;
        }
        Ok(Self { picture, ratio, bar })
    }

    pub(super) fn ask(&self, member: &Member) -> Ask {
        let (width, height) = self.picture.dimensions();
        let short = width.min(height);
        let ratio = if short < SEEN_MIN { f64::from(SEEN_MIN) / f64::from(short) } else { 1.0 };
        let side = |side: u32| stepped(f64::from(side) * ratio).max(STEP as u32);
        let seen = pixels::resize(self.picture.clone(), side(width), side(height), Filter::FourNearest);
        let mut planes = Vec::with_capacity(seen.as_raw().len());
        normalised(&seen, &mut planes);
        let shape = [1, 3, seen.height() as usize, seen.width() as usize];
        let input = values::floats(&member.input.name, member.input.datatype, &shape, &planes);
        Ask { part: member.part, inputs: vec![input], outputs: vec![member.output.clone()] }
    }

    /// The lines that a map shows, in reading order.
    pub(super) fn lines(&self, outputs: &[Tensor]) -> Result<Vec<Crop>, String> {
        let [output] = outputs else { return Err(format!("{} outputs for one", outputs.len())) };
        let [1, 1, height, width] = *values::shape(output) else {
            return Err(format!("a map has shape {:?}", output.shape));
        };
        let map = values::read_floats(output)?;
        if map.is_empty() {
            return Err("the map is empty".to_owned());
        }
        let mut rectangles = self.rectangles(&map, width, height);
        sort(&mut rectangles);
        Ok(rectangles.into_iter().filter_map(|corners| self.crop(corners)).collect())
    }

    fn rectangles(&self, map: &[f32], width: usize, height: usize) -> Vec<Corners> {
        let contours = find_contours::<i32>(&mask(map, width, height));
        let outer = contours.into_iter().filter(|contour| contour.border_type == BorderType::Outer);
        let (across, down) =
            (self.picture.width() as f32 / width as f32, self.picture.height() as f32 / height as f32);
        let rectangle = |points: &[imageproc::point::Point<i32>]| {
            let (corners, side) = geometry::least_rectangle(points)?;
            if side < SPECK || geometry::mean_within(map, width, corners) < BOX_THRESHOLD {
                return None;
            }
            let (long, high) = (distance(corners[0], corners[1]), distance(corners[0], corners[3]));
            let growth = long * high * GROWTH / (2.0 * (long + high));
            let (corners, side) = geometry::grown(corners, growth)?;
            if side < SPECK + 2.0 {
                return None;
            }
            let corners = corners.map(|[x, y]| {
                [
                    (x * across).round_ties_even().clamp(0.0, self.picture.width() as f32 - 1.0),
                    (y * down).round_ties_even().clamp(0.0, self.picture.height() as f32 - 1.0),
                ]
            });
            let corners = geometry::ordered(corners);
            let sides = [distance(corners[0], corners[1]), distance(corners[0], corners[3])];
            sides.iter().all(|side| side.trunc() > SPECK).then_some(corners)
        };
        outer.take(LINES_MAX).filter_map(|contour| rectangle(&contour.points)).collect()
    }

    /// A line's picture, made straight.
    fn crop(&self, corners: Corners) -> Option<Crop> {
        let mut picture = straightened(&self.picture, corners)?;
        if picture.height() as f32 / picture.width() as f32 >= UPRIGHT {
            picture = imageops::rotate270(&picture);
        }
        Some(Crop { corners, picture, upside_down: false, text: String::new(), score: 0.0 })
    }

    /// Corners in the pixels of the image that was given.
    pub(super) fn original(&self, corners: Corners, (width, height): (u32, u32)) -> Corners {
        corners.map(|[x, y]| {
            let y = y - self.bar as f32;
            [(x * self.ratio[0]).clamp(0.0, width as f32), (y * self.ratio[1]).clamp(0.0, height as f32)]
        })
    }
}

/// Planes from -1 to 1, blue before green before red, which is how PaddleOCR's models were trained.
pub(super) fn normalised(image: &RgbImage, planes: &mut Vec<f32>) {
    let from = planes.len();
    pixels::planes(image, 1.0 / 255.0, [0.5; 3], [0.5; 3], planes);
    let plane = (planes.len() - from) / 3;
    let (red, others) = planes[from..].split_at_mut(plane);
    red.swap_with_slice(&mut others[plane..]);
}

/// What is text, each pixel of it spread by one to the right and down.
fn mask(map: &[f32], width: usize, height: usize) -> GrayImage {
    let mut mask = GrayImage::new(width as u32, height as u32);
    for (at, _) in map.iter().enumerate().filter(|(_, value)| **value > THRESHOLD) {
        let (x, y) = (at % width, at / width);
        for (x, y) in [(x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)] {
            if x < width && y < height {
                mask.put_pixel(x as u32, y as u32, Luma([255]));
            }
        }
    }
    mask
}

/// From top to bottom, and from left to right where lines begin at nearly one height.
fn sort(rectangles: &mut [Corners]) {
    rectangles.sort_by(|a, b| a[0][1].total_cmp(&b[0][1]).then(a[0][0].total_cmp(&b[0][0])));
    for from in 1..rectangles.len() {
        for at in (1..=from).rev() {
            let (before, this) = (rectangles[at - 1][0], rectangles[at][0]);
            if (this[1] - before[1]).abs() >= SAME_ROW || this[0] >= before[0] {
                break;
            }
            rectangles.swap(at - 1, at);
        }
    }
}
