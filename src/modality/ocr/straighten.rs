//! A picture of what lies within four corners, made straight.
//!
//! The kernel is OpenCV's, which is sharper than others' cubic ones: by a softer one the recognition model sees no
//! spaces between words.

use image::{Rgb, RgbImage};
use imageproc::geometric_transformations::Projection;

use super::geometry::{Corners, distance};

/// OpenCV's parameter of the cubic kernel.
const SHARPNESS: f32 = -0.75;

/// Places between pixels that OpenCV tells apart.
const PLACES: f32 = 32.0;

/// Nothing where the corners enclose no pixel.
pub(super) fn straightened(picture: &RgbImage, corners: Corners) -> Option<RgbImage> {
    let [a, b, c, d] = corners;
    let width = distance(a, b).max(distance(c, d)) as u32;
    let height = distance(a, d).max(distance(b, c)) as u32;
    if width == 0 || height == 0 {
        return None;
    }
    let (right, bottom) = (width as f32, height as f32);
    let straight = [(0.0, 0.0), (right, 0.0), (right, bottom), (0.0, bottom)];
    let back = Projection::from_control_points(straight, corners.map(|[x, y]| (x, y)))?;
    Some(RgbImage::from_fn(width, height, |x, y| sample(picture, back * (x as f32, y as f32))))
}

/// The colour at a place, from the sixteen pixels around it; beyond the edge its pixels go on.
fn sample(picture: &RgbImage, (x, y): (f32, f32)) -> Rgb<u8> {
    let (left, across) = split(x);
    let (top, down) = split(y);
    let (columns, rows) = (weights(across), weights(down));
    let mut sums = [0.0; 3];
    for (row, weight) in rows.into_iter().enumerate() {
        let at_y = (top - 1 + row.cast_signed() as i64).clamp(0, i64::from(picture.height()) - 1) as u32;
        for (column, share) in columns.into_iter().enumerate() {
            let at_x =
                (left - 1 + column.cast_signed() as i64).clamp(0, i64::from(picture.width()) - 1) as u32;
            let pixel = picture.get_pixel(at_x, at_y);
            for (sum, value) in sums.iter_mut().zip(pixel.0) {
                *sum += weight * share * f32::from(value);
            }
        }
    }
    Rgb(sums.map(|sum: f32| sum.round().clamp(0.0, 255.0) as u8))
}

/// The pixel before a place, and how far behind it that is.
fn split(place: f32) -> (i64, f32) {
    let place = (place * PLACES).round_ties_even() / PLACES;
    (place.floor() as i64, place - place.floor())
}

/// What the four pixels around a place count for.
fn weights(after: f32) -> [f32; 4] {
    let near = |x: f32| ((SHARPNESS + 2.0) * x - (SHARPNESS + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((SHARPNESS * x - 5.0 * SHARPNESS) * x + 8.0 * SHARPNESS) * x - 4.0 * SHARPNESS;
    let [first, second, third] = [far(after + 1.0), near(after), near(1.0 - after)];
    [first, second, third, 1.0 - first - second - third]
}
