//! What sends and pages need of templates: what may be sent, with the content ready to be rendered. Nothing here writes,
//! except that a version was used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::no_such_version;
use crate::domain::Service;
use crate::domain::card::{Cards, VersionContent};
use crate::model::channel::ChannelType;
use crate::model::id::{AppId, ChannelId, TemplateId, TemplateVersionId};
use crate::model::slug::Reference;
use crate::model::template::course::Sequence;
use crate::model::template::{ChannelInstance, Sendable, SendableChannel, TemplateChannel, TemplateStatus};
use crate::model::{Error, Reason, Result, Timestamp};
use crate::store::channel::ChannelSwitch;
use crate::store::template::{TemplateHead, VersionHead};
use crate::store::{Connection, Tx, channel as channels, template as store};

/// A version that may be sent.
#[derive(Clone, Debug)]
pub struct Ready {
    /// What a send copies.
    pub template: Arc<Sendable>,
    /// Its content.
    pub content: Arc<VersionContent>,
    is_used: bool,
}

/// What several sends name. Until the transaction ends, whoever archives one of these templates or switches one of their
/// channels off waits, so that nothing is delivered after they were answered.
#[derive(Debug)]
pub struct Named {
    heads: Vec<TemplateHead>,
    versions: BTreeMap<(TemplateId, u32), VersionHead>,
    ready: BTreeMap<TemplateVersionId, Ready>,
}

/// Looks up everything that sends copy from templates: from the current version of each, or from the one with this number.
///
/// # Errors
/// Those of the database. What may not be sent is found out by [`Named::get`].
pub async fn load_for_sends(
    tx: &Tx,
    app: AppId,
    cards: &Cards,
    named: &[(Reference<TemplateId>, Option<u32>)],
) -> Result<Named> {
    let references: BTreeSet<_> = named.iter().map(|(reference, _)| reference.to_string()).collect();
    let distinct: Vec<_> = references.iter().map(|text| Reference::from(text.as_str())).collect();
    let heads = store::find_heads_shared(tx, app, &distinct).await?;
    let mut wanted = BTreeMap::new();
    for (reference, version) in named {
        if let Some(head) = heads.iter().find(|head| is_named(head, reference)) {
            wanted.insert((head.id, version.unwrap_or(head.newest)), head.category_id);
        }
    }
    let wanted: Vec<_> = wanted
        .into_iter()
        .map(|((id, number), category)| (id, number, category))
        .collect();
    let mut versions = BTreeMap::new();
    if !wanted.is_empty() {
        let found = store::find_version_heads(tx, app, &wanted).await?;
        versions.extend(
            found
                .into_iter()
                .map(|version| ((version.template_id, version.number), version)),
        );
    }
    let mut named = Named {
        heads,
        versions,
        ready: BTreeMap::new(),
    };
    named.make_ready(tx, app, cards).await?;
    Ok(named)
}

fn is_named(head: &TemplateHead, reference: &Reference<TemplateId>) -> bool {
    match reference {
        Reference::Id(id) => head.id == *id,
        Reference::Slug(slug) => head.slug == slug.as_str(),
    }
}

impl Named {
    /// What a send gets.
    ///
    /// # Errors
    /// [`Reason::TemplateNotFound`]; [`Reason::TemplateNotApproved`] when the template or the version is not approved;
    /// invalid when it has no such version.
    pub fn get(&self, reference: &Reference<TemplateId>, version: Option<u32>) -> Result<&Ready> {
        let head = self.heads.iter().find(|head| is_named(head, reference));
        let head = head.ok_or_else(|| Error::not_found(Reason::TemplateNotFound, "templateId", reference))?;
        if head.status != TemplateStatus::Approved {
            return Err(not_approved(head.id, head.status));
        }
        let number = version.unwrap_or(head.newest);
        let version = self.versions.get(&(head.id, number));
        let version = version.ok_or_else(|| no_such_version(number, head.newest))?;
        if !version.is_approved {
            return Err(not_approved(head.id, TemplateStatus::Draft));
        }
        let ready = self.ready.get(&version.id);
        ready.ok_or_else(|| Error::internal(format!("template version {} has no content", version.id)))
    }

    /// Adds the content of the versions that may be sent.
    async fn make_ready(&mut self, tx: &Tx, app: AppId, cards: &Cards) -> Result<()> {
        let sendable = |head: &&TemplateHead| head.status == TemplateStatus::Approved;
        let heads: BTreeMap<_, _> = self.heads.iter().filter(sendable).map(|head| (head.id, head)).collect();
        let versions = || self.versions.values().filter(|version| version.is_approved);
        let contents = contents(tx, app, cards, versions()).await?;
        let types: BTreeSet<_> = contents.values().flat_map(|content| content.types()).collect();
        if types.is_empty() {
            return Ok(());
        }
        let switches = channels::list_switches_shared(tx, app, &types.into_iter().collect::<Vec<_>>()).await?;
        let mut ready = BTreeMap::new();
        for version in versions() {
            let (Some(head), Some(content)) = (heads.get(&version.template_id), contents.get(&version.id)) else {
                continue;
            };
            let one = Ready {
                template: Arc::new(sendable_of(head, version, content, (cards, &switches))),
                content: Arc::clone(content),
                is_used: version.is_used,
            };
            ready.insert(version.id, one);
        }
        self.ready = ready;
        Ok(())
    }
}

