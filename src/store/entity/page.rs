//! A range of a notification's recipients, done in one transaction. The columns are explained in the migrations; the words behind numbers are the contract's.

use sea_orm::entity::prelude::*;

use crate::model::Timestamp;
use crate::model::id::{AppId, NotificationId};

/// A row of `pages`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "pages")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub app_id: AppId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub notification_id: NotificationId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i32,
    pub from_seq: i64,
    pub to_seq: i64,
    pub next_seq: i64,
    pub state: i16,
    pub lease_until: Option<Timestamp>,
    pub fence: i64,
    pub attempts: i32,
    pub sent_count: i32,
    pub failed_count: i32,
    pub skipped_count: i32,
    pub tenure: Option<i16>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
