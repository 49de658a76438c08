//! Recipients of campaigns: how an audience is counted, and what became of one of them. Nothing here knows where they stand.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{ADDED_MAX, CampaignStatus};
use crate::model::channel::ChannelType;
use crate::model::delivery::{Delivery, DeliveryStatus};
use crate::model::user::{self, Uid};
use crate::model::variable::VariableValues;
use crate::model::{Reason, Result, Timestamp, Violation, Violations};

/// An audience by what became of it. The parts make the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// All.
    pub total: u32,
    /// Those that wait.
    pub pending: u32,
    /// Those on a page that a worker has begun with.
    pub processing: u32,
    /// Those with an accepted delivery.
    pub completed: u32,
    /// Those with none.
    pub failed: u32,
    /// Those that were not reached before the end.
    pub cancelled: u32,
}

impl Summary {
    /// An audience of which so many were reached, were not reached, and are being worked on. Whoever is left waits, unless
    /// there is nothing to wait for.
    #[must_use]
    pub fn new(status: CampaignStatus, total: u32, (completed, failed): (u32, u32), processing: u32) -> Self {
        let left = total.saturating_sub(completed).saturating_sub(failed);
        let over = status.is_final();
        let processing = if over { 0 } else { processing.min(left) };
        Self {
            total,
            pending: if over { 0 } else { left.saturating_sub(processing) },
            processing,
            completed,
            failed,
            cancelled: if over { left } else { 0 },
        }
    }

    /// Those that were dealt with.
    #[must_use]
    pub const fn settled(&self) -> u32 {
        self.completed.saturating_add(self.failed)
    }
}

/// What became of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecipientStatus {
    /// They wait.
    Pending,
    /// A worker has begun with their page.
    Processing,
    /// At least one delivery was accepted.
    Completed,
    /// None was.
    Failed,
    /// They were not reached before the end.
    Cancelled,
}

/// Where a recipient's page stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nobody has begun with it.
    Waiting,
    /// A worker has begun with it.
    Begun,
    /// It has come to the recipient, to whom something more is to come: a step of a sequence, or what a driver has not
    /// taken.
    Later,
    /// It has come to the recipient.
    Over,
}

impl RecipientStatus {
    /// What became of a recipient with these deliveries, of a campaign with this status.
    #[must_use]
    pub fn of(campaign: CampaignStatus, turn: Turn, deliveries: &[Delivery]) -> Self {
        match turn {
            Turn::Over | Turn::Later if is_reached(deliveries) => Self::Completed,
            Turn::Over => Self::Failed,
            Turn::Waiting | Turn::Begun | Turn::Later if campaign.is_final() => Self::Cancelled,
            Turn::Begun | Turn::Later => Self::Processing,
            Turn::Waiting => Self::Pending,
        }
    }
}

fn is_reached(deliveries: &[Delivery]) -> bool {
    let accepted = |delivery: &Delivery| delivery.verdict.status == DeliveryStatus::Accepted;
    deliveries.iter().any(accepted)
}

/// One user in an audience.
#[derive(Clone, Debug, PartialEq)]
pub struct AudienceMember {
    /// The uid.
    pub uid: Uid,
    /// The number in the order in which they were added.
    pub position: u32,
    /// What became of them.
    pub status: RecipientStatus,
    /// The values of their own.
    pub variables: VariableValues,
    /// One delivery for each channel type that has had its turn.
    pub deliveries: Vec<Delivery>,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// Nothing stands in the way.
    Passed,
    /// It stopped the recipient, or the channel type.
    Failed,
    /// It has not come to it.
    Pending,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What, as a word of the contract.
    pub name: &'static str,
    /// The channel type that it is about.
    pub channel_type: Option<ChannelType>,
    /// What was found.
    pub result: CheckResult,
    /// Why, as a word.
    pub reason: Option<String>,
    /// What is wrong with the variables, by path.
    pub problems: BTreeMap<String, String>,
    /// When it was found.
    pub found_at: Option<Timestamp>,
}

impl Check {
    /// A check about the recipient as a whole.
    #[must_use]
    pub const fn new(name: &'static str, result: CheckResult) -> Self {
        Self {
            name,
            channel_type: None,
            result,
            reason: None,
            problems: BTreeMap::new(),
            found_at: None,
        }
    }

    /// The same with why.
    #[must_use]
    pub fn because(mut self, reason: &impl ToString) -> Self {
        self.reason = Some(reason.to_string());
        self
    }

    /// The same with when it was found, where that is known.
    #[must_use]
    pub fn at(self, found_at: Option<Timestamp>) -> Self {
        Self { found_at, ..self }
    }
}

/// Users to add to an audience, each once, with the values of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRecipients {
    /// The users in the order in which they were first named.
    pub uids: Vec<Uid>,
    /// The values of their own; only of those users.
    pub own: BTreeMap<Uid, VariableValues>,
    /// How often a user was named again.
    pub duplicate_count: u32,
}

