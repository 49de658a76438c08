//! Channels in the database. What a limit is, and whether a type may be used, is not known here.

use std::collections::HashMap;

use sea_orm::sea_query::{CaseStatement, Expr, LikeExpr, OnConflict};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, FromQueryResult, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect, Select, Set,
};

use super::entity::channel::{ActiveModel, Column, Entity, Model};
use super::list::{SortBy, list};
use super::value::Json;
use crate::model::channel::{Channel, ChannelSort, ChannelType};
use crate::model::id::{AppId, ChannelId};
use crate::model::name::Name;
use crate::model::page::{Page, PageRequest, SortValue};
use crate::model::slug::{Reference, Slug};
use crate::model::version::Version;
use crate::model::{Error, Reason, Result};

/// Writes a channel down, unless its slug is taken; tells whether it did.
///
/// # Errors
/// Those of the database.
pub async fn insert_channel(db: &impl ConnectionTrait, app: AppId, channel: &Channel) -> Result<bool> {
    let row = Model {
        id: channel.id,
        app_id: app,
        slug: channel.slug.to_string(),
        r#type: channel.channel_type.number(),
        name: channel.name.to_string(),
        name_folded: channel.name.folded(),
        enabled: channel.enabled,
        metadata: Json::of(&channel.metadata)?,
        created_at: channel.created_at,
        updated_at: channel.updated_at,
        version: channel.version.number(),
    };
    let insert = Entity::insert(row.into_active_model()).on_conflict(
        OnConflict::columns([Column::AppId, Column::Slug])
            .do_nothing()
            .to_owned(),
    );
    Ok(insert.exec_without_returning(db).await? == 1)
}

/// The channel that a reference names.
///
/// # Errors
/// [`Reason::ChannelNotFound`], and those of the database.
pub async fn get_channel(db: &impl ConnectionTrait, app: AppId, reference: &Reference<ChannelId>) -> Result<Channel> {
    let found = find_channel(db, app, reference).await?;
    found.ok_or_else(|| Error::not_found(Reason::ChannelNotFound, "channelId", reference))
}

/// The channel that a reference names, if there is one.
///
/// # Errors
/// Those of the database.
pub async fn find_channel(
    db: &impl ConnectionTrait,
    app: AppId,
    reference: &Reference<ChannelId>,
) -> Result<Option<Channel>> {
    let row = named(app, reference).one(db).await?;
    row.map(channel_of).transpose()
}

/// The channel that a reference names, which nobody else can change before the transaction ends.
///
/// # Errors
/// [`Reason::ChannelNotFound`], and those of the database.
pub async fn get_channel_locked(
    db: &impl ConnectionTrait,
    app: AppId,
    reference: &Reference<ChannelId>,
) -> Result<Channel> {
    let row = named(app, reference).lock_exclusive().one(db).await?;
    let row = row.ok_or_else(|| Error::not_found(Reason::ChannelNotFound, "channelId", reference))?;
    channel_of(row)
}

/// Writes a changed channel down, unless somebody else came first; tells whether it did.
///
/// # Errors
/// Those of the database.
pub async fn update_channel(db: &impl ConnectionTrait, app: AppId, channel: &Channel, read: Version) -> Result<bool> {
    let change = ActiveModel {
        name: Set(channel.name.to_string()),
        name_folded: Set(channel.name.folded()),
        enabled: Set(channel.enabled),
        metadata: Set(Json::of(&channel.metadata)?),
        updated_at: Set(channel.updated_at),
        version: Set(channel.version.number()),
        ..Default::default()
    };
    let update = Entity::update_many()
        .set(change)
        .filter(Column::AppId.eq(app))
        .filter(Column::Id.eq(channel.id))
        .filter(Column::Version.eq(read.number()));
    Ok(update.exec(db).await?.rows_affected == 1)
}

/// How many channels of each type there are, on or off; types without any are absent.
///
/// # Errors
/// Those of the database.
pub async fn count_channels(db: &impl ConnectionTrait, app: AppId) -> Result<HashMap<ChannelType, u64>> {
    let counts: Vec<(i16, i64)> = Entity::find()
        .select_only()
        .column(Column::Type)
        .column_as(Column::Id.count(), "used")
        .filter(Column::AppId.eq(app))
        .group_by(Column::Type)
        .into_tuple()
        .all(db)
        .await?;
    let counts = counts.into_iter().map(|(number, used)| {
        Ok((
            ChannelType::of_number(number),
            u64::try_from(used).map_err(Error::internal)?,
        ))
    });
    counts.collect()
}

/// One page of the channels of an app, of those whose name or slug contains a text if one is given.
///
/// # Errors
/// Those of the database.
pub async fn list_channels(
    db: &impl ConnectionTrait,
    app: AppId,
    search: Option<&str>,
    page: &PageRequest<ChannelSort>,
) -> Result<Page<Channel>> {
    let page = list(db, matching(app, search), page).await?;
    let rows = page.rows.into_iter().map(channel_of).collect::<Result<_>>()?;
    Ok(Page {
        rows,
        next: page.next,
        previous: page.previous,
        total: page.total,
    })
}

