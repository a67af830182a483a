//! The daemon of a suite: the running one, or one that is started for it with the libraries that it lends.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{Common, client::Client, output},
    suites::Found,
};
use crate::{
    backend::ort::OrtError,
    config::{Library, RawConfig, RawInstances},
    daemon::DaemonError,
    domain::BackendKind,
    driver::recipe::Recipe,
};

/// A library that gives no lane is left out, and the suite told why; any other fault of the daemon's ends the call.
pub(super) async fn connect(common: &Common, found: &mut Found) -> anyhow::Result<Client> {
    let browsers = browsers(found);
    let mut libraries = found.libraries()?;
    loop {
        let (browsers, lent) = (browsers.clone(), libraries.clone());
        let configured = move |raw: &mut RawConfig| {
            raw.browsers = Some(browsers.clone());
            for (name, library) in &lent {
                raw.native.lend(name, library.clone());
            }
        };
        let error = match Client::connect_with(common, configured).await {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        let Some(backend) = left_out(&mut libraries, &error) else { return Err(error) };
        output::progress(&format!("{error:#}"));
        found.unusable.insert(backend, format!("{error:#}"));
    }
}

/// What a daemon of its own runs: one of each browser of the suite that weft knows.
fn browsers(found: &Found) -> BTreeMap<String, RawInstances> {
    let known: BTreeSet<_> = Recipe::embedded().into_iter().map(|recipe| recipe.name).collect();
    let named = found.suite.browsers().into_iter().filter(|browser| known.contains(*browser));
    named.map(|browser| (browser.to_owned(), RawInstances::Count(1))).collect()
}

/// Leaves out what the daemon could not use, where it is one of these.
fn left_out(libraries: &mut BTreeMap<String, Library>, error: &anyhow::Error) -> Option<BackendKind> {
    let Some(DaemonError::Ort(OrtError::Elsewhere { library, provider, .. })) = error.downcast_ref() else {
        return None;
    };
    let is_it = |lent: &&mut Library| lent.path == *library && lent.providers.contains(provider);
    let lent = libraries.values_mut().find(is_it)?;
    lent.providers.retain(|of| of != provider);
    libraries.retain(|_, lent| !lent.providers.is_empty());
    Some(BackendKind::Ort(provider.clone()))
}
