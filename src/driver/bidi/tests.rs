use std::path::PathBuf;

use serde_json::json;

use super::{Folders, adapters, arguments, prefs, protocol::Bidi, telling, variables};
use crate::driver::{
    recipe::{GpuMode, Recipe},
    wire::{
        message::Event,
        page::{Fate, Protocol as _},
    },
};

fn firefox() -> Recipe {
    Recipe::embedded().into_iter().find(|recipe| recipe.name == "firefox").unwrap()
}

fn folders() -> Folders {
    let own = PathBuf::from("/run/sample");
    Folders { name: "sample".to_owned(), profile: own.join("profile"), own, scratch: PathBuf::from("/tmp/s") }
}

#[test]
fn one_launch_has_its_own_profile_and_keeps_all_else_below_its_folder() {
    for gpu in [GpuMode::Hardware, GpuMode::Software] {
        let switches = firefox().switches(gpu);
        let args = arguments(&firefox(), &switches, &folders());
        assert!(args.windows(2).any(|pair| pair == ["--profile", "/run/sample/profile"]), "{args:?}");
        assert!(args.windows(2).any(|pair| pair == ["--remote-debugging-port", "0"]), "{args:?}");
        assert!(args.contains(&"--headless".into()), "{args:?}");
        let variables = variables(&folders(), adapters(gpu));
        for name in ["HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"] {
            assert!(variables.contains(&(name, "/run/sample".into())), "{name}: {variables:?}");
        }
    }
}

#[test]
fn the_profile_has_every_preference_once_and_the_recipe_has_the_last_word() {
    let mut recipe = firefox().switches(GpuMode::Software).prefs;
    let text = prefs::file(&recipe);
    let names: Vec<_> = text.lines().map(|line| line.split('"').nth(1).unwrap()).collect();
    let mut once = names.clone();
    once.dedup();
    assert_eq!(names, once);
    for line in [
        r#"user_pref("dom.webgpu.enabled", true);"#,
        r#"user_pref("gfx.webgpu.ignore-blocklist", true);"#,
        r#"user_pref("services.settings.server", "data:,#none/v1");"#,
        r#"user_pref("dom.max_script_run_time", 0);"#,
    ] {
        assert!(text.lines().any(|candidate| candidate == line), "{line}");
    }
    recipe.insert("dom.max_script_run_time".to_owned(), crate::driver::recipe::Pref::Int(7));
    assert!(prefs::file(&recipe).contains(r#"user_pref("dom.max_script_run_time", 7);"#));
}

#[test]
fn provenance_tells_which_adapters_the_loader_was_left_with() {
    let cases = [
        (GpuMode::Hardware, "VK_LOADER_DRIVERS_DISABLE=*lvp*"),
        (GpuMode::Software, "VK_LOADER_DRIVERS_SELECT=*lvp*"),
    ];
    for (gpu, loader) in cases {
        let flags = telling(&firefox().switches(gpu), adapters(gpu));
        assert_eq!(
            flags,
            [
                "dom.webgpu.enabled=true",
                "dom.webgpu.workers.enabled=true",
                "gfx.webgpu.ignore-blocklist=true",
                loader
            ]
        );
    }
}

#[test]
fn a_page_is_lost_when_something_else_shows_in_its_place() {
    let committed = "browsingContext.navigationCommitted";
    let destroyed = "browsingContext.contextDestroyed";
    let crashed = "about:tabcrashed?e=tabcrashed&u=http%3A//127.0.0.1/";
    let cases = [
        ("crashed in front", true, committed, "ours", crashed, Some(Fate::Crashed)),
        ("crashed behind", true, committed, "ours", "about:blank", Some(Fate::Crashed)),
        ("closed", true, destroyed, "ours", "http://127.0.0.1/", Some(Fate::Closed)),
        ("closed before it was shown", false, destroyed, "ours", "about:blank", Some(Fate::Closed)),
        ("reloaded", true, committed, "ours", "http://127.0.0.1/", None),
        ("its empty start", false, committed, "ours", "about:blank", None),
        ("another's crash", true, committed, "other", crashed, None),
        ("another's end", true, destroyed, "other", "", None),
        ("something else", true, "browsingContext.load", "ours", crashed, None),
    ];
    for (case, shown, method, context, url, expected) in cases {
        let page = Bidi::showing("ours", shown);
        let event = Event { method: method.to_owned(), params: json!({"context": context, "url": url}) };
        assert_eq!(page.fate(&event), expected, "{case}");
    }
    let bare = Event { method: destroyed.to_owned(), params: json!(null) };
    assert_eq!(Bidi::showing("ours", true).fate(&bare), None);
}
