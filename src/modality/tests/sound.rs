use super::*;
use crate::modality::{
    audio::{self, Sound},
    speech::{
        CONTEXT, FRAME, SAMPLE_RATE, STATE_SHAPE, Segment, WINDOW, fits, frames, rough_segments, segments,
    },
};

fn speech() -> Vec<f32> {
    let sound = audio::decode(&fixture("speech.wav")).unwrap();
    assert_eq!(sound.rate as usize, SAMPLE_RATE);
    sound.samples
}

fn silero() -> Value {
    let all: Value = serde_json::from_slice(&fixture("expected.json")).unwrap();
    all["silero-vad"].clone()
}

fn indices(value: &Value) -> Vec<usize> {
    value
        .as_array()
        .expect("a list of counts")
        .iter()
        .map(|v| v.as_u64().expect("a count") as usize)
        .collect()
}

fn voice() -> Signature {
    signature(
        &[
            ("input", Datatype::Fp32, "b n"),
            ("state", Datatype::Fp32, "2 b 128"),
            ("sr", Datatype::Int64, ""),
        ],
        &[("output", "b 1"), ("stateN", "? ? ?")],
    )
}

#[test]
fn frames_equal_those_that_the_python_package_feeds() {
    let frames = frames(&speech());
    let gate: Value = serde_json::from_slice(&fixture("silero-vad.json")).unwrap();
    let windows = indices(&silero()["gate_windows"]);
    assert_eq!(gate["inputs"].as_array().map(Vec::len), Some(windows.len()));
    for (i, window) in windows.into_iter().enumerate() {
        assert_eq!(frames[window], numbers(&gate["inputs"][i]["input"]["data"]), "window {window}");
    }
}

#[test]
fn every_frame_is_full_and_begins_with_the_end_of_the_one_before() {
    let samples: Vec<f32> = (0..WINDOW + 100).map(|i| i as f32).collect();
    let frames = frames(&samples);
    assert_eq!(frames.len(), 2);
    assert!(frames.iter().all(|frame| frame.len() == FRAME));
    assert_eq!(frames[0][..CONTEXT], [0.0; CONTEXT]);
    assert_eq!(frames[1][..CONTEXT], samples[WINDOW - CONTEXT..WINDOW]);
    assert_eq!(frames[1][CONTEXT + 100..], [0.0; WINDOW - 100]);
}

