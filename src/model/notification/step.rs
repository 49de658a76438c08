//! What a recipient gets of a step of a sequence, and when they are dealt with. Every line of the ledger says which step it
//! is of, and whoever the sequence has ended for has lines for all of its steps.

use super::{PlannedLine, PlannedRecipient, RecipientOutcome, line, verdict};
use crate::model::Timestamp;
use crate::model::channel::ChannelType;
use crate::model::delivery::{DeliveryReason, DeliveryStatus, Reached, Verdict};
use crate::model::id::{DeliveryId, UserId};
use crate::model::template::SendableChannel;
use crate::model::template::course::{Marks, Sequence, SequenceStep};
use crate::model::user::Resolved;

/// A line that an earlier step has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastLine {
    /// Its id.
    pub id: DeliveryId,
    /// The step.
    pub step: i32,
    /// What became of it.
    pub verdict: Verdict,
    /// When it was written.
    pub created_at: Timestamp,
}

/// What becomes of a recipient when a later step comes to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing: they were never served, or the sequence has ended for them.
    Idle,
    /// They get the step.
    Fire,
    /// The sequence ends for them, for this reason.
    End(DeliveryReason),
}

/// Decides what a step after the first does for a recipient with these lines, to whose line of the step before happened
/// what `marks` says.
#[must_use]
pub fn fate(past: &[PastLine], (sequence, step): (&Sequence, i32), marks: Option<&Marks>, user: Resolved) -> Fate {
    let before = step.saturating_sub(1);
    if past.iter().any(|line| line.step >= step) {
        return Fate::Idle;
    }
    let Some(line) = past.iter().find(|line| line.step == before) else {
        return Fate::Idle;
    };
    let is_met = |marks: &Marks| {
        let step = sequence.step(before);
        step.is_some_and(|step| step.is_met(line.created_at, marks))
    };
    if marks.is_some_and(is_met) {
        return Fate::End(DeliveryReason::SEQUENCE_STOPPED);
    }
    match RecipientOutcome::of(user) {
        RecipientOutcome::UserDeactivated => Fate::End(DeliveryReason::USER_DEACTIVATED),
        RecipientOutcome::UnknownUser => Fate::End(DeliveryReason::UNKNOWN_USER),
        RecipientOutcome::Planned
        | RecipientOutcome::Failed
        | RecipientOutcome::InvalidVariables
        | RecipientOutcome::Unknown(_) => Fate::Fire,
    }
}

/// The lines that a fate writes: that of the step, or those of all that are left.
#[must_use]
pub fn lines_of(
    fate: &Fate,
    (sequence, step): (&Sequence, i32),
    ways: &[SendableChannel],
    now: Timestamp,
) -> Vec<PlannedLine> {
    let way = |channel_type: ChannelType| ways.iter().find(|way| way.content.channel_type == channel_type);
    let numbered = (1..).zip(sequence.steps());
    let left = numbered.filter(|(number, _)| *number >= step);
    let of = |(number, of): (i32, &SequenceStep), verdict: Option<Verdict>| {
        let way = way(of.channel_type)?;
        let verdict = verdict.unwrap_or_else(|| self::verdict(way));
        Some(line(way, number, &verdict, now))
    };
    match fate {
        Fate::Idle => Vec::new(),
        Fate::Fire => left.take(1).filter_map(|step| of(step, None)).collect(),
        Fate::End(reason) => {
            let suppressed = || Some(Verdict::suppressed(reason.clone()));
            left.filter_map(|step| of(step, suppressed())).collect()
        }
    }
}

/// The ways out of the first step: those of the sequence's first channel type, or all of a send that is none.
#[must_use]
pub fn first_ways(sequence: Option<&Sequence>, ways: &[SendableChannel]) -> Vec<SendableChannel> {
    let first = sequence.and_then(|sequence| sequence.steps().first());
    let is_first = |way: &&SendableChannel| first.is_none_or(|step| step.channel_type == way.content.channel_type);
    ways.iter().filter(is_first).cloned().collect()
}

/// What a recipient has come to with new lines, once and for all; nothing while that is open, or when it was known before.
/// `over` says that no step is to come.
#[must_use]
pub fn settle<'v>(
    before: impl IntoIterator<Item = &'v Verdict>,
    new: impl IntoIterator<Item = &'v Verdict>,
    over: bool,
) -> Option<Reached> {
    let (before, new): (Vec<_>, Vec<_>) = (before.into_iter().collect(), new.into_iter().collect());
    let has = |verdicts: &[&Verdict], status| verdicts.iter().any(|verdict| verdict.status == status);
    if has(&before, DeliveryStatus::Accepted) {
        return None;
    }
    if has(&new, DeliveryStatus::Accepted) {
        return Some(Reached::Sent);
    }
    let open = has(&before, DeliveryStatus::Queued) || has(&new, DeliveryStatus::Queued);
    (over && !open).then(|| Reached::of(before.into_iter().chain(new)))
}