impl NewRecipients {
    /// Checks what can be known without the campaign.
    ///
    /// # Errors
    /// Invalid, with every violation.
    pub fn check(named: &[String], variables: BTreeMap<String, VariableValues>) -> Result<Self> {
        let mut violations = Violations::default();
        if named.is_empty() || named.len() > ADDED_MAX {
            let rule = format!("must hold 1 to {ADDED_MAX} uids");
            violations.push(Violation::new("userIds", rule).received(named.len()));
        }
        let mut seen = BTreeSet::new();
        let mut uids = Vec::new();
        for (index, text) in named.iter().enumerate() {
            match user::uid_in(&format!("userIds[{index}]"), text) {
                Ok(uid) if seen.insert(uid.clone()) => uids.push(uid),
                Ok(_) => {}
                Err(violation) => violations.push(violation),
            }
        }
        let mut own = BTreeMap::new();
        for (text, values) in variables {
            let path = format!("userVariables.{text}");
            let wrong = values
                .iter()
                .filter_map(|(key, value)| value.check(&format!("{path}.{key}")));
            wrong.for_each(|violation| violations.push(violation));
            let rule = match user::uid_in(&path, &text) {
                Err(violation) => {
                    violations.push(violation);
                    continue;
                }
                Ok(uid) if !seen.contains(&uid) => "must be for one of the users in userIds",
                Ok(uid) => match own.insert(uid, values) {
                    None => continue,
                    Some(_) => "must not name a user twice in different letter case",
                },
            };
            violations.push(Violation::new(path, rule));
        }
        violations.into_result(Reason::BadRequest)?;
        let duplicates = named.len().saturating_sub(uids.len());
        Ok(Self {
            uids,
            own,
            duplicate_count: u32::try_from(duplicates).unwrap_or(u32::MAX),
        })
    }
}

/// What adding users came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// Users who are new in the audience.
    pub added: u32,
    /// Users who were in it already, or were named twice.
    pub duplicate_count: u32,
    /// Those among the new ones who do not exist.
    pub unknown_count: u32,
    /// The audience now.
    pub total: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::delivery::Verdict;

    #[test]
    fn the_parts_of_a_summary_make_the_total_whatever_the_status() {
        for status in CampaignStatus::KNOWN {
            for processing in [0, 3, 100] {
                let summary = Summary::new(*status, 10, (4, 1), processing);
                let parts = summary.pending + summary.processing + summary.settled() + summary.cancelled;
                assert_eq!(parts, 10, "{status}: {summary:?}");
            }
        }
        assert_eq!(Summary::new(CampaignStatus::Sending, 10, (4, 1), 3).pending, 2);
        assert_eq!(Summary::new(CampaignStatus::Cancelled, 10, (4, 1), 3).cancelled, 5);
    }

    #[test]
    fn who_was_not_reached_before_a_campaign_was_cancelled_is_cancelled() {
        let delivery = |verdict| Delivery {
            channel_type: ChannelType::InApp,
            channel_id: None,
            verdict,
            feed_item_id: None,
            attempts: None,
            created_at: None,
            updated_at: None,
        };
        let of = RecipientStatus::of;
        let accepted = [delivery(Verdict::ACCEPTED)];
        assert_eq!(
            of(CampaignStatus::Cancelled, Turn::Over, &accepted),
            RecipientStatus::Completed
        );
        assert_eq!(
            of(CampaignStatus::Cancelled, Turn::Begun, &[]),
            RecipientStatus::Cancelled
        );
        assert_eq!(of(CampaignStatus::Paused, Turn::Waiting, &[]), RecipientStatus::Pending);
        assert_eq!(
            of(CampaignStatus::Sending, Turn::Begun, &[]),
            RecipientStatus::Processing
        );
        assert_eq!(of(CampaignStatus::Sending, Turn::Over, &[]), RecipientStatus::Failed);
    }

    #[test]
    fn users_are_added_once_and_all_faults_are_told_together() {
        let named = ["Ada", "bob", "ada"].map(str::to_owned);
        let values: VariableValues = serde_json::from_str(r#"{"city": "Rome"}"#).unwrap();
        let new = NewRecipients::check(&named, BTreeMap::from([("ADA".to_owned(), values.clone())])).unwrap();
        assert_eq!(new.uids.iter().map(Uid::as_str).collect::<Vec<_>>(), ["ada", "bob"]);
        assert_eq!((new.duplicate_count, new.own.len()), (1, 1));
        let named = ["a b", "bob"].map(str::to_owned);
        let error = NewRecipients::check(&named, BTreeMap::from([("eve".to_owned(), values)])).unwrap_err();
        let fields: Vec<_> = error
            .violations()
            .iter()
            .map(|violation| violation.field.as_str())
            .collect();
        assert_eq!(fields, ["userIds[0]", "userVariables.eve"]);
    }
}
