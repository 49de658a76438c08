//! Templates: their statuses, their versions, and when an edit opens a new one. Nothing here renders content or knows what
//! is sent.

use serde::{Deserialize, Serialize};

use super::channel::{ChannelType, JsonObject};
use super::id::{CategoryId, ChannelId, TemplateId, TemplateVersionId};
use super::name::Name;
use super::page::{SortField, Sortable};
use super::slug::{Reference, Slug};
use super::tag::TagMatch;
use super::variable::VariableDefinition;
use super::version::Version;
use super::word::words;
use super::{Error, Reason, Result, Timestamp};

pub mod content;
pub mod course;
pub mod preview;
pub mod sequence;

use sequence::{Step, StopCondition};

/// What stands before the name in a slug that the service makes.
pub const SLUG_PREFIX: &str = "cc-template";

/// Whether a template may be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TemplateStatus {
    /// It is being worked on and cannot be sent.
    #[default]
    Draft,
    /// It can be sent.
    Approved,
    /// It is retired: hidden from lists and not sendable.
    Archived,
    /// One that a later build knows.
    Unknown(i16),
}

words!(TemplateStatus {
    Draft = 1 "draft",
    Approved = 2 "approved",
    Archived = 3 "archived",
});

impl TemplateStatus {
    /// The statuses that may follow. What was retired is looked at again as a draft before it can be sent.
    #[must_use]
    pub const fn followers(self) -> &'static [Self] {
        match self {
            Self::Draft => &[Self::Approved, Self::Archived],
            Self::Approved => &[Self::Draft, Self::Archived],
            Self::Archived => &[Self::Draft],
            // What it means, and what may follow, only that build knows.
            Self::Unknown(_) => &[],
        }
    }

    /// The status after a move to `to`; staying is always possible.
    ///
    /// # Errors
    /// Invalid state, with the statuses that are allowed, when `to` may not follow.
    pub fn move_to(self, to: Self) -> Result<Self> {
        if self == to || self.followers().contains(&to) {
            return Ok(to);
        }
        let allowed: Vec<_> = self.followers().iter().map(ToString::to_string).collect();
        let allowed = allowed.join(", ");
        let message = format!("a template that is {self} cannot become {to}, only {allowed}");
        Err(Error::new(Reason::InvalidState, message)
            .with("state", self)
            .with("allowed", allowed))
    }
}

/// What the content of a template channel is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataType {
    /// A document that readers know how to show.
    #[default]
    UiTemplate,
    /// JSON of the app's own.
    DataTemplate,
    /// One that a later build knows.
    Unknown(i16),
}

words!(DataType {
    UiTemplate = 1 "ui_template",
    DataTemplate = 2 "data_template",
});

/// The content of a template for one channel type. `C` is how the channel to send through is named: by its id in a
/// version, by id or slug in a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateChannel<C = ChannelId> {
    /// The type that the content is for.
    pub channel_type: ChannelType,
    /// The channel to send through; otherwise the oldest of the type that is enabled when it is sent.
    pub channel_id: Option<C>,
    /// The content; always present for in-app.
    pub content: Option<JsonObject>,
    /// What the content is.
    pub data_type: DataType,
    /// Whether a feed can be filtered by category; in-app only.
    pub category_filter_enabled: bool,
    /// Whether readers should show the label; in-app only.
    pub template_label_enabled: bool,
    /// Hours after which it leaves the feed, 0 for never; in-app only.
    pub message_retention_hours: u32,
    /// Its part in the sequence of the template; absent in content that was stored before there were sequences.
    #[serde(flatten)]
    pub step: Step,
}

impl<C> TemplateChannel<C> {
    /// What a channel type starts from when nothing is said about it.
    #[must_use]
    pub fn new(channel_type: ChannelType) -> Self {
        let in_app = channel_type == ChannelType::InApp;
        Self {
            channel_type,
            channel_id: None,
            content: None,
            data_type: DataType::default(),
            category_filter_enabled: in_app,
            template_label_enabled: in_app,
            message_retention_hours: 0,
            step: Step::default(),
        }
    }

    /// The same with the channel named in another way.
    pub fn through<D>(self, channel_id: Option<D>) -> TemplateChannel<D> {
        TemplateChannel {
            channel_type: self.channel_type,
            channel_id,
            content: self.content,
            data_type: self.data_type,
            category_filter_enabled: self.category_filter_enabled,
            template_label_enabled: self.template_label_enabled,
            message_retention_hours: self.message_retention_hours,
            step: self.step,
        }
    }
}

