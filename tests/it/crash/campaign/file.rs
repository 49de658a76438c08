//! Files of recipients, and what an audience comes to that takes them.

use super::load::USERS;
use crate::crash::server::chance;

/// What the first row says.
const HEADER: &str = "user_id,code\n";

/// Somebody in an audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) uid: String,
    pub(super) has_code: bool,
}

impl Member {
    /// Somebody by chance.
    pub(super) fn any() -> Self {
        Self {
            uid: format!("user-{:03}", chance(USERS)),
            has_code: chance(3) > 0,
        }
    }

    /// Whether a campaign reaches them, whose template may need a code.
    pub(super) const fn is_served(&self, is_coded: bool) -> bool {
        self.has_code || !is_coded
    }
}

/// A file: each row names somebody, or nobody.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) rows: Vec<Option<Member>>,
}

impl File {
    /// A file with at least so many rows, of which some are wrong and some name the same user.
    pub(super) fn any(rows: u64) -> Self {
        let row = |_| (chance(8) > 0).then(Member::any);
        Self {
            rows: (0..rows + chance(rows)).map(row).collect(),
        }
    }

    /// A file without wrong rows, whose numbers no key of the database keeps from being taken twice.
    pub(super) fn right(rows: u64) -> Self {
        Self {
            rows: (0..rows).map(|_| Some(Member::any())).collect(),
        }
    }

    fn line(row: Option<&Member>) -> String {
        match row {
            Some(member) if member.has_code => format!("{},1\n", member.uid),
            Some(member) => format!("{},\n", member.uid),
            None => "no uid,1\n".to_owned(),
        }
    }

    pub(super) fn text(&self) -> String {
        let lines: String = self.rows.iter().map(|row| Self::line(row.as_ref())).collect();
        format!("{HEADER}{lines}")
    }

    /// Where the row behind so many begins.
    pub(super) fn offset(&self, rows: usize) -> u64 {
        let lines = self.rows[..rows].iter().map(|row| Self::line(row.as_ref()).len());
        (HEADER.len() + lines.sum::<usize>()) as u64
    }

    /// Adds whom so many rows name to an audience; gives rows, added, duplicate and failed ones.
    pub(super) fn take(&self, rows: usize, audience: &mut Vec<Member>) -> [u64; 4] {
        let mut counts = [0; 4];
        for row in &self.rows[..rows] {
            counts[0] += 1;
            match row {
                Some(member) if audience.iter().any(|one| one.uid == member.uid) => counts[2] += 1,
                Some(member) => {
                    counts[1] += 1;
                    audience.push(member.clone());
                }
                None => counts[3] += 1,
            }
        }
        counts
    }
}
