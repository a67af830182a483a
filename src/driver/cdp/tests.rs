use std::path::PathBuf;

use super::{Folders, arguments};
use crate::driver::recipe::{DriverKind, GpuMode, Recipe};

fn folders() -> Folders {
    let own = PathBuf::from("/run/sample");
    Folders { name: "sample".to_owned(), profile: own.join("profile"), own, scratch: PathBuf::from("/tmp/s") }
}

#[test]
fn one_launch_gets_one_list_of_features_and_its_own_profile() {
    for recipe in Recipe::embedded().into_iter().filter(|recipe| recipe.driver == DriverKind::Cdp) {
        for gpu in [GpuMode::Hardware, GpuMode::Software] {
            let switches = recipe.switches(gpu);
            for sandbox in [true, false] {
                let args = arguments(&recipe, &switches, &folders(), sandbox);
                let args: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap()).collect();
                let count = |start: &str| args.iter().filter(|arg| arg.starts_with(start)).count();
                assert_eq!(count("--disable-features="), 1, "{} {gpu}", recipe.name);
                assert!(count("--enable-features=") <= 1, "{} {gpu}", recipe.name);
                assert_eq!(count("--user-data-dir=/run/sample/profile"), 1, "{} {gpu}", recipe.name);
                assert_eq!(count("--no-sandbox"), usize::from(!sandbox), "{} {gpu}", recipe.name);
                assert_eq!(args.last(), Some(&"about:blank"), "{} {gpu}", recipe.name);
            }
        }
    }
}

#[test]
fn only_what_can_change_a_result_is_told() {
    let webnn = Recipe::embedded().into_iter().find(|recipe| recipe.name == "chromium-webnn").unwrap();
    let flags = webnn.switches(GpuMode::Software).telling();
    assert_eq!(
        flags,
        [
            "--enable-unsafe-webgpu",
            "--use-webgpu-adapter=swiftshader",
            "--enable-unsafe-swiftshader",
            "--ignore-gpu-blocklist",
            "--enable-features=WebMachineLearningNeuralNetwork",
        ]
    );
}
