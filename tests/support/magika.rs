//! What magika 1.0.3 needs around its network: a file's bytes as features, and probabilities read as a label.
//! It follows the package's own Python; it never runs the model.

#![allow(dead_code, reason = "each target that includes this file uses its own part of it")]

use serde_json::Value;

/// The model's `config.min.json`.
#[derive(Debug)]
pub(crate) struct Config {
    beg_size: usize,
    end_size: usize,
    block_size: usize,
    min_file_size: usize,
    padding_token: i32,
    labels: Vec<String>,
}

impl Config {
    pub(crate) fn parse(json: &str) -> Result<Self, String> {
        let config: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let number = |field: &str| {
            let value = config[field].as_u64().and_then(|value| usize::try_from(value).ok());
            value.ok_or_else(|| format!("magika's config has no number {field}"))
        };
        let labels = config["target_labels_space"]
            .as_array()
            .and_then(|labels| labels.iter().map(|v| v.as_str().map(str::to_owned)).collect())
            .ok_or("magika's config has no target_labels_space")?;
        if number("mid_size")? != 0 || config["use_inputs_at_offsets"] != Value::Bool(false) {
            return Err("magika's config asks for features from elsewhere in a file".to_owned());
        }
        let padding = number("padding_token")?;
        Ok(Self {
            beg_size: number("beg_size")?,
            end_size: number("end_size")?,
            block_size: number("block_size")?,
            min_file_size: number("min_file_size_for_dl")?,
            padding_token: i32::try_from(padding).map_err(|error| error.to_string())?,
            labels,
        })
    }

    /// The network's input `bytes`, as `[1, features]`.
    /// None for a file with so few bytes that magika does not ask the network.
    pub(crate) fn features(&self, file: &[u8]) -> Option<Vec<i32>> {
        let block = self.block_size.min(file.len());
        let begin = &file[..block];
        let begin = &begin[begin.iter().take_while(|byte| is_space(**byte)).count()..];
        let end = &file[file.len() - block..];
        let end = &end[..end.len() - end.iter().rev().take_while(|byte| is_space(**byte)).count()];
        if file.len() < self.min_file_size || begin.len() < self.min_file_size {
            return None;
        }
        let begin = &begin[..begin.len().min(self.beg_size)];
        let end = &end[end.len().saturating_sub(self.end_size)..];
        let mut features = vec![self.padding_token; self.beg_size + self.end_size];
        let end_at = features.len() - end.len();
        for (slot, byte) in features.iter_mut().zip(begin) {
            *slot = i32::from(*byte);
        }
        for (slot, byte) in features[end_at..].iter_mut().zip(end) {
            *slot = i32::from(*byte);
        }
        Some(features)
    }

    /// The likeliest label with its probability, from the network's output `target_label`.
    /// None if there is not one probability for each label, or one is not a number.
    pub(crate) fn top(&self, probabilities: &[f32]) -> Option<(&str, f32)> {
        if probabilities.len() != self.labels.len() || probabilities.iter().any(|p| p.is_nan()) {
            return None;
        }
        let best = self.labels.iter().zip(probabilities).max_by(|a, b| a.1.total_cmp(b.1));
        best.map(|(label, probability)| (label.as_str(), *probability))
    }
}

/// What Python's `bytes.strip` removes; unlike Rust's ASCII whitespace it includes the vertical tab.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/inputs");

    fn config() -> Config {
        Config::parse(
            r#"{"beg_size": 1024, "mid_size": 0, "end_size": 1024, "use_inputs_at_offsets": false,
                "min_file_size_for_dl": 8, "padding_token": 256, "block_size": 4096,
                "target_labels_space": ["csv", "elf", "python"]}"#,
        )
        .expect("the config is complete")
    }

    fn read_json(name: &str) -> Value {
        let text = std::fs::read_to_string(format!("{INPUTS}/{name}")).expect("the file is there");
        serde_json::from_str(&text).expect("the file is json")
    }

    fn features_of(name: &str) -> Vec<i32> {
        let file = std::fs::read(format!("{INPUTS}/files/{name}")).expect("the file is there");
        config().features(&file).expect("the file is long enough")
    }

    #[test]
    fn features_equal_those_of_the_python_package() {
        let gate = read_json("magika.json");
        let files = read_json("expected.json")["magika"]["gate_files"].clone();
        let files = files.as_array().expect("a list of names");
        assert_eq!(gate["inputs"].as_array().map(Vec::len), Some(files.len()));
        for (i, name) in files.iter().enumerate() {
            let name = name.as_str().expect("a name");
            assert_eq!(gate["inputs"][i]["bytes"]["data"], Value::from(features_of(name)), "{name}");
        }
    }

    #[test]
    fn every_file_has_the_features_that_the_python_package_summed() {
        let expected = read_json("expected.json")["magika"]["files"].clone();
        for (name, answer) in expected.as_object().expect("answers by file name") {
            let sum: i64 = features_of(name).iter().zip(1..).map(|(v, i)| i64::from(*v) * i).sum();
            assert_eq!(answer["weighted_sum"], Value::from(sum), "{name}");
        }
    }

    #[test]
    fn both_ends_are_stripped_cut_and_padded() {
        let long = [vec![b'a'; 3_000], vec![b'b'; 3_000]].concat();
        let features = config().features(&long).expect("the file is long enough");
        assert!(features[..1024].iter().all(|v| *v == i32::from(b'a')));
        assert!(features[1024..].iter().all(|v| *v == i32::from(b'b')));

        let features = config().features(b" \x0b\n12345678\x0c\r\t").expect("eight bytes remain");
        // Only the front is stripped of the beginning, only the back of the end.
        assert_eq!(features[..12], [49, 50, 51, 52, 53, 54, 55, 56, 12, 13, 9, 256]);
        assert_eq!(features[2036..], [256, 32, 11, 10, 49, 50, 51, 52, 53, 54, 55, 56]);
    }

    #[test]
    fn the_network_is_not_asked_about_a_few_bytes() {
        for file in [&b""[..], b"1234567", b"       1234567"] {
            assert_eq!(config().features(file), None);
        }
        assert!(config().features(b"12345678").is_some());
        assert_eq!(config().features(&[b' '; 5_000]), None);
    }

    #[test]
    fn the_likeliest_label_is_named() {
        let config = config();
        assert_eq!(config.top(&[0.1, 0.2, 0.7]), Some(("python", 0.7)));
        assert_eq!(config.top(&[0.1, 0.9]), None);
        assert_eq!(config.top(&[0.1, f32::NAN, 0.2]), None);
    }

    #[test]
    fn an_incomplete_config_is_refused() {
        let cases = [
            ("nonsense", "expected"),
            ("{}", "target_labels_space"),
            (r#"{"target_labels_space": []}"#, "mid_size"),
            (r#"{"target_labels_space": [], "mid_size": 4}"#, "elsewhere"),
        ];
        for (json, wanted) in cases {
            let refusal = Config::parse(json).expect_err(wanted);
            assert!(refusal.contains(wanted), "{refusal}");
        }
    }
}
