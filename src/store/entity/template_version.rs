//! A numbered revision of a template. The columns are explained in the migrations; the words behind numbers are the contract's.

use sea_orm::entity::prelude::*;

use crate::model::Timestamp;
use crate::model::id::{AppId, TemplateId, TemplateVersionId};
use crate::store::value::Json;

/// A row of `template_versions`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "template_versions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: TemplateVersionId,
    pub app_id: AppId,
    pub template_id: TemplateId,
    pub number: i32,
    pub channels: Json,
    pub variable_schema: Json,
    pub approved_at: Option<Timestamp>,
    pub used_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
