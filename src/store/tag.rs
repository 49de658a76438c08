//! Tags in filters. Nothing is indexed by tag: such a list reads the rows of the app in its order until it has a page.

use sea_orm::sea_query::Expr;
use sea_orm::{Condition, DatabaseBackend};

use crate::model::tag::TagMatch;

/// That a row of `table` has the tags which a filter names; every row has none of them.
#[must_use]
pub(super) fn tagged(backend: DatabaseBackend, table: &str, tags: &[String], tag_match: TagMatch) -> Condition {
    let has = match backend {
        DatabaseBackend::Postgres => format!("jsonb_exists({table}.tags::jsonb, $1)"),
        _ => format!("EXISTS (SELECT 1 FROM json_each({table}.tags) AS tag WHERE tag.value = ?)"),
    };
    let condition = match tag_match {
        TagMatch::Any if !tags.is_empty() => Condition::any(),
        TagMatch::Any | TagMatch::All => Condition::all(),
    };
    let each = tags
        .iter()
        .map(|tag| Expr::cust_with_values(has.clone(), [tag.as_str()]));
    each.fold(condition, Condition::add)
}
