//! Templates as sends need them: several at once, and their content only where nobody has it at hand. What may be sent is
//! not decided here.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseBackend, FromQueryResult, QueryResult};

use crate::model::Result;
use crate::model::channel::JsonObject;
use crate::model::id::{AppId, CategoryId, TemplateId, TemplateVersionId};
use crate::model::name::Name;
use crate::model::slug::Reference;
use crate::model::template::{CategoryName, Content, TemplateStatus};
use crate::store::bulk::Rows;
use crate::store::value::Json;

/// What a send copies from a template, and the version that it has.
#[derive(Clone, Debug)]
pub struct TemplateHead {
    /// Its id.
    pub id: TemplateId,
    /// The name that the app chose for it.
    pub slug: String,
    /// Its name.
    pub name: Name,
    /// Its category.
    pub category_id: Option<CategoryId>,
    /// Its label.
    pub label: Option<String>,
    /// Its alternative text.
    pub alternative_text: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether it may be sent.
    pub status: TemplateStatus,
    /// The number of its newest version.
    pub newest: u32,
    /// Free JSON of the app's own.
    pub config: Option<JsonObject>,
}

/// A version without its content.
#[derive(Clone, Debug)]
pub struct VersionHead {
    /// Its id.
    pub id: TemplateVersionId,
    /// Its template.
    pub template_id: TemplateId,
    /// Its number.
    pub number: u32,
    /// Whether it was approved.
    pub is_approved: bool,
    /// Whether something was sent with it.
    pub is_used: bool,
    /// The category of the template.
    pub category: Option<CategoryName>,
}

/// The templates that references name; those that there are not are left out. Nobody can change them before the transaction
/// ends.
///
/// # Errors
/// Those of the database.
pub async fn find_heads_shared(
    db: &impl ConnectionTrait,
    app: AppId,
    references: impl IntoIterator<Item = &Reference<TemplateId>> + Send,
) -> Result<Vec<TemplateHead>> {
    let (mut ids, mut slugs) = (Vec::new(), Vec::new());
    for reference in references {
        match reference {
            Reference::Id(id) => ids.push(*id),
            Reference::Slug(slug) => slugs.push(slug.to_string()),
        }
    }
    let mut found = Vec::new();
    if !ids.is_empty() {
        found.extend(heads(db, app, "id", Rows::new(db).column("id", ids)).await?);
    }
    if !slugs.is_empty() {
        found.extend(heads(db, app, "slug", Rows::new(db).column("slug", slugs)).await?);
    }
    Ok(found)
}

async fn heads(db: &impl ConnectionTrait, app: AppId, by: &str, named: Rows) -> Result<Vec<TemplateHead>> {
    // In the order of the ids; SQLite knows no such lock and needs none: it has one writer.
    let lock = match db.get_database_backend() {
        DatabaseBackend::Postgres => "ORDER BY t.id FOR SHARE OF t",
        _ => "",
    };
    let sql = format!(
        "SELECT t.id, t.slug, t.name, t.category_id, t.label, t.alternative_text, t.tags, t.status, t.current_version, \
         t.config FROM {} {} templates t ON t.app_id = {} AND t.{by} = r.{by} {lock}",
        named.table("r")?,
        named.join(),
        named.parameter(0),
    );
    let rows = db.query_all_raw(named.statement(sql, [app.into()])?).await?;
    rows.iter().map(head_of).collect()
}

fn head_of(row: &QueryResult) -> Result<TemplateHead> {
    #[derive(FromQueryResult)]
    struct Row {
        id: TemplateId,
        slug: String,
        name: String,
        category_id: Option<CategoryId>,
        label: Option<String>,
        alternative_text: Option<String>,
        tags: Json,
        status: i16,
        current_version: i32,
        config: Json,
    }
    let row = Row::from_query_result(row, "")?;
    Ok(TemplateHead {
        id: row.id,
        slug: row.slug,
        name: Name::stored(row.name),
        category_id: row.category_id,
        label: row.label,
        alternative_text: row.alternative_text,
        tags: row.tags.read()?,
        status: TemplateStatus::of_number(row.status),
        newest: super::number_of(row.current_version)?,
        config: row.config.read()?,
    })
}

/// Versions of templates by number, each with the category that its template is said to have; those that there are not are
/// left out.
///
/// A statement of its own: one that waits for the template's lock would look at what it joins as it was before.
///
/// # Errors
/// Those of the database.
pub async fn find_version_heads(
    db: &impl ConnectionTrait,
    app: AppId,
    wanted: &[(TemplateId, u32, Option<CategoryId>)],
) -> Result<Vec<VersionHead>> {
    #[derive(FromQueryResult)]
    struct Row {
        id: TemplateVersionId,
        template_id: TemplateId,
        number: i32,
        is_approved: bool,
        is_used: bool,
        category_id: Option<CategoryId>,
        category_name: Option<String>,
    }
    // A number that no column holds is that of no version.
    let wanted = || wanted.iter().filter(|(_, number, _)| i32::try_from(*number).is_ok());
    let rows = Rows::new(db)
        .column("template_id", wanted().map(|(template, ..)| *template))
        .column("number", wanted().map(|(_, number, _)| i64::from(*number)))
        .column("category_id", wanted().map(|(.., category)| *category));
    let sql = format!(
        "SELECT v.id, v.template_id, v.number, v.approved_at IS NOT NULL AS is_approved, v.used_at IS NOT NULL AS is_used, \
         c.id AS category_id, c.name AS category_name FROM {} {} template_versions v ON v.app_id = {app} \
         AND v.template_id = r.template_id AND v.number = r.number \
         LEFT JOIN categories c ON c.app_id = {app} AND c.id = r.category_id",
        rows.table("r")?,
        rows.join(),
        app = rows.parameter(0),
    );
    let found = db.query_all_raw(rows.statement(sql, [app.into()])?).await?;
    let versions = found.iter().map(|row| {
        let row = Row::from_query_result(row, "")?;
        let category = row.category_id.zip(row.category_name);
        Ok(VersionHead {
            id: row.id,
            template_id: row.template_id,
            number: super::number_of(row.number)?,
            is_approved: row.is_approved,
            is_used: row.is_used,
            category: category.map(|(id, name)| CategoryName {
                id,
                name: Name::stored(name),
            }),
        })
    });
    versions.collect()
}

/// The content of versions by id.
///
/// # Errors
/// Those of the database.
pub async fn find_contents(
    db: &impl ConnectionTrait,
    app: AppId,
    ids: impl IntoIterator<Item = TemplateVersionId> + Send,
) -> Result<BTreeMap<TemplateVersionId, Content>> {
    #[derive(FromQueryResult)]
    struct Row {
        id: TemplateVersionId,
        channels: Json,
        variable_schema: Json,
    }
    let rows = Rows::new(db).column("id", ids);
    let sql = format!(
        "SELECT v.id, v.channels, v.variable_schema FROM {} {} template_versions v ON v.id = r.id AND v.app_id = {}",
        rows.table("r")?,
        rows.join(),
        rows.parameter(0),
    );
    let found = db.query_all_raw(rows.statement(sql, [app.into()])?).await?;
    let contents = found.iter().map(|row| {
        let row = Row::from_query_result(row, "")?;
        let content = Content {
            channels: row.channels.read()?,
            variable_schema: row.variable_schema.read()?,
        };
        Ok((row.id, content))
    });
    contents.collect()
}
