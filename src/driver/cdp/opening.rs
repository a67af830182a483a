//! One launch, from the started process to the opened page.

use std::{sync::Arc, time::Duration};

use chromiumoxide::{
    Browser, Page,
    cdp::browser_protocol::{browser::GetVersionParams, target::EventAttachedToTarget},
    error::CdpError,
    handler::HandlerConfig,
    listeners::EventStream,
};
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    ANNOUNCEMENT,
    attend::{PageEnds, speak},
    tab::Tab,
};
use crate::{
    driver::{
        DriverError,
        loss::{Loss, attend},
        process::Watch,
    },
    tasks::Tasks,
};

pub(super) struct Opening<'a> {
    pub(super) watch: &'a Watch,
    pub(super) tasks: &'a Tasks,
    pub(super) started: Instant,
    pub(super) deadline: Instant,
}

/// What is held of a browser that has opened its page.
pub(super) struct Control {
    pub(super) version: String,
    tab: Arc<Tab>,
    loss: Loss,
    crash: Loss,
    /// Lets go of the socket.
    _attending: DropGuard,
}

impl Control {
    pub(super) fn navigate(
        &self,
        url: String,
        within: Duration,
    ) -> impl Future<Output = Result<(), DriverError>> + Send + use<> {
        let (tab, loss, crash) = (self.tab.clone(), self.loss.clone(), self.crash.clone());
        async move {
            let crashed = crash.forget();
            let step = async {
                if crashed {
                    tab.renew().await?;
                }
                tab.navigate(&url).await
            };
            let message = tokio::select! {
                done = timeout(within, step) => match done {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => format!("the page's server did not answer within {} ms", within.as_millis()),
                },
                reason = loss.told() => reason,
            };
            Err(DriverError::Navigate { message })
        }
    }

    pub(super) fn lost(&self) -> impl Future<Output = String> + Send + use<> {
        self.loss.told()
    }

    pub(super) fn crashed(&self) -> impl Future<Output = String> + Send + use<> {
        self.crash.told()
    }

    pub(super) fn closed(&self) {
        self.loss.closed();
    }
}

impl Opening<'_> {
    pub(super) async fn open(&self, url: &str) -> Result<Control, DriverError> {
        let address = self.address().await?;
        // Without a viewport of its own the library leaves the window as the browser made it.
        let config = HandlerConfig { viewport: None, ..HandlerConfig::default() };
        let connecting = Browser::connect_with_config(address, config);
        let (browser, handler) = match timeout_at(self.deadline, connecting).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return Err(self.no_connection(&error.to_string())),
            Err(_) => return Err(self.no_connection("the control socket did not open")),
        };
        let browser = Arc::new(browser);
        // Asked for before the first message is read, so that no page goes unseen. The library's inbox has room
        // for this one request only until it is driven.
        let attached =
            browser.event_listener().await.map_err(|error| self.no_connection(&error.to_string()))?;

        let (loss, crash) = (Loss::new(), Loss::new());
        let attending = CancellationToken::new();
        let speech = speak(handler, Arc::clone(&browser));
        self.tell(&loss, &attending, attend(Some(self.watch.clone()), speech));
        let guard = attending.clone().drop_guard();

        let steps = async {
            let version = browser.execute(GetVersionParams::default());
            let (version, page) = tokio::try_join!(version, first_page(&browser, attached))?;
            let tab = Arc::new(Tab::new(Arc::clone(&browser), page));
            let ends = PageEnds {
                tab: Arc::clone(&tab),
                crashed: browser.event_listener().await?,
                destroyed: browser.event_listener().await?,
            };
            self.tell(&loss, &attending, ends.closed(crash.clone()));
            tab.prepare().await?;
            Ok((version.result.product.clone(), tab))
        };
        let (product, tab) = self.within(&loss, "the browser showed no page", steps).await?;
        self.within(&loss, "the page's server did not answer", tab.navigate(url)).await?;
        // As `Chrome/156.0.1.2`; the recipe already tells the product.
        let version = product.split_once('/').map_or(product.as_str(), |(_, version)| version).to_owned();
        Ok(Control { version, tab, loss, crash, _attending: guard })
    }

    async fn address(&self) -> Result<String, DriverError> {
        match timeout_at(self.deadline, self.watch.announced()).await {
            Ok(Some(line)) => Ok(line[ANNOUNCEMENT.len()..].to_owned()),
            Ok(None) => Err(self.ended().await),
            Err(_) => Err(self.no_connection("it announced no address")),
        }
    }

    /// Starts the task that waits for this loss, until the launch or the instance is let go.
    fn tell(
        &self,
        loss: &Loss,
        attending: &CancellationToken,
        reason: impl Future<Output = String> + Send + 'static,
    ) {
        let (loss, attending) = (loss.clone(), attending.clone());
        self.tasks.spawn("cdp", async move {
            tokio::select! {
                reason = reason => loss.tell(reason),
                () = attending.cancelled() => {}
            }
        });
    }

    /// Runs a step while the browser lives and the deadline has not passed.
    async fn within<T>(
        &self,
        loss: &Loss,
        late: &str,
        step: impl Future<Output = Result<T, CdpError>>,
    ) -> Result<T, DriverError> {
        let message = tokio::select! {
            done = timeout_at(self.deadline, step) => match done {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("{late} within {} ms", self.started.elapsed().as_millis()),
            },
            reason = loss.told() => reason,
        };
        Err(DriverError::Navigate { message })
    }

    async fn ended(&self) -> DriverError {
        DriverError::Launch {
            program: self.watch.program().to_owned(),
            status: self.watch.ended().await,
            last_lines: self.watch.last_lines(),
        }
    }

    fn no_connection(&self, why: &str) -> DriverError {
        DriverError::Connect {
            program: self.watch.program().to_owned(),
            waited_ms: self.started.elapsed().as_millis(),
            last_lines: format!("{} ({why})", self.watch.last_lines()),
        }
    }
}

/// The page that the browser starts with: quicker than another one beside it.
async fn first_page(
    browser: &Browser,
    mut attached: EventStream<EventAttachedToTarget>,
) -> Result<Page, CdpError> {
    while let Some(event) = attached.next().await {
        if event.target_info.r#type == "page" {
            return browser.get_page(event.target_info.target_id.clone()).await;
        }
    }
    Err(CdpError::NotFound)
}
