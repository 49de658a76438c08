//! A template; what it says is in its versions. The columns are explained in the migrations; the words behind numbers are the contract's.

use sea_orm::entity::prelude::*;

use crate::model::Timestamp;
use crate::model::id::{AppId, CategoryId, TemplateId};
use crate::store::value::Json;

/// A row of `templates`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "templates")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: TemplateId,
    pub app_id: AppId,
    pub slug: String,
    pub name: String,
    pub name_folded: String,
    pub category_id: Option<CategoryId>,
    pub label: Option<String>,
    pub alternative_text: Option<String>,
    pub tags: Json,
    pub status: i16,
    pub config: Json,
    pub current_version: i32,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub archived_at: Option<Timestamp>,
    pub version: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
