//! The table of metrics: name, kind, labels and meaning of each, said once for the exposition and the README. It never
//! holds a value.

/// What a metric's samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// How long things took, in buckets.
    Seconds,
    /// How many things came together, in buckets.
    Sizes,
}

impl Kind {
    /// The type as Prometheus names it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Seconds | Self::Sizes => "histogram",
        }
    }
}

/// Makes the enum from the table: a metric's comment is its meaning, for the reader and for Prometheus alike.
macro_rules! metrics {
    ($(#[doc = $meaning:literal] $metric:ident = $name:literal $kind:ident [$($label:literal),*],)+) => {
        /// Every metric of the service. Values of labels come from closed lists: no app, no user, no id.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Metric {
            $(#[doc = $meaning] $metric,)+
        }

        impl Metric {
            /// Every metric, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$metric),+];

            /// The name in the exposition.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$metric => $name,)+ }
            }

            /// What its samples are.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $(Self::$metric => Kind::$kind,)+ }
            }

            /// The labels that every sample has.
            #[must_use]
            pub const fn labels(self) -> &'static [&'static str] {
                match self { $(Self::$metric => &[$($label),*],)+ }
            }

            /// What it tells, one sentence without a full stop.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$metric => $meaning,)+ }.trim()
            }
        }
    };
}

metrics! {
    /// Calls answered, and pages for operators
    Requests = "campanile_requests_total" Counter ["rpc", "door"],
    /// Calls answered with an error; `reason` is its code
    Errors = "campanile_errors_total" Counter ["rpc", "door", "reason"],
    /// Time from a call's head to its answer's head
    RequestDuration = "campanile_request_duration_seconds" Seconds ["rpc", "door"],
    /// Calls whose answer has not begun
    CallsInFlight = "campanile_calls_in_flight" Gauge [],
    /// Calls that wait for their turn
    CallsWaiting = "campanile_calls_waiting" Gauge [],
    /// Calls that were refused because the service had enough to do, by the `limit` that they met (`waiting`, `watchers`, `memory`, `preflights`)
    OverloadRefusals = "campanile_overload_refusals_total" Counter ["limit"],
    /// Client connections that are open
    Connections = "campanile_connections_open" Gauge [],
    /// Writes that wait for the database or are at work, of requests (`api`) and of workers and sweeps (`background`)
    WritesInProgress = "campanile_store_writes_in_progress" Gauge ["queue"],
    /// Time of a write from its queue to its durable end, refusals included
    WriteDuration = "campanile_store_write_duration_seconds" Seconds ["queue"],
    /// Time that background work waited for its turn on PostgreSQL, longer while calls are answered
    TurnWait = "campanile_store_turn_wait_seconds" Seconds [],
    /// Time of a COMMIT
    CommitDuration = "campanile_store_commit_duration_seconds" Seconds [],
    /// Writes that shared one COMMIT
    CommitGroup = "campanile_store_commit_group_size" Sizes [],
    /// Writes that were run again, by what stood in their way
    Reruns = "campanile_store_reruns_total" Counter ["cause"],
    /// Connections of the pools, by `pool` (`read`, `write`) and `state` (`in_use`, `idle`)
    StoreConnections = "campanile_store_connections" Gauge ["pool", "state"],
    /// Size of the database, looked at once a minute at most
    StoreSize = "campanile_store_size_bytes" Gauge [],
    /// 1 when the database answered this look at it within a second, else 0, and then the ages and counts below are not numbers
    StoreUp = "campanile_store_up" Gauge [],
    /// Calls that were answered with what an earlier call of their idempotency key had been
    IdempotentReplays = "campanile_idempotent_replays_total" Counter [],
    /// Sends that were committed, by `mode` (`realtime`, `batch`)
    NotificationsAccepted = "campanile_notifications_accepted_total" Counter ["mode"],
    /// Notifications that became final
    NotificationsCompleted = "campanile_notifications_completed_total" Counter [],
    /// Recipients that were dealt with, by `outcome` (`sent`, `failed`, `skipped`)
    Recipients = "campanile_recipients_total" Counter ["outcome"],
    /// What became of pages of batches in the hands of this process: `done`, `failed` and to be tried again, `halved`, `given_up` for its last recipient, `given_back`, `lost` to another worker
    PageEvents = "campanile_page_events_total" Counter ["event"],
    /// Time of a step of a page, which is one transaction
    StepDuration = "campanile_page_step_duration_seconds" Seconds [],
    /// Pages that this process holds under a lease
    LeasesHeld = "campanile_leases_held" Gauge [],
    /// Pages taken over from a worker whose lease had ended without a word
    LeasesTakenOver = "campanile_leases_taken_over_total" Counter [],
    /// Pages that are not done, of all processes; counted up to 10,000
    PagesOpen = "campanile_pages_open" Gauge [],
    /// Age of the oldest page that waits for a worker; 0 without any
    OldestPage = "campanile_pages_oldest_waiting_seconds" Gauge [],
    /// Age of the oldest notification that is not final; 0 without any
    OldestNotification = "campanile_notifications_oldest_unfinished_seconds" Gauge [],
    /// Audiences of campaigns that are being looked through before anything is sent
    PreflightsRunning = "campanile_preflights_running" Gauge [],
    /// Unread counts that were read from feeds
    UnreadReads = "campanile_feed_unread_reads_total" Counter [],
    /// Rows that the sweep changed or removed, by `what`
    SweptRows = "campanile_swept_rows_total" Counter ["what"],
    /// Processor time of the process, in whole seconds
    ProcessCpu = "process_cpu_seconds_total" Counter [],
    /// Memory that the process holds
    ProcessMemory = "process_resident_memory_bytes" Gauge [],
    /// File descriptors that the process holds
    ProcessFiles = "process_open_fds" Gauge [],
    /// File descriptors that the process may hold
    ProcessFilesMax = "process_max_fds" Gauge [],
    /// When the process started, in seconds since 1970
    ProcessStart = "process_start_time_seconds" Gauge [],
}
