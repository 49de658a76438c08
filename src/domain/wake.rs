//! Hints between the parts of one process that there may be something to do. Nothing depends on one: whoever waits for it
//! looks by itself after a while, because another process tells nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

/// Who waits for what.
#[derive(Clone, Debug, Default)]
pub(super) struct Wake(Arc<Waiters>);

#[derive(Debug, Default)]
struct Waiters {
    pages: Notify,
    progress: Notify,
    imports: Notify,
}

impl Wake {
    /// There are pages to do.
    pub(super) fn pages(&self) {
        // One worker: it wakes the next one when it has found a page. A hint that finds nobody waiting is kept.
        self.0.pages.notify_one();
    }

    /// Waits for pages.
    pub(super) async fn for_pages(&self, at_most: Duration) {
        // Time that passes is as good as a hint.
        drop(tokio::time::timeout(at_most, self.0.pages.notified()).await);
    }

    /// There is a file to import.
    pub(super) fn imports(&self) {
        self.0.imports.notify_one();
    }

    /// Waits for a file to import.
    pub(super) async fn for_imports(&self, at_most: Duration) {
        drop(tokio::time::timeout(at_most, self.0.imports.notified()).await);
    }

    /// Some notification has come on.
    pub(super) fn progress(&self) {
        self.0.progress.notify_waiters();
    }

    /// Waits for a notification to come on.
    pub(super) async fn moved(&self, at_most: Duration) {
        drop(tokio::time::timeout(at_most, self.0.progress.notified()).await);
    }
}
