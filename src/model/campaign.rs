//! Campaigns: one template sent to one audience, and how its status moves. Nothing here knows how an audience is stored or
//! a page is done.

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::channel::{ChannelType, JsonObject};
use super::delivery::Counts;
use super::id::{CampaignId, NotificationId, TemplateId, TemplateVersionId};
use super::name::Name;
use super::page::{SortField, Sortable};
use super::template::content::Compiled;
use super::variable::{self, VariableDefinition, VariableValues};
use super::version::Version;
use super::word::words;
use super::{Error, Reason, Result, Timestamp, Violation, Violations};

pub mod preflight;
pub mod recipient;
pub mod schedule;
pub mod sequence;

use recipient::Summary;

/// The most users that one call adds to an audience.
pub const ADDED_MAX: usize = 10_000;

/// The member of free JSON in which the variables of a campaign may stand, too.
const VARIABLES_IN_CONFIG: &str = "variables";

/// How far a campaign has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CampaignStatus {
    /// It is being prepared.
    #[default]
    Draft,
    /// It waits for its time.
    Scheduled,
    /// Its recipients are being dealt with.
    Sending,
    /// It is held.
    Paused,
    /// Every recipient was reached.
    Completed,
    /// Some recipients were reached and some were not.
    PartiallyFailed,
    /// No recipient was reached, or it could not be sent at its time.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// One that a later build knows.
    Unknown(i16),
}

words!(CampaignStatus {
    Draft = 1 "draft",
    Scheduled = 2 "scheduled",
    Sending = 3 "sending",
    Paused = 4 "paused",
    Completed = 5 "completed",
    PartiallyFailed = 6 "partially_failed",
    Failed = 7 "failed",
    Cancelled = 8 "cancelled",
});

impl CampaignStatus {
    /// Whether nothing changes any more, as far as this build can tell.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Draft | Self::Scheduled | Self::Sending | Self::Paused | Self::Unknown(_) => false,
            Self::Completed | Self::PartiallyFailed | Self::Failed | Self::Cancelled => true,
        }
    }

    /// Lets something pass that is only for campaigns of these statuses. `what` completes "a campaign that is draft cannot
    /// be …".
    ///
    /// # Errors
    /// Invalid state, with the status and those that are allowed.
    pub fn check(self, what: &str, allowed: &[Self]) -> Result<()> {
        if allowed.contains(&self) {
            return Ok(());
        }
        let allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        let allowed = allowed.join(", ");
        let message = format!("a campaign that is {self} cannot be {what}, only one that is {allowed}");
        Err(Error::new(Reason::InvalidState, message)
            .with("state", self)
            .with("allowed", allowed))
    }

    /// What a campaign comes to whose every recipient was dealt with.
    #[must_use]
    pub const fn of(counts: Counts) -> Self {
        match (counts.sent, counts.failed.saturating_add(counts.skipped)) {
            (_, 0) => Self::Completed,
            (0, _) => Self::Failed,
            (_, _) => Self::PartiallyFailed,
        }
    }
}

/// One template sent to one audience.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    /// Its id.
    pub id: CampaignId,
    /// What people call it.
    pub name: Name,
    /// The template.
    pub template_id: TemplateId,
    /// The version, by id.
    pub version_id: TemplateVersionId,
    /// The version, by number.
    pub template_version: u32,
    /// The channel types of the version.
    pub channels: Vec<ChannelType>,
    /// The values of every recipient that has none of its own.
    pub variables: VariableValues,
    /// Free JSON of the app's own.
    pub config: Option<JsonObject>,
    /// The sender's own mark.
    pub tag: Option<String>,
    /// The most recipients to deal with in a second.
    pub rate_per_second: Option<u32>,
    /// How far it has come.
    pub status: CampaignStatus,
    /// What it sends; the audience is numbered under it from the beginning.
    pub notification_id: NotificationId,
    /// The recipients; they are numbered from 1 to this.
    pub recipient_count: u32,
    /// How often a recipient was added again.
    pub duplicate_count: u32,
    /// When it is to be sent, or was to be.
    pub scheduled_at: Option<Timestamp>,
    /// The time zone that this was said in.
    pub time_zone: Option<String>,
    /// When it was found that its time had passed too long ago.
    pub misfired_at: Option<Timestamp>,
    /// When it was started.
    pub sent_at: Option<Timestamp>,
    /// When it came to its end.
    pub completed_at: Option<Timestamp>,
    /// Why it could not be sent at its time: the word of an error.
    pub failure: Option<String>,
    /// What it came to: reached and not reached. Absent until it is final.
    pub result: Option<(u32, u32)>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The counter behind its etag.
    pub version: Version,
}

/// A campaign as callers see it: with its template, and with its audience counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignView {
    /// The campaign.
    pub campaign: Campaign,
    /// The name of the template, as it is now.
    pub template_name: String,
    /// The slug of the template.
    pub template_slug: String,
    /// The audience by what became of it.
    pub summary: Summary,
}