/// The content of versions: from memory where it is at hand, which it only is of versions that never change any more.
async fn contents<'v>(
    tx: &Tx,
    app: AppId,
    cards: &Cards,
    versions: impl Iterator<Item = &'v VersionHead> + Send,
) -> Result<BTreeMap<TemplateVersionId, Arc<VersionContent>>> {
    let (mut found, mut missing) = (BTreeMap::new(), BTreeMap::new());
    for version in versions {
        if let Some(content) = cards.get(version.id) {
            found.insert(version.id, content);
        } else {
            missing.insert(version.id, version);
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    for (id, content) in store::find_contents(tx, app, missing.keys().copied()).await? {
        if let Some(version) = missing.get(&id) {
            let content = VersionContent::of(version.template_id, version.number, content)?;
            found.insert(id, Arc::new(content));
        }
    }
    Ok(found)
}

fn sendable_of(
    head: &TemplateHead,
    version: &VersionHead,
    content: &VersionContent,
    (cards, switches): (&Cards, &[ChannelSwitch]),
) -> Sendable {
    Sendable {
        template_id: head.id,
        name: head.name.clone(),
        category: version.category.clone(),
        label: head.label.clone(),
        alternative_text: head.alternative_text.clone(),
        tags: head.tags.clone(),
        version_id: version.id,
        version: version.number,
        variable_schema: content.source.variable_schema.clone(),
        channels: with_instances(&content.source.channels, cards, switches),
        sequence: Sequence::of(head.config.as_ref(), &content.source.channels),
    }
}

/// One template with its current version, or with the one of this number, both of which are approved.
///
/// # Errors
/// As [`Named::get`].
pub(crate) async fn load_approved(
    tx: &Tx,
    app: AppId,
    cards: &Cards,
    (reference, version): (Reference<TemplateId>, Option<u32>),
) -> Result<Ready> {
    let named = [(reference, version)];
    let found = load_for_sends(tx, app, cards, &named).await?;
    let [(reference, version)] = &named;
    found.get(reference, *version).cloned()
}

/// Notes that versions were used, in the transaction of the first send that does it, and in their order: two that are first
/// wait for each other in one direction.
///
/// # Errors
/// Those of the database.
pub async fn record_uses<'r>(
    tx: &Tx,
    app: AppId,
    used: impl Iterator<Item = &'r Ready> + Send,
    now: Timestamp,
) -> Result<()> {
    let unused = used.filter(|ready| !ready.is_used);
    let first: BTreeSet<_> = unused.map(|ready| ready.template.version_id).collect();
    for version in first {
        store::record_use(tx, app, version, now).await?;
    }
    Ok(())
}

/// What a page renders with: the content of a version that was sent, with the channels as they stand. Until the transaction
/// ends, whoever switches one of those off waits.
///
/// # Errors
/// Internal, when there is no such version, which nothing deletes.
pub(crate) async fn load_for_page(
    tx: &Tx,
    app: AppId,
    cards: &Cards,
    version: (TemplateId, TemplateVersionId, u32),
) -> Result<(Arc<VersionContent>, Vec<SendableChannel>)> {
    let content = content_of(tx, app, cards, version).await?;
    let types: Vec<_> = content.types().collect();
    let switches = channels::list_switches_shared(tx, app, &types).await?;
    let ways = with_instances(&content.source.channels, cards, &switches);
    Ok((content, ways))
}

/// The same outside of a transaction, for whoever only tells what a page would do: the channels may be switched at any time.
///
/// # Errors
/// As [`load_for_page`].
pub(crate) async fn load_now(
    service: &Service,
    app: AppId,
    version: (TemplateId, TemplateVersionId, u32),
) -> Result<(Arc<VersionContent>, Vec<SendableChannel>)> {
    let db = service.store.read();
    let content = content_of(db, app, &service.cards, version).await?;
    let types: Vec<_> = content.types().collect();
    let switches = channels::list_switches_now(db, app, &types).await?;
    let ways = with_instances(&content.source.channels, &service.cards, &switches);
    Ok((content, ways))
}

async fn content_of(
    db: &impl Connection,
    app: AppId,
    cards: &Cards,
    (template, id, number): (TemplateId, TemplateVersionId, u32),
) -> Result<Arc<VersionContent>> {
    if let Some(content) = cards.get(id) {
        return Ok(content);
    }
    let mut found = store::find_contents(db, app, [id]).await?;
    let gone = || Error::internal(format!("template version {id} was sent and is gone"));
    let content = found.remove(&id).ok_or_else(gone)?;
    let content = Arc::new(VersionContent::of(template, number, content)?);
    cards.keep(id, Arc::clone(&content));
    Ok(content)
}

fn with_instances(contents: &[TemplateChannel], cards: &Cards, switches: &[ChannelSwitch]) -> Vec<SendableChannel> {
    let instance = |channel_type: ChannelType, wanted: Option<ChannelId>| {
        let of_type = || switches.iter().filter(|switch| switch.channel_type == channel_type);
        let chosen = match wanted {
            Some(id) => of_type().find(|switch| switch.id == id),
            // They come oldest first. One that is off stands in when none is on, so that the skip names it.
            None => of_type().find(|switch| switch.enabled).or_else(|| of_type().next()),
        };
        chosen.map(|switch| ChannelInstance {
            id: switch.id,
            enabled: switch.enabled,
        })
    };
    let sendable = contents.iter().map(|content| SendableChannel {
        instance: instance(content.channel_type, content.channel_id),
        driven: cards.drives(content.channel_type),
        content: content.clone(),
    });
    sendable.collect()
}

fn not_approved(template: TemplateId, status: TemplateStatus) -> Error {
    let message =
        format!("template {template} is {status}, and only approved ones can be sent: approve it, or name another one");
    Error::new(Reason::TemplateNotApproved, message)
        .with("templateId", template)
        .with("status", status)
}
