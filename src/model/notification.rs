//! Notifications: one send of one template, who receives it, and what a page of it is planned to do. It decides from what
//! it is given and never looks anything up.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::channel::ChannelType;
use super::delivery::{Delivery, DeliveryReason, DeliveryStatus, Reached, Verdict};
use super::id::{CategoryId, DeliveryId, FeedItemId, TemplateId, TemplateVersionId};
use super::name::Name;
use super::template::content::Compiled;
use super::template::course::FIRST_STEP;
use super::template::{DataType, Sendable, SendableChannel, TemplateChannel};
use super::user::{self, Uid};
use super::variable::{self, VariableDefinition, VariableValues};
use super::word::words;
use super::{Error, Reason, Result, Timestamp, Violation, Violations};

mod receiver;
mod sent;
pub mod step;

pub use receiver::{Receiver, ReceiverSort, ReceiverStatus};
pub use sent::{Notification, NotificationStatus, Progress, Sent};

mod fault;

use fault::Layers;

/// The most receivers of a send that is done when it answers, named twice or not.
pub const REALTIME_RECEIVERS_MAX: usize = 10;

/// The most receivers of any send, named twice or not.
pub const RECEIVERS_MAX: usize = 10_000;

/// The most receivers that are shown with their notification; those of a larger one are a list of their own.
pub const RECEIVERS_SHOWN_MAX: u32 = 100;

/// How a notification is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendMode {
    /// All of it before the answer.
    Realtime,
    /// Accepted before the answer, done after it.
    Batch,
    /// By a campaign, done after it was started.
    Campaign,
    /// One that a later build knows.
    Unknown(i16),
}

words!(SendMode {
    Realtime = 1 "realtime",
    Batch = 2 "batch",
    Campaign = 3 "campaign",
});

impl SendMode {
    /// The mode of a send to so many receivers, counted before any is found to be named twice.
    ///
    /// # Errors
    /// Invalid mode for a word that is not offered, target limit exceeded for more receivers than the mode takes.
    pub fn choose(asked: Option<&str>, received: usize) -> Result<Self> {
        let (mode, limit) = match asked {
            None if received > REALTIME_RECEIVERS_MAX => (Self::Batch, RECEIVERS_MAX),
            None | Some("realtime") => (Self::Realtime, REALTIME_RECEIVERS_MAX),
            Some("batch") => (Self::Batch, RECEIVERS_MAX),
            Some(word) => {
                let message = format!("mode must be realtime or batch, received {word:?}");
                return Err(Error::new(Reason::InvalidMode, message).with("mode", word));
            }
        };
        if received > limit {
            let message = format!("receivers must not hold more than {limit} uids in mode {mode}, received {received}");
            return Err(Error::new(Reason::TargetLimitExceeded, message)
                .with("limit", limit)
                .with("received", received));
        }
        Ok(mode)
    }
}

/// What a send asks for, as it was received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendRequest {
    /// The template, by id or slug.
    pub template: String,
    /// The version, instead of the current one.
    pub version: Option<u32>,
    /// Whom to send to.
    pub receivers: Vec<String>,
    /// The values of one receiver, by uid.
    pub variables: BTreeMap<String, VariableValues>,
    /// The values of every receiver that has none of its own.
    pub defaults: VariableValues,
    /// How to send.
    pub mode: Option<String>,
    /// The sender's own mark.
    pub tag: Option<String>,
}

/// A send that holds together in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSend {
    /// The template, by id or slug.
    pub template: String,
    /// The version, instead of the current one.
    pub version: Option<u32>,
    /// Whom to send to, each once, in the order in which they were first named.
    pub receivers: Vec<Uid>,
    /// How often a receiver was named again.
    pub duplicate_count: u32,
    /// The values of one receiver; only of receivers.
    pub own: BTreeMap<Uid, VariableValues>,
    /// The values of every receiver that has none of its own.
    pub defaults: VariableValues,
    /// How to send.
    pub mode: SendMode,
    /// The sender's own mark.
    pub tag: Option<String>,
}

