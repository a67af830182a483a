//! What other repositories' CI takes from here: the archive, and the templates that use it.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use crate::{python, run};

const WEFT: &str = env!("CARGO_BIN_EXE_weft");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[tokio::test]
async fn templates_are_what_ci_systems_and_this_weft_understand() {
    let Some(python) = python() else { return };
    run(&python, "templates.py", &[WEFT]).await;
}

fn skipped(why: &str) {
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "skipped: {why}");
    eprintln!("skipped: {why}");
}

/// Needs nothing of the machine that packed it: its checkout and its libraries are hidden before it runs.
#[test]
fn an_unpacked_archive_runs_without_the_checkout() {
    if Command::new("patchelf").arg("--version").output().is_err() {
        return skipped("patchelf is missing; `make test-setup` brings it");
    }
    let folder = tempfile::tempdir().unwrap();
    let script = format!("{ROOT}/.setup/dist.py");
    let packed =
        Command::new("python3").args([&script, "--fast", "out", WEFT]).current_dir(&folder).output().unwrap();
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    let files: Vec<_> =
        fs::read_dir(folder.path().join("out")).unwrap().map(|file| file.unwrap().path()).collect();
    let archive = files.iter().find(|file| file.extension().is_some_and(|end| end == "xz")).unwrap();
    let mut sums = Command::new("sha256sum");
    sums.args(["--check", "--quiet"]).arg(archive.with_extension("xz.sha256"));
    assert!(sums.current_dir(archive.parent().unwrap()).status().unwrap().success());
    let unpacked = folder.path().join("weft");
    fs::create_dir(&unpacked).unwrap();
    let tar = Command::new("tar")
        .arg("-xJf")
        .arg(archive)
        .args(["--strip-components=1", "-C"])
        .arg(&unpacked)
        .status();
    assert!(tar.unwrap().success());

    let libraries = Path::new(env!("WEFT_NATIVE_DIR"));
    // In a place of its own for mounts; both folders are empty there.
    let hidden = r#"mount -t tmpfs none "$1" && mount -t tmpfs none "$2" && cd / && shift 2 && exec "$@""#;
    let mut weft = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        weft.args(["--user", "--map-root-user"]);
    }
    weft.args(["--mount", "sh", "-c", hidden, "sh"]).args([Path::new(ROOT), libraries]);
    weft.arg(unpacked.join("bin/weft")).args(["bench", "run"]).arg(unpacked.join("native.toml"));
    weft.args(["--json", "--home"]).arg(folder.path().join("home"));
    let inputs = unpacked.join("share/weft/inputs/silero-vad.json");
    let catalogue = unpacked.join("share/weft/models.toml");
    let suite = format!(
        "name = 'native'\nabout = 'it answers'\nbudget = '30s'\nlimits = {{ samples_min = 3, samples_max = 3 }}\n\
         matrix = {{ browser = ['native'], backend = ['ort-cpu'], scenario = ['single_stream'] }}\n\
         [[model]]\nname = 'silero-vad'\nsource = '{}#silero-vad'\ninputs = '{}'\n",
        catalogue.display(),
        inputs.display()
    );
    fs::write(unpacked.join("native.toml"), suite).unwrap();
    let output = weft.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("Operation not permitted") {
        return skipped(&errors);
    }
    assert!(output.status.success(), "{errors}");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["cells"][0]["outcome"], "ok", "{said}");
    assert!(unpacked.join("share/weft/browsers/chromium.toml").is_file());
    assert!(unpacked.join("share/weft/checkpoints/bert/model.safetensors").is_file());
    every_part_has_its_licence(&unpacked.join("share/doc/weft"));
}

/// As cargo and npm name the parts, whatever the packer says.
fn every_part_has_its_licence(told: &Path) {
    let [parts, licences] =
        ["PARTS.txt", "LICENCES.txt"].map(|file| fs::read_to_string(told.join(file)).unwrap());
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(ROOT)
        .output()
        .unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    let crates = tree.lines().skip(1).filter_map(|line| {
        let mut words = line.split(' ');
        Some(format!("{} {}", words.next()?, words.next()?.strip_prefix('v')?))
    });
    let lock = fs::read_to_string(format!("{ROOT}/web-harness/package-lock.json")).unwrap();
    let lock: serde_json::Value = serde_json::from_str(&lock).unwrap();
    let installed = lock["packages"].as_object().unwrap().iter();
    let modules = installed.filter(|(path, package)| !path.is_empty() && package["dev"] != true);
    let modules = modules.map(|(path, package)| {
        let (_, name) = path.rsplit_once("node_modules/").unwrap();
        format!("{name} {}", package["version"].as_str().unwrap())
    });
    let wanted: BTreeSet<_> = crates.chain(modules).collect();
    assert!(wanted.len() > 400, "{wanted:?}");
    let heads: BTreeSet<_> = licences.lines().collect();
    for part in &wanted {
        assert!(heads.contains(part.as_str()), "{part} has no licence");
        assert!(parts.lines().any(|line| line.starts_with(&format!("{part}: "))), "{part} is no part");
    }
    for (library, within) in [("DuckDB ", "libpg_query"), ("ONNX Runtime ", "google/flatbuffers")] {
        assert!(heads.iter().any(|head| head.starts_with(library)), "{library}");
        assert!(licences.contains(within), "{library}has {within} in it");
    }
}

#[test]
fn a_part_without_a_licence_is_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("LICENCES.txt");
    let mut packer = Command::new("python3");
    packer.arg(format!("{ROOT}/.setup/licences.py")).args([&written, folder.path()]);
    let refused = packer.output().unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    for part in ["duckdb ", "onnxruntime-web ", "DuckDB ", "webdriver "] {
        assert!(said.lines().any(|line| line.starts_with(&format!("  {part}"))), "{part}: {said}");
    }
    assert!(!written.exists());
}
