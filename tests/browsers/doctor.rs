//! `weft doctor` with what this machine has.

use serde_json::Value;
use tokio::process::Command;
use weft::driver::recipe::Recipe;

use crate::stage::places;

#[tokio::test]
async fn every_recipe_is_judged() {
    let home = tempfile::tempdir().unwrap();
    let gone = "name = 'gone'\nproduct = 'Gone'\ndriver = 'bidi'\nendpoint = 'ws://127.0.0.1:9'\n\
        install = 'start it'\nbackends = ['wasm']\ngpu.hardware = {}\ngpu.software = {}\n\
        limits = { instances = 1 }";
    let elsewhere = gone.replace("'gone'", "'elsewhere'").replace("install", "platforms = []\ninstall");
    std::fs::create_dir(home.path().join("browsers")).unwrap();
    std::fs::write(home.path().join("browsers/gone.toml"), gone).unwrap();
    std::fs::write(home.path().join("browsers/elsewhere.toml"), elsewhere).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["doctor", "--json", "--home"])
        .arg(home.path())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let judged = said["browsers"].as_array().unwrap();
    let state = |name: &str| {
        let found = judged.iter().find(|found| found["browser"] == name).unwrap_or_else(|| panic!("{name}"));
        (found["state"].as_str().unwrap().to_owned(), found["reason"].to_string())
    };
    assert_eq!(state("gone").0, "not_running");
    assert!(state("gone").1.contains("start it"), "{:?}", state("gone"));
    assert_eq!(state("elsewhere").0, "unproven");
    for recipe in Recipe::embedded() {
        let expected = if recipe.locate(&places()).is_ok() { "proven" } else { "not_" };
        // A browser that the machine has and its platform does not is no case here.
        let (found, reason) = state(&recipe.name);
        assert!(found.starts_with(expected) || found == "unproven", "{}: {found}: {reason}", recipe.name);
    }
    // Each engine says whether it keeps weights.
    for found in judged.iter().filter(|found| found["state"] == "proven") {
        let page = &found["instance"]["page"];
        assert!(page["cache_fault"].is_null() || page["cache_fault"].is_string(), "{found}");
        assert!(page.as_object().is_some_and(|page| page.contains_key("cache_fault")), "{found}");
    }
    assert_eq!(said["native"][0]["backend"], "ort-cpu");
}
