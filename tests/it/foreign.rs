//! Weights that weft's own converter refuses, given to others: programs that stand in for optimum and Python, and in
//! `make prove` the real ones.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    cli::{self, Served, run, text, weft},
    support::graphs,
};

/// A home whose daemon asks others, if so told.
fn home(python: bool) -> tempfile::TempDir {
    let home = cli::home();
    let toml = format!("[browsers]\nchromium = 0\n[models]\npython = {python}\n");
    std::fs::write(home.path().join("weft.toml"), toml).expect("room for a file");
    home
}

/// A daemon that finds `program` before all others of its name.
fn serve(home: &Path, program: &str, script: &str) -> Served {
    let bin = home.join("bin");
    std::fs::create_dir_all(&bin).expect("room for a folder");
    let mut path = bin.clone().into_os_string();
    if !program.is_empty() {
        let file = bin.join(program);
        std::fs::write(&file, format!("#!/bin/sh\n{script}")).expect("room for a file");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("our file");
        path.push(":/usr/bin:/bin");
    }
    cli::start(weft(home, &["serve", "--listen", "127.0.0.1:0"]).env("PATH", path))
}

/// Weights of an architecture that weft has never heard of.
fn unknown(home: &Path) -> String {
    let folder = home.join("unknown");
    std::fs::create_dir_all(&folder).expect("room for a folder");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/checkpoints/bert/model.safetensors");
    std::fs::copy(fixture, folder.join("model.safetensors")).expect("room for a file");
    let config = r#"{"model_type": "nobody", "architectures": ["NobodyModel"]}"#;
    std::fs::write(folder.join("config.json"), config).expect("room for a file");
    folder.to_str().expect("UTF-8").to_owned()
}

fn graph(home: &Path) -> PathBuf {
    let graph = home.join("neg.onnx");
    std::fs::write(&graph, graphs::neg()).expect("room for a file");
    graph
}

fn refused(home: &Path, source: &str) -> String {
    let done = run(home, &["models", "add", source]);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stdout));
    text(&done.stderr).to_owned()
}

fn json_of(home: &Path, arguments: &[&str]) -> Value {
    let done = run(home, &[arguments, &["--json"]].concat());
    assert_eq!(done.status.code(), Some(0), "{arguments:?}: {}", text(&done.stderr));
    serde_json::from_str(text(&done.stdout)).expect("JSON")
}

/// What is left of errands in the run's folder.
fn errands(home: &Path) -> usize {
    let runs = std::fs::read_dir(home.join("run")).expect("a folder").flatten();
    let within = runs.filter_map(|run| std::fs::read_dir(run.path()).ok()).flatten().flatten();
    within.filter(|entry| entry.file_name().to_string_lossy().starts_with("errand-")).count()
}

#[test]
fn others_are_asked_only_when_the_owner_says_so_and_only_for_what_is_not_known() {
    let home = home(false);
    let served = serve(home.path(), "optimum-cli", "touch \"$(dirname \"$0\")/asked\"");
    let said = refused(home.path(), &unknown(home.path()));
    assert!(
        said.contains("\"nobody\" are not supported") && said.contains("`python = true` in [models]"),
        "{said}"
    );
    assert!(!home.path().join("bin/asked").exists());
    assert_eq!(served.end(Signal::SIGTERM).0, Some(0));

    let home = self::home(true);
    let served = serve(home.path(), "", "");
    let said = refused(home.path(), &unknown(home.path()));
    assert!(said.contains("neither optimum-cli nor a python3"), "{said}");
    let pickled = Path::new(&unknown(home.path())).join("pytorch_model.bin");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/checkpoints/bert/pytorch_model.bin");
    std::fs::copy(fixture, &pickled).expect("room for a file");
    let said = refused(home.path(), pickled.to_str().expect("UTF-8"));
    assert!(said.contains("only safetensors are"), "{said}");
    assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
}

