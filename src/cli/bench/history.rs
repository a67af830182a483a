//! `weft bench history`.

use clap::Args;

use super::{
    super::{Common, output},
    kept::Kept,
    print,
};
use crate::store::HistoryFilter;

#[derive(Args)]
pub(in crate::cli) struct Shown {
    /// Of which suite
    #[arg(long, default_value = "smoke")]
    suite: String,
    /// Of this model alone
    #[arg(long)]
    model: Option<String>,
    /// Of these lanes alone, as `firefox/wasm` or `firefox`
    #[arg(long, value_name = "BROWSER[/BACKEND]")]
    lane: Option<String>,
    /// Of this branch alone
    #[arg(long)]
    branch: Option<String>,
    /// How many runs, the newest
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    last: u32,
}

impl Shown {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<()> {
        let (browser, backend) = match self.lane {
            Some(lane) => match lane.split_once('/') {
                Some((browser, backend)) => (Some(browser.to_owned()), Some(backend.to_owned())),
                None => (Some(lane), None),
            },
            None => (None, None),
        };
        let filter = HistoryFilter {
            suite: self.suite,
            branch: self.branch,
            model: self.model,
            browser,
            backend,
            runs: self.last,
            ..HistoryFilter::default()
        };
        let kept = Kept::open(common).await?;
        let history = kept.history(filter).await;
        kept.close().await?;
        let history = history?;
        if common.json {
            return output::json(&history);
        }
        print::history(&history);
        Ok(())
    }
}