impl NewSend {
    /// Checks what can be known without the template.
    ///
    /// # Errors
    /// As [`SendMode::choose`]; otherwise invalid, with every violation.
    pub fn check(request: SendRequest) -> Result<Self> {
        let received = request.receivers.len();
        let mode = SendMode::choose(request.mode.as_deref(), received)?;
        let mut violations = Violations::default();
        if received == 0 {
            violations.push(Violation::new("receivers", "must hold at least 1 uid"));
        }
        let receivers = distinct(&request.receivers, &mut violations);
        let own = own_values(request.variables, &receivers, &mut violations);
        check_values("defaults", &request.defaults, &mut violations);
        violations.into_result(Reason::BadRequest)?;
        let duplicates = received.saturating_sub(receivers.len());
        Ok(Self {
            template: request.template,
            version: request.version,
            receivers,
            duplicate_count: u32::try_from(duplicates).unwrap_or(u32::MAX),
            own,
            defaults: request.defaults,
            mode,
            tag: request.tag,
        })
    }
}

fn distinct(named: &[String], violations: &mut Violations) -> Vec<Uid> {
    let mut seen = BTreeSet::new();
    let mut receivers = Vec::new();
    for (index, text) in named.iter().enumerate() {
        match user::uid_in(&format!("receivers[{index}]"), text) {
            Ok(uid) if seen.insert(uid.clone()) => receivers.push(uid),
            Ok(_) => {}
            Err(violation) => violations.push(violation),
        }
    }
    receivers
}

fn own_values(
    named: BTreeMap<String, VariableValues>,
    receivers: &[Uid],
    violations: &mut Violations,
) -> BTreeMap<Uid, VariableValues> {
    let receivers: BTreeSet<&Uid> = receivers.iter().collect();
    let mut own = BTreeMap::new();
    for (text, values) in named {
        let path = format!("variables.{text}");
        check_values(&path, &values, violations);
        match user::uid_in(&path, &text) {
            Err(violation) => violations.push(violation),
            Ok(uid) if !receivers.contains(&uid) => {
                violations.push(Violation::new(path, "must be for one of the receivers"));
            }
            Ok(uid) if own.contains_key(&uid) => {
                violations.push(Violation::new(
                    path,
                    "must not name a user twice in different letter case",
                ));
            }
            Ok(uid) => {
                own.insert(uid, values);
            }
        }
    }
    own
}

fn check_values(path: &str, values: &VariableValues, violations: &mut Violations) {
    let checked = values.iter().map(|(key, value)| value.check(&format!("{path}.{key}")));
    checked.flatten().for_each(|violation| violations.push(violation));
}

/// What becomes of an active user's delivery on a way out of a template.
#[must_use]
pub fn verdict(way: &SendableChannel) -> Verdict {
    match (way.instance, way.content.channel_type) {
        (Some(instance), _) if !instance.enabled => Verdict::suppressed(DeliveryReason::CHANNEL_DISABLED),
        (Some(_), ChannelType::InApp) => Verdict::ACCEPTED,
        (None, ChannelType::InApp) => Verdict::suppressed(DeliveryReason::CHANNEL_MISSING),
        (Some(_), _) if way.driven => Verdict::QUEUED,
        (None, _) if way.driven => Verdict::suppressed(DeliveryReason::CHANNEL_MISSING),
        (
            _,
            ChannelType::Push
            | ChannelType::Sms
            | ChannelType::Email
            | ChannelType::Whatsapp
            | ChannelType::Custom
            | ChannelType::Unknown(_),
        ) => Verdict::failed(DeliveryReason::PROVIDER_NOT_CONFIGURED),
    }
}

