use std::f32::consts::FRAC_1_SQRT_2;

use imageproc::point::Point;

use super::{geometry, read::greedy};

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
fn growing_moves_each_side_outwards_at_any_angle() {
    let square = [[0.0, 0.0], [4.0, 0.0], [4.0, 2.0], [0.0, 2.0]];
    assert_eq!(geometry::grown(square, 1.5), [[-1.5, -1.5], [5.5, -1.5], [5.5, 3.5], [-1.5, 3.5]]);
    let turned = [[0.0, 0.0], [4.0, 4.0], [3.0, 5.0], [-1.0, 1.0]];
    let grown = geometry::grown(turned, FRAC_1_SQRT_2);
    for (corner, wanted) in grown.into_iter().zip([[0.0, -1.0], [5.0, 4.0], [3.0, 6.0], [-2.0, 1.0]]) {
        assert!(geometry::distance(corner, wanted) < 1e-5, "{grown:?}");
    }
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