#[test]
fn a_recording_is_heard_frame_by_frame_each_with_the_state_that_the_last_left() {
    let expected = silero();
    let probabilities = numbers(&expected["probabilities"]);
    let recipe = recipe(&voice(), ModelKind::Audio, &Companions::default()).unwrap();
    let mut dialogue = recipe.begin(&Input::Audio(fixture("speech.wav"))).unwrap();
    let mut at = 0;
    let findings = carry(&mut *dialogue, |ask| {
        let [input, state, rate] = ask.inputs.as_slice() else { panic!("{ask:?}") };
        assert_eq!((input.shape.as_slice(), rate.shape.as_slice()), (&[1, FRAME as u64][..], &[][..]));
        assert_eq!(
            (integers(rate), values::read_floats(state).unwrap()),
            (vec![16_000], vec![at as f32; 256])
        );
        at += 1;
        vec![
            floats("output", &[1, 1], &[probabilities[at - 1]]),
            floats("stateN", &STATE_SHAPE, &[at as f32; 256]),
        ]
    });
    let findings = findings.unwrap();
    let [Finding::Speech { seconds, step_seconds, probabilities: told, segments }] = findings.as_slice()
    else {
        panic!()
    };
    assert_eq!((*seconds, *step_seconds, told, at), (5.0, 0.032, &probabilities, probabilities.len()));
    let found: Vec<_> = segments
        .iter()
        .map(|s| vec![(s.start_seconds * 16e3) as usize, (s.end_seconds * 16e3) as usize])
        .collect();
    let wanted: Vec<_> = expected["segments"].as_array().unwrap().iter().map(indices).collect();
    assert_eq!(found, wanted, "what the package's own timestamps are");

    for (outputs, says) in
        [(vec![], "two outputs"), (vec![floats("output", &[1, 2], &[0.5; 2]); 2], "2 probabilities")]
    {
        let mut dialogue = recipe.begin(&Input::Audio(fixture("speech.wav"))).unwrap();
        let said = carry(&mut *dialogue, |_| outputs.clone()).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn pauses_clicks_and_the_end_of_the_recording_are_told_apart() {
    // Each letter is a frame: S speech, s between the thresholds, . silence.
    let cases: [(&str, &[(usize, usize)]); 6] = [
        ("", &[]),
        ("....SSSSSSS.....", &[]),
        ("....SSSSSSSSS.....", &[(4, 13)]),
        ("....SSSSS...SSSSS.....", &[(4, 17)]),
        ("....SSSSSssssssss....SSSS", &[(4, 25)]),
        (".SSSSSSSSS.....SSSSSSSSSS", &[(1, 10), (15, 25)]),
    ];
    for (letters, wanted) in cases {
        let probability = |letter| match letter {
            'S' => 0.9,
            's' => 0.4,
            _ => 0.1,
        };
        let probabilities: Vec<f32> = letters.chars().map(probability).collect();
        let found = rough_segments(&probabilities, letters.len() * WINDOW);
        let wanted: Vec<Segment> =
            wanted.iter().map(|&(start, end)| Segment { start: start * WINDOW, end: end * WINDOW }).collect();
        assert_eq!(found, wanted, "{letters}");
    }
    let padded = segments(&[vec![0.9; 20], vec![0.1; 5], vec![0.9; 20]].concat(), 45 * WINDOW);
    assert_eq!(
        padded,
        [
            Segment { start: 0, end: 20 * WINDOW + 480 },
            Segment { start: 25 * WINDOW - 480, end: 45 * WINDOW }
        ]
    );
}

#[test]
fn only_a_model_with_sileros_ports_is_one_of_speech() {
    assert!(fits(&voice()));
    let mut cases = vec![voice(); 4];
    cases[0].inputs[1].shape[2] = Dim::Fixed(64);
    cases[1].inputs[2].datatype = Datatype::Int32;
    cases[2].outputs.pop();
    let extra = cases[3].inputs[0].clone();
    cases[3].inputs.push(extra);
    assert!(cases.iter().all(|signature| !fits(signature)));
}

/// The strength of a tone in a sound, by correlation.
fn tone(samples: &[f32], rate: u32, frequency: f64) -> f64 {
    let angle = |at: usize| std::f64::consts::TAU * frequency * at as f64 / f64::from(rate);
    let sum = |wave: fn(f64) -> f64| -> f64 {
        samples.iter().enumerate().map(|(at, sample)| f64::from(*sample) * wave(angle(at))).sum()
    };
    2.0 * sum(f64::sin).hypot(sum(f64::cos)) / samples.len() as f64
}

#[test]
fn channels_are_mixed_and_rates_changed_without_moving_what_is_heard() {
    let sound = audio::decode(&fixture("modality/chord.wav")).unwrap();
    assert_eq!((sound.rate, sound.samples.len()), (44_100, 22_050));
    for rate in [8_000, 16_000, 48_000] {
        let samples = audio::resample(sound.clone(), rate).unwrap();
        assert!(samples.len().abs_diff(rate as usize / 2) <= 1, "{}", samples.len());
        // Half of 0.5 on the left, half of 0.25 on the right, and nothing beside.
        for (frequency, strength) in [(440.0, 0.25), (1000.0, 0.125), (3000.0, 0.0)] {
            let heard = tone(&samples, rate, frequency);
            assert!((heard - strength).abs() < 0.003, "{frequency} Hz at {rate} Hz: {heard}");
        }
    }
    assert_eq!(audio::resample(Sound { samples: vec![0.5], rate: 16_000 }, 16_000).unwrap(), [0.5]);
}

#[test]
fn other_files_and_recordings_without_sound_are_refused() {
    let wav = fixture("speech.wav");
    let mut rate = wav.to_vec();
    rate[24..28].copy_from_slice(&1_000_000u32.to_le_bytes());
    let cases: [(Bytes, &str); 6] = [
        (Bytes::new(), "none of WAV, FLAC, MP3 and Ogg Vorbis"),
        (fixture("modality/picture.png"), "none of WAV, FLAC, MP3 and Ogg Vorbis"),
        (wav.slice(..40), "the recording cannot be read"),
        (wav.slice(..1_000), "the recording cannot be read"),
        ([&wav[..40], &[0; 4]].concat().into(), "the file holds no sound"),
        (rate.into(), "1 channels at 1000000 Hz are no recording"),
    ];
    for (file, says) in cases {
        let said = audio::decode(&file).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
}