impl PlannedRecipient {
    /// The user, if they are served.
    #[must_use]
    pub fn served(&self) -> Option<UserId> {
        match self.user {
            Resolved::Active(user) => Some(user),
            Resolved::Deactivated(_) | Resolved::Unknown => None,
        }
    }

    /// What the recipient has come to with their lines, when `last` is the last step of the send.
    #[must_use]
    pub fn settled(&self, last: i32) -> Option<Reached> {
        if self.outcome != RecipientOutcome::Planned {
            return Some(self.reached());
        }
        let new = || self.lines.iter().map(|line| &line.delivery.verdict);
        let over = self.lines.iter().any(|line| line.step == last);
        settle(&self.before, new(), over)
    }

    /// Whether a further step may come to the recipient.
    #[must_use]
    pub fn goes_on(&self, last: i32) -> bool {
        self.outcome == RecipientOutcome::Planned
            && !self.lines.is_empty()
            && self.lines.iter().all(|line| line.step != last)
    }

    /// Whether a driver is to take something for the recipient.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        let mut verdicts = self.lines.iter().map(|line| &line.delivery.verdict);
        verdicts.any(|verdict| *verdict == Verdict::QUEUED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::template::course::Sequence;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    fn sequence() -> Sequence {
        serde_json::from_str(
            r#"[{"channelType": "in_app", "stopCondition": "read", "waitMinutes": 5},
                {"channelType": "push", "stopCondition": "clicked", "waitMinutes": 10},
                {"channelType": "email", "stopCondition": null, "waitMinutes": null}]"#,
        )
        .unwrap()
    }

    fn past(step: i32, verdict: Verdict) -> PastLine {
        PastLine {
            id: DeliveryId::new(at(0)),
            step,
            verdict,
            created_at: at(0),
        }
    }

    fn active() -> Resolved {
        Resolved::Active(UserId::new(at(0)))
    }

    #[test]
    fn a_step_comes_to_those_who_had_the_one_before_and_did_not_meet_its_condition() {
        let sequence = sequence();
        let first = [past(1, Verdict::ACCEPTED)];
        let read = Marks {
            read_at: Some(at(300_000)),
            ..Marks::default()
        };
        let stopped = Fate::End(DeliveryReason::SEQUENCE_STOPPED);
        let of = |past: &[PastLine], step, marks: Option<&Marks>, user| fate(past, (&sequence, step), marks, user);
        assert_eq!(of(&first, 2, None, active()), Fate::Fire);
        assert_eq!(of(&first, 2, Some(&Marks::default()), active()), Fate::Fire);
        assert_eq!(of(&first, 2, Some(&read), active()), stopped);
        let gone = Fate::End(DeliveryReason::UNKNOWN_USER);
        assert_eq!(of(&first, 2, None, Resolved::Unknown), gone);
        // Never served, not come to the step before, and done already.
        assert_eq!(of(&[], 2, None, active()), Fate::Idle);
        assert_eq!(of(&first, 3, None, active()), Fate::Idle);
        let both = [past(1, Verdict::ACCEPTED), past(2, Verdict::QUEUED)];
        assert_eq!(of(&both, 2, None, active()), Fate::Idle);
        assert_eq!(
            of(&both, 3, Some(&read), active()),
            Fate::Fire,
            "a condition is of its step"
        );
    }

    #[test]
    fn a_recipient_is_counted_once_whichever_step_decides() {
        let (accepted, queued) = (Verdict::ACCEPTED, Verdict::QUEUED);
        let failed = Verdict::failed(DeliveryReason::PROVIDER_REFUSED);
        let stopped = Verdict::suppressed(DeliveryReason::SEQUENCE_STOPPED);
        let of =
            |before: &[&Verdict], new: &[&Verdict], over| settle(before.iter().copied(), new.iter().copied(), over);
        assert_eq!(of(&[], &[&accepted], false), Some(Reached::Sent));
        assert_eq!(of(&[&accepted], &[&accepted], true), None);
        assert_eq!(of(&[&accepted], &[&stopped], true), None);
        assert_eq!(of(&[], &[&failed], false), None);
        assert_eq!(of(&[&failed], &[&queued], true), None);
        assert_eq!(of(&[&failed], &[&failed], true), Some(Reached::Failed));
        assert_eq!(of(&[&queued], &[&accepted], true), Some(Reached::Sent));
        assert_eq!(of(&[&queued], &[&failed], true), None);
        assert_eq!(of(&[&stopped], &[&stopped], true), Some(Reached::Skipped));
    }
}