fn matching(app: AppId, search: Option<&str>) -> Select<Entity> {
    let rows = Entity::find().filter(Column::AppId.eq(app));
    match search {
        Some(text) => rows.filter(
            Condition::any()
                .add(Column::NameFolded.like(containing(text)))
                .add(Column::Slug.like(containing(text))),
        ),
        None => rows,
    }
}

/// The pattern of what contains a text, in lower case and with nothing in it taken for a wildcard.
#[must_use]
pub fn containing(text: &str) -> LikeExpr {
    let mut pattern = String::from("%");
    for character in text.to_lowercase().chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    LikeExpr::new(pattern).escape('\\')
}

/// What stands for a type of a later build where types are sorted by their words. It fits the cursor's pattern.
const LATER: &str = "unknown";

impl SortBy<Entity> for ChannelSort {
    const ID: Column = Column::Id;

    fn column(self) -> Column {
        match self {
            Self::CreatedAt => Column::CreatedAt,
            Self::UpdatedAt => Column::UpdatedAt,
            Self::ChannelType => Column::Type,
        }
    }

    fn expr(self) -> Expr {
        match self {
            Self::CreatedAt | Self::UpdatedAt => Expr::col(self.column()),
            // By word and not by number, so that the order stays when types are added. No COLLATE: the words differ in
            // their first letters, which every collation puts in one order.
            Self::ChannelType => {
                let words = ChannelType::ALL
                    .into_iter()
                    .fold(CaseStatement::new(), |case, channel_type| {
                        case.case(
                            Column::Type.eq(channel_type.number()),
                            Expr::val(channel_type.to_string()),
                        )
                    });
                words.finally(Expr::val(LATER)).into()
            }
        }
    }

    fn value(self, row: &Model) -> Option<SortValue> {
        match self {
            Self::CreatedAt => Some(SortValue::Time(row.created_at)),
            Self::UpdatedAt => Some(SortValue::Time(row.updated_at)),
            Self::ChannelType => {
                let word = ChannelType::of_number(row.r#type).word();
                Some(SortValue::Text(word.unwrap_or(LATER).to_owned()))
            }
        }
    }
}

/// What a send needs to know of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelSwitch {
    /// The channel.
    pub id: ChannelId,
    /// Its type.
    pub channel_type: ChannelType,
    /// Whether it is on.
    pub enabled: bool,
}

#[derive(FromQueryResult)]
struct SwitchRow {
    id: ChannelId,
    r#type: i16,
    enabled: bool,
}

/// All channels of these types, the oldest first. Nobody can switch them on or off before the transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn list_switches_shared(
    db: &impl ConnectionTrait,
    app: AppId,
    types: &[ChannelType],
) -> Result<Vec<ChannelSwitch>> {
    read_switches(db, switches(app, types).lock_shared()).await
}

/// The same as they stand now.
///
/// # Errors
/// Those of the database.
pub async fn list_switches_now(
    db: &impl ConnectionTrait,
    app: AppId,
    types: &[ChannelType],
) -> Result<Vec<ChannelSwitch>> {
    read_switches(db, switches(app, types)).await
}

fn switches(app: AppId, types: &[ChannelType]) -> Select<Entity> {
    let numbers = types.iter().map(|channel_type| channel_type.number());
    Entity::find()
        .select_only()
        .columns([Column::Id, Column::Type, Column::Enabled])
        .filter(Column::AppId.eq(app))
        .filter(Column::Type.is_in(numbers))
        .order_by_asc(Column::CreatedAt)
        .order_by_asc(Column::Id)
}

async fn read_switches(db: &impl ConnectionTrait, switches: Select<Entity>) -> Result<Vec<ChannelSwitch>> {
    let rows = switches.into_model::<SwitchRow>().all(db).await?;
    let switches = rows.into_iter().map(|row| ChannelSwitch {
        id: row.id,
        channel_type: ChannelType::of_number(row.r#type),
        enabled: row.enabled,
    });
    Ok(switches.collect())
}

/// Those of the candidates that are taken as slugs.
///
/// # Errors
/// Those of the database.
pub async fn list_taken(db: &impl ConnectionTrait, app: AppId, candidates: &[Slug]) -> Result<Vec<String>> {
    let taken = Entity::find()
        .select_only()
        .column(Column::Slug)
        .filter(Column::AppId.eq(app))
        .filter(Column::Slug.is_in(candidates.iter().map(Slug::as_str)));
    Ok(taken.into_tuple().all(db).await?)
}

fn named(app: AppId, reference: &Reference<ChannelId>) -> Select<Entity> {
    let rows = Entity::find().filter(Column::AppId.eq(app));
    match reference {
        Reference::Id(id) => rows.filter(Column::Id.eq(*id)),
        Reference::Slug(slug) => rows.filter(Column::Slug.eq(slug.as_str())),
    }
}

fn channel_of(row: Model) -> Result<Channel> {
    Ok(Channel {
        id: row.id,
        slug: Slug::stored(row.slug),
        channel_type: ChannelType::of_number(row.r#type),
        name: Name::stored(row.name),
        enabled: row.enabled,
        metadata: row.metadata.read()?,
        created_at: row.created_at,
        updated_at: row.updated_at,
        version: Version::from_number(row.version),
    })
}