/// A campaign to create.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCampaign {
    /// What people call it.
    pub name: Name,
    /// The template, by id or slug.
    pub template: String,
    /// The version, instead of the current one.
    pub version: Option<u32>,
    /// The values of every recipient that has none of its own.
    pub variables: Option<VariableValues>,
    /// Free JSON of the app's own.
    pub config: Option<JsonObject>,
    /// The sender's own mark.
    pub tag: Option<String>,
    /// The most recipients to deal with in a second.
    pub rate_per_second: Option<u32>,
}

/// What to change about a campaign: what is absent stays, an inner `None` clears.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CampaignPatch {
    /// A new name.
    pub name: Option<Name>,
    /// The template as it was sent back, which cannot change.
    pub template: Option<String>,
    /// The version as it was sent back, which cannot change.
    pub template_version: Option<Option<u32>>,
    /// New values of variables, or none.
    pub variables: Option<Option<VariableValues>>,
    /// New free JSON, or none.
    pub config: Option<Option<JsonObject>>,
    /// A new mark, or none.
    pub tag: Option<Option<String>>,
    /// A new limit, or none.
    pub rate_per_second: Option<Option<u32>>,
}

impl CampaignPatch {
    /// Refuses to change what stays as it was created.
    ///
    /// # Errors
    /// Invalid, with every field that is not as it is.
    pub fn check_fixed(&self, campaign: &Campaign, template_slug: &str) -> Result<()> {
        let mut violations = Vec::new();
        if let Some(template) = &self.template
            && *template != campaign.template_id.to_string()
            && template != template_slug
        {
            let rule = format!("cannot be changed: must be \"{}\" or left out", campaign.template_id);
            violations.push(Violation::new("templateId", rule).received(template));
        }
        if let Some(Some(version)) = self.template_version
            && version != campaign.template_version
        {
            let rule = format!("cannot be changed: must be {} or left out", campaign.template_version);
            violations.push(Violation::new("templateVersion", rule).received(version));
        }
        if violations.is_empty() {
            Ok(())
        } else {
            Err(Error::invalid(violations))
        }
    }
}

/// The values of a campaign's variables: those that were given, else those that stand in its free JSON.
///
/// # Errors
/// Invalid, when what stands there is no object of values.
pub fn variables_of(given: Option<VariableValues>, config: Option<&JsonObject>) -> Result<VariableValues> {
    if let Some(given) = given.filter(|given| !given.is_empty()) {
        return Ok(given);
    }
    let Some(member) = config.and_then(|config| config.get(VARIABLES_IN_CONFIG)) else {
        return Ok(VariableValues::new());
    };
    serde_json::from_value(member.clone()).map_err(|_fault| {
        let rule = "must be an object of variables, each a text, an image or an action";
        Error::invalid(vec![Violation::new("config.variables", rule).received(member)])
    })
}

/// Checks the values of a campaign against the template. What is missing is not looked at, because recipients may have it.
///
/// # Errors
/// Invalid for a value that is wrong wherever it is put; invalid variables for one of another type than the template
/// declares, and for one that a template which declares some neither declares nor uses.
pub fn check_variables(values: &VariableValues, schema: &[VariableDefinition], content: &Compiled) -> Result<()> {
    let mut violations = Violations::default();
    let wrong = values
        .iter()
        .filter_map(|(key, value)| value.check(&format!("variables.{key}")));
    wrong.for_each(|violation| violations.push(violation));
    violations.into_result(Reason::BadRequest)?;
    let mut violations = Violations::default();
    for wrong in variable::mistyped(schema, values) {
        let violation = Violation::new(format!("variables.{}", wrong.key), wrong.rule());
        violations.push(violation.received(wrong.received));
    }
    for key in unknown(values, schema, content) {
        let known: Vec<_> = schema.iter().map(|definition| definition.key.as_str()).collect();
        let rule = format!(
            "is neither declared nor used by the template: remove it, or name one that is declared, {}",
            known.join(", ")
        );
        violations.push(Violation::new(format!("variables.{key}"), rule));
    }
    violations.into_result(Reason::InvalidVariables)
}

/// Keys that nothing knows: probably somebody mistyped one. A template that declares none takes any, because whoever shows
/// the feed may use them.
fn unknown<'v>(values: &'v VariableValues, schema: &[VariableDefinition], content: &Compiled) -> Vec<&'v str> {
    let (used, declares) = (content.keys(), !schema.is_empty());
    let is_known = |key: &str| used.contains(key) || schema.iter().any(|definition| definition.key == key);
    let keys = values.keys().map(String::as_str);
    keys.filter(|key| declares && !is_known(key)).collect()
}

impl Campaign {
    /// The version with its template and number.
    #[must_use]
    pub const fn version_ref(&self) -> (TemplateId, TemplateVersionId, u32) {
        (self.template_id, self.version_id, self.template_version)
    }

