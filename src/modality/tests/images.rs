use super::*;
use crate::modality::{pixels, preparation::Preparation};

fn prepared(config: &Value, file: &str, shape: &str) -> Result<(Vec<u64>, Vec<f32>), ModalityError> {
    let signature = signature(&[("pixel_values", Datatype::Fp32, shape)], &[("logits", "b 2")]);
    let companions = companions(&[("preprocessor_config.json", config.clone())]);
    let preparation = Preparation::new(Task::ImageClassification, &companions, &signature)?;
    let tensor = preparation.pixels(&fixture(file))?;
    Ok((tensor.shape.clone(), values::read_floats(&tensor).unwrap()))
}

/// Resized by Pillow's filters, cut, bordered and normalised; every seventh value was kept.
///
/// Our filters have coefficients of 16 bits where Pillow's have 22, and clip what overshoots an edge in the other
/// direction first. So up to a quarter of the pixels are a level of 255 off, few are more, and none is seven.
#[test]
fn images_become_the_pixels_that_transformers_make_of_them() {
    for (name, image) in expected()["images"].as_object().unwrap() {
        let config = &image["config"];
        let (shape, values) = prepared(config, "modality/picture.png", "b 3 h w").unwrap();
        assert_eq!(json!(shape[1..]), image["shape"], "{name}");
        let wanted = numbers(&image["pixels"]);
        let deviation =
            if config["do_normalize"] == true { numbers(&config["image_std"]) } else { vec![1.0; 3] };
        let (plane, mut sum, mut most) = (shape[2] * shape[3], 0.0, 0.0_f32);
        for (at, (value, wanted)) in values.iter().step_by(7).zip(&wanted).enumerate() {
            let levels = (value - wanted).abs() * deviation[at * 7 / plane as usize] * 255.0;
            sum += levels;
            most = most.max(levels);
        }
        let mean = sum / wanted.len() as f32;
        assert!(most < 6.5 && mean < 0.4, "{name}: {most} levels off at most, {mean} in the mean");
    }
}

#[test]
fn pictures_of_every_format_stand_upright() {
    let upright = pixels::decode(&fixture("modality/picture.png")).unwrap();
    assert_eq!(upright.dimensions(), (61, 47));
    for (file, exact) in [("picture.webp", true), ("turned.png", true), ("turned.jpg", false)] {
        let picture = pixels::decode(&fixture(&format!("modality/{file}"))).unwrap();
        assert_eq!(picture.dimensions(), (61, 47), "{file}");
        let differences =
            picture.as_raw().iter().zip(upright.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b)));
        let mean = differences.sum::<f64>() / picture.as_raw().len() as f64;
        assert!(if exact { mean == 0.0 } else { mean < 20.0 }, "{file}: {mean}");
    }
}

/// A PNG that says so many pixels and holds next to none.
fn claiming(width: u32, height: u32) -> Vec<u8> {
    let mut file = fixture("modality/picture.png").to_vec();
    file[16..20].copy_from_slice(&width.to_be_bytes());
    file[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = !file[12..29].iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(
            sum ^ u32::from(*byte),
            |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 },
        )
    });
    file[29..33].copy_from_slice(&sum.to_be_bytes());
    file
}

