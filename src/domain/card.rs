//! Compiled cards, kept by the version of the template that they belong to. What was sent with a version never changes, so
//! nothing here is ever out of date, on any node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use moka::sync::Cache;
use serde_json::Value;

use crate::model::channel::JsonObject;
use crate::model::feed::{FeedItem, Shown, StoredItem};
use crate::model::id::{AppId, TemplateId, TemplateVersionId};
use crate::model::notification::Copied;
use crate::model::template::content::Compiled;
use crate::model::template::{Sendable, SendableChannel};
use crate::model::user::Uid;
use crate::model::variable::VariableValues;
use crate::model::{Error, Result};
use crate::store::Reader;
use crate::store::feed::{self, SentVersion};

/// The memory that compiled cards may take, in bytes: thousands of ordinary cards, or a hundred of the largest.
const CACHE_BYTES_MAX: u64 = 32 * 1_024 * 1_024;

/// What an entry takes beside its card.
const ENTRY_BYTES: usize = 256;

/// The content of one version, ready to be rendered.
#[derive(Debug)]
pub(super) struct VersionContent {
    template_id: TemplateId,
    number: u32,
    /// The content for each channel type.
    pub(super) content: Compiled,
}

/// Compiled cards by version.
#[derive(Clone, Debug)]
pub(super) struct Cards(Cache<TemplateVersionId, Arc<VersionContent>>);

impl Default for Cards {
    fn default() -> Self {
        let weigh = |_: &TemplateVersionId, version: &Arc<VersionContent>| {
            u32::try_from(version.content.weight().saturating_add(ENTRY_BYTES)).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(CACHE_BYTES_MAX).weigher(weigh).build())
    }
}

impl Cards {
    /// The content of a version that is about to be sent. It is not kept yet: what is read inside a transaction may never
    /// be committed, and the version may then still change.
    ///
    /// # Errors
    /// Internal, when the version cannot be rendered.
    pub(super) fn of_send(&self, template: &Sendable) -> Result<Arc<VersionContent>> {
        if let Some(found) = self.0.get(&template.version_id) {
            return Ok(found);
        }
        let channels = template.channels.iter().map(|way| &way.content);
        Ok(Arc::new(VersionContent {
            template_id: template.template_id,
            number: template.version,
            content: Compiled::of(channels).map_err(Error::internal)?,
        }))
    }

    /// The content of a version that was sent, for a page of that send. It never changes any more.
    ///
    /// # Errors
    /// Internal, when the version cannot be rendered.
    pub(super) fn of_page(&self, copied: &Copied, ways: &[SendableChannel]) -> Result<Arc<VersionContent>> {
        if let Some(found) = self.0.get(&copied.version_id) {
            return Ok(found);
        }
        let content = Arc::new(VersionContent {
            template_id: copied.template_id,
            number: copied.version,
            content: Compiled::of(ways.iter().map(|way| &way.content)).map_err(Error::internal)?,
        });
        self.keep(copied.version_id, Arc::clone(&content));
        Ok(content)
    }

    /// Keeps the content of a version whose send is committed, so that it never changes.
    pub(super) fn keep(&self, version: TemplateVersionId, content: Arc<VersionContent>) {
        self.0.insert(version, content);
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
                    Shown::Content => Some(shown(&version.content, &item.variables)?),
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
        let cached = |id: &TemplateVersionId| Some((*id, self.0.get(id)?));
        let mut found: BTreeMap<_, _> = ids.iter().filter_map(cached).collect();
        let missing: Vec<_> = ids.into_iter().filter(|id| !found.contains_key(id)).collect();
        if missing.is_empty() {
            return Ok(found);
        }
        for (id, version) in feed::find_versions(db, app, missing).await? {
            let version = Arc::new(ready(&version)?);
            self.0.insert(id, Arc::clone(&version));
            found.insert(id, version);
        }
        Ok(found)
    }
}

fn ready(version: &SentVersion) -> Result<VersionContent> {
    Ok(VersionContent {
        template_id: version.template_id,
        number: version.number,
        content: Compiled::of(&version.channels).map_err(Error::internal)?,
    })
}

fn shown(content: &Compiled, variables: &VariableValues) -> Result<JsonObject> {
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
