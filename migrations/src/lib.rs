//! The schema of Campanile: one purpose per file, the same code for SQLite and PostgreSQL. It never moves data between
//! tables that a running build still reads: a change first expands the schema and contracts it one release later.
#![expect(
    elided_lifetimes_in_paths,
    reason = "async_trait compares the lifetimes of `up` as the trait spells them, and it elides one"
)]

use sea_orm_migration::prelude::*;

mod build;
mod m0001_apps;
mod m0002_users;
mod m0003_channels;
mod m0004_templates;
mod m0005_notifications;
mod m0006_feed;
mod m0007_idempotency;
mod m0008_user_lists;
mod m0009_template_archive;
mod m0010_engagements;
mod m0011_feed_lists;
mod m0012_retention;
mod m0013_open_pages;
mod m0014_observed;
mod m0015_campaigns;
mod m0016_imports;
mod m0017_sequences;
mod m0018_user_indexes;
mod m0019_looks;
mod m0020_feed_counts;

/// Applies the migrations in order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_apps::Migration),
            Box::new(m0002_users::Migration),
            Box::new(m0003_channels::Migration),
            Box::new(m0004_templates::Migration),
            Box::new(m0005_notifications::Migration),
            Box::new(m0006_feed::Migration),
            Box::new(m0007_idempotency::Migration),
            Box::new(m0008_user_lists::Migration),
            Box::new(m0009_template_archive::Migration),
            Box::new(m0010_engagements::Migration),
            Box::new(m0011_feed_lists::Migration),
            Box::new(m0012_retention::Migration),
            Box::new(m0013_open_pages::Migration),
            Box::new(m0014_observed::Migration),
            Box::new(m0015_campaigns::Migration),
            Box::new(m0016_imports::Migration),
            Box::new(m0017_sequences::Migration),
            Box::new(m0018_user_indexes::Migration),
            Box::new(m0019_looks::Migration),
            Box::new(m0020_feed_counts::Migration),
        ]
    }
}
