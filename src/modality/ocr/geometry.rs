//! Rectangles at any angle.

use imageproc::{geometry::convex_hull, point::Point};

/// Corners of a rectangle, from the upper left one clockwise.
pub(super) type Corners = [[f32; 2]; 4];

/// The smallest rectangle around some points, at whatever angle, and its shorter side.
pub(super) fn least_rectangle(points: &[Point<i32>]) -> Option<(Corners, f32)> {
    let hull = convex_hull(points.to_vec());
    if hull.len() < 3 {
        return None;
    }
    let hull: Vec<[f32; 2]> = hull.iter().map(|point| [point.x as f32, point.y as f32]).collect();
    let edges = hull.iter().zip(hull.iter().cycle().skip(1));
    let along_each = edges.filter_map(|(a, b)| {
        let length = distance(*a, *b);
        (length > 0.0).then(|| along(&hull, [(b[0] - a[0]) / length, (b[1] - a[1]) / length]))
    });
    // The least area has a side along one of the hull's.
    let (corners, width, height) =
        along_each.min_by(|a, b| (a.1 * a.2).total_cmp(&(b.1 * b.2))).expect("three points have edges");
    Some((ordered(corners), width.min(height)))
}

/// The rectangle around a hull that has this direction, with its sides' lengths.
fn along(hull: &[[f32; 2]], [x, y]: [f32; 2]) -> (Corners, f32, f32) {
    let range = |direction: [f32; 2]| {
        let places = hull.iter().map(|point| point[0] * direction[0] + point[1] * direction[1]);
        places.fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), place| {
            (least.min(place), most.max(place))
        })
    };
    let (left, right) = range([x, y]);
    let (top, bottom) = range([-y, x]);
    let corner = |across: f32, down: f32| [across * x - down * y, across * y + down * x];
    let corners = [corner(left, top), corner(right, top), corner(right, bottom), corner(left, bottom)];
    (corners, right - left, bottom - top)
}

/// From the upper left corner clockwise: of the two left ones the upper, of the two right ones the upper, and so on.
pub(super) fn ordered(mut corners: Corners) -> Corners {
    corners.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let [a, b, c, d] = corners;
    let (top_left, bottom_left) = if b[1] > a[1] { (a, b) } else { (b, a) };
    let (top_right, bottom_right) = if d[1] > c[1] { (c, d) } else { (d, c) };
    [top_left, top_right, bottom_right, bottom_left]
}

pub(super) fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// Points of a corner that is rounded: more would be rounded to the same pixels at a line's size.
const ARC: u8 = 8;

/// The least rectangle around a shape with all its edges moved outwards and its corners rounded, on whole pixels as the
/// original's library for polygons has them; with its shorter side.
pub(super) fn grown(corners: Corners, by: f32) -> Option<(Corners, f32)> {
    let corners = corners.map(|corner| corner.map(f32::trunc));
    let mut points = Vec::new();
    for at in 0..corners.len() {
        let [before, corner, after] = [3, 0, 1].map(|step| corners[(at + step) % corners.len()]);
        let (from, to) = (outward(before, corner)?, outward(corner, after)?);
        for step in 0..=ARC {
            let part = f32::from(step) / f32::from(ARC);
            let between = [0, 1].map(|axis| from[axis] + (to[axis] - from[axis]) * part);
            let length = between[0].hypot(between[1]);
            let [x, y] = [0, 1].map(|axis| (corner[axis] + by * between[axis] / length).round() as i32);
            points.push(Point::new(x, y));
        }
    }
    least_rectangle(&points)
}

/// What points away from a shape whose corners go clockwise, of length 1, at the edge from one to the next.
fn outward(from: [f32; 2], to: [f32; 2]) -> Option<[f32; 2]> {
    let length = distance(from, to);
    (length > 0.0).then(|| [(to[1] - from[1]) / length, (from[0] - to[0]) / length])
}

/// The mean of a map's values within a rectangle, its edges included.
pub(super) fn mean_within(map: &[f32], width: usize, corners: Corners) -> f32 {
    let height = map.len() / width;
    let corners = corners.map(|corner| corner.map(f32::trunc));
    let ys = corners.map(|corner| corner[1]);
    let first = ys.into_iter().fold(f32::INFINITY, f32::min).max(0.0) as usize;
    let last = ys.into_iter().fold(0.0, f32::max) as usize;
    let (mut sum, mut count) = (0.0, 0);
    for y in first..=last.min(height - 1) {
        let Some((left, right)) = span(&corners, y as f32) else { continue };
        let (left, right) =
            (left.round().max(0.0) as usize, (right.round().max(0.0) as usize).min(width - 1));
        for value in &map[y * width..][left.min(right)..=right] {
            sum += f64::from(*value);
            count += 1;
        }
    }
    if count == 0 { 0.0 } else { (sum / f64::from(count)) as f32 }
}

/// Where a convex shape begins and ends at a height.
fn span(corners: &Corners, y: f32) -> Option<(f32, f32)> {
    let mut span: Option<(f32, f32)> = None;
    let mut reach = |x: f32| {
        let (left, right) = span.unwrap_or((x, x));
        span = Some((left.min(x), right.max(x)));
    };
    for (a, b) in corners.iter().zip(corners.iter().cycle().skip(1)) {
        let (low, high) = (a[1].min(b[1]), a[1].max(b[1]));
        if !(low..=high).contains(&y) {
            continue;
        }
        // Level edges have both ends there, and no slope.
        if (high - low).abs() < f32::EPSILON {
            reach(a[0]);
            reach(b[0]);
        } else {
            reach(a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]));
        }
    }
    span
}
