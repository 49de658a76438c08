//! The feed: what a user sees, how much of it is unread, and marking it read. Content is rendered when it is read, from the
//! immutable version that it was sent with. It never puts anything into a feed: a page does.

use std::collections::BTreeMap;

use super::{Acting, Service, Written, user};
use crate::model::feed::{FeedItem, FeedSort, ReadState, StoredItem};
use crate::model::id::{AppId, CategoryId, FeedItemId, UserId};
use crate::model::page::{Page, PageRequest};
use crate::model::user::{ActingUser, Uid};
use crate::model::{Error, Reason, Result, Timestamp, Violation};
use crate::store::feed::{self as store, Expired};
use crate::store::{category, user as users};

/// How often a count sweeps at most before it subtracts what is left.
const SWEEPS_MAX: usize = 2;

/// Whose items a call reads.
enum Whose {
    /// Those of one user.
    One(UserId, Uid),
    /// Those of the whole app.
    Everyone,
}

impl Whose {
    const fn user(&self) -> Option<UserId> {
        match self {
            Self::One(user, _) => Some(*user),
            Self::Everyone => None,
        }
    }
}

/// Lists feed items that are neither expired nor deleted: those of the user acted for, else those of `receiver`, else
/// those of the whole app. A receiver who does not exist has none.
///
/// # Errors
/// User not found, when the user acted for is missing.
pub async fn list(
    service: &Service,
    acting: &Acting,
    receiver: Option<Uid>,
    read_state: ReadState,
    page: &PageRequest<FeedSort>,
) -> Result<Page<FeedItem>> {
    let app = acting.app()?;
    let whose = whose(service, acting, receiver).await?;
    let items = store::visible_items(app, whose.user(), read_state, acting.now);
    let found = store::list_items(service.store.read(), items, page).await?;
    Ok(Page {
        rows: render(service, app, found.rows, &whose).await?,
        next: found.next,
        previous: found.previous,
        total: found.total,
    })
}

/// One feed item, expired or not. That of another user than the one acted for is not found.
///
/// # Errors
/// Feed item not found; user not found, when the user acted for is missing.
pub async fn get(service: &Service, acting: &Acting, id: FeedItemId) -> Result<FeedItem> {
    let app = acting.app()?;
    let whose = whose(service, acting, None).await?;
    let found = store::find_item(service.store.read(), app, whose.user(), id).await?;
    let item = found.ok_or_else(|| no_such_item(id))?;
    one(service, app, item, &whose).await
}

/// Counts the unread items in the feed of the user acted for, else in that of `receiver`: all, or those of a category that
/// is named by its name or its id. A user or a category that does not exist has none.
///
/// The head of the feed has counted before, so this takes the same time for ten items as for a hundred thousand.
///
/// # Errors
/// Invalid, when nobody is named; user not found, when the user acted for is missing.
pub async fn unread_count(
    service: &Service,
    acting: &Acting,
    receiver: Option<Uid>,
    category: Option<&str>,
) -> Result<u32> {
    let app = acting.app()?;
    let user = match whose(service, acting, receiver).await? {
        Whose::One(user, _) => user,
        Whose::Everyone => {
            let rule = "is required when the call acts for no user";
            return Err(Error::invalid(vec![Violation::new("receiver", rule)]));
        }
    };
    let category = match category {
        Some(named) => match find_category(service, app, named).await? {
            Some(category) => Some(category),
            None => return Ok(0),
        },
        None => None,
    };
    settled_count(service, app, user, category, acting.now).await
}

/// Marks an item of the user acted for as read. Doing it again changes nothing and tells when it was first read.
///
/// # Errors
/// Feed item not found; user not found.
pub async fn mark_read(service: &Service, acting: &Acting, id: FeedItemId) -> Result<Written<FeedItem>> {
    let (app, now) = (acting.app()?, acting.now);
    let whose = whose(service, acting, None).await?;
    let Whose::One(user, _) = whose else {
        return Err(no_such_item(id));
    };
    let written = service
        .write(acting, move |tx| {
            Box::pin(async move {
                // The head first: who holds it is alone with the feed, so what is read next stays true.
                let head = store::find_head_locked(tx, app, user).await?;
                let item = store::find_item(tx, app, Some(user), id).await?;
                let (Some(head), Some(item)) = (head, item) else {
                    return Err(no_such_item(id));
                };
                let Some(read) = item.read(now) else {
                    return Ok(item);
                };
                store::record_read(tx, app, &item, &read, head).await?;
                Ok(read)
            })
        })
        .await?;
    Ok(Written {
        value: one(service, app, written.value, &whose).await?,
        replayed: written.replayed,
    })
}

