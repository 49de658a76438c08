//! A delivery that a driver takes. The columns are explained in the migrations.

use sea_orm::entity::prelude::*;

use crate::model::Timestamp;
use crate::model::id::{AppId, DeliveryId, NotificationId, UserId};

/// A row of `outgoing`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "outgoing")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub app_id: AppId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub delivery_id: DeliveryId,
    pub notification_id: NotificationId,
    pub page_number: i32,
    pub seq: i64,
    pub user_id: UserId,
    pub state: i16,
    pub lease_until: Option<Timestamp>,
    pub fence: i64,
    pub attempts: i32,
    pub delivered_at: Option<Timestamp>,
    pub clicked_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