/// The content as a request gives it, before its channels are known to exist.
pub type RequestedChannel = TemplateChannel<Reference<ChannelId>>;

/// What a version holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// The content for each channel type, once each; at least one.
    pub channels: Vec<TemplateChannel>,
    /// The declared variables, once each.
    pub variable_schema: Vec<VariableDefinition>,
}

/// One numbered state of a template's content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemplateVersion {
    /// Its id.
    pub id: TemplateVersionId,
    /// Its number, from 1.
    pub number: u32,
    /// What it holds.
    pub content: Content,
    /// When it was first approved; it can be sent from then on.
    pub approved_at: Option<Timestamp>,
    /// When it was first used by a notification.
    pub used_at: Option<Timestamp>,
    /// When it was opened.
    pub created_at: Timestamp,
}

impl TemplateVersion {
    /// Version 1 of a template, or the one after `number`.
    #[must_use]
    pub fn open(number: u32, content: Content, status: TemplateStatus, now: Timestamp) -> Self {
        let version = Self {
            id: TemplateVersionId::new(now),
            number,
            content,
            approved_at: None,
            used_at: None,
            created_at: now,
        };
        version.under(status, now)
    }

    /// Whether what it holds can never change again: somebody may have received it, or may be shown it any time.
    #[must_use]
    pub const fn frozen(&self) -> bool {
        self.approved_at.is_some() || self.used_at.is_some()
    }

    /// The same under a template of this status: approval marks the current version, and nothing takes the mark away.
    #[must_use]
    pub fn under(mut self, status: TemplateStatus, now: Timestamp) -> Self {
        if status == TemplateStatus::Approved && self.approved_at.is_none() {
            self.approved_at = Some(now);
        }
        self
    }

    /// What the current version becomes when its template is to hold `content` and have `status`: unchanged, changed in
    /// place while it is nobody's yet, or followed by the next one.
    #[must_use]
    pub fn edited(&self, content: Content, status: TemplateStatus, now: Timestamp) -> Self {
        if content == self.content {
            return self.clone().under(status, now);
        }
        if self.frozen() {
            return Self::open(self.number.saturating_add(1), content, status, now);
        }
        Self {
            content,
            ..self.clone()
        }
        .under(status, now)
    }
}

/// The category that a template is in, as the template shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CategoryName {
    /// Its id.
    pub id: CategoryId,
    /// Its name now.
    pub name: Name,
}

/// What a notification is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// Its id.
    pub id: TemplateId,
    /// Its slug, unique in the app; never changes.
    pub slug: Slug,
    /// What people call it.
    pub name: Name,
    /// The category it is in.
    pub category: Option<CategoryName>,
    /// A short word beside the notification, up to 100 characters.
    pub label: Option<String>,
    /// A text for readers that cannot show the content, up to 1,000 characters.
    pub alternative_text: Option<String>,
    /// Words of the app's own, up to 25.
    pub tags: Vec<String>,
    /// Whether it may be sent.
    pub status: TemplateStatus,
    /// Free JSON of the app's own, up to 5 KiB.
    pub config: Option<JsonObject>,
    /// The version that is shown, edited and sent.
    pub current: TemplateVersion,
    /// Since when it is archived, if it is.
    pub archived_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The counter behind its etag.
    pub version: Version,
}

impl Template {
    /// The same in another status, noting since when it is archived.
    #[must_use]
    pub fn under(mut self, status: TemplateStatus, now: Timestamp) -> Self {
        self.archived_at = match status {
            TemplateStatus::Archived => self.archived_at.or(Some(now)),
            TemplateStatus::Draft | TemplateStatus::Approved | TemplateStatus::Unknown(_) => None,
        };
        self.status = status;
        self
    }
}

/// A template to create.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTemplate {
    /// The slug that the app chose; otherwise one is made of the name.
    pub slug: Option<Slug>,
    /// What people call it.
    pub name: Name,
    /// The category, by name or id.
    pub category: Option<String>,
    /// A short word beside the notification.
    pub label: Option<String>,
    /// A text for readers that cannot show the content.
    pub alternative_text: Option<String>,
    /// Words of the app's own.
    pub tags: Vec<String>,
    /// The status that it starts in.
    pub status: TemplateStatus,
    /// The content for each channel type.
    pub channels: Vec<RequestedChannel>,
    /// The declared variables.
    pub variable_schema: Vec<VariableDefinition>,
    /// Free JSON of the app's own.
    pub config: Option<JsonObject>,
}

