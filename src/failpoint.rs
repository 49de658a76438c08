//! Failpoints: places where a test lets the process die or stand still, and ways to break the ledger, so that a test can
//! see its own checker notice. A release build has neither the places nor their names: [`hit`] is empty there.
//!
//! A debug build reads two variables that only tests set: `CAMPANILE_TEST_FAILPOINTS=<point>=<abort|stop>[@<n>],…` acts when
//! a point is reached for the n-th time, `CAMPANILE_TEST_BROKEN=<way>` breaks the ledger.

/// Defines the points, their words and the list of all of them at once, so that none can be missing from one of them.
macro_rules! points {
    ($($(#[doc = $meaning:literal])+ $point:ident = $word:literal,)+) => {
        /// A place where what is promised must hold even if the process ends there.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Point {
            $($(#[doc = $meaning])+ $point,)+
        }

        #[cfg(debug_assertions)]
        impl Point {
            /// Every point.
            pub const ALL: &'static [Self] = &[$(Self::$point,)+];

            /// The word that names it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$point => $word,)+
                }
            }
        }
    };
}

points! {
    /// The schema is brought up to date; on SQLite that is not committed, on PostgreSQL its lock is still held.
    Migrating = "migrating",
    /// It is settled what each receiver of a send gets, and nothing of it is written.
    SendPlanned = "send_planned",
    /// All of a send is written and not committed.
    SendBeforeCommit = "send_before_commit",
    /// A send is committed and not answered.
    SendAfterCommit = "send_after_commit",
    /// What users did with items of their feeds is written and not committed.
    MarkBeforeCommit = "mark_before_commit",
    /// The same, committed and not answered.
    MarkAfterCommit = "mark_after_commit",
    /// The lease of a page is written and not committed.
    LeaseBeforeCommit = "lease_before_commit",
    /// A page is leased and nothing of it done.
    AfterLease = "after_lease",
    /// It is settled what each recipient of a step gets, and nothing of it is written.
    StepPlanned = "step_planned",
    /// Lines of the ledger are written, and no feed head is advanced.
    BetweenLedgerAndHeads = "between_ledger_and_heads",
    /// Feed heads are advanced and have no items yet.
    BetweenHeadsAndItems = "between_heads_and_items",
    /// Items are written, and what is counted of them is not.
    AfterItems = "after_items",
    /// All of a step is written and not committed.
    StepBeforeCommit = "step_before_commit",
    /// A step is committed and its page has more to do.
    BetweenSteps = "between_steps",
    /// A page is done and its notification not looked at.
    BeforeCompletion = "before_completion",
    /// A completion is written and not committed.
    CompletionBeforeCommit = "completion_before_commit",
    /// A notification is final and nobody was told.
    CompletionAfterCommit = "completion_after_commit",
    /// A page that failed is put back, which is not committed.
    PutBackBeforeCommit = "put_back_before_commit",
    /// A page that failed is halved, which is not committed.
    HalvedBeforeCommit = "halved_before_commit",
    /// A page is halved, and nobody was told.
    HalvedAfterCommit = "halved_after_commit",
    /// A recipient is recorded as failed, which is not committed.
    GivenUpBeforeCommit = "given_up_before_commit",
    /// A recipient is recorded as failed, and the notification not looked at.
    GivenUpAfterCommit = "given_up_after_commit",
    /// A notification is final, and the campaign that it is of is not.
    CampaignUnfinished = "campaign_unfinished",
    /// A campaign is recorded as final, which is not committed.
    CampaignBeforeCommit = "campaign_before_commit",
    /// A campaign is started by a call, which is not committed.
    StartBeforeCommit = "start_before_commit",
    /// The same, committed and not answered.
    StartAfterCommit = "start_after_commit",
    /// Campaigns are found whose time has come, and none of them is started.
    DueFound = "due_found",
    /// A campaign is started at its time, which is not committed.
    FireBeforeCommit = "fire_before_commit",
    /// The same, committed, and nobody was told.
    FireAfterCommit = "fire_after_commit",
    /// No page of a campaign begins any more, and nothing else says that it is to be held or ended.
    HoldIntended = "hold_intended",
    /// A campaign is held, which is not committed.
    PauseBeforeCommit = "pause_before_commit",
    /// A campaign goes on, which is not committed.
    ResumeBeforeCommit = "resume_before_commit",
    /// A campaign that was being sent is ended, which is not committed.
    CancelBeforeCommit = "cancel_before_commit",
    /// An import is leased and nothing of it done.
    ImportLeased = "import_leased",
    /// A file is looked through and its checksum kept, and no row is taken.
    ImportLookedThrough = "import_looked_through",
    /// Rows are added to an audience, which is not committed.
    BatchBeforeCommit = "batch_before_commit",
    /// The same, committed, and whether there are more rows is not known.
    BetweenBatches = "between_batches",
    /// The last row is taken and the import is not over.
    ImportBeforeEnd = "import_before_end",
    /// An import is recorded as over, which is not committed.
    ImportEndBeforeCommit = "import_end_before_commit",
    /// The pages of a later step are cut, which is not committed.
    CutBeforeCommit = "cut_before_commit",
    /// The pages of a later step are cut, and nobody was told.
    CutAfterCommit = "cut_after_commit",
    /// Deliveries are leased for a driver, which is not committed.
    ClaimBeforeCommit = "claim_before_commit",
    /// Deliveries are leased and their driver is not asked.
    BeforeDelivery = "before_delivery",
    /// A driver has answered, and nothing of it is written.
    AfterDelivery = "after_delivery",
    /// What a driver answered is written and not committed.
    OutcomeBeforeCommit = "outcome_before_commit",
    /// What a driver answered is committed, and the notification not looked at.
    OutcomeAfterCommit = "outcome_after_commit",
    /// Items that have expired are taken out of their feeds' counts, which is not committed.
    ExpiredBeforeCommit = "expired_before_commit",
    /// Old items are removed, which is not committed.
    RemovedBeforeCommit = "removed_before_commit",
    /// A part of an old notification is removed, which is not committed.
    ForgottenBeforeCommit = "forgotten_before_commit",
    /// The server has answered its last call, and its workers were not waited for.
    Stopping = "stopping",
    /// A worker that was told to stop has given back its page, which is not committed.
    GivenBackBeforeCommit = "given_back_before_commit",
    /// The same, committed.
    GivenBackAfterCommit = "given_back_after_commit",
    /// The workers have stopped, and the database is still open.
    Stopped = "stopped",
}

/// Passes a point.
#[cfg(not(debug_assertions))]
pub const fn hit(_: Point) {}

#[cfg(debug_assertions)]
pub use armed::{Break, broken, hit};

#[cfg(debug_assertions)]
mod armed {
    use std::io::Write as _;
    use std::process::{Command, abort};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Point;

    /// A way to break the ledger.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Break {
        /// A page moves on in a transaction of its own, before its recipients are dealt with.
        ProgressFirst,
        /// A worker does the whole page that it once leased, whoever holds it by now.
        NoFence,
        /// A worker does a page that it once leased, although its campaign is held or over by now.
        NoHold,
        /// A worker goes on with the file that it once leased, whoever holds it by now.
        NoImportFence,
    }

    impl Break {
        /// The word that names it.
        #[must_use]
        pub const fn as_str(self) -> &'static str {
            match self {
                Self::ProgressFirst => "progress_first",
                Self::NoFence => "no_fence",
                Self::NoHold => "no_hold",
                Self::NoImportFence => "no_import_fence",
            }
        }
    }

    struct Armed {
        point: String,
        stops: bool,
        at: u32,
        hits: AtomicU32,
    }

    impl Armed {
        fn is_due(&self) -> bool {
            self.hits.fetch_add(1, Ordering::Relaxed).saturating_add(1) == self.at
        }
    }

    // A process dies as a whole, so what makes it die is of the process as well.
    static ARMED: OnceLock<Vec<Armed>> = OnceLock::new();
    static BROKEN: OnceLock<Option<Break>> = OnceLock::new();

    #[expect(
        clippy::disallowed_methods,
        reason = "these are no settings: only tests set them, and no release build reads them"
    )]
    fn variable(name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn all_armed() -> Vec<Armed> {
        let text = variable("CAMPANILE_TEST_FAILPOINTS").unwrap_or_default();
        text.split(',').filter_map(armed).collect()
    }

    fn armed(text: &str) -> Option<Armed> {
        let (point, action) = text.split_once('=')?;
        let (action, at) = action.split_once('@').unwrap_or((action, "1"));
        Some(Armed {
            point: point.to_owned(),
            stops: action == "stop",
            at: at.parse().ok()?,
            hits: AtomicU32::new(0),
        })
    }

    /// Passes a point: dies or stands still there, if a test wants that, and says so first.
    pub fn hit(point: Point) {
        let armed = ARMED.get_or_init(all_armed).iter();
        let Some(armed) = armed
            .filter(|armed| armed.point == point.as_str())
            .find(|armed| armed.is_due())
        else {
            return;
        };
        drop(writeln!(std::io::stderr(), "failpoint {}", armed.point));
        if armed.stops {
            let own = std::process::id().to_string();
            drop(Command::new("kill").args(["-STOP", &own]).status());
        } else {
            abort();
        }
    }

    /// How the ledger is broken.
    pub fn broken() -> Option<Break> {
        *BROKEN.get_or_init(|| {
            let word = variable("CAMPANILE_TEST_BROKEN")?;
            [
                Break::ProgressFirst,
                Break::NoFence,
                Break::NoHold,
                Break::NoImportFence,
            ]
            .into_iter()
            .find(|way| way.as_str() == word)
        })
    }
}