    /// What names the campaign and its audience as they stand: it changes when either does.
    #[must_use]
    pub fn plan_token(&self) -> String {
        let text = format!("{} {} {}", self.id, self.version, self.recipient_count);
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        let short = digest.as_ref().get(..15).unwrap_or_default();
        format!("plan-{}", data_encoding::BASE32HEX_NOPAD.encode(short).to_lowercase())
    }

    /// Lets a send pass that means the campaign as it stands, or no plan in particular.
    ///
    /// # Errors
    /// Precondition failed, when it has changed since.
    pub fn check_plan(&self, token: Option<&str>) -> Result<()> {
        let current = self.plan_token();
        match token {
            Some(received) if received != current => {
                let message = "the campaign or its audience has changed since that preflight: make a new one";
                Err(Error::new(Reason::PreconditionFailed, message)
                    .with("planToken", current)
                    .with("received", received))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Makes a draft of it.
    pub fn unschedule(&mut self) {
        self.status = CampaignStatus::Draft;
        self.scheduled_at = None;
        self.time_zone = None;
        self.misfired_at = None;
    }
}

/// The name of a copy: cut so that it fits.
#[must_use]
pub fn name_of_copy(name: &Name) -> Name {
    const MARK: &str = " (copy)";
    let room = Name::CHARS_MAX.saturating_sub(MARK.len());
    let kept: String = name.as_str().chars().take(room).collect();
    Name::stored(format!("{kept}{MARK}"))
}

/// Which campaigns a list is to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CampaignFilter {
    /// A part of the name, without regard to case.
    pub search: Option<String>,
    /// The status.
    pub status: Option<CampaignStatus>,
    /// The sender's own mark.
    pub tag: Option<String>,
    /// The template, by id or slug.
    pub template: Option<String>,
}

/// The fields that campaigns are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CampaignSort {
    /// Time of creation.
    CreatedAt,
    /// Time of the last change.
    UpdatedAt,
    /// Name.
    Name,
}

impl Sortable for CampaignSort {
    fn field(self) -> SortField {
        match self {
            Self::CreatedAt => SortField::CreatedAt,
            Self::UpdatedAt => SortField::UpdatedAt,
            Self::Name => SortField::Name,
        }
    }
}

/// How far a campaign has come, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CampaignProgress {
    /// The status.
    pub status: CampaignStatus,
    /// The audience by what became of it.
    pub summary: Summary,
    /// When it came to its end.
    pub completed_at: Option<Timestamp>,
}

/// That a campaign is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedCampaign {
    /// The campaign.
    pub id: CampaignId,
    /// When it went.
    pub deleted_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_is_what_its_recipients_came_to() {
        let counts = |sent, failed, skipped| Counts { sent, failed, skipped };
        assert_eq!(CampaignStatus::of(counts(3, 0, 0)), CampaignStatus::Completed);
        assert_eq!(CampaignStatus::of(counts(3, 1, 0)), CampaignStatus::PartiallyFailed);
        assert_eq!(CampaignStatus::of(counts(3, 0, 1)), CampaignStatus::PartiallyFailed);
        assert_eq!(CampaignStatus::of(counts(0, 1, 2)), CampaignStatus::Failed);
        assert_eq!(CampaignStatus::of(counts(0, 0, 2)), CampaignStatus::Failed);
    }

    #[test]
    fn a_refusal_names_the_status_and_those_that_are_allowed() {
        let allowed = [CampaignStatus::Draft, CampaignStatus::Scheduled];
        let error = CampaignStatus::Sending.check("sent", &allowed).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidState);
        let metadata: Vec<_> = error
            .metadata()
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        assert_eq!(metadata, [("state", "sending"), ("allowed", "draft, scheduled")]);
        assert!(CampaignStatus::Draft.check("sent", &allowed).is_ok());
    }

    #[test]
    fn variables_stand_beside_the_free_json_or_in_it() {
        let config: JsonObject = serde_json::from_str(r#"{"variables": {"city": "Rome"}}"#).unwrap();
        let given: VariableValues = serde_json::from_str(r#"{"city": "Pisa"}"#).unwrap();
        assert_eq!(variables_of(Some(given.clone()), Some(&config)).unwrap(), given);
        let found = variables_of(None, Some(&config)).unwrap();
        assert_eq!(found.get("city").and_then(|value| value.as_text()), Some("Rome"));
        let wrong: JsonObject = serde_json::from_str(r#"{"variables": ["Rome"]}"#).unwrap();
        let error = variables_of(None, Some(&wrong)).unwrap_err();
        assert_eq!(error.violations()[0].field, "config.variables");
    }

    #[test]
    fn the_name_of_a_copy_fits() {
        let long = Name::stored("ä".repeat(100));
        assert_eq!(name_of_copy(&long).as_str().chars().count(), 100);
        assert_eq!(name_of_copy(&Name::stored("Sale".to_owned())).as_str(), "Sale (copy)");
    }
}