/// What to change about a template: what is absent stays, an inner `None` clears.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TemplatePatch {
    /// The slug as the caller has it, which has to be the template's.
    pub slug: Option<String>,
    /// A new name.
    pub name: Option<Name>,
    /// Another category, by name or id, or none.
    pub category: Option<Option<String>>,
    /// A new label, or none.
    pub label: Option<Option<String>>,
    /// A new alternative text, or none.
    pub alternative_text: Option<Option<String>>,
    /// New tags.
    pub tags: Option<Vec<String>>,
    /// Another status.
    pub status: Option<TemplateStatus>,
    /// New content for all channel types.
    pub channels: Option<Vec<RequestedChannel>>,
    /// A new list of variables.
    pub variable_schema: Option<Vec<VariableDefinition>>,
    /// New free JSON, or none.
    pub config: Option<Option<JsonObject>>,
}

/// What a new template takes from another one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewClone {
    /// The version to copy; otherwise the current one.
    pub version: Option<u32>,
    /// What people call it; otherwise as the source.
    pub name: Option<Name>,
    /// The slug that the app chose; otherwise one is made of the name.
    pub slug: Option<Slug>,
}

/// What to change about one channel type of a template: what is absent stays, an inner `None` clears, and what is cleared
/// without one takes its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChannelPatch {
    /// Another channel to send through, or none in particular.
    pub channel_id: Option<Option<Reference<ChannelId>>>,
    /// New content, or none.
    pub content: Option<Option<JsonObject>>,
    /// What the content is.
    pub data_type: Option<DataType>,
    /// Whether filters by category find it.
    pub category_filter_enabled: Option<bool>,
    /// Whether it carries the label.
    pub template_label_enabled: Option<bool>,
    /// Hours after which it leaves the feed.
    pub message_retention_hours: Option<u32>,
    /// Another place in the sequence, or none.
    pub sequence_order: Option<Option<u32>>,
    /// Another stop condition, or none.
    pub stop_condition: Option<Option<StopCondition>>,
    /// Another time to wait, or none.
    pub wait_minutes: Option<Option<u32>>,
}

impl ChannelPatch {
    /// The channel type as it is to be.
    #[must_use]
    pub fn apply(self, before: RequestedChannel) -> RequestedChannel {
        TemplateChannel {
            channel_type: before.channel_type,
            channel_id: self.channel_id.unwrap_or(before.channel_id),
            content: self.content.unwrap_or(before.content),
            data_type: self.data_type.unwrap_or(before.data_type),
            category_filter_enabled: self.category_filter_enabled.unwrap_or(before.category_filter_enabled),
            template_label_enabled: self.template_label_enabled.unwrap_or(before.template_label_enabled),
            message_retention_hours: self.message_retention_hours.unwrap_or(before.message_retention_hours),
            step: Step {
                sequence_order: self.sequence_order.unwrap_or(before.step.sequence_order),
                stop_condition: self.stop_condition.unwrap_or(before.step.stop_condition),
                wait_minutes: self.wait_minutes.unwrap_or(before.step.wait_minutes),
            },
        }
    }
}

/// A template that was archived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedTemplate {
    /// Its id.
    pub id: TemplateId,
    /// Since when it is archived.
    pub archived_at: Timestamp,
}

/// What templates are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateSort {
    /// Time of creation.
    CreatedAt,
    /// Time of the last change.
    UpdatedAt,
    /// Name.
    Name,
}

impl Sortable for TemplateSort {
    fn field(self) -> SortField {
        match self {
            Self::CreatedAt => SortField::CreatedAt,
            Self::UpdatedAt => SortField::UpdatedAt,
            Self::Name => SortField::Name,
        }
    }
}

/// Which templates a list holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateFilter {
    /// Those whose name or slug contains this, without regard to case.
    pub search: Option<String>,
    /// Those of this status; otherwise all but archived ones.
    pub status: Option<TemplateStatus>,
    /// Those in this category, by name or id.
    pub category: Option<String>,
    /// Those with these tags; any when there are none.
    pub tags: Vec<String>,
    /// Whether one of the tags is enough.
    pub tag_match: TagMatch,
}

/// A version with what surrounds it, as a send copies it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sendable {
    /// The template.
    pub template_id: TemplateId,
    /// Its name now.
    pub name: Name,
    /// Its category now.
    pub category: Option<CategoryName>,
    /// Its label now.
    pub label: Option<String>,
    /// Its alternative text now.
    pub alternative_text: Option<String>,
    /// Its tags now.
    pub tags: Vec<String>,
    /// The id of the version.
    pub version_id: TemplateVersionId,
    /// The number of the version.
    pub version: u32,
    /// The variables that the version declares.
    pub variable_schema: Vec<VariableDefinition>,
    /// The ways out, in the order of the template.
    pub channels: Vec<SendableChannel>,
    /// How they follow each other, unless all are served at once.
    pub sequence: Option<course::Sequence>,
}

