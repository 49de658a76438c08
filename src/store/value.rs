//! How the types of the model stand in columns. It never decides what a value means.

use sea_orm::sea_query::{ArrayType, ColumnType, Nullable, Value, ValueType, ValueTypeErr};
use sea_orm::{ColIdx, DbErr, QueryResult, TryFromU64, TryGetError, TryGetable};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::model::id::{
    ApiKeyId, AppId, CampaignId, CategoryId, ChannelId, DeliveryId, FeedItemId, ImportId, NotificationId, TemplateId,
    TemplateVersionId, UserId,
};
use crate::model::{Error, Result, Timestamp};

/// A JSON document in a text column. It stays text until somebody reads it, so a row that is only passed on is never
/// parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(String);

impl Json {
    /// The document of a value.
    ///
    /// # Errors
    /// Internal, when the value has no JSON form, such as a map whose keys are not strings.
    pub fn of(value: &impl Serialize) -> Result<Self> {
        serde_json::to_string(value).map(Self).map_err(Error::internal)
    }

    /// A list of nothing.
    #[must_use]
    pub fn empty_list() -> Self {
        Self("[]".to_owned())
    }

    /// The value of the document.
    ///
    /// # Errors
    /// Internal, when the document is not of this type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.0).map_err(Error::internal)
    }

    /// The document as it stands in the column.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn stored_json(text: String) -> Option<Json> {
    Some(Json(text))
}

fn stored_time(millis: i64) -> Option<Timestamp> {
    Timestamp::from_millis(millis)
}

/// Lets a type of the model stand in a column of a type that the databases know.
macro_rules! stored {
    ($($name:ident as $inner:ty, $write:expr, $read:expr;)+) => {$(
        impl From<$name> for Value {
            fn from(value: $name) -> Self {
                let write: fn($name) -> $inner = $write;
                write(value).into()
            }
        }

        impl TryGetable for $name {
            fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> std::result::Result<Self, TryGetError> {
                let read: fn($inner) -> Option<$name> = $read;
                let value = <$inner as TryGetable>::try_get_by(row, index)?;
                read(value).ok_or_else(|| DbErr::Type(concat!("not a ", stringify!($name)).to_owned()).into())
            }
        }

        impl ValueType for $name {
            fn try_from(value: Value) -> std::result::Result<Self, ValueTypeErr> {
                let read: fn($inner) -> Option<$name> = $read;
                read(<$inner as ValueType>::try_from(value)?).ok_or(ValueTypeErr)
            }

            fn type_name() -> String {
                stringify!($name).to_owned()
            }

            fn array_type() -> ArrayType {
                <$inner as ValueType>::array_type()
            }

            fn column_type() -> ColumnType {
                <$inner as ValueType>::column_type()
            }
        }

        impl Nullable for $name {
            fn null() -> Value {
                <$inner as Nullable>::null()
            }
        }

        // sea-orm asks every key whether it can be made from the number of an inserted row; ours never can.
        impl TryFromU64 for $name {
            fn try_from_u64(_: u64) -> std::result::Result<Self, DbErr> {
                Err(DbErr::ConvertFromU64(stringify!($name)))
            }
        }

        impl sea_orm::sea_query::postgres_array::NotU8 for $name {}
    )+};
}

stored! {
    AppId as Uuid, AppId::uuid, |uuid| Some(uuid.into());
    ApiKeyId as Uuid, ApiKeyId::uuid, |uuid| Some(uuid.into());
    UserId as Uuid, UserId::uuid, |uuid| Some(uuid.into());
    ChannelId as Uuid, ChannelId::uuid, |uuid| Some(uuid.into());
    CategoryId as Uuid, CategoryId::uuid, |uuid| Some(uuid.into());
    TemplateId as Uuid, TemplateId::uuid, |uuid| Some(uuid.into());
    TemplateVersionId as Uuid, TemplateVersionId::uuid, |uuid| Some(uuid.into());
    NotificationId as Uuid, NotificationId::uuid, |uuid| Some(uuid.into());
    CampaignId as Uuid, CampaignId::uuid, |uuid| Some(uuid.into());
    ImportId as Uuid, ImportId::uuid, |uuid| Some(uuid.into());
    DeliveryId as Uuid, DeliveryId::uuid, |uuid| Some(uuid.into());
    FeedItemId as Uuid, FeedItemId::uuid, |uuid| Some(uuid.into());
    Timestamp as i64, Timestamp::millis, stored_time;
    Json as String, |json| json.0, stored_json;
}
