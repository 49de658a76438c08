//! Templates, their categories and their versions.

use sea_orm_migration::prelude::*;

use crate::build::{Build, reference};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let b = Build::new(manager);
        categories(&b).await?;
        templates(&b).await?;
        versions(&b).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

async fn categories(b: &Build<'_>) -> Result<(), DbErr> {
    b.create(b.table(
        "categories",
        [
            b.id("id"),
            b.id("app_id"),
            b.text("name"),
            b.text_or_null("description"),
            b.time("created_at"),
            b.time("updated_at"),
            b.version(),
        ],
        &["id"],
    ))
    .await?;
    b.unique("categories_name", "categories", &["app_id", "name"]).await
}

async fn templates(b: &Build<'_>) -> Result<(), DbErr> {
    let mut templates = b.table(
        "templates",
        [
            b.id("id"),
            b.id("app_id"),
            // The `templateId` of the contract: a name that the app chose.
            b.text("slug"),
            b.text("name"),
            // The name in lower case, for the search; SQLite lowers ASCII only.
            b.text("name_folded"),
            b.id_or_null("category_id"),
            b.text_or_null("label"),
            b.text_or_null("alternative_text"),
            b.json("tags"),
            b.word("status"),
            b.json("config"),
            // The number of the newest version, drafts included.
            b.int("current_version"),
            b.time("created_at"),
            b.time("updated_at"),
            b.version(),
        ],
        &["id"],
    );
    // Kept by the database, because a category must not go while a template that names it is being written.
    templates.foreign_key(&mut reference(
        "templates_category",
        ("templates", "category_id"),
        "categories",
    ));
    b.create(templates).await?;
    // The only index: templates are made by people, so every list reads an app's templates and sorts.
    b.unique("templates_slug", "templates", &["app_id", "slug"]).await
}

async fn versions(b: &Build<'_>) -> Result<(), DbErr> {
    let mut versions = b.table(
        "template_versions",
        [
            b.id("id"),
            b.id("app_id"),
            b.id("template_id"),
            b.int("number"),
            b.json("channels"),
            b.json("variable_schema"),
            // Either instant makes the version immutable for good.
            b.time_or_null("approved_at"),
            b.time_or_null("used_at"),
            b.time("created_at"),
        ],
        &["id"],
    );
    versions.foreign_key(&mut reference(
        "template_versions_template",
        ("template_versions", "template_id"),
        "templates",
    ));
    b.create(versions).await?;
    b.unique(
        "template_versions_number",
        "template_versions",
        &["app_id", "template_id", "number"],
    )
    .await
}
