//! The engines that faults are tried on, and how their processes are told apart.

use std::{env, path::PathBuf};

use weft::driver::recipe::{Places, Recipe};

use crate::scenarios::Scenario;

pub(crate) struct Engine {
    pub(crate) recipe: &'static str,
    /// What the command line of the browser's main process holds; `None` when the instance's first process is it.
    pub(crate) main: Option<&'static str>,
    /// What the command line of a page's process holds.
    pub(crate) page: &'static str,
    /// Whether the browser takes another page after one whose process ended.
    pub(crate) reloads: bool,
}

pub(crate) const ENGINES: [Engine; 3] = [
    Engine { recipe: "chromium", main: None, page: "--type=renderer", reloads: true },
    Engine { recipe: "firefox", main: None, page: "-isForBrowser", reloads: true },
    Engine { recipe: "webkitgtk", main: Some("MiniBrowser"), page: "WebKitWebProcess", reloads: false },
];

/// Cells of the table that cannot be, with the reason.
const INAPPLICABLE: [(&str, Scenario, &str); 0] = [];

pub(crate) fn inapplicable(engine: &Engine, scenario: Scenario) -> Option<&'static str> {
    let cell = INAPPLICABLE.iter().find(|(recipe, cell, _)| *recipe == engine.recipe && *cell == scenario);
    cell.map(|(.., reason)| *reason)
}

/// The engine of this recipe, when its browser is here.
pub(crate) fn present(name: &str) -> Option<&'static Engine> {
    let engine = ENGINES.iter().find(|engine| engine.recipe == name).expect("a row of the table");
    let Some(recipe) = Recipe::embedded().into_iter().find(|recipe| recipe.name == name) else {
        eprintln!("skipped: there is no recipe {name}");
        return None;
    };
    let places = Places { cache: PathBuf::from("/nowhere"), path: env::var_os("PATH").unwrap_or_default() };
    match recipe.locate(&places) {
        Ok(_) => Some(engine),
        Err(missing) => {
            assert_ne!(env::var("CI").as_deref(), Ok("true"), "{missing}");
            eprintln!("skipped: {missing}");
            None
        }
    }
}
