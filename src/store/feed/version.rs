//! The versions that items were sent with, as rendering needs them. It never writes.

use std::collections::BTreeMap;

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use crate::model::Result;
use crate::model::id::{AppId, TemplateId, TemplateVersionId};
use crate::model::template::Content;
use crate::store::entity::template_version;
use crate::store::notification::large;

/// What rendering needs of a template version. It never changes once something was sent with it.
#[derive(Clone, Debug)]
pub struct SentVersion {
    /// The template.
    pub template_id: TemplateId,
    /// The number of the version.
    pub number: u32,
    /// What it says.
    pub content: Content,
}

/// Template versions by id.
///
/// # Errors
/// Those of the database.
pub async fn find_versions(
    db: &impl ConnectionTrait,
    app: AppId,
    ids: impl IntoIterator<Item = TemplateVersionId>,
) -> Result<BTreeMap<TemplateVersionId, SentVersion>> {
    let rows = template_version::Entity::find()
        .filter(template_version::Column::AppId.eq(app))
        .filter(template_version::Column::Id.is_in(ids))
        .all(db)
        .await?;
    let versions = rows.into_iter().map(|row| {
        let version = SentVersion {
            template_id: row.template_id,
            number: large(row.number)?,
            content: Content {
                channels: row.channels.read()?,
                variable_schema: row.variable_schema.read()?,
            },
        };
        Ok((row.id, version))
    });
    versions.collect()
}
