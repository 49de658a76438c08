//! Users: the people an app writes to. What is known of a user is told by the app; whether they are there follows from
//! when they last were, and is never stored.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::id::UserId;
use super::name::Name;
use super::page::{SortField, Sortable};
use super::tag::TagMatch;
use super::version::Version;
use super::{Timestamp, Violation};

/// Free JSON of an app's own.
pub type Metadata = Map<String, Value>;

/// A user's id within an app: 1 to 100 of `a-z 0-9 _ -`. Upper-case letters are lowered before anything else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(String);

impl Uid {
    /// The most characters it may have.
    pub const CHARS_MAX: usize = 100;

    /// A uid that was checked before it was stored.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The uid as a text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Uid {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        word(text)
            .map(Self)
            .ok_or("must be 1 to 100 letters a to z, digits, underscores and hyphens")
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user's role, a word of the app's own in the form of a uid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Role(String);

impl Role {
    /// A role that was checked before it was stored.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The role as a text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Role {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        word(text)
            .map(Self)
            .ok_or("must be 1 to 100 letters a to z, digits, underscores and hyphens")
    }
}

fn word(text: &str) -> Option<String> {
    // Only ASCII is lowered: the Kelvin sign would become a `k` and one person's uid another's.
    let lower = text.to_ascii_lowercase();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    ((1..=Uid::CHARS_MAX).contains(&lower.len()) && lower.bytes().all(plain)).then_some(lower)
}

/// Whether a user is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserStatus {
    /// They read their feed within [`UserStatus::ONLINE`].
    Online,
    /// They did not.
    Offline,
}

impl UserStatus {
    /// How long after their last sign of life a user counts as online (design section 6, U-44).
    pub const ONLINE: Duration = Duration::from_secs(90);

    /// When a user has to have been there, at the earliest, to be online at `now`.
    #[must_use]
    pub fn online_since(now: Timestamp) -> Timestamp {
        now.minus(Self::ONLINE)
    }

    /// The status at `now` of a user who was last there then.
    #[must_use]
    pub fn at(now: Timestamp, last_active_at: Option<Timestamp>) -> Self {
        match last_active_at {
            Some(last) if last >= Self::online_since(now) => Self::Online,
            Some(_) | None => Self::Offline,
        }
    }
}

/// How long a sign of life is not written again, so that reading a feed is not a write (design section 6, U-44).
pub const PRESENCE_INTERVAL: Duration = Duration::from_secs(60);

/// Whether a sign of life at `now` is worth a write.
#[must_use]
pub fn presence_is_due(now: Timestamp, last_active_at: Option<Timestamp>) -> bool {
    last_active_at.is_none_or(|last| last <= now.minus(PRESENCE_INTERVAL))
}

/// What the app says about a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// What they are called.
    pub name: Name,
    /// Where their picture is.
    pub avatar: Option<String>,
    /// Where a page about them is.
    pub link: Option<String>,
    /// Their role.
    pub role: Role,
    /// What they say about themselves.
    pub status_message: Option<String>,
    /// Free JSON.
    pub metadata: Option<Metadata>,
    /// Words to sort users by.
    pub tags: Vec<String>,
}

impl Profile {
    /// Tags at most.
    pub const TAGS_MAX: usize = 25;

    /// A profile of nothing but a name.
    #[must_use]
    pub fn named(name: Name) -> Self {
        Self {
            name,
            avatar: None,
            link: None,
            role: Role::default(),
            status_message: None,
            metadata: None,
            tags: Vec::new(),
        }
    }

    /// Takes over what a patch says.
    pub fn apply(&mut self, patch: UserPatch) {
        fn set<T>(to: &mut T, from: Option<T>) {
            if let Some(value) = from {
                *to = value;
            }
        }
        set(&mut self.name, patch.name);
        set(&mut self.avatar, patch.avatar);
        set(&mut self.link, patch.link);
        set(&mut self.role, patch.role);
        set(&mut self.status_message, patch.status_message);
        set(&mut self.metadata, patch.metadata);
        set(&mut self.tags, patch.tags);
    }
}

/// One person that an app writes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// What its rows refer to.
    pub id: UserId,
    /// What everyone else knows them by; it never changes and stays taken for good.
    pub uid: Uid,
    /// What the app says about them.
    pub profile: Profile,
    /// Whether they were there when this was read.
    pub status: UserStatus,
    /// When they were last there, within a minute.
    pub last_active_at: Option<Timestamp>,
    /// When they were deactivated, while they are.
    pub deactivated_at: Option<Timestamp>,
    /// When they were created.
    pub created_at: Timestamp,
    /// When they were last changed; presence is no change.
    pub updated_at: Timestamp,
    /// The counter behind the etag.
    pub version: Version,
}

/// A user to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUser {
    /// Their uid.
    pub uid: Uid,
    /// What the app says about them.
    pub profile: Profile,
}

