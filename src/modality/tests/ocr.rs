use super::*;

fn reading(characters: &str) -> (Signature, BTreeMap<String, String>) {
    let metadata = [("character".to_owned(), characters.to_owned())].into();
    (signature(&[("x", Datatype::Fp32, "b 3 ? w")], &[("y", "b t c")]), metadata)
}

fn pipeline(order: &[usize]) -> Result<Recipe, ModalityError> {
    let none = BTreeMap::new();
    let companions = Companions::default();
    let map = signature(&[("x", Datatype::Fp32, "b 3 h w")], &[("y", "b 1 h w")]);
    let direction = signature(&[("x", Datatype::Fp32, "b 3 ? ?")], &[("y", "b 2")]);
    let (text, metadata) = reading("L\nR");
    let subject = |signature, metadata| Subject {
        signature,
        kind: ModelKind::Vision,
        metadata,
        companions: &companions,
    };
    let all = [subject(&map, &none), subject(&direction, &none), subject(&text, &metadata)];
    Recipe::of(&order.iter().map(|at| all[*at]).collect::<Vec<_>>(), Some(Task::Ocr))
}

/// The page's map has a block on the left and one on the right; the right one stands on its head.
fn play(order: &[usize]) -> Vec<crate::modality::Line> {
    let recipe = pipeline(order).unwrap();
    let mut dialogue = recipe.begin(&Input::Image(fixture("modality/page.png"))).unwrap();
    let findings = carry(&mut *dialogue, |ask| {
        let shape: Vec<usize> = ask.inputs[0].shape.iter().map(|size| *size as usize).collect();
        ask.inputs[0].check().unwrap();
        match order[ask.part.0] {
            0 => {
                // 760 by 430, the shorter side brought to 736, both to multiples of 32.
                assert_eq!(shape, [1, 3, 736, 1312]);
                let on = |at: usize| {
                    let (x, y) = (at % 1312, at / 1312);
                    (100..140).contains(&y) && ((100..400).contains(&x) || (800..1200).contains(&x))
                };
                let map: Vec<f32> = (0..736 * 1312).map(|at| if on(at) { 0.9 } else { 0.1 }).collect();
                vec![floats("y", &[1, 1, 736, 1312], &map)]
            }
            1 => {
                assert_eq!(shape, [2, 3, 48, 192]);
                vec![floats("y", &[2, 2], &[0.95, 0.05, 0.02, 0.98])]
            }
            _ => {
                assert_eq!(shape[..3], [2, 3, 48]);
                vec![floats("y", &[2, 1, 4], &[0.0, 1.0, 0.0, 0.0, 0.3, 0.0, 0.6, 0.1])]
            }
        }
    });
    let findings = findings.unwrap();
    let [Finding::Lines { lines }] = findings.as_slice() else { panic!() };
    lines.clone()
}

#[test]
fn a_page_is_read_by_three_models_in_any_order_of_naming_and_by_two() {
    let lines = play(&[0, 1, 2]);
    let told: Vec<_> = lines.iter().map(|line| (line.text.as_str(), line.upside_down)).collect();
    assert_eq!(told, [("L", false), ("R", true)]);
    let [left, top] = lines[0].corners[0];
    // 1312 seen pixels are 760, and the block grows by what its heart lacks.
    assert!(
        (left - 100.0 * 760.0 / 1312.0).abs() < 20.0 && (top - 100.0 * 430.0 / 736.0).abs() < 20.0,
        "{lines:?}"
    );
    assert_eq!(play(&[2, 0, 1]), lines);
    assert!(play(&[2, 0]).iter().all(|line| !line.upside_down));
}

#[test]
fn pipelines_that_lack_a_part_or_have_it_twice_are_refused() {
    for (order, says) in [
        (&[0, 1][..], "no model that reads lines is named"),
        (&[1, 2], "no model that finds lines is named"),
        (&[0, 0, 2], "two models are for detection"),
    ] {
        let said = pipeline(order).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
    let (signature, metadata) = reading("a");
    let companions = Companions::default();
    let alone = Subject {
        signature: &signature,
        kind: ModelKind::Vision,
        metadata: &metadata,
        companions: &companions,
    };
    let said = Recipe::of(&[alone], None).unwrap_err().to_string();
    assert!(said.contains("it reads lines of text"), "{said}");
}

#[test]
fn answers_of_other_shapes_end_the_reading_with_a_reason() {
    let recipe = pipeline(&[0, 2]).unwrap();
    let cases: [(fn() -> Vec<Tensor>, &str); 3] = [
        (Vec::new, "0 outputs for one"),
        (|| vec![floats("y", &[1, 2, 8, 8], &[0.0; 128])], "a map has shape"),
        (|| vec![floats("y", &[1, 1, 0, 8], &[])], "the map is empty"),
    ];
    for (outputs, says) in cases {
        let mut dialogue = recipe.begin(&Input::Image(fixture("modality/page.png"))).unwrap();
        let said = carry(&mut *dialogue, |_| outputs()).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
    let mut dialogue = recipe.begin(&Input::Image(fixture("modality/page.png"))).unwrap();
    let findings = carry(&mut *dialogue, |_| vec![floats("y", &[1, 1, 8, 8], &[0.0; 64])]).unwrap();
    assert_eq!(findings, [Finding::Lines { lines: vec![] }], "an image without text");
}
