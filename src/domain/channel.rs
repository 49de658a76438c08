//! What may happen to channels: how many there may be of each type, and what about them never changes. It never sends.

use super::{Acting, Service, Written, user};
use crate::model::channel::{
    Availability, Channel, ChannelLimit, ChannelPatch, ChannelSort, ChannelType, NewChannel, SLUG_PREFIX,
};
use crate::model::id::{AppId, ChannelId};
use crate::model::page::{Page, PageRequest};
use crate::model::slug::{Reference, Slug};
use crate::model::version::Version;
use crate::model::{Error, Reason, Result, Timestamp, Violation};
use crate::store::{Tx, app as apps, channel as store};

/// Creates a channel.
///
/// # Errors
/// [`Reason::Forbidden`] when the app may not use the type; [`Reason::Conflict`] when it has as many of it as it may;
/// [`Reason::ChannelAlreadyExists`] when the slug is taken.
pub async fn create(service: &Service, acting: &Acting, new: NewChannel) -> Result<Written<Channel>> {
    let (app, now) = (acting.app()?, acting.now);
    let limit = service.settings.channel_limits.of(new.channel_type);
    service
        .write(acting, move |tx| {
            let new = new.clone();
            Box::pin(async move {
                admit(tx, app, new.channel_type, limit).await?;
                insert(tx, app, new, now).await
            })
        })
        .await
}

/// Lists the channels of the app, those whose name or slug contains `search` if it is given.
///
/// # Errors
/// [`Reason::UserNotFound`] when the user acted for is missing.
pub async fn list(
    service: &Service,
    acting: &Acting,
    search: Option<&str>,
    page: &PageRequest<ChannelSort>,
) -> Result<Page<Channel>> {
    let app = user::app_read_for(service, acting).await?;
    store::list_channels(service.store.read(), app, search, page).await
}

/// How many channels of each type the app may have and has, one row for each type in the contract's order.
///
/// # Errors
/// Those of the database.
pub async fn availability(service: &Service, acting: &Acting) -> Result<Vec<Availability>> {
    let counts = store::count_channels(service.store.read(), acting.app()?).await?;
    let row = |channel_type| Availability {
        channel_type,
        limit: service.settings.channel_limits.of(channel_type),
        used: counts.get(&channel_type).copied().unwrap_or_default(),
    };
    Ok(ChannelType::ALL.map(row).to_vec())
}

/// The channel that a reference names.
///
/// # Errors
/// [`Reason::ChannelNotFound`]; [`Reason::UserNotFound`] when the user acted for is missing.
pub async fn get(service: &Service, acting: &Acting, channel: &Reference<ChannelId>) -> Result<Channel> {
    let app = user::app_read_for(service, acting).await?;
    store::get_channel(service.store.read(), app, channel).await
}

/// Changes a channel.
///
/// # Errors
/// [`Reason::ChannelNotFound`]; [`Reason::PreconditionFailed`] when `etag` is not the current one; invalid when the
/// patch has another slug or type than the channel.
pub async fn update(
    service: &Service,
    acting: &Acting,
    channel: Reference<ChannelId>,
    patch: ChannelPatch,
    etag: Option<String>,
) -> Result<Written<Channel>> {
    let (app, now) = (acting.app()?, acting.now);
    service
        .write(acting, move |tx| {
            let (channel, patch, etag) = (channel.clone(), patch.clone(), etag.clone());
            Box::pin(async move {
                let channel = store::get_channel_locked(tx, app, &channel).await?;
                let read = channel.version;
                read.check(etag.as_deref())?;
                let changed = Channel {
                    updated_at: now,
                    version: read.next(),
                    ..patched(channel, patch)?
                };
                super::unchanged_since(store::update_channel(tx, app, &changed, read).await?)?;
                Ok(changed)
            })
        })
        .await
}

async fn admit(tx: &Tx, app: AppId, channel_type: ChannelType, limit: ChannelLimit) -> Result<()> {
    if limit == ChannelLimit::Unlimited {
        return Ok(());
    }
    // Counting is only as good as the lock: without it two calls would both find room for one more.
    apps::lock_app(tx, app).await?;
    let counts = store::count_channels(tx, app).await?;
    limit.admit(channel_type, counts.get(&channel_type).copied().unwrap_or_default())
}

async fn insert(tx: &Tx, app: AppId, new: NewChannel, now: Timestamp) -> Result<Channel> {
    let chosen = new.slug.is_some();
    let made = || Slug::from_name(SLUG_PREFIX, new.name.as_str());
    let mut channel = Channel {
        id: ChannelId::new(now),
        slug: new.slug.clone().unwrap_or_else(made),
        channel_type: new.channel_type,
        name: new.name,
        enabled: new.enabled,
        metadata: new.metadata,
        created_at: now,
        updated_at: now,
        version: Version::FIRST,
    };
    if chosen {
        return match store::insert_channel(tx, app, &channel).await? {
            true => Ok(channel),
            false => Err(already_exists(&channel.slug)),
        };
    }
    let made = channel.slug.clone();
    for round in 0..Slug::ROUNDS_MAX {
        let candidates = made.candidates(round);
        let taken = store::list_taken(tx, app, &candidates).await?;
        for slug in candidates
            .into_iter()
            .filter(|slug| !taken.iter().any(|taken| taken == slug.as_str()))
        {
            channel.slug = slug;
            if store::insert_channel(tx, app, &channel).await? {
                return Ok(channel);
            }
        }
    }
    Err(already_exists(&made))
}

fn patched(mut channel: Channel, patch: ChannelPatch) -> Result<Channel> {
    let mut violations = Vec::new();
    if let Some(slug) = patch.slug.filter(|slug| slug != channel.slug.as_str()) {
        let rule = format!("must not change, and is {:?}", channel.slug.as_str());
        violations.push(Violation::new("channelId", rule).received(slug));
    }
    if let Some(other) = patch.channel_type.filter(|other| *other != channel.channel_type) {
        let rule = format!("must not change, and is {}", channel.channel_type);
        violations.push(Violation::new("type", rule).received(other));
    }
    if !violations.is_empty() {
        return Err(Error::invalid(violations));
    }
    channel.name = patch.name.unwrap_or(channel.name);
    channel.enabled = patch.enabled.unwrap_or(channel.enabled);
    channel.metadata = patch.metadata.unwrap_or(channel.metadata);
    Ok(channel)
}

fn already_exists(slug: &Slug) -> Error {
    let message = format!("a channel with channelId {:?} exists in this app", slug.as_str());
    Error::new(Reason::ChannelAlreadyExists, message).with("channelId", slug)
}
