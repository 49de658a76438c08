//! One send. The columns are explained in the migrations; the words behind numbers are the contract's.

use sea_orm::entity::prelude::*;

use crate::model::Timestamp;
use crate::model::id::{AppId, CampaignId, CategoryId, NotificationId, TemplateId, TemplateVersionId};
use crate::store::value::Json;

/// A row of `notifications`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "notifications")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: NotificationId,
    pub app_id: AppId,
    pub template_id: TemplateId,
    pub template_version_id: TemplateVersionId,
    pub template_version: i32,
    pub template_name: String,
    pub category_id: Option<CategoryId>,
    pub category_name: Option<String>,
    pub label: Option<String>,
    pub alternative_text: Option<String>,
    pub tags: Json,
    pub tag: Option<String>,
    pub mode: i16,
    pub status: i16,
    pub data_type: i16,
    pub defaults: Json,
    pub channels: Json,
    pub total_targets: i32,
    pub duplicate_count: i32,
    pub created_at: Timestamp,
    pub completed_at: Option<Timestamp>,
    pub request_id: Option<String>,
    pub trace_parent: Option<String>,
    pub campaign_id: Option<CampaignId>,
    pub sequence: Option<Json>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