/// Checks that at least one way out of a template is open.
///
/// # Errors
/// Invalid state, when every one is suppressed.
pub fn check_ways(ways: &[SendableChannel]) -> Result<()> {
    let verdicts: Vec<_> = ways.iter().map(verdict).collect();
    let is_open = |verdict: &Verdict| verdict.status != DeliveryStatus::Suppressed;
    if verdicts.iter().any(is_open) {
        return Ok(());
    }
    let why = verdicts.iter().zip(ways).filter_map(|(verdict, way)| {
        let reason = verdict.reason.as_ref()?;
        Some(format!("{} {reason}", way.content.channel_type))
    });
    let why = why.collect::<Vec<_>>().join(", ");
    let message = format!("none of the template's channels can be used: {why}; enable one");
    Err(Error::new(Reason::InvalidState, message)
        .with("state", why)
        .with("allowed", "a channel that is enabled"))
}

/// The values of each receiver, in the order of the receivers: their own, else the send's, else the template's.
///
/// # Errors
/// As [`check_receivers`].
pub fn settle(send: &NewSend, template: &Sendable, content: &Compiled) -> Result<Vec<VariableValues>> {
    check_receivers(send, template, content)?;
    let none = VariableValues::new();
    let own = send.receivers.iter().map(|uid| send.own.get(uid).unwrap_or(&none));
    Ok(own
        .map(|own| values_of(own, &send.defaults, &template.variable_schema, content))
        .collect())
}

/// Checks what every receiver of a send would be shown. Receivers without values of their own are all shown the same, so
/// for them it is looked at once.
///
/// # Errors
/// Invalid variables, with every required one that a receiver lacks, every value of another type than the template
/// declares, and everything that values break in the content.
pub fn check_receivers(send: &NewSend, template: &Sendable, content: &Compiled) -> Result<()> {
    const ANYBODY: &str = "variables.*";
    let faults = |path: &str, own: &VariableValues| {
        let defaults = &send.defaults;
        fault::of(Layers { path, own, defaults }, &template.variable_schema, content)
    };
    let common = faults(ANYBODY, &VariableValues::new());
    let mut violations = Violations::default();
    // What is wrong with the send's own values is the same for everybody, and said once.
    let mut said = HashSet::new();
    for uid in &send.receivers {
        let path = format!("variables.{uid}");
        let of_own = send.own.get(uid).map(|own| faults(&path, own));
        for found in of_own.as_ref().unwrap_or(&common) {
            let mut violation = found.clone();
            if let Some(rest) = found.field.strip_prefix(ANYBODY) {
                violation.field = format!("{path}{rest}");
            }
            let of_receiver = violation.field.starts_with(&path);
            if of_receiver || said.insert((violation.field.clone(), violation.rule.clone())) {
                violations.push(violation);
            }
        }
    }
    violations.into_result(Reason::InvalidVariables)
}

/// What is wrong with the variables of one recipient of a campaign, whose own values stand under `variables` and the
/// campaign's under `campaign.variables`.
#[must_use]
pub fn faults_of(
    own: &VariableValues,
    defaults: &VariableValues,
    schema: &[VariableDefinition],
    content: &Compiled,
) -> Vec<Violation> {
    let path = "variables";
    let mut faults = fault::of(Layers { path, own, defaults }, schema, content);
    for fault in &mut faults {
        if let Some(key) = fault.field.strip_prefix("defaults.") {
            fault.field = format!("campaign.variables.{key}");
        }
    }
    faults
}

/// What one receiver's content is rendered with. What the in-app card does not show is no part of it.
#[must_use]
pub fn values_of(
    own: &VariableValues,
    defaults: &VariableValues,
    schema: &[VariableDefinition],
    content: &Compiled,
) -> VariableValues {
    let mut values = variable::resolve(schema, &[own, defaults]).to_values();
    values.retain(|key, _| content.in_app().is_none_or(|card| card.uses(key)));
    values
}

