//! What clients write down of campaigns: what was acknowledged, and what has to come of it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::file::Member;

/// What becomes of a campaign in the end.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// Everybody is dealt with.
    Done,
    /// It was cancelled: who had been reached by then, and whom nothing could be done for.
    Cancelled(Outcomes),
    /// It was deleted as a draft.
    Deleted,
}

/// Recipients by what became of them so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcomes {
    pub(super) completed: BTreeSet<String>,
    pub(super) failed: BTreeSet<String>,
}

/// A file that was imported, or a part of one, and what it came to.
#[derive(Clone, Debug)]
pub(super) struct Imported {
    pub(super) state: &'static str,
    pub(super) offset: u64,
    /// Rows, added, duplicate and failed ones.
    pub(super) counts: [u64; 4],
}

/// A campaign with what was acknowledged of it.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) id: String,
    pub(super) notification: String,
    /// Whether its template needs a code of each recipient.
    pub(super) is_coded: bool,
    /// In the order in which they were added.
    pub(super) audience: Vec<Member>,
    pub(super) imported: Option<Imported>,
    /// When it was to be sent.
    pub(super) due: Option<String>,
    pub(super) end: End,
}

impl Run {
    /// A draft that was answered.
    pub(super) fn of(view: &Value, is_coded: bool) -> Self {
        Self {
            id: view["id"].as_str().unwrap().to_owned(),
            notification: view["notificationId"].as_str().unwrap().to_owned(),
            is_coded,
            audience: Vec::new(),
            imported: None,
            due: None,
            end: End::Done,
        }
    }

    /// Whether somebody is in the audience.
    pub(super) fn has(&self, uid: &str) -> bool {
        self.audience.iter().any(|member| member.uid == uid)
    }

    /// What becomes of everybody if nothing stops it.
    pub(super) fn outcomes(&self) -> Outcomes {
        let (served, others): (Vec<_>, Vec<_>) =
            self.audience.iter().partition(|member| member.is_served(self.is_coded));
        let uids = |members: Vec<&Member>| members.into_iter().map(|member| member.uid.clone()).collect();
        Outcomes {
            completed: uids(served),
            failed: uids(others),
        }
    }
}

/// What was acknowledged.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) runs: Vec<Run>,
    /// What clients saw that cannot be.
    pub(super) seen: Vec<String>,
    /// How many campaigns were looked at while they were held.
    pub(super) held: u32,
    /// How many files were imported to their end, and how many to where they were cancelled.
    pub(super) files: u32,
    pub(super) cut_files: u32,
}

impl Journal {
    pub(super) fn extend(&mut self, other: Self) {
        self.runs.extend(other.runs);
        self.seen.extend(other.seen);
        self.held += other.held;
        self.files += other.files;
        self.cut_files += other.cut_files;
    }

    /// How many campaigns were started at their time.
    pub(super) fn fired(&self) -> usize {
        let fired = |run: &&Run| run.due.is_some() && matches!(run.end, End::Done);
        self.runs.iter().filter(fired).count()
    }

    /// How many were cancelled after some were reached and before everybody was.
    pub(super) fn cancelled(&self) -> usize {
        let cancelled = |run: &&Run| matches!(&run.end, End::Cancelled(outcomes) if !outcomes.completed.is_empty());
        self.runs.iter().filter(cancelled).count()
    }
}
