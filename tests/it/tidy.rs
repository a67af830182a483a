//! The code's own rules: which room may import which, where each library may appear, how long files get.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Rooms by tier: each may use those of earlier lines, and none of its own.
///
/// `tasks` starts tasks and reads the wall clock and knows no room. `events` carries what the protocol lets clients
/// subscribe to. `config` resolves to what the recipes and the scheduler define, and only the daemon and the
/// command line read it.
const TIERS: [&[&str]; 14] = [
    &["domain", "tasks"],
    &["protocol", "onnx", "predict", "modality", "socket", "telemetry"],
    &["planner", "kernels", "content", "store", "driver", "bridge", "events"],
    &["backend", "access"],
    &["models"],
    &["pool"],
    &["scheduler"],
    &["bench"],
    &["http"],
    &["config"],
    &["daemon"],
    &["cli"],
    &["lib"],
    &["main"],
];

/// Libraries that one place hides from the others.
const HIDDEN: [(&str, &[&str]); 32] = [
    ("duckdb", &["src/store/"]),
    ("ort", &["src/backend/ort/"]),
    ("wgpu", &["src/backend/wgpu/"]),
    ("chromiumoxide", &["src/driver/"]),
    ("fantoccini", &["src/driver/webdriver/"]),
    ("axum", &["src/http/", "src/bridge/"]),
    ("tokio_rustls", &["src/bridge/"]),
    ("jsonwebtoken", &["src/access/"]),
    ("governor", &["src/access/"]),
    ("hyper", &["src/http/", "src/models/source/", "src/socket/"]),
    ("hyper_util", &["src/cli/", "src/driver/webdriver/", "src/http/", "src/models/source/", "src/socket/"]),
    ("http_body_util", &["src/models/source/"]),
    ("zip", &["src/models/source/", "src/onnx/convert/checkpoint/torch/"]),
    ("tar", &["src/models/source/"]),
    ("flate2", &["src/models/source/"]),
    ("cid", &["src/content/"]),
    ("serde_ipld_dagcbor", &["src/content/"]),
    ("unsigned_varint", &["src/content/"]),
    ("tokenizers", &["src/modality/"]),
    ("image", &["src/modality/"]),
    ("imageproc", &["src/modality/"]),
    ("fast_image_resize", &["src/modality/"]),
    ("symphonia", &["src/modality/"]),
    ("rubato", &["src/modality/"]),
    ("clap", &["src/cli/"]),
    ("prost", &["src/content/", "src/onnx/"]),
    ("safetensors", &["src/onnx/convert/checkpoint/"]),
    ("metrics", &["src/telemetry/"]),
    ("metrics_exporter_prometheus", &["src/telemetry/"]),
    ("opentelemetry", &["src/telemetry/"]),
    ("opentelemetry_otlp", &["src/telemetry/"]),
    ("tracing_subscriber", &["src/telemetry/"]),
];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Test modules may do what the program may not.
    fn is_test(&self) -> bool {
        !self.path.starts_with("src/") || self.path.contains("tests")
    }

    fn room(&self) -> &str {
        let below = self.path.trim_start_matches("src/");
        below.split('/').next().expect("a path has a first part").trim_end_matches(".rs")
    }

    /// Lines with their numbers, without texts and comments.
    fn code(&self) -> impl Iterator<Item = (usize, String)> {
        let code = |line: &str| {
            let unquoted: String = line.replace(r#"'"'"#, "").split('"').step_by(2).collect();
            unquoted.split("//").next().unwrap_or_default().to_owned()
        };
        self.text.lines().enumerate().map(move |(at, line)| (at + 1, code(line)))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, keep: &dyn Fn(&Path) -> bool, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
            files(&path, keep, found);
        } else if keep(&path) {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["src", "tests"] {
        files(
            &root().join(folder),
            &|path| path.extension().is_some_and(|extension| extension == "rs"),
            &mut found,
        );
    }
    let source = |path: PathBuf| Source {
        text: std::fs::read_to_string(&path).expect("a source file"),
        path: path.strip_prefix(root()).expect("below the root").display().to_string(),
    };
    let sources: Vec<_> = found.into_iter().map(source).collect();
    assert!(sources.len() > 50, "{} files", sources.len());
    sources
}

/// Whether `name` stands there as a word of its own, with `after` behind it.
fn mentions(line: &str, name: &str, after: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(&format!("{name}{after}"))
        .any(|(at, _)| !line[..at].ends_with(|c| word(c) || c == ':'))
}

/// The rooms that a file imports: the first parts of its paths from `crate`, grouped imports included.
fn imports(source: &Source) -> Vec<String> {
    let text: String = source.code().flat_map(|(_, line)| [line, "\n".to_owned()]).collect();
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut rooms = Vec::new();
    for (at, path) in text.match_indices("crate::") {
        if text[..at].ends_with("pub(") {
            continue;
        }
        let rest = &text[at + path.len()..];
        match rest.strip_prefix('{') {
            None => rooms.push(word(rest)),
            Some(group) => {
                let (mut depth, mut first) = (0, true);
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => first = true,
                        c if first && c.is_alphabetic() => {
                            rooms.push(word(&group[at..]));
                            first = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    rooms.sort();
    rooms.dedup();
    rooms
}

#[test]
fn imports_point_one_way() {
    let tiers: BTreeMap<&str, usize> = TIERS
        .iter()
        .enumerate()
        .flat_map(|(tier, rooms)| rooms.iter().map(move |room| (*room, tier)))
        .collect();
    let mut wrong = Vec::new();
    let sources = sources();
    for source in sources.iter().filter(|source| !source.is_test()) {
        let room = source.room();
        let Some(tier) = tiers.get(room) else {
            wrong.push(format!("{}: the room {room} has no tier", source.path));
            continue;
        };
        for imported in imports(source).iter().filter(|imported| *imported != room) {
            match tiers.get(imported.as_str()) {
                Some(below) if below < tier => {}
                _ => wrong.push(format!("{}: {room} may not import {imported}", source.path)),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn libraries_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let mut importing = false;
        for (at, line) in source.code() {
            // The later lines of a grouped import name parts of its first line's root.
            let grouped = importing;
            importing = (importing || line.starts_with("use ")) && !line.contains(';');
            for (library, rooms) in HIDDEN {
                let at_home = rooms.iter().any(|room| source.path.starts_with(room));
                if !grouped && !at_home && mentions(&line, library, "::") {
                    wrong.push(format!("{}:{at}: {library} belongs in {}", source.path, rooms.join(" and ")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn some_words_have_their_one_place() {
    // Spelt so that this file does not find itself.
    let unfinished = ["TO", "FIX"].map(|half| format!("{half}{}", if half == "TO" { "DO" } else { "ME" }));
    let mut wrong = Vec::new();
    for source in sources() {
        for (at, line) in source.text.lines().enumerate() {
            if unfinished.iter().any(|word| line.contains(word.as_str())) {
                wrong.push(format!("{}:{}: unfinished", source.path, at + 1));
            }
        }
        if source.is_test() {
            continue;
        }
        for (at, line) in source.code() {
            if (line.contains("tokio::spawn(") || line.contains("tokio::task::spawn("))
                && source.path != "src/tasks.rs"
            {
                wrong.push(format!("{}:{at}: tasks are started by `tasks`", source.path));
            }
            if line.contains(".spawn()") && source.path != "src/driver/spawner.rs" {
                wrong.push(format!("{}:{at}: processes are started by `driver::spawner`", source.path));
            }
            let reads = ["env::var", "env::home_dir", "env::current_exe", "env::args", "env::temp_dir"];
            let reads = reads.iter().any(|read| line.contains(read));
            // The command line's own arguments, and where the system keeps short-lived files.
            let allowed = ["src/config.rs", "src/cli/mod.rs", "src/driver/ledger.rs"];
            if reads && !allowed.contains(&source.path.as_str()) {
                wrong.push(format!("{}:{at}: the environment is read in config", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_and_functions_stay_short() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{}: {lines} lines", source.path));
        }
        // A table of cases is as long as there are cases.
        if source.is_test() {
            continue;
        }
        let mut open: Vec<(usize, usize, String)> = Vec::new();
        for (at, line) in source.text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let start = line.trim_start();
            let named = start.split("fn ").nth(1).filter(|_| is_function(start));
            if let Some(name) = named.filter(|_| !line.trim_end().ends_with([';', '}'])) {
                open.push((indent, at, name.split(['(', '<']).next().unwrap_or_default().to_owned()));
            }
            // Formatted code closes a function at the column where it began.
            if start == "}" && open.last().is_some_and(|(column, ..)| *column == indent) {
                let (_, from, name) = open.pop().expect("just seen");
                if at - from + 1 > FUNCTION_LINES_MAX {
                    wrong.push(format!("{}:{}: {name} has {} lines", source.path, from + 1, at - from + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn is_function(start: &str) -> bool {
    let rest = ["pub(crate) ", "pub(super) ", "pub ", "const ", "async ", "unsafe "]
        .iter()
        .fold(start, |rest, word| rest.strip_prefix(word).unwrap_or(rest));
    rest.starts_with("fn ")
}

/// Whatever file of results the documents quote is there.
#[test]
fn quoted_results_exist() {
    let mut documents = Vec::new();
    files(
        &root().join("docs"),
        &|path| path.extension().is_some_and(|extension| extension == "md"),
        &mut documents,
    );
    documents.extend(
        ["README.md", "CHANGELOG.md"].map(|name| root().join(name)).into_iter().filter(|path| path.exists()),
    );
    let mut missing = Vec::new();
    for document in documents {
        let text = std::fs::read_to_string(&document).expect("a document");
        let part = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        for word in
            text.split(|c| !part(c)).filter(|word| word.contains("measurements/") && !word.ends_with('/'))
        {
            let path = word.trim_end_matches('.').trim_start_matches("../");
            if !root().join(path).exists() && !document.with_file_name(path).exists() {
                missing.push(format!("{}: {word}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