/// Whether a recipient is served at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientOutcome {
    /// There are deliveries, and they tell.
    Planned,
    /// No such user exists, and none may be created.
    UnknownUser,
    /// The user is deactivated.
    UserDeactivated,
    /// What was planned could not be written down, however often it was tried.
    Failed,
    /// The variables are missing, of the wrong type, or break the content.
    InvalidVariables,
    /// One that a later build knows.
    Unknown(i16),
}

words!(RecipientOutcome {
    Planned = 1 "planned",
    UnknownUser = 2 "unknown_user",
    UserDeactivated = 3 "user_deactivated",
    Failed = 4 "failed",
    InvalidVariables = 5 "invalid_variables",
});

impl RecipientOutcome {
    /// What becomes of a recipient that was found to be this.
    #[must_use]
    pub const fn of(user: user::Resolved) -> Self {
        match user {
            user::Resolved::Active(_) => Self::Planned,
            user::Resolved::Deactivated(_) => Self::UserDeactivated,
            user::Resolved::Unknown => Self::UnknownUser,
        }
    }

    /// The deliveries of a recipient that is not served: one for each channel type. The ledger has no lines for them,
    /// because all of them would say the same.
    #[must_use]
    pub fn unserved(self, channels: &[ChannelType]) -> Option<Vec<Delivery>> {
        let verdict = match self {
            // What a later build made of them is in the ledger, if anywhere.
            Self::Planned | Self::Unknown(_) => return None,
            Self::UnknownUser => Verdict::suppressed(DeliveryReason::UNKNOWN_USER),
            Self::UserDeactivated => Verdict::suppressed(DeliveryReason::USER_DEACTIVATED),
            Self::Failed => Verdict::failed(DeliveryReason::INTERNAL_ERROR),
            Self::InvalidVariables => Verdict::failed(DeliveryReason::INVALID_VARIABLES),
        };
        let delivery = |channel_type: &ChannelType| Delivery {
            channel_type: *channel_type,
            channel_id: None,
            verdict: verdict.clone(),
            feed_item_id: None,
            attempts: None,
            created_at: None,
            updated_at: None,
        };
        Some(channels.iter().map(delivery).collect())
    }
}

/// One recipient of a page and what is to become of them.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedRecipient {
    /// Their number within the notification, dense from 1.
    pub seq: i64,
    /// Their uid.
    pub uid: Uid,
    /// Who they are.
    pub user: user::Resolved,
    /// Whether they are served at all.
    pub outcome: RecipientOutcome,
    /// What their content is rendered with.
    pub values: VariableValues,
    /// What became of the lines that earlier steps wrote for them.
    pub before: Vec<Verdict>,
    /// Their new lines of the ledger; none when they are not served.
    pub lines: Vec<PlannedLine>,
}

/// One line of the ledger to write.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedLine {
    /// Its id. The feed item of an in-app line has the same sixteen bytes, so neither needs an index to find the other.
    pub id: DeliveryId,
    /// The step that it is of.
    pub step: i32,
    /// What becomes of it.
    pub delivery: Delivery,
}

/// Plans what a page of the first step does for each of its recipients, numbered from `first_seq`.
#[must_use]
pub fn plan(
    recipients: Vec<(Uid, user::Resolved, VariableValues)>,
    ways: &[SendableChannel],
    first_seq: i64,
    now: Timestamp,
) -> Vec<PlannedRecipient> {
    let verdicts: Vec<_> = ways.iter().map(verdict).collect();
    let lines = || {
        let each = ways.iter().zip(&verdicts);
        each.map(|(way, verdict)| line(way, FIRST_STEP, verdict, now)).collect()
    };
    recipients
        .into_iter()
        .zip(first_seq..)
        .map(|((uid, user, values), seq)| {
            let outcome = RecipientOutcome::of(user);
            let served = outcome == RecipientOutcome::Planned;
            PlannedRecipient {
                seq,
                uid,
                user,
                outcome,
                values,
                before: Vec::new(),
                lines: if served { lines() } else { Vec::new() },
            }
        })
        .collect()
}

