//! Streams that tell how far something comes. They look at the database again and again, because the work may be done in
//! another process; hints of this one only make them look sooner. What is watched says how it looks and is told.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;

use super::doors::sse::{Events, KEEP_ALIVE};
use crate::domain::{Acting, Service, notification};
use crate::model::{Error, Result};

/// The shortest time between two events.
const EVENT_INTERVAL: Duration = Duration::from_millis(250);
/// The longest time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How far back the rate looks.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// Something that comes to an end by and by.
pub(super) trait Watched: Send + Sync + 'static {
    /// How far it has come.
    type Progress: Copy + PartialEq + Send + Sync;
    /// What is told.
    type Event: Send;

    /// Looks how far it has come.
    fn look(&self, service: &Service, acting: &Acting) -> impl Future<Output = Result<Self::Progress>> + Send;
    /// Whether nothing changes any more.
    fn is_final(progress: Self::Progress) -> bool;
    /// Recipients that were dealt with, and that wait.
    fn counts(progress: Self::Progress) -> (u32, u32);
    /// Tells it, with the rate and the seconds that are left at that, as far as they are known.
    fn event(progress: Self::Progress, per_second: Option<u32>, remaining: Option<u32>) -> Self::Event;
    /// Tells that nothing has changed.
    fn heartbeat(progress: Self::Progress) -> Self::Event;
}

/// Watches something until it is final.
///
/// # Errors
/// Those of the first look.
pub(super) async fn watch<W: Watched>(service: &Service, acting: Acting, watched: W) -> Result<Events<W::Event>> {
    let first = watched.look(service, &acting).await?;
    let watch = Watch {
        service: service.clone(),
        acting,
        watched,
        next: Some(first),
        seen: Vec::new(),
    };
    Ok(futures::stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        match watch.event().await {
            Ok(event) => {
                let ended = watch.told().is_some_and(W::is_final);
                Some((Ok(event), (!ended).then_some(watch)))
            }
            Err(fault) => Some((Err::<W::Event, Error>(fault), None)),
        }
    })
    .boxed())
}

struct Watch<W: Watched> {
    service: Service,
    acting: Acting,
    watched: W,
    /// What was found and not told yet.
    next: Option<W::Progress>,
    /// What was told, and when, as far back as the rate looks.
    seen: Vec<(Instant, W::Progress)>,
}

impl<W: Watched> Watch<W> {
    fn told(&self) -> Option<W::Progress> {
        self.seen.last().map(|(_, told)| *told)
    }

    /// Waits for the next thing to tell.
    async fn event(&mut self) -> Result<W::Event> {
        let began = Instant::now();
        let progress = match self.next.take() {
            Some(first) => first,
            None => loop {
                tokio::time::sleep(EVENT_INTERVAL).await;
                let found = self.watched.look(&self.service, &self.acting).await?;
                if self.told() != Some(found) {
                    break found;
                }
                if began.elapsed() >= KEEP_ALIVE {
                    return Ok(W::heartbeat(found));
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
        let per_second = self.per_second();
        let (_, pending) = W::counts(progress);
        let remaining = per_second
            .filter(|rate| *rate > 0 && !W::is_final(progress))
            .map(|rate| pending.div_ceil(rate));
        Ok(W::event(progress, per_second, remaining))
    }

    /// Recipients that were dealt with in a second, over what was told.
    fn per_second(&self) -> Option<u32> {
        let ((since, first), (until, last)) = (self.seen.first()?, self.seen.last()?);
        let millis = until.duration_since(*since).as_millis();
        let dealt = u128::from(W::counts(*last).0.saturating_sub(W::counts(*first).0));
        let rate = (dealt * 1_000).checked_div(millis)?;
        u32::try_from(rate).ok()
    }
}
