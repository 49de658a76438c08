//! A configured way out of an app. The columns are explained in the migrations; the words behind numbers are the contract's.

use sea_orm::entity::prelude::*;

use crate::model::Timestamp;
use crate::model::id::{AppId, ChannelId};
use crate::store::value::Json;

/// A row of `channels`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "channels")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ChannelId,
    pub app_id: AppId,
    pub slug: String,
    pub r#type: i16,
    pub name: String,
    pub name_folded: String,
    pub enabled: bool,
    pub metadata: Json,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub version: i64,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
