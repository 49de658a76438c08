//! The stream that tells how far a notification comes. It looks at the database again and again, because the work may be
//! done in another process; hints of this one only make it look sooner.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;

use crate::api::convert;
use crate::api::doors::sse::{Events, KEEP_ALIVE};
use crate::domain::{Acting, Service, notification};
use crate::model::id::NotificationId;
use crate::model::notification::Progress;
use crate::model::{Error, Result};
use crate::pb::v1;
use v1::watch_notification_response::Event;

/// The shortest time between two events.
const EVENT_INTERVAL: Duration = Duration::from_millis(250);
/// The longest time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How far back the rate looks.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// Watches a notification until it is final.
///
/// # Errors
/// Notification not found.
pub(super) async fn watch(
    service: &Service,
    acting: Acting,
    id: NotificationId,
) -> Result<Events<v1::WatchNotificationResponse>> {
    let first = notification::progress(service, &acting, id).await?;
    let watch = Watch {
        service: service.clone(),
        acting,
        id,
        next: Some(first),
        seen: Vec::new(),
    };
    Ok(futures::stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        match watch.event().await {
            Ok(event) => {
                let ended = watch.told().is_some_and(|told| told.status.is_final());
                Some((Ok(event), (!ended).then_some(watch)))
            }
            Err(fault) => Some((Err::<v1::WatchNotificationResponse, Error>(fault), None)),
        }
    })
    .boxed())
}

struct Watch {
    service: Service,
    acting: Acting,
    id: NotificationId,
    /// What was found and not told yet.
    next: Option<Progress>,
    /// What was told, and when, as far back as the rate looks.
    seen: Vec<(Instant, Progress)>,
}

impl Watch {
    fn told(&self) -> Option<Progress> {
        self.seen.last().map(|(_, told)| *told)
    }

    /// Waits for the next thing to tell.
    async fn event(&mut self) -> Result<v1::WatchNotificationResponse> {
        let began = Instant::now();
        let progress = match self.next.take() {
            Some(first) => first,
            None => loop {
                tokio::time::sleep(EVENT_INTERVAL).await;
                let found = notification::progress(&self.service, &self.acting, self.id).await?;
                if self.told() != Some(found) {
                    break found;
                }
                if began.elapsed() >= KEEP_ALIVE {
                    return Ok(response(Event::Heartbeat(v1::Heartbeat {}), found));
                }
                notification::may_have_moved(&self.service, LOOK_INTERVAL).await;
            },
        };
        let now = Instant::now();
        // The oldest that is kept may be older than the window, so that there is always one to compare with.
        let recent = self
            .seen
            .iter()
            .filter(|(at, _)| now.duration_since(*at) <= RATE_WINDOW);
        let old = self.seen.len().saturating_sub(recent.count()).saturating_sub(1);
        self.seen.drain(..old);
        self.seen.push((now, progress));
        Ok(response(Event::Progress(self.message(progress)), progress))
    }

    fn message(&self, progress: Progress) -> v1::NotificationProgress {
        let counts = progress.counts;
        let pending = progress.total.saturating_sub(counts.settled());
        let per_second = self.per_second();
        let remaining = per_second
            .filter(|rate| *rate > 0 && !progress.status.is_final())
            .map(|rate| pending.div_ceil(rate));
        v1::NotificationProgress {
            status: progress.status.number().into(),
            total_targets: convert::count(progress.total),
            sent_count: convert::count(counts.sent),
            failed_count: convert::count(counts.failed),
            skipped_count: convert::count(counts.skipped),
            pending_count: convert::count(pending),
            per_second: per_second.map(convert::count),
            remaining_seconds: remaining.map(convert::count),
            completed_at: progress.completed_at.map(convert::timestamp),
        }
    }

    /// Receivers that were dealt with in a second, over what was told.
    fn per_second(&self) -> Option<u32> {
        let ((since, first), (until, last)) = (self.seen.first()?, self.seen.last()?);
        let millis = until.duration_since(*since).as_millis();
        let dealt = u128::from(last.counts.settled().saturating_sub(first.counts.settled()));
        let rate = (dealt * 1_000).checked_div(millis)?;
        u32::try_from(rate).ok()
    }
}

fn response(event: Event, progress: Progress) -> v1::WatchNotificationResponse {
    v1::WatchNotificationResponse {
        event: Some(event),
        cursor: progress.counts.settled().to_string(),
    }
}