#[test]
fn what_optimum_makes_is_a_model_and_says_who_made_it() {
    let home = home(true);
    let (graph, bin) = (graph(home.path()), home.path().join("bin"));
    let script = format!(
        "if [ \"$1\" = env ]; then echo '- `optimum` version: 9.9'; exit; fi\n\
         echo \"$@\" > {bin}/asked; env | sort >> {bin}/asked; ls \"$4\" >> {bin}/asked\n\
         for made; do :; done\ncp {graph} \"$made/model.onnx\"\n",
        bin = bin.display(),
        graph = graph.display(),
    );
    let served = serve(home.path(), "optimum-cli", &script);
    let added = json_of(home.path(), &["models", "add", &unknown(home.path()), "--name", "nobody"]);
    let conversion = &added["items"][0]["conversion"];
    assert_eq!(conversion["architecture"], "nobody", "{added}");
    assert_eq!(conversion["converter"], concat!("weft ", env!("CARGO_PKG_VERSION")));
    assert_eq!(conversion["exporter"], "optimum 9.9");
    let answer = json_of(home.path(), &["infer", "nobody", "--input", "x=[[1,2,3,4]]"]);
    assert_eq!(answer["outputs"][0]["data"], json!([-1.0, -2.0, -3.0, -4.0]), "{answer}");
    assert_eq!(answer["parameters"]["provenance"]["converted"], "nobody by optimum 9.9");

    let asked = std::fs::read_to_string(bin.join("asked")).expect("it was asked");
    let wanted =
        ["--task feature-extraction", "HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1", "model.safetensors"];
    for wanted in wanted {
        assert!(asked.contains(wanted), "{wanted}: {asked}");
    }
    assert!(asked.lines().all(|line| !line.starts_with("HOME=") || line.contains("errand-")), "{asked}");
    assert_eq!(errands(home.path()), 0);
    assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
}

#[test]
fn what_others_fail_at_is_told_in_their_words() {
    let cases = [
        ("echo 'no such task' >&2; exit 3", "ended with exit status: 3: no such task"),
        ("if [ \"$1\" = env ]; then exit; fi", "what optimum of an unknown version made is no model of it"),
        (
            "if [ \"$1\" = env ]; then exit; fi; for made; do :; done; echo words > \"$made/model.onnx\"",
            "not an ONNX file",
        ),
    ];
    for (script, says) in cases {
        let home = home(true);
        let served = serve(home.path(), "optimum-cli", script);
        let said = refused(home.path(), &unknown(home.path()));
        assert!(said.contains(says), "{said}");
        assert_eq!(errands(home.path()), 0);
        assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
    }
}

#[test]
fn what_pytorch_makes_must_answer_what_pytorch_answers() {
    for (second, good) in [(-2.0, true), (2.0, false)] {
        let home = home(true);
        let graph = graph(home.path());
        let tensor = |data: [f32; 4]| json!({"datatype": "FP32", "shape": [1, 4], "data": data});
        let check = json!({
            "converter": "torch.onnx.export 9.9",
            "inputs": [{"x": tensor([1.0, 2.0, 3.0, 4.0])}],
            "outputs": [{"y": tensor([-1.0, second, -3.0, -4.0])}],
        });
        std::fs::write(home.path().join("check.json"), check.to_string()).expect("room for a file");
        let script = format!(
            "if [ \"$2\" = -c ]; then exit; fi\ncp {} \"$4/model.onnx\"; cp {} \"$4/check.json\"\n",
            graph.display(),
            home.path().join("check.json").display(),
        );
        let served = serve(home.path(), "python3", &script);
        if good {
            let added = json_of(home.path(), &["models", "add", &unknown(home.path())]);
            let exporter = &added["items"][0]["conversion"]["exporter"];
            assert_eq!(exporter, "torch.onnx.export 9.9", "{added}");
        } else {
            let said = refused(home.path(), &unknown(home.path()));
            assert!(said.contains("does not answer what PyTorch does") && said.contains("2 for"), "{said}");
        }
        assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
    }
}

/// The real ones, in the environment that `make prove` brings.
mod prove {
    use sha2::Digest as _;

    use super::{Command, Path, PathBuf, Signal, Value, errands, home, json, json_of, serve, text};
    use crate::{checkpoints::cache, proof};

    const MODEL: &str = "electra";

