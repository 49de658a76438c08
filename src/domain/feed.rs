//! The feed: what a user sees and how much of it is unread. Content is rendered when it is read, from the immutable
//! version that it was sent with. It never puts anything into a feed: a page does. Marking is in `mark`, and what happens
//! to items without anybody asking in `sweep`.

mod mark;
pub(in crate::domain) mod sweep;

pub use mark::{Deleted, Delivered, delete, deliver_many, engage, mark_all_read, mark_delivered, mark_read};
pub(in crate::domain) use mark::{Deliveries, Marks, deliveries, marks};
pub use sweep::sweep_expired;

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Acting, Service, user};
use crate::model::feed::{FeedFilter, FeedItem, FeedSort, Shown, StoredItem};
use crate::model::id::{AppId, CategoryId, ChannelId, FeedItemId, UserId};
use crate::model::page::{Page, PageRequest, Start, Total};
use crate::model::slug::Reference;
use crate::model::user::{ActingUser, Uid};
use crate::model::{Error, Reason, Result, Timestamp, Violation};
use crate::store::feed::{self as store, Expired, ItemFilter};
use crate::store::{category, channel, user as users};

/// How often a count sweeps at most before it subtracts what is left.
const SWEEPS_MAX: usize = 2;
/// How long a read waits until it is noted that its user is there.
const PRESENCE_TIME_MAX: Duration = Duration::from_secs(1);

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

/// Lists feed items: those of the user acted for, else those of the filter's receiver, else those of the whole app. A
/// receiver, a category or a channel that does not exist has none.
///
/// # Errors
/// User not found, when the user acted for is missing; invalid, when deleted items are asked for on behalf of a user.
pub async fn list(
    service: &Service,
    acting: &Acting,
    filter: &FeedFilter,
    page: &PageRequest<FeedSort>,
    shown: Shown,
) -> Result<Page<FeedItem>> {
    let app = acting.app()?;
    if filter.with_deleted && acting.on_behalf_of.is_some() {
        let rule = "must not be true when the call acts for a user";
        return Err(Error::invalid(vec![
            Violation::new("includeDeleted", rule).received(true),
        ]));
    }
    let whose = whose(service, acting, filter.receiver.clone()).await?;
    let Some(filter) = resolve(service, app, &whose, filter, acting.now).await? else {
        return Ok(Page {
            rows: Vec::new(),
            next: None,
            previous: None,
            total: matches!(page.start, Start::Page(_)).then_some(Total { rows: 0, exact: true }),
        });
    };
    let found = store::list_items(service.store.read(), app, &filter, page).await?;
    Ok(Page {
        rows: render(service, app, found.rows, &whose, shown).await?,
        next: found.next,
        previous: found.previous,
        total: found.total,
    })
}

/// The filter with its names resolved; `None` when one of them means nothing.
async fn resolve(
    service: &Service,
    app: AppId,
    whose: &Whose,
    filter: &FeedFilter,
    now: Timestamp,
) -> Result<Option<ItemFilter>> {
    let category = match &filter.category {
        Some(named) => match find_category(service, app, named).await? {
            Some(category) => Some(category),
            None => return Ok(None),
        },
        None => None,
    };
    let channel = match &filter.channel {
        Some(named) => match find_channel(service, app, named).await? {
            Some(channel) => Some(channel),
            None => return Ok(None),
        },
        None => None,
    };
    Ok(Some(ItemFilter {
        user: whose.user(),
        read_state: filter.read_state,
        sent_from: filter.sent_from,
        sent_to: filter.sent_to,
        tags: filter.tags.clone(),
        tag_match: filter.tag_match,
        category,
        channel,
        with_deleted: filter.with_deleted,
        with_expired: filter.with_expired,
        now,
    }))
}

/// One feed item, expired or not. That of another user than the one acted for is not found.
///
/// # Errors
/// Feed item not found; user not found, when the user acted for is missing.
pub async fn get(service: &Service, acting: &Acting, id: FeedItemId, shown: Shown) -> Result<FeedItem> {
    let app = acting.app()?;
    let whose = whose(service, acting, None).await?;
    let found = store::find_item(service.store.read(), app, whose.user(), id).await?;
    let item = found.ok_or_else(|| no_such_item(id))?;
    one(service, app, item, &whose, shown).await
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
    service.measures.unread_reads.increment(1);
    settled_count(service, app, user, category, acting.now).await
}

async fn whose(service: &Service, acting: &Acting, receiver: Option<Uid>) -> Result<Whose> {
    let app = acting.app()?;
    if let Some(uid) = &acting.on_behalf_of {
        let user: ActingUser = user::acting(service, app, uid, acting.now).await?;
        // That somebody is there is a hint: a database that cannot be written to is still read, and not much later.
        match tokio::time::timeout(PRESENCE_TIME_MAX, user::touch(service, app, &user, acting.now)).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => tracing::warn!(app.id = %app, cause = %fault, "presence cannot be noted"),
            Err(_) => tracing::warn!(app.id = %app, "presence is not noted, the database takes too long"),
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

/// The channel that is meant by an id or a slug.
async fn find_channel(service: &Service, app: AppId, named: &Reference<ChannelId>) -> Result<Option<ChannelId>> {
    let found = channel::find_channel(service.store.read(), app, named).await?;
    Ok(found.map(|channel| channel.id))
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
        if let Err(fault) = sweep::sweep_expired_of(service, app, user, now).await {
            tracing::warn!(app.id = %app, cause = %fault, "expired feed items cannot be swept");
            break;
        }
    }
    let unread = store::count_unread(service.store.read(), (app, user), category, now, Expired::All).await?;
    Ok(unread.exact())
}

async fn one(service: &Service, app: AppId, item: StoredItem, whose: &Whose, shown: Shown) -> Result<FeedItem> {
    let id = item.id;
    let rendered = render(service, app, vec![item], whose, shown).await?;
    rendered.into_iter().next().ok_or_else(|| no_such_item(id))
}

async fn render(
    service: &Service,
    app: AppId,
    items: Vec<StoredItem>,
    whose: &Whose,
    shown: Shown,
) -> Result<Vec<FeedItem>> {
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
    service.cards.render(service.store.read(), app, named, shown).await
}

fn no_such_item(id: FeedItemId) -> Error {
    Error::not_found(Reason::FeedItemNotFound, "feedItemId", id)
}