async fn whose(service: &Service, acting: &Acting, receiver: Option<Uid>) -> Result<Whose> {
    let app = acting.app()?;
    if let Some(uid) = &acting.on_behalf_of {
        let user: ActingUser = user::acting(service, app, uid, acting.now).await?;
        // That somebody is there is a hint: a database that cannot be written to is still read.
        if let Err(fault) = user::touch(service, app, &user, acting.now).await {
            tracing::warn!(app.id = %app, cause = %fault, "presence cannot be noted");
        }
        return Ok(Whose::One(user.id, user.uid));
    }
    let Some(uid) = receiver else {
        return Ok(Whose::Everyone);
    };
    let found = users::find_live_user(service.store.read(), app, &uid).await?;
    // A user who does not exist has an empty feed, as has one whose id nobody ever had.
    Ok(Whose::One(found.unwrap_or_else(|| UserId::new(acting.now)), uid))
}

/// The category that is meant by a name, else by an id: a name may look like an id. An id is enough, because what was sent
/// in a category that is gone still counts.
async fn find_category(service: &Service, app: AppId, named: &str) -> Result<Option<CategoryId>> {
    let by_name = category::find_category_id(service.store.read(), app, named).await?;
    Ok(by_name.or_else(|| named.parse().ok()))
}

/// The count, after what has expired was swept where there was too much of it to subtract at no cost. What a few rounds
/// leave, or a database that cannot be written to, is subtracted all the same.
async fn settled_count(
    service: &Service,
    app: AppId,
    user: UserId,
    category: Option<CategoryId>,
    now: Timestamp,
) -> Result<u32> {
    for _ in 0..SWEEPS_MAX {
        let unread = store::count_unread(service.store.read(), (app, user), category, now, Expired::Few).await?;
        if let Some(count) = unread.settled() {
            return Ok(count);
        }
        if let Err(fault) = sweep_expired(service, app, user, now).await {
            tracing::warn!(app.id = %app, cause = %fault, "expired feed items cannot be swept");
            break;
        }
    }
    let unread = store::count_unread(service.store.read(), (app, user), category, now, Expired::All).await?;
    Ok(unread.exact())
}

/// Takes up to [`EXPIRED_MAX`](crate::model::feed::EXPIRED_MAX) expired items of a user out of the count.
async fn sweep_expired(service: &Service, app: AppId, user: UserId, now: Timestamp) -> Result<()> {
    service
        .store
        .write(move |tx| {
            Box::pin(async move {
                let Some(head) = store::find_head_locked(tx, app, user).await? else {
                    return Ok(());
                };
                store::sweep_expired(tx, app, user, head, now).await
            })
        })
        .await
}

async fn one(service: &Service, app: AppId, item: StoredItem, whose: &Whose) -> Result<FeedItem> {
    let id = item.id;
    let rendered = render(service, app, vec![item], whose).await?;
    rendered.into_iter().next().ok_or_else(|| no_such_item(id))
}

async fn render(service: &Service, app: AppId, items: Vec<StoredItem>, whose: &Whose) -> Result<Vec<FeedItem>> {
    let uids = match whose {
        Whose::One(user, uid) => BTreeMap::from([(*user, uid.clone())]),
        Whose::Everyone => users::find_uids(service.store.read(), app, items.iter().map(|item| item.user)).await?,
    };
    let named = items.into_iter().map(|item| {
        let uid = uids.get(&item.user).cloned();
        let uid = uid.ok_or_else(|| Error::internal(format!("feed item {} has no user", item.id)))?;
        Ok((item, uid))
    });
    let named = named.collect::<Result<Vec<_>>>()?;
    service.cards.render(service.store.read(), app, named).await
}

fn no_such_item(id: FeedItemId) -> Error {
    Error::not_found(Reason::FeedItemNotFound, "feedItemId", id)
}
