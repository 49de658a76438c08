//! An in-app delivery as its user sees it. The columns are explained in the migrations; the words behind numbers are the contract's.

use sea_orm::entity::prelude::*;

use crate::model::Timestamp;
use crate::model::id::{
    AppId, CategoryId, ChannelId, DeliveryId, FeedItemId, NotificationId, TemplateVersionId, UserId,
};
use crate::store::value::Json;

/// A row of `feed_items`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "feed_items")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: FeedItemId,
    pub app_id: AppId,
    pub user_id: UserId,
    pub notification_id: NotificationId,
    pub delivery_id: DeliveryId,
    pub template_version_id: TemplateVersionId,
    pub channel_id: ChannelId,
    pub seq: i64,
    pub change_seq: i64,
    pub category_id: Option<CategoryId>,
    pub category_name: Option<String>,
    pub filterable: bool,
    pub label: Option<String>,
    pub alternative_text: Option<String>,
    pub tags: Json,
    pub data_type: i16,
    pub variables: Json,
    pub counted: bool,
    pub sent_at: Timestamp,
    pub delivered_at: Option<Timestamp>,
    pub read_at: Option<Timestamp>,
    pub interacted_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub deleted_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