fn line(way: &SendableChannel, step: i32, verdict: &Verdict, now: Timestamp) -> PlannedLine {
    let id = DeliveryId::new(now);
    let in_feed = way.content.channel_type == ChannelType::InApp && *verdict == Verdict::ACCEPTED;
    PlannedLine {
        id,
        step,
        delivery: Delivery {
            channel_type: way.content.channel_type,
            channel_id: way.instance.map(|instance| instance.id),
            verdict: verdict.clone(),
            feed_item_id: in_feed.then(|| FeedItemId::from(id.uuid())),
            attempts: (*verdict == Verdict::QUEUED).then_some(0),
            created_at: Some(now),
            updated_at: Some(now),
        },
    }
}

impl PlannedRecipient {
    /// The recipient as answers show them, when `last` is the last step of the send.
    #[must_use]
    pub fn receiver(&self, channels: &[ChannelType], last: i32) -> Receiver {
        let planned = || self.lines.iter().map(|line| line.delivery.clone()).collect();
        Receiver {
            uid: self.uid.clone(),
            position: u32::try_from(self.seq).unwrap_or(u32::MAX),
            cancelled: false,
            waiting: self.goes_on(last) || self.is_queued(),
            deliveries: self.outcome.unserved(channels).unwrap_or_else(planned),
        }
    }

    /// The recipient as one who is not served after all, because their variables are at fault.
    pub fn refuse(&mut self) {
        self.outcome = RecipientOutcome::InvalidVariables;
        self.lines.clear();
    }

    /// What becomes of the recipient as a whole.
    #[must_use]
    pub fn reached(&self) -> Reached {
        match self.outcome {
            RecipientOutcome::InvalidVariables | RecipientOutcome::Failed => Reached::Failed,
            RecipientOutcome::Planned
            | RecipientOutcome::UnknownUser
            | RecipientOutcome::UserDeactivated
            | RecipientOutcome::Unknown(_) => Reached::of(self.lines.iter().map(|line| &line.delivery.verdict)),
        }
    }
}

/// What a notification says about its template, copied when it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The template.
    pub template_id: TemplateId,
    /// Its name.
    pub template_name: Name,
    /// The version, by id.
    pub version_id: TemplateVersionId,
    /// The version, by number.
    pub version: u32,
    /// The category, by id.
    pub category_id: Option<CategoryId>,
    /// The category, by name.
    pub category_name: Option<Name>,
    /// The label.
    pub label: Option<String>,
    /// The alternative text.
    pub alternative_text: Option<String>,
    /// The tags.
    pub tags: Vec<String>,
}

impl Copied {
    /// The version with its template and number.
    #[must_use]
    pub const fn version_ref(&self) -> (TemplateId, TemplateVersionId, u32) {
        (self.template_id, self.version_id, self.version)
    }
}

impl From<&Sendable> for Copied {
    fn from(template: &Sendable) -> Self {
        let category = template.category.as_ref();
        Self {
            template_id: template.template_id,
            template_name: template.name.clone(),
            version_id: template.version_id,
            version: template.version,
            category_id: category.map(|category| category.id),
            category_name: category.map(|category| category.name.clone()),
            label: template.label.clone(),
            alternative_text: template.alternative_text.clone(),
            tags: template.tags.clone(),
        }
    }
}

/// The in-app content of a template, if it has any.
#[must_use]
pub fn in_app(ways: &[SendableChannel]) -> Option<&TemplateChannel> {
    let mut contents = ways.iter().map(|way| &way.content);
    contents.find(|content| content.channel_type == ChannelType::InApp)
}

/// What the content of a send is: that of the feed, else that of the first channel.
#[must_use]
pub fn data_type(ways: &[SendableChannel]) -> DataType {
    let first = ways.first().map(|way| &way.content);
    in_app(ways)
        .or(first)
        .map_or_else(DataType::default, |content| content.data_type)
}

#[cfg(test)]
#[path = "notification/tests.rs"]
mod tests;
