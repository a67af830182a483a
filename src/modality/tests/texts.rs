use super::*;
use crate::modality::{Text, pooling, text::Reader};

fn plain(texts: &[&str]) -> Vec<Text> {
    texts.iter().map(|text| Text::Plain((*text).to_owned())).collect()
}

fn reader(files: &[(&str, Value)], signature: &Signature) -> Result<Reader, ModalityError> {
    Reader::new(Task::Embedding, &companions(files), signature)
}

/// 19 sentences, three kinds of tokenizer; the ids are those that the Python package gave.
#[test]
fn texts_have_the_tokens_that_the_python_package_gives() {
    let expected = expected();
    let sentences: Vec<_> =
        expected["sentences"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    for name in ["wordpiece", "bytes", "unigram"] {
        let long = json!({"model_max_length": 4096});
        let files = [("tokenizer.json", tokenizer(name)), ("tokenizer_config.json", long)];
        let reader = reader(&files, &encoder()).unwrap();
        for (sentence, wanted) in sentences.iter().zip(expected["tokens"][name].as_array().unwrap()) {
            let tokens = reader.tokens(&plain(&[sentence]));
            if wanted == &json!([]) {
                assert!(tokens.unwrap_err().to_string().contains("has no tokens"), "{name}: {sentence:?}");
            } else {
                assert_eq!(json!(tokens.unwrap()[0].ids), *wanted, "{name}: {sentence:?}");
            }
        }
    }
}

#[test]
fn a_model_takes_as_many_tokens_as_the_nearest_of_its_files_says() {
    let sentence = |most: u64| ("sentence_bert_config.json", json!({"max_seq_length": most}));
    let config = |most: f64| ("tokenizer_config.json", json!({"model_max_length": most}));
    let positions = |most: u64, kind: &str| {
        ("config.json", json!({"max_position_embeddings": most, "model_type": kind, "pad_token_id": 1}))
    };
    let mut own = tokenizer("wordpiece");
    own["truncation"] =
        json!({"direction": "Right", "max_length": 77, "strategy": "LongestFirst", "stride": 0});
    let cases: [(Vec<(&str, Value)>, usize); 8] = [
        (vec![], 512),
        (vec![("tokenizer.json", own.clone())], 77),
        (vec![("tokenizer.json", own.clone()), sentence(100)], 100),
        (vec![config(64.0)], 64),
        (vec![config(1e30)], 512),
        (vec![config(1e30), positions(130, "roberta")], 128),
        (vec![config(256.0), positions(130, "bert")], 130),
        (vec![sentence(50), config(64.0), positions(40, "bert")], 40),
    ];
    for (files, most) in cases {
        let mut all = vec![("tokenizer.json", tokenizer("wordpiece"))];
        all.retain(|(name, _)| files.iter().all(|(other, _)| other != name));
        all.extend(files);
        let reader = reader(&all, &encoder()).unwrap();
        let tokens = &reader.tokens(&plain(&[&"the cat ".repeat(400), "the cat"])).unwrap();
        assert_eq!((tokens[0].ids.len(), tokens[0].truncated, tokens[1].truncated), (most, true, false));
        let ends = [tokens[0].ids.first(), tokens[0].ids.last()];
        assert_eq!(ends, [Some(&2), Some(&3)], "the model's own tokens stay at {most}");
    }
}

#[test]
fn batches_are_of_like_length_and_padded_as_the_signature_wants() {
    let files = [("tokenizer.json", tokenizer("wordpiece"))];
    let fixed = |shape: &str| signature(&[("input_ids", Datatype::Int32, shape)], &[("y", "b 2")]);
    let texts = ["the cat", &"the cat ".repeat(30), "a dog ran", "the", &"the ".repeat(57)];
    let shapes = |signature: &Signature, texts: &[&str]| -> Vec<(Vec<usize>, usize, usize)> {
        let reader = reader(&files, signature).unwrap();
        let tokens = reader.tokens(&plain(texts)).unwrap();
        let batches = reader.batches(&tokens);
        for batch in &batches {
            let ask = reader.ask(batch, &tokens, "y");
            assert!(
                ask.inputs.iter().all(|t| t.shape == [batch.rows as u64, batch.length as u64]),
                "{ask:?}"
            );
            ask.inputs.iter().for_each(|tensor| tensor.check().unwrap());
        }
        batches.into_iter().map(|batch| (batch.at, batch.rows, batch.length)).collect()
    };
    assert_eq!(shapes(&encoder(), &texts), [(vec![1, 4], 2, 64), (vec![2, 0, 3], 3, 16)]);
    assert_eq!(shapes(&fixed("1 s"), &texts[..1]), [(vec![0], 1, 16)]);
    assert_eq!(shapes(&fixed("2 70"), &texts[..3]), [(vec![1, 2], 2, 70), (vec![0], 2, 70)]);
    let many: Vec<_> = std::iter::repeat_n("the cat", 70).collect();
    assert_eq!(shapes(&encoder(), &many).iter().map(|(at, ..)| at.len()).collect::<Vec<_>>(), [32, 32, 6]);
}

#[test]
fn padding_stands_where_and_as_the_files_say() {
    let cases: [(Value, Vec<i64>, Vec<i64>); 3] = [
        (json!({}), vec![0, 0], vec![1, 0]),
        (json!({"pad_token": "[MASK]"}), vec![4, 4], vec![1, 0]),
        (json!({"pad_token": {"content": "[UNK]"}, "padding_side": "left"}), vec![1, 1], vec![0, 1]),
    ];
    for (config, pads, mask_ends) in cases {
        let files = [("tokenizer.json", tokenizer("wordpiece")), ("tokenizer_config.json", config)];
        let reader = reader(&files, &encoder()).unwrap();
        let tokens = reader.tokens(&plain(&["a"])).unwrap();
        let ask = reader.ask(&reader.batches(&tokens)[0], &tokens, "y");
        let (ids, mask) = (integers(&ask.inputs[0]), integers(&ask.inputs[1]));
        assert_eq!((ids.len(), mask.iter().sum::<i64>()), (16, 3));
        let padding: Vec<_> =
            ids.iter().zip(&mask).filter(|(_, real)| **real == 0).map(|(id, _)| *id).collect();
        assert_eq!(padding[..2], pads);
        assert_eq!([mask[0], mask[15]], mask_ends[..]);
        assert_eq!(reader.real(&tokens[0], 16), mask.iter().map(|real| *real == 1).collect::<Vec<_>>());
    }
}

#[test]
fn tokens_of_the_callers_own_are_taken_as_they_are() {
    let files = [
        ("tokenizer.json", tokenizer("wordpiece")),
        ("tokenizer_config.json", json!({"model_max_length": 4})),
    ];
    let reader = reader(&files, &encoder()).unwrap();
    assert_eq!(reader.tokens(&[Text::Tokens(vec![2, 9, 3])]).unwrap()[0].ids, [2, 9, 3]);
    let cases = [
        (vec![], "text 0 has no tokens"),
        (vec![70_000], "token 70000 of text 0 is none of the model's"),
        (vec![1; 5], "text 0 of 5 tokens is over the limit of 4 tokens, which the model takes"),
    ];
    for (ids, says) in cases {
        let said = reader.tokens(&[Text::Tokens(ids)]).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn requests_beyond_the_limits_and_files_that_are_no_tokenizers_are_refused_by_name() {
    let reader_of = |file: Value| reader(&[("tokenizer.json", file)], &encoder());
    let good = reader_of(tokenizer("wordpiece")).unwrap();
    let requests = [
        (vec![], "there is no text"),
        (plain(&vec!["a"; 2049]), "a request of 2049 texts is over the limit of 2048"),
        (plain(&["a", &"b".repeat((1 << 20) + 1)]), "text 1 is over the limit of 1048576 bytes"),
        (plain(&["c".repeat(1 << 20).as_str(); 9]), "together is over the limit of 8388608 bytes"),
    ];
    for (texts, says) in requests {
        let said = good.tokens(&texts).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
    let mut wrong = tokenizer("bytes");
    wrong["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("(unclosed");
    for file in [json!({}), json!([]), json!({"model": {"type": "WordPiece"}}), wrong] {
        let said = reader_of(file).unwrap_err().to_string();
        assert!(said.starts_with("the model's tokenizer.json cannot be used: "), "{said}");
    }
    let cases = [
        (
            signature(
                &[("input_ids", Datatype::Int64, "b s"), ("pixel_values", Datatype::Fp32, "b 3 8 8")],
                &[],
            ),
            "pixel_values",
        ),
        (signature(&[("input_ids", Datatype::Fp32, "b s")], &[]), "not INT64 or INT32"),
        (signature(&[("input_ids", Datatype::Int64, "s")], &[]), "of two dimensions"),
        (signature(&[("x", Datatype::Int64, "b s")], &[]), "no input input_ids"),
    ];
    for (signature, says) in cases {
        let said = reader(&[("tokenizer.json", tokenizer("wordpiece"))], &signature).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
}

/// Token `t` has the vector `(t, 1)`, so that a text's vector follows from its tokens.
fn network(ask: &super::super::Ask) -> Vec<Tensor> {
    let ids = &ask.inputs[0];
    let vectors: Vec<f32> = integers(ids).iter().flat_map(|id| [*id as f32, 1.0]).collect();
    vec![floats(&ask.outputs[0], &[ids.shape[0] as usize, ids.shape[1] as usize, 2], &vectors)]
}

fn embeddings(recipe: &Recipe, texts: &[Text]) -> Result<Vec<(Vec<f32>, usize)>, ModalityError> {
    let mut dialogue = recipe.begin(&Input::Texts(texts.to_vec()))?;
    let findings = carry(&mut *dialogue, network)?;
    let embedding = |finding| match finding {
        Finding::Embedding { embedding, tokens, truncated: false } => (embedding, tokens.unwrap()),
        other => panic!("{other:?}"),
    };
    Ok(findings.into_iter().map(embedding).collect())
}

#[test]
fn vectors_are_pooled_as_sentence_transformers_files_say_and_come_in_the_order_of_the_texts() {
    type Vector = fn(f32) -> [f32; 2];
    let pooling = |mode: &str| ("1_Pooling/config.json", json!({format!("pooling_mode_{mode}"): true}));
    let modules = |kinds: &[&str]| {
        let module = |(at, kind): (usize, &&str)| {
            let path = if *kind == "Pooling" { "1_Pooling".to_owned() } else { format!("{at}_{kind}") };
            json!({"idx": at, "path": path, "type": format!("sentence_transformers.models.{kind}")})
        };
        ("modules.json", json!(kinds.iter().enumerate().map(module).collect::<Vec<_>>()))
    };
    // 150 texts, so that there are more batches than one turn asks for.
    let texts: Vec<_> = (0..150).map(|at| Text::Tokens(vec![10 + at, 20, 30 + at])).collect();
    let cases: [(Vec<(&str, Value)>, Vector); 6] = [
        (vec![], |at| {
            let x = 20.0 + at * 2.0 / 3.0;
            [x, 1.0].map(|v| v / x.hypot(1.0))
        }),
        (vec![pooling("cls_token"), modules(&["Transformer", "Pooling"])], |at| [10.0 + at, 1.0]),
        (vec![pooling("lasttoken"), modules(&["Transformer", "Pooling"])], |at| [30.0 + at, 1.0]),
        (vec![pooling("max_tokens"), modules(&["Transformer", "Pooling"])], |at| [30.0 + at, 1.0]),
        (vec![pooling("mean_tokens"), modules(&["Transformer", "Pooling"])], |at| {
            [20.0 + at * 2.0 / 3.0, 1.0]
        }),
        (vec![pooling("cls_token"), modules(&["Transformer", "Pooling", "Normalize"])], |at| {
            [10.0 + at, 1.0].map(|v| v / (10.0 + at).hypot(1.0))
        }),
    ];
    for (mut files, wanted) in cases {
        files.push(("tokenizer.json", tokenizer("wordpiece")));
        let recipe = recipe(&encoder(), ModelKind::Embedding, &companions(&files)).unwrap();
        for (at, (vector, tokens)) in embeddings(&recipe, &texts).unwrap().into_iter().enumerate() {
            let wanted = wanted(at as f32);
            assert_eq!(tokens, 3);
            assert!(
                vector.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-4),
                "{at}: {vector:?}, not {wanted:?}"
            );
        }
    }
    let refused = [
        (vec![pooling("weightedmean_tokens")], "one of cls, mean, max and lasttoken"),
        (
            vec![(
                "1_Pooling/config.json",
                json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}),
            )],
            "one of cls",
        ),
        (vec![modules(&["Transformer", "Dense"])], "the step Dense"),
    ];
    for (mut files, says) in refused {
        files.push(("tokenizer.json", tokenizer("wordpiece")));
        let said = recipe(&encoder(), ModelKind::Embedding, &companions(&files)).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn vectors_are_cut_only_where_the_model_says_so() {
    let files =
        |cuts: Value| companions(&[("tokenizer.json", tokenizer("wordpiece")), ("config.json", cuts)]);
    let vector = |companions: &Companions, dimensions| {
        let Ok(Recipe::Embedding(model)) = recipe(&encoder(), ModelKind::Embedding, companions) else {
            panic!()
        };
        let mut dialogue = model.begin(&[Text::Tokens(vec![3])], dimensions).unwrap();
        carry(&mut *dialogue, network)
    };
    let length = |findings: Vec<Finding>| match &findings[0] {
        Finding::Embedding { embedding, .. } => embedding.clone(),
        other => panic!("{other:?}"),
    };
    let cuttable = files(json!({"matryoshka_dimensions": [1]}));
    assert_eq!(length(vector(&cuttable, Some(1)).unwrap()), [1.0], "cut and brought to length 1 again");
    assert_eq!(length(vector(&cuttable, Some(2)).unwrap()).len(), 2);
    let said = vector(&files(json!({})), Some(1)).unwrap_err().to_string();
    assert_eq!(said, "the model's vectors have 2 dimensions, not 1");
    let said = vector(&cuttable, Some(3)).unwrap_err().to_string();
    assert_eq!(said, "the model's vectors have 2 or 1 dimensions, not 3");
}

#[test]
fn answers_that_do_not_fit_are_told_and_never_read() {
    let companions = companions(&[("tokenizer.json", tokenizer("wordpiece"))]);
    let recipe = recipe(&encoder(), ModelKind::Embedding, &companions).unwrap();
    let cases = [
        (vec![], "0 outputs for one"),
        (vec![floats("y", &[1, 16, 0], &[])], "has shape [1, 16, 0]"),
        (vec![floats("y", &[2, 16, 1], &[0.0; 32])], "has shape [2, 16, 1]"),
        (vec![floats("y", &[1, 16, 1], &[f32::NAN; 16])], "holds NaN"),
        (vec![floats("y", &[3, 2], &[0.0; 6])], "has shape [3, 2]"),
    ];
    for (outputs, says) in cases {
        let mut dialogue = recipe.begin(&Input::Texts(plain(&["the cat"]))).unwrap();
        let said = carry(&mut *dialogue, |_| outputs.clone()).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
    let mut zero = [0.0, 0.0];
    pooling::normalise(&mut zero);
    assert!(zero.iter().all(|value| *value == 0.0), "{zero:?}");
}