/// What to change of a user: what is absent stays, an inner `None` clears.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserPatch {
    /// The new name.
    pub name: Option<Name>,
    /// The new picture.
    pub avatar: Option<Option<String>>,
    /// The new page.
    pub link: Option<Option<String>>,
    /// The new role.
    pub role: Option<Role>,
    /// The new status message.
    pub status_message: Option<Option<String>>,
    /// The new metadata, as a whole.
    pub metadata: Option<Option<Metadata>>,
    /// The new tags, as a whole.
    pub tags: Option<Vec<String>>,
}

/// Which users to list by their state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserState {
    /// Those that are not deactivated.
    #[default]
    Active,
    /// Those that are.
    Deactivated,
    /// Both.
    All,
}

/// Which users to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// Only those whose uid or name begins so, without regard to case.
    pub search: Option<String>,
    /// Only those created then or later.
    pub created_from: Option<Timestamp>,
    /// Only those created then or earlier.
    pub created_to: Option<Timestamp>,
    /// Only those in this state.
    pub state: UserState,
    /// Only those with this role.
    pub role: Option<Role>,
    /// Only those who are there, or only those who are not.
    pub status: Option<UserStatus>,
    /// Only those with these tags; any user when there are none.
    pub tags: Vec<String>,
    /// Whether one of the tags is enough.
    pub tag_match: TagMatch,
}

/// What users are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserSort {
    /// Time of creation.
    CreatedAt,
    /// Time of the last change.
    UpdatedAt,
    /// Name.
    Name,
}

impl Sortable for UserSort {
    fn field(self) -> SortField {
        match self {
            Self::CreatedAt => SortField::CreatedAt,
            Self::UpdatedAt => SortField::UpdatedAt,
            Self::Name => SortField::Name,
        }
    }
}

/// A user that a call acts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActingUser {
    /// What its rows refer to.
    pub id: UserId,
    /// Their uid.
    pub uid: Uid,
    /// When they were last there.
    pub last_active_at: Option<Timestamp>,
}

/// What became of one uid that a send names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// An active user.
    Active(UserId),
    /// A user who is deactivated.
    Deactivated(UserId),
    /// Nobody: never heard of and not to be created, or deleted.
    Unknown,
}

/// What a change of many users made of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserOutcome {
    /// They were changed.
    Changed,
    /// They were so before.
    Unchanged,
    /// There is no such user, or they were deleted.
    NotFound,
}

/// What a change of many users made of one uid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserResult {
    /// The uid.
    pub uid: Uid,
    /// What became of them.
    pub outcome: UserOutcome,
}

/// The uid that a field holds, or the violation of its rule.
///
/// # Errors
/// The field with the rule and the text received.
pub fn uid_in(field: &str, text: &str) -> Result<Uid, Violation> {
    text.parse()
        .map_err(|rule: &str| Violation::new(field, rule).received(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    #[test]
    fn a_uid_is_lowered_and_then_checked() {
        assert_eq!("Ada_1-x".parse::<Uid>().unwrap().as_str(), "ada_1-x");
        assert!("a".repeat(100).parse::<Uid>().is_ok());
        // The last is the Kelvin sign, whose lower case is an ordinary k.
        for bad in ["", "a b", "a.b", "é", "a/b", &"a".repeat(101), "\u{212a}"] {
            assert!(bad.parse::<Uid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_user_is_online_for_ninety_seconds() {
        let last = Some(at(1_000_000));
        assert_eq!(UserStatus::at(at(1_000_000), last), UserStatus::Online);
        assert_eq!(UserStatus::at(at(1_090_000), last), UserStatus::Online);
        assert_eq!(UserStatus::at(at(1_090_001), last), UserStatus::Offline);
        assert_eq!(UserStatus::at(at(1_000_000), None), UserStatus::Offline);
    }

    #[test]
    fn presence_is_written_at_most_once_a_minute() {
        let last = Some(at(1_000_000));
        assert!(presence_is_due(at(1_000_000), None));
        assert!(!presence_is_due(at(1_059_999), last));
        assert!(presence_is_due(at(1_060_000), last));
    }

    #[test]
    fn a_patch_keeps_what_it_does_not_name_and_clears_what_it_names_empty() {
        let mut profile = Profile::named("Ada".parse().unwrap());
        profile.avatar = Some("https://example.com/ada.png".to_owned());
        profile.link = Some("https://example.com/ada".to_owned());
        profile.tags = vec!["vip".to_owned()];
        profile.apply(UserPatch {
            avatar: Some(None),
            tags: Some(Vec::new()),
            ..UserPatch::default()
        });
        assert_eq!(profile.avatar, None);
        assert_eq!(profile.link.as_deref(), Some("https://example.com/ada"));
        assert!(profile.tags.is_empty());
        assert_eq!(profile.name.as_str(), "Ada");
    }
}