    /// An ELECTRA of random weights, which weft does not convert, and what PyTorch answers with it.
    const MAKE: &str = "\
import json, sys, torch, transformers as t
torch.manual_seed(1)
config = t.ElectraConfig(vocab_size=99, embedding_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                         intermediate_size=37, max_position_embeddings=64, initializer_range=0.5)
model = t.ElectraForSequenceClassification(config).eval()
model.save_pretrained(sys.argv[1], safe_serialization=True)
with torch.no_grad():
    logits = model(input_ids=torch.tensor([[11, 12, 13, 14, 15]])).logits
print(json.dumps({\"logits\": logits.flatten().tolist(), \"torch\": torch.__version__,
                  \"transformers\": t.__version__}))
";

    /// Where the environment's programs are, or a skip that is said.
    #[allow(clippy::print_stderr, reason = "a skip is said")]
    fn environment() -> Option<PathBuf> {
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/checkpoints/requirements.txt");
        let lock = std::fs::read(lock).expect("a committed file");
        let digest = weft::domain::Digest::new(sha2::Sha256::digest(&lock).into()).to_string();
        let bin = cache().join("torch").join(&digest[..16]).join("bin");
        if bin.exists() {
            return Some(bin);
        }
        eprintln!("skipped: {} is missing; `make prove-setup` brings it", bin.display());
        None
    }

    /// What the daemon answers for the model, and who it says has exported it.
    fn exported(home: &Path, folder: &str) -> (Vec<f64>, String) {
        let added = json_of(home, &["models", "add", folder, "--name", MODEL]);
        let exporter = added["items"][0]["conversion"]["exporter"].as_str().unwrap_or_default().to_owned();
        let inputs = added["items"][0]["signature"]["inputs"].as_array().expect("inputs");
        let values = |input: &Value| match input["name"].as_str() {
            Some("input_ids") => "input_ids=[[11,12,13,14,15]]".to_owned(),
            Some("token_type_ids") => "token_type_ids=[[0,0,0,0,0]]".to_owned(),
            _ => "attention_mask=[[1,1,1,1,1]]".to_owned(),
        };
        let given: Vec<_> = inputs.iter().map(values).collect();
        let given = given.iter().flat_map(|input| ["--input", input.as_str()]);
        let answer = json_of(home, &[vec!["infer", MODEL], given.collect()].concat());
        assert_eq!(answer["parameters"]["provenance"]["converted"], format!("{MODEL} by {exporter}"));
        let data = answer["outputs"][0]["data"].as_array().expect("numbers").clone();
        (data.iter().filter_map(Value::as_f64).collect(), exporter)
    }

    #[test]
    #[ignore = "needs PyTorch: run by `make prove`"]
    fn pytorch_and_optimum_export_what_weft_does_not() {
        let Some(bin) = environment() else { return };
        let (commit, home) = (proof::commit(), home(true));
        let folder = home.path().join("made");
        let made = Command::new(bin.join("python3")).args(["-I", "-c", MAKE]).arg(&folder).output();
        let made = made.expect("the interpreter starts");
        assert!(made.status.success(), "{}", text(&made.stderr));
        let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
        let wanted: Vec<_> =
            made["logits"].as_array().expect("numbers").iter().filter_map(Value::as_f64).collect();

        // Python first without optimum beside it; an environment that was moved starts by its interpreter alone.
        let (python, folder) = (bin.join("python3").display().to_string(), folder.display().to_string());
        let optimum = "-c 'from optimum.commands.optimum_cli import main; main()'";
        for (name, program, script) in [
            ("torch.onnx.export", "python3", format!("exec {python} \"$@\"\n")),
            ("optimum", "optimum-cli", format!("exec {python} {optimum} \"$@\"\n")),
        ] {
            let served = serve(home.path(), program, &script);
            let (answer, exporter) = exported(home.path(), &folder);
            assert_eq!(served.end(Signal::SIGTERM).0, Some(0));
            assert_eq!(errands(home.path()), 0);
            assert!(exporter.starts_with(&format!("{name} ")), "{exporter}");
            assert_eq!(answer.len(), wanted.len());
            let largest = wanted.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
            let off = answer.iter().zip(&wanted).map(|(got, wanted)| (got - wanted).abs());
            let error = off.fold(0.0, f64::max) / largest;
            assert!(error <= 1e-4, "{name}: {error:.1e}");
            let result = json!({
                "commit": commit, "machine": proof::machine(), "command": proof::COMMAND,
                "model": MODEL, "exporter": exporter, "torch": made["torch"],
                "transformers": made["transformers"], "error": error,
            });
            let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/measurements/exported");
            std::fs::create_dir_all(&kept).expect("room for a folder");
            std::fs::write(kept.join(format!("{name}.json")), format!("{result}\n"))
                .expect("room for a file");
        }
    }
}
