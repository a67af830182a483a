//! Finds what the binary needs beside its crates, and says which command brings it when it is missing.

use std::{env, path::Path};

/// Linked against; ONNX Runtime is opened at run time.
const LIBRARY: &str = if cfg!(target_os = "macos") { "libduckdb.dylib" } else { "libduckdb.so" };

fn main() {
    println!("cargo:rerun-if-env-changed=WEFT_NATIVE_DIR");
    // Clones share a target folder, and Cargo tells their files apart by age alone: another clone is another build.
    println!("cargo:rerun-if-env-changed=WEFT_ROOT");
    println!("cargo:rerun-if-changed=web-harness/dist/index.html");
    if !Path::new("web-harness/dist/index.html").exists() {
        fail("web-harness/dist/index.html is missing");
    }
    let Ok(folder) = env::var("WEFT_NATIVE_DIR") else {
        fail("WEFT_NATIVE_DIR is not set in .cargo/config.toml");
    };
    println!("cargo:rustc-env=WEFT_NATIVE_DIR={folder}");
    if env::var_os("CARGO_FEATURE_BUNDLED_DUCKDB").is_some() {
        return;
    }
    if !Path::new(&folder).join(LIBRARY).exists() {
        fail(&format!("{folder}/{LIBRARY} is missing"));
    }
    println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
}

fn fail(problem: &str) -> ! {
    panic!("{problem}: run `make setup`, which brings it");
}
