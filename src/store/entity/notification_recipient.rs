//! A user in a notification. The columns are explained in the migrations; the words behind numbers are the contract's.

use sea_orm::entity::prelude::*;

use crate::model::id::{AppId, NotificationId, UserId};
use crate::store::value::Json;

/// A row of `notification_recipients`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "notification_recipients")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub app_id: AppId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub notification_id: NotificationId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    pub uid: String,
    pub user_id: Option<UserId>,
    pub variables: Json,
    pub outcome: i16,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
