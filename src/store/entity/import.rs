//! An import. The columns are explained in the migrations; the words behind numbers are the contract's.

use sea_orm::entity::prelude::*;

use crate::model::Timestamp;
use crate::model::id::{AppId, CampaignId, ImportId};
use crate::store::value::Json;

/// A row of `imports`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "imports")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ImportId,
    pub app_id: AppId,
    pub campaign_id: CampaignId,
    pub number: i32,
    pub file_key: String,
    pub format: Json,
    pub state: i16,
    pub checksum: Option<String>,
    pub bytes_total: i64,
    pub next_offset: i64,
    pub next_line: i64,
    pub row_count: i32,
    pub added_count: i32,
    pub duplicate_count: i32,
    pub unknown_count: i32,
    pub failed_count: i32,
    pub problem_count: i32,
    pub failure: Option<String>,
    pub failure_message: Option<String>,
    pub lease_until: Option<i64>,
    pub fence: i64,
    pub attempts: i32,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
