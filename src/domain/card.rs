//! Compiled cards, kept by the version of the template that they belong to. What was sent with a version never changes, so
//! nothing here is ever out of date, on any node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use moka::sync::Cache;
use serde_json::Value;

use crate::channel::Drivers;
use crate::model::channel::{ChannelType, JsonObject};
use crate::model::feed::{FeedItem, Shown, StoredItem};
use crate::model::id::{AppId, TemplateId, TemplateVersionId};
use crate::model::template::Content;
use crate::model::template::content::Compiled;
use crate::model::user::Uid;
use crate::model::variable::VariableValues;
use crate::model::{Error, Result};
use crate::store::Reader;
use crate::store::feed::{self, SentVersion};

/// The memory that compiled cards may take, in bytes: thousands of ordinary cards, or a hundred of the largest.
const CACHE_BYTES_MAX: u64 = 32 * 1_024 * 1_024;

/// What an entry takes beside its card.
const ENTRY_BYTES: usize = 256;

/// The content of one version, as it is stored and ready to be rendered.
#[derive(Debug)]
pub struct VersionContent {
    template_id: TemplateId,
    number: u32,
    /// The content as it is stored.
    pub source: Content,
    /// The content for each channel type.
    pub compiled: Compiled,
}

impl VersionContent {
    /// The content of a version, compiled.
    ///
    /// # Errors
    /// Internal, when it cannot be rendered.
    pub(crate) fn of(template_id: TemplateId, number: u32, source: Content) -> Result<Self> {
        Ok(Self {
            template_id,
            number,
            compiled: Compiled::of(&source.channels).map_err(Error::internal)?,
            source,
        })
    }

    /// The channel types that it has content for.
    pub(crate) fn types(&self) -> impl Iterator<Item = ChannelType> {
        self.source.channels.iter().map(|channel| channel.channel_type)
    }
}

/// Compiled cards by version, and what takes content that is no card of a feed.
#[derive(Clone, Debug)]
pub struct Cards {
    kept: Cache<TemplateVersionId, Arc<VersionContent>>,
    drivers: Drivers,
}

impl Default for Cards {
    fn default() -> Self {
        Self::new(Drivers::default())
    }
}

impl Cards {
    /// No cards yet, beside these drivers.
    pub(super) fn new(drivers: Drivers) -> Self {
        let weigh = |_: &TemplateVersionId, version: &Arc<VersionContent>| {
            // As it is stored it takes about as much as compiled.
            let bytes = version.compiled.weight().saturating_mul(2).saturating_add(ENTRY_BYTES);
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        Self {
            kept: Cache::builder().max_capacity(CACHE_BYTES_MAX).weigher(weigh).build(),
            drivers,
        }
    }

    /// Whether something here can send on a channel type.
    pub(crate) fn drives(&self, channel_type: ChannelType) -> bool {
        self.drivers.get(channel_type).is_some()
    }

    /// The content of a version, if it is at hand. It then never changes any more.
    pub(crate) fn get(&self, version: TemplateVersionId) -> Option<Arc<VersionContent>> {
        self.kept.get(&version)
    }

    /// Keeps the content of a version that a committed send has used, so that it never changes. What is read in the
    /// transaction that is the first to use it may still change, if that is never committed.
    pub(crate) fn keep(&self, version: TemplateVersionId, content: Arc<VersionContent>) {
        self.kept.insert(version, content);
    }

    /// Items as their users see them, in the same order.
    ///
    /// # Errors
    /// Those of the database; internal, when an item was sent with a version that cannot be rendered.
    pub(super) async fn render(
        &self,
        db: &Reader,
        app: AppId,
        items: Vec<(StoredItem, Uid)>,
        part: Shown,
    ) -> Result<Vec<FeedItem>> {
        let versions: BTreeSet<_> = items.iter().map(|(item, _)| item.version_id).collect();
        let versions = self.find(db, app, versions).await?;
        let rendered = items.into_iter().map(|(item, receiver)| {
            let version = versions
                .get(&item.version_id)
                .ok_or_else(|| Error::internal(format!("feed item {} has no template version", item.id)))?;
            Ok(FeedItem {
                receiver,
                template_id: version.template_id,
                template_version: version.number,
                content: match part {
                    Shown::Content => Some(shown(&version.compiled, &item.variables)?),
                    Shown::Template => None,
                },
                stored: item,
            })
        });
        rendered.collect()
    }

    async fn find(
        &self,
        db: &Reader,
        app: AppId,
        ids: BTreeSet<TemplateVersionId>,
    ) -> Result<BTreeMap<TemplateVersionId, Arc<VersionContent>>> {
        let cached = |id: &TemplateVersionId| Some((*id, self.kept.get(id)?));
        let mut found: BTreeMap<_, _> = ids.iter().filter_map(cached).collect();
        let missing: Vec<_> = ids.into_iter().filter(|id| !found.contains_key(id)).collect();
        if missing.is_empty() {
            return Ok(found);
        }
        for (id, version) in feed::find_versions(db, app, missing).await? {
            let SentVersion {
                template_id,
                number,
                content,
            } = version;
            let version = Arc::new(VersionContent::of(template_id, number, content)?);
            self.kept.insert(id, Arc::clone(&version));
            found.insert(id, version);
        }
        Ok(found)
    }
}

/// The in-app content of a version as it is shown with some values.
///
/// # Errors
/// Internal, when there is none, or it cannot be rendered.
pub(super) fn shown(content: &Compiled, variables: &VariableValues) -> Result<JsonObject> {
    let card = content
        .in_app()
        .ok_or_else(|| Error::internal("a version that was sent in-app has no in-app content"))?;
    match card.render(variables).map_err(Error::internal)? {
        Value::Object(content) => Ok(content),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Error::internal("a card is not an object"))
        }
    }
}