#[test]
fn what_is_no_picture_or_too_large_is_refused_before_it_is_decoded() {
    let cases: [(Vec<u8>, &str); 5] = [
        (Vec::new(), "none of PNG, JPEG and WebP"),
        (b"GIF89a and more".to_vec(), "cannot be read"),
        (fixture("modality/picture.png")[..400].to_vec(), "cannot be read"),
        (claiming(40_000, 40_000), "40000 by 40000 pixels is over the limit of 50000000 pixels"),
        (claiming(61, 48), "cannot be read"),
    ];
    for (file, says) in cases {
        let said = pixels::decode(&file).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn configurations_that_would_be_misread_are_refused() {
    let vit = expected()["images"]["vit"]["config"].clone();
    let with = |changes: Value| {
        let mut config = vit.clone();
        for (name, value) in changes.as_object().unwrap() {
            config[name] = value.clone();
        }
        config
    };
    let cases = [
        (with(json!({"do_pad": true})), "b 3 h w", "do_pad and crop_pct"),
        (with(json!({"size": {"longest_edge": 20, "shortest_edge": 10}})), "b 3 h w", "size is no number"),
        (with(json!({"size": null})), "b 3 h w", "do_resize without a size"),
        (with(json!({"resample": 9})), "b 3 h w", "none of Pillow's filters"),
        (with(json!({"image_std": [0.0, 1.0, 1.0]})), "b 3 h w", "image_std is not above 0"),
        (with(json!({"image_mean": null})), "b 3 h w", "without image_mean"),
        (with(json!({"do_center_crop": true})), "b 3 h w", "without a crop_size"),
        (vit.clone(), "b 3 32 32", "makes 24 by 24 pixels, of which the model takes none"),
        (vit.clone(), "b 3", "one FP32 or FP16 input of four dimensions"),
    ];
    for (config, shape, says) in cases {
        let said = prepared(&config, "modality/picture.png", shape).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
    let (shape, _) = prepared(&with(json!({"size": 16})), "modality/picture.png", "1 3 16 16").unwrap();
    assert_eq!(shape, [1, 3, 16, 16], "a number is both sides");
    let clip = with(json!({"size": 16, "image_processor_type": "CLIPImageProcessor"}));
    let (shape, _) = prepared(&clip, "modality/picture.png", "b 3 h w").unwrap();
    assert_eq!(shape, [1, 3, 16, 20], "for CLIP's kind the shortest");
}

#[test]
fn classes_are_named_and_their_scores_are_probabilities() {
    let signature = signature(&[("pixel_values", Datatype::Fp32, "b 3 h w")], &[("logits", "b 3")]);
    let answer = |problem: &str, logits: &[f32]| {
        let labels = json!({"id2label": {"0": "cat", "1": "dog", "2": "fox"}, "problem_type": problem});
        let vit = expected()["images"]["vit"]["config"].clone();
        let companions = companions(&[("preprocessor_config.json", vit), ("config.json", labels)]);
        let recipe = recipe(&signature, ModelKind::Vision, &companions).unwrap();
        assert_eq!(recipe.task(), Task::ImageClassification);
        let mut dialogue = recipe.begin(&Input::Image(fixture("modality/picture.webp"))).unwrap();
        carry(&mut *dialogue, |ask| {
            assert_eq!(
                (ask.inputs[0].shape.as_slice(), ask.outputs.as_slice()),
                (&[1, 3, 24, 24][..], &["logits".to_owned()][..])
            );
            vec![floats("logits", &[1, logits.len()], logits)]
        })
    };
    let Ok([Finding::Labels { labels }]) =
        answer("single_label_classification", &[1.0, 3.0, 2.0]).as_deref().map(|f| [f[0].clone()])
    else {
        panic!()
    };
    let told: Vec<_> =
        labels.iter().map(|label| (label.label.as_str(), (label.score * 1e4).round())).collect();
    assert_eq!(told, [("dog", 6652.0), ("fox", 2447.0), ("cat", 900.0)]);
    let Ok([Finding::Labels { labels }]) =
        answer("multi_label_classification", &[0.0, 3.0, -3.0]).as_deref().map(|f| [f[0].clone()])
    else {
        panic!()
    };
    let told: Vec<_> =
        labels.iter().map(|label| (label.label.as_str(), (label.score * 1e4).round())).collect();
    assert_eq!(told, [("dog", 9526.0), ("cat", 5000.0), ("fox", 474.0)]);
    let said = answer("", &[1.0, 2.0]).unwrap_err().to_string();
    assert!(said.contains("2 scores for 3 labels"), "{said}");
}
