//! A ledger that does not keep its word, for the tests that show their checker notices. It is never part of a release.

use super::{Step, run, serve};
use crate::domain::Service;
use crate::failpoint::{Break, Point, hit};
use crate::model::delivery::Counts;
use crate::model::{Result, Timestamp};
use crate::store::notification;
use crate::store::page::{self as pages, Leased};

/// Does a page in one of the ways that design and fence exist to rule out.
pub(super) async fn advance(service: &Service, page: Leased, now: Timestamp, way: Break) -> Result<Step> {
    let lease = service.settings.dispatching.lease;
    let store = &service.store;
    let rest = match way {
        Break::ProgressFirst => {
            let moved = store.write_background(move |tx| {
                Box::pin(async move {
                    let Some(rest) = pages::hold_page(tx, &page, lease).await? else {
                        return Ok(None);
                    };
                    let next = rest.to.saturating_add(1);
                    pages::record_progress(tx, page.app, page.key, next, Counts::default()).await?;
                    Ok(Some(rest))
                })
            });
            moved.await?
        }
        Break::NoHold => return heedless(service, page, now).await,
        // That of imports; their pages are done as ever.
        Break::NoImportFence => return super::step(service, page, now).await,
        Break::NoFence => {
            let all = store.write_background(move |tx| Box::pin(async move { pages::get_whole(tx, &page).await }));
            all.await?
        }
    };
    let Some(rest) = rest else { return Ok(Step::Stale) };
    hit(Point::BetweenSteps);
    let cards = service.cards.clone();
    let done = store.write_background(move |tx| {
        let cards = cards.clone();
        Box::pin(async move { run(tx, &cards, (&page, rest), None, now).await })
    });
    done.await?;
    Ok(Step::Done)
}

/// Does all of a page under its fence, whatever its notification is.
async fn heedless(service: &Service, page: Leased, now: Timestamp) -> Result<Step> {
    let (lease, cards) = (service.settings.dispatching.lease, service.cards.clone());
    let done = service.store.write_background(move |tx| {
        let cards = cards.clone();
        Box::pin(async move {
            let Some(rest) = pages::hold_page(tx, &page, lease).await? else {
                return Ok(Step::Stale);
            };
            let sending = notification::get_sending_shared(tx, page.app, page.key.notification).await?;
            serve(tx, &cards, (&page, rest), (&sending, None), now).await?;
            Ok(Step::Done)
        })
    });
    done.await
}
