use super::*;

fn told(signature: &Signature, kind: ModelKind, files: &[(&str, Value)]) -> String {
    match recipe(signature, kind, &companions(files)) {
        Ok(recipe) => recipe.task().to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_a_model_does_is_told_by_its_files_signature_and_kind() {
    let words = || ("tokenizer.json", tokenizer("wordpiece"));
    let labels = |count: usize| {
        let labels: BTreeMap<_, _> = (0..count).map(|at| (at.to_string(), format!("label {at}"))).collect();
        ("config.json", json!({"id2label": labels}))
    };
    let vit = || ("preprocessor_config.json", expected()["images"]["vit"]["config"].clone());
    let modules = || ("modules.json", json!([]));
    let classifier = signature(&[("input_ids", Datatype::Int64, "b s")], &[("logits", "b 2")]);
    let both = signature(&[("input_ids", Datatype::Int64, "b s")], &[("a", "b s 4"), ("b", "b 4")]);
    let eye = |output: &str, shape: &str| {
        signature(&[("pixel_values", Datatype::Fp32, "b 3 h w")], &[(output, shape)])
    };
    let tensors = signature(&[("x", Datatype::Fp32, "n 4")], &[("y", "n 4")]);
    let cases: [(&Signature, ModelKind, Vec<(&str, Value)>, &str); 15] = [
        (&encoder(), ModelKind::Embedding, vec![words()], "embedding"),
        (&encoder(), ModelKind::Other, vec![words(), modules()], "embedding"),
        (&encoder(), ModelKind::Embedding, vec![], "the model has no tokenizer.json, which text needs"),
        (&encoder(), ModelKind::Other, vec![words()], "is not of the kind embedding"),
        (&both, ModelKind::Embedding, vec![words()], "which of the outputs a, b is the vector is not known"),
        (&classifier, ModelKind::Other, vec![words(), labels(2)], "text-classification"),
        (&classifier, ModelKind::Other, vec![words(), labels(3)], "id2label has not as many labels"),
        (&classifier, ModelKind::Other, vec![words()], "nor labels came with it"),
        (&eye("logits", "b 2"), ModelKind::Vision, vec![vit(), labels(2)], "image-classification"),
        (&eye("image_embeds", "b 4"), ModelKind::Vision, vec![vit()], "image-embedding"),
        (&eye("y", "b 4"), ModelKind::Multimodal, vec![vit()], "image-embedding"),
        (&eye("y", "b 4"), ModelKind::Vision, vec![vit()], "nor the kind embedding"),
        (&eye("y", "b 4"), ModelKind::Vision, vec![], "no preprocessor_config.json came with it"),
        (&tensors, ModelKind::Other, vec![], "give tensors instead"),
        (&tensors, ModelKind::Embedding, vec![words()], "give tensors instead"),
    ];
    for (signature, kind, files, wanted) in cases {
        let told = told(signature, kind, &files);
        assert!(told.contains(wanted), "{told:?}, not {wanted:?}");
    }
}

#[test]
fn a_task_may_be_said_where_the_files_leave_it_open_and_not_against_them() {
    let labels = json!({"id2label": {"0": "no", "1": "yes"}});
    let companions = companions(&[("tokenizer.json", tokenizer("wordpiece")), ("config.json", labels)]);
    let metadata = BTreeMap::new();
    let classifier = signature(&[("input_ids", Datatype::Int64, "b s")], &[("logits", "b 2")]);
    let of = |signature: &Signature, task| {
        let subject =
            Subject { signature, kind: ModelKind::Other, metadata: &metadata, companions: &companions };
        Recipe::of(&[subject], Some(task)).map(|recipe| recipe.task()).map_err(|error| error.to_string())
    };
    assert_eq!(of(&encoder(), Task::Embedding), Ok(Task::Embedding));
    assert_eq!(of(&classifier, Task::Embedding), Ok(Task::Embedding));
    let refused = [
        (of(&classifier, Task::FileType), "the model's task is text-classification, not file-type"),
        (of(&encoder(), Task::SpeechDetection), "silero-VAD's inputs"),
        (of(&encoder(), Task::ImageEmbedding), "no preprocessor_config.json"),
        (of(&encoder(), Task::Ocr), "is none that finds, turns or reads lines"),
    ];
    for (answer, says) in refused {
        assert!(answer.as_ref().is_err_and(|said| said.contains(says)), "{answer:?}");
    }
    for (_, name) in crate::modality::recipe::TASKS {
        assert_eq!(name.parse::<Task>().unwrap().to_string(), name);
        assert_eq!(json!(name.parse::<Task>().unwrap()), name);
    }
    assert!("translation".parse::<Task>().unwrap_err().contains("use embedding, "));
}

#[test]
fn inputs_of_another_kind_are_refused_with_what_is_wanted() {
    let encoder =
        recipe(&encoder(), ModelKind::Embedding, &companions(&[("tokenizer.json", tokenizer("wordpiece"))]));
    let encoder = encoder.unwrap();
    for (input, says) in [
        (Input::Image(Bytes::new()), "the model's task is embedding, which takes text, not an image"),
        (Input::Audio(Bytes::new()), "not sound"),
        (Input::File(Bytes::new()), "not a file"),
    ] {
        let said = encoder.begin(&input).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn companions_are_found_wherever_their_folder_lies() {
    let names = [
        "a/b/1_Pooling/config.json",
        "a/b/config.json",
        "a/b/other-config.json",
        "deep/er/still/tokenizer.json",
    ];
    let cases = [
        ("config.json", Some("a/b/config.json")),
        ("1_Pooling/config.json", Some("a/b/1_Pooling/config.json")),
        ("tokenizer.json", Some("deep/er/still/tokenizer.json")),
        ("modules.json", None),
    ];
    for (wanted, found) in cases {
        assert_eq!(Companions::choose(wanted, names.into_iter()), found);
    }
    let direct = ["x/config.json", "config.json"];
    assert_eq!(Companions::choose("config.json", direct.into_iter()), Some("config.json"));
}
