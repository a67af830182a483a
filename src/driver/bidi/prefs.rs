//! The preferences that every Firefox of ours starts with, as a profile's `user.js`.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::driver::recipe::Pref;

/// A page keeps its pace unseen and is never stopped for taking long.
const PACE: [(&str, Base); 7] = [
    ("browser.tabs.unloadOnLowMemory", Base::Bool(false)),
    ("dom.ipc.reportProcessHangs", Base::Bool(false)),
    ("dom.max_script_run_time", Base::Int(0)),
    ("dom.min_background_timeout_value", Base::Int(0)),
    ("dom.min_background_timeout_value_without_budget_throttling", Base::Int(0)),
    ("dom.timeout.enable_budget_timer_throttling", Base::Bool(false)),
    ("layout.testing.top-level-always-active", Base::Bool(true)),
];

/// Firefox asks nobody for anything by itself: found by the names that it looked up, until there were none.
const QUIET: [(&str, Base); 48] = [
    ("app.normandy.enabled", Base::Bool(false)),
    ("app.shield.optoutstudies.enabled", Base::Bool(false)),
    ("app.update.auto", Base::Bool(false)),
    ("app.update.disabledForTesting", Base::Bool(true)),
    ("browser.contentblocking.category", Base::Text("custom")),
    ("browser.discovery.enabled", Base::Bool(false)),
    ("browser.region.network.url", Base::Text("")),
    ("browser.region.update.enabled", Base::Bool(false)),
    ("browser.safebrowsing.blockedURIs.enabled", Base::Bool(false)),
    ("browser.safebrowsing.downloads.enabled", Base::Bool(false)),
    ("browser.safebrowsing.malware.enabled", Base::Bool(false)),
    ("browser.safebrowsing.phishing.enabled", Base::Bool(false)),
    ("browser.search.update", Base::Bool(false)),
    ("browser.topsites.contile.enabled", Base::Bool(false)),
    ("browser.translations.enable", Base::Bool(false)),
    ("datareporting.healthreport.uploadEnabled", Base::Bool(false)),
    ("datareporting.policy.dataSubmissionEnabled", Base::Bool(false)),
    ("datareporting.usage.uploadEnabled", Base::Bool(false)),
    ("doh-rollout.enabled", Base::Bool(false)),
    ("dom.push.connection.enabled", Base::Bool(false)),
    ("dom.push.serverURL", Base::Text("")),
    ("extensions.blocklist.enabled", Base::Bool(false)),
    ("extensions.getAddons.cache.enabled", Base::Bool(false)),
    ("extensions.systemAddon.update.enabled", Base::Bool(false)),
    ("extensions.update.enabled", Base::Bool(false)),
    ("geo.provider.testing", Base::Bool(true)),
    ("identity.fxaccounts.enabled", Base::Bool(false)),
    ("media.gmp-manager.updateEnabled", Base::Bool(false)),
    ("messaging-system.rsexperimentloader.enabled", Base::Bool(false)),
    ("network.captive-portal-service.enabled", Base::Bool(false)),
    ("network.connectivity-service.enabled", Base::Bool(false)),
    ("network.dns.disablePrefetch", Base::Bool(true)),
    ("network.http.speculative-parallel-limit", Base::Int(0)),
    // A machine without a network still has its loopback.
    ("network.manage-offline-status", Base::Bool(false)),
    ("network.prefetch-next", Base::Bool(false)),
    ("network.trr.mode", Base::Int(5)),
    ("nimbus.rollouts.enabled", Base::Bool(false)),
    ("privacy.trackingprotection.enabled", Base::Bool(false)),
    ("security.certerrors.mitm.priming.enabled", Base::Bool(false)),
    ("security.remote_settings.crlite_filters.enabled", Base::Bool(false)),
    ("security.remote_settings.intermediates.enabled", Base::Bool(false)),
    ("services.settings.server", Base::Text("data:,#none/v1")),
    ("signon.autofillForms", Base::Bool(false)),
    ("toolkit.telemetry.enabled", Base::Bool(false)),
    ("toolkit.telemetry.reportingpolicy.firstRun", Base::Bool(false)),
    ("toolkit.telemetry.server", Base::Text("")),
    ("toolkit.telemetry.unified", Base::Bool(false)),
    ("browser.backup.scheduled.enabled", Base::Bool(false)),
];

/// It starts with one empty tab, and no process is kept ready for a second.
const BARE: [(&str, Base); 11] = [
    ("browser.aboutwelcome.enabled", Base::Bool(false)),
    ("browser.newtab.preload", Base::Bool(false)),
    ("browser.newtabpage.enabled", Base::Bool(false)),
    ("browser.pagethumbnails.capturing_disabled", Base::Bool(true)),
    ("browser.sessionstore.resume_from_crash", Base::Bool(false)),
    ("browser.shell.checkDefaultBrowser", Base::Bool(false)),
    ("browser.startup.homepage", Base::Text("about:blank")),
    ("browser.startup.homepage_override.mstone", Base::Text("ignore")),
    ("browser.startup.page", Base::Int(0)),
    ("devtools.console.stdout.chrome", Base::Bool(false)),
    ("dom.ipc.processPrelaunch.enabled", Base::Bool(false)),
];

#[derive(Clone, Copy)]
enum Base {
    Bool(bool),
    Int(i64),
    Text(&'static str),
}

impl From<Base> for Pref {
    fn from(base: Base) -> Self {
        match base {
            Base::Bool(value) => Self::Bool(value),
            Base::Int(value) => Self::Int(value),
            Base::Text(value) => Self::Text(value.to_owned()),
        }
    }
}

/// The file's text; a recipe's preference takes the place of ours.
pub(super) fn file(recipe: &BTreeMap<String, Pref>) -> String {
    let base = PACE.iter().chain(&QUIET).chain(&BARE);
    let mut prefs: BTreeMap<String, Pref> =
        base.map(|(name, value)| ((*name).to_owned(), Pref::from(*value))).collect();
    prefs.extend(recipe.iter().map(|(name, value)| (name.clone(), value.clone())));
    let mut text = String::new();
    for (name, value) in &prefs {
        let name = Pref::Text(name.clone());
        writeln!(text, "user_pref({name}, {value});").expect("a String takes all that is written");
    }
    text
}
