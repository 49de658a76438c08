//! A campaign. The columns are explained in the migrations; the words behind numbers are the contract's.

use sea_orm::entity::prelude::*;

use crate::model::Timestamp;
use crate::model::id::{AppId, CampaignId, NotificationId, TemplateId, TemplateVersionId};
use crate::store::value::Json;

/// A row of `campaigns`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "campaigns")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: CampaignId,
    pub app_id: AppId,
    pub name: String,
    pub name_folded: String,
    pub template_id: TemplateId,
    pub template_version_id: TemplateVersionId,
    pub template_version: i32,
    pub channels: Json,
    pub variables: Json,
    pub config: Json,
    pub tag: Option<String>,
    pub rate_per_second: Option<i32>,
    pub status: i16,
    pub notification_id: NotificationId,
    pub recipient_count: i32,
    pub duplicate_count: i32,
    pub scheduled_at: Option<Timestamp>,
    pub time_zone: Option<String>,
    pub misfired_at: Option<Timestamp>,
    pub sent_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub failure: Option<String>,
    pub sent_count: Option<i32>,
    pub failed_count: Option<i32>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub deleted_at: Option<Timestamp>,
    pub version: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
