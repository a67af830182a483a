//! The one page that a browser holds for us, and the one that takes its place after a crash.

use std::sync::{Arc, Mutex, MutexGuard};

use chromiumoxide::{
    Browser, Page,
    cdp::{
        browser_protocol::{
            emulation::SetFocusEmulationEnabledParams,
            log, network,
            page::{EventFrameNavigated, NavigateParams},
            performance,
            target::{CloseTargetParams, SetAutoAttachParams, TargetId},
        },
        js_protocol::runtime,
    },
    error::CdpError,
};
use futures_util::StreamExt as _;

use super::BLANK;

pub(super) struct Tab {
    browser: Arc<Browser>,
    page: Mutex<Page>,
}

impl Tab {
    pub(super) fn new(browser: Arc<Browser>, page: Page) -> Self {
        Self { browser, page: Mutex::new(page) }
    }

    fn page(&self) -> MutexGuard<'_, Page> {
        self.page.lock().expect("no holder of the page panics")
    }

    /// Whether this names the page that there is now.
    pub(super) fn is(&self, target: &TargetId) -> bool {
        self.page().target_id() == target
    }

    /// Makes the page run at full pace unseen, and switches off what the library has switched on but nobody reads:
    /// reports of every request, frame of a socket, message and metric, and the halt of each new worker.
    pub(super) async fn prepare(&self) -> Result<(), CdpError> {
        let page = self.page().clone();
        let auto_attach = SetAutoAttachParams::builder()
            .auto_attach(false)
            .wait_for_debugger_on_start(false)
            .flatten(true)
            .build()
            .map_err(CdpError::msg)?;
        tokio::try_join!(
            page.execute(SetFocusEmulationEnabledParams::new(true)),
            page.execute(auto_attach),
            page.execute(network::DisableParams::default()),
            page.execute(performance::DisableParams::default()),
            page.execute(log::DisableParams::default()),
            page.execute(runtime::DisableParams::default()),
        )?;
        Ok(())
    }

    /// Puts a new page in the place of one that has crashed: Chromium 147's headless shell navigates a crashed page,
    /// but its session says nothing of it any more.
    pub(super) async fn renew(&self) -> Result<(), CdpError> {
        let page = self.browser.new_page(BLANK).await?;
        let crashed = std::mem::replace(&mut *self.page(), page);
        self.prepare().await?;
        self.browser.execute(CloseTargetParams::new(crashed.target_id().clone())).await?;
        Ok(())
    }

    /// Returns once the page's server has answered; the library alone would wait for the page to load.
    pub(super) async fn navigate(&self, url: &str) -> Result<(), CdpError> {
        let page = self.page().clone();
        let mut committed = page.event_listener::<EventFrameNavigated>().await?;
        let navigation = page.execute(NavigateParams::new(url));
        tokio::pin!(navigation);
        loop {
            tokio::select! {
                answer = &mut navigation => return match answer?.result.error_text.clone() {
                    Some(error) => Err(CdpError::msg(error)),
                    None => Ok(()),
                },
                Some(event) = committed.next() => {
                    let frame = &event.frame;
                    // An error's page comes before the answer that tells the error.
                    if frame.parent_id.is_none() && frame.url != BLANK && frame.unreachable_url.is_none() {
                        return Ok(());
                    }
                }
            }
        }
    }
}
