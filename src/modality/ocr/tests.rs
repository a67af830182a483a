use std::f32::consts::FRAC_1_SQRT_2;

use image::{Rgb, RgbImage, imageops};
use imageproc::point::Point;

use super::{geometry, read::greedy, straighten::straightened};

#[test]
fn the_least_rectangle_lies_at_the_angle_of_its_points() {
    let upright: Vec<_> = (2..=9).flat_map(|x| (3..=5).map(move |y| Point::new(x, y))).collect();
    let (corners, side) = geometry::least_rectangle(&upright).unwrap();
    assert_eq!((corners, side), ([[2.0, 3.0], [9.0, 3.0], [9.0, 5.0], [2.0, 5.0]], 2.0));

    // Along the diagonal, 20 steps long and 2 wide; a step is the root of two.
    let step = |along: i32, across: i32| Point::new(along - across, along + across);
    let band: Vec<_> = (0..=20).flat_map(|along| (0..=2).map(move |across| step(along, across))).collect();
    let (corners, side) = geometry::least_rectangle(&band).unwrap();
    assert!((side - 2.0 / FRAC_1_SQRT_2).abs() < 1e-4, "{side}");
    for (corner, wanted) in corners.into_iter().zip([[-2.0, 2.0], [20.0, 20.0], [18.0, 22.0], [0.0, 0.0]]) {
        assert!(
            corners.iter().any(|corner| geometry::distance(*corner, wanted) < 1e-3),
            "{corner:?} of {corners:?}"
        );
    }

    for line in [vec![], vec![Point::new(1, 1)], vec![Point::new(1, 1), Point::new(5, 1), Point::new(3, 1)]] {
        assert!(geometry::least_rectangle(&line).is_none(), "{line:?} has no area");
    }
}

#[test]
fn growing_moves_each_side_outwards_at_any_angle_to_whole_pixels() {
    let square = [[0.0, 0.0], [40.7, 0.0], [40.7, 20.2], [0.0, 20.2]];
    let (corners, side) = geometry::grown(square, 3.2).unwrap();
    assert_eq!((corners, side), ([[-3.0, -3.0], [43.0, -3.0], [43.0, 23.0], [-3.0, 23.0]], 26.0));
    let turned = [[0.0, 0.0], [40.0, 40.0], [30.0, 50.0], [-10.0, 10.0]];
    let (corners, _) = geometry::grown(turned, 10.0 * FRAC_1_SQRT_2).unwrap();
    for wanted in [[0.0, -10.0], [50.0, 40.0], [30.0, 60.0], [-20.0, 10.0]] {
        let near = corners.iter().any(|corner| geometry::distance(*corner, wanted) < 1.5);
        assert!(near, "{corners:?} has no corner near {wanted:?}");
    }
    assert!(geometry::grown([[1.0, 1.0]; 4], 2.0).is_none(), "a point has no edges");
}

#[test]
fn the_mean_within_a_rectangle_counts_its_edges_and_nothing_outside() {
    let map: Vec<f32> = (0..5)
        .flat_map(|y| {
            (0..6).map(move |x| if (1..=3).contains(&x) && (1..=2).contains(&y) { 1.0 } else { 0.0 })
        })
        .collect();
    let inside = [[1.0, 1.0], [3.9, 1.0], [3.9, 2.9], [1.0, 2.9]];
    assert!((geometry::mean_within(&map, 6, inside) - 1.0).abs() < 1e-6);
    let wider = [[0.0, 1.0], [3.0, 1.0], [3.0, 2.0], [0.0, 2.0]];
    assert!((geometry::mean_within(&map, 6, wider) - 0.75).abs() < 1e-6);
    let beyond = [[-9.0, -9.0], [99.0, -9.0], [99.0, 99.0], [-9.0, 99.0]];
    assert!((geometry::mean_within(&map, 6, beyond) - 0.2).abs() < 1e-6);
}

#[test]
fn repeated_characters_are_one_and_what_lies_between_parts_them() {
    let characters = ["a", "b"].map(str::to_owned);
    // Classes: none, a, b, blank.
    let cases: [(&[usize], &str); 6] = [
        (&[], ""),
        (&[0, 0], ""),
        (&[1, 1, 2], "ab"),
        (&[1, 0, 1], "aa"),
        (&[1, 3, 2], "a b"),
        (&[3, 1], " a"),
    ];
    for (classes, wanted) in cases {
        let scores: Vec<f32> = classes
            .iter()
            .flat_map(|class| (0..4).map(move |at| if at == *class { 0.7 } else { 0.1 }))
            .collect();
        let (text, score) = greedy(&scores, 4, &characters);
        assert_eq!(text, wanted);
        assert!((score - if wanted.is_empty() { 0.0 } else { 0.7 }).abs() < 1e-6, "{score}");
    }
}

#[test]
fn what_lies_straight_is_cut_out_and_what_lies_turned_is_turned_back() {
    let picture = RgbImage::from_fn(20, 10, |x, y| Rgb([x as u8 * 10, y as u8 * 10, 7]));
    let cut = straightened(&picture, [[3.0, 2.0], [9.0, 2.0], [9.0, 6.0], [3.0, 6.0]]).unwrap();
    assert_eq!(cut, imageops::crop_imm(&picture, 3, 2, 6, 4).to_image());
    // Its upper left corner is the lower left one of the picture.
    let turned = straightened(&picture, [[3.0, 8.0], [3.0, 2.0], [9.0, 2.0], [9.0, 8.0]]).unwrap();
    assert_eq!((turned.dimensions(), turned.get_pixel(1, 2).0), ((6, 6), [50, 70, 7]));
    // Half way between two pixels of a slope lies their mean, and beyond the edge the edge.
    let between = straightened(&picture, [[3.5, 2.0], [9.5, 2.0], [9.5, 6.0], [3.5, 6.0]]).unwrap();
    assert_eq!(between.get_pixel(0, 0).0, [35, 20, 7]);
    let beyond = straightened(&picture, [[-5.0, -5.0], [1.0, -5.0], [1.0, 1.0], [-5.0, 1.0]]).unwrap();
    assert_eq!(beyond.get_pixel(0, 0).0, [0, 0, 7]);
    assert!(straightened(&picture, [[1.0, 1.0]; 4]).is_none());
}