/// One way out of a send.
#[derive(Clone, Debug, PartialEq)]
pub struct SendableChannel {
    /// The content, for its channel type.
    pub content: TemplateChannel,
    /// The channel that it goes through; the app may have none of the type.
    pub instance: Option<ChannelInstance>,
    /// Whether something here can send on the type; in-app needs nothing.
    pub driven: bool,
}

/// The channel that a send goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelInstance {
    /// Its id.
    pub id: ChannelId,
    /// Whether it is switched on; one that is not is skipped.
    pub enabled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAFT: TemplateStatus = TemplateStatus::Draft;
    const APPROVED: TemplateStatus = TemplateStatus::Approved;
    const ARCHIVED: TemplateStatus = TemplateStatus::Archived;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    fn content(text: &str) -> Content {
        let channel = TemplateChannel {
            channel_type: ChannelType::Push,
            channel_id: None,
            content: serde_json::json!({ "title": text }).as_object().cloned(),
            data_type: DataType::UiTemplate,
            category_filter_enabled: false,
            template_label_enabled: false,
            message_retention_hours: 0,
            step: Step::default(),
        };
        Content {
            channels: vec![channel],
            variable_schema: Vec::new(),
        }
    }

    #[test]
    fn only_an_archived_template_cannot_be_approved() {
        for (from, to, allowed) in [
            (DRAFT, DRAFT, true),
            (DRAFT, APPROVED, true),
            (DRAFT, ARCHIVED, true),
            (APPROVED, DRAFT, true),
            (APPROVED, APPROVED, true),
            (APPROVED, ARCHIVED, true),
            (ARCHIVED, DRAFT, true),
            (ARCHIVED, APPROVED, false),
            (ARCHIVED, ARCHIVED, true),
        ] {
            assert_eq!(from.move_to(to).is_ok(), allowed, "{from:?} to {to:?}");
        }
        let refused = ARCHIVED.move_to(APPROVED).unwrap_err();
        assert_eq!(refused.reason(), Reason::InvalidState);
        let metadata = [("state", "archived".to_owned()), ("allowed", "draft".to_owned())];
        assert_eq!(refused.metadata(), metadata);
    }

    #[test]
    fn a_draft_that_nobody_has_seen_changes_in_place() {
        let first = TemplateVersion::open(1, content("a"), DRAFT, at(1));
        let edited = first.edited(content("b"), DRAFT, at(2));
        assert_eq!((edited.id, edited.number), (first.id, 1));
        assert_eq!(edited.content, content("b"));
        assert_eq!(edited.approved_at, None);
    }

    #[test]
    fn a_version_that_was_ever_approved_is_followed_by_the_next_one() {
        let first = TemplateVersion::open(1, content("a"), APPROVED, at(1));
        assert_eq!(first.approved_at, Some(at(1)));
        let draft = first.edited(content("b"), DRAFT, at(2));
        assert_eq!((draft.number, draft.approved_at), (2, None));
        assert_ne!(draft.id, first.id);
        let sent = first.edited(content("b"), APPROVED, at(2));
        assert_eq!((sent.number, sent.approved_at), (2, Some(at(2))));
    }

    #[test]
    fn a_version_that_was_used_is_followed_by_the_next_one() {
        let mut first = TemplateVersion::open(1, content("a"), DRAFT, at(1));
        first.used_at = Some(at(2));
        assert_eq!(first.edited(content("b"), DRAFT, at(3)).number, 2);
    }

    #[test]
    fn content_that_stays_the_same_opens_nothing() {
        let first = TemplateVersion::open(1, content("a"), APPROVED, at(1));
        assert_eq!(first.edited(content("a"), DRAFT, at(2)), first);
        assert_eq!(first.edited(content("a"), APPROVED, at(2)), first);
    }

    #[test]
    fn approving_marks_the_version_once() {
        let first = TemplateVersion::open(1, content("a"), DRAFT, at(1));
        let approved = first.edited(content("b"), APPROVED, at(2));
        assert_eq!((approved.number, approved.approved_at), (1, Some(at(2))));
        assert_eq!(approved.under(APPROVED, at(9)).approved_at, Some(at(2)));
    }
}
