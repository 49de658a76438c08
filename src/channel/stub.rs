//! A driver that acts out a provider, for tests: it keeps what it was given, or appends a line of it to a file, and answers as
//! it was told to. It is never part of a release, and reaches nobody.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::{Driver, Drivers, Envelope, Outcome};
use crate::model::channel::ChannelType;

/// The variable that names the file, and in whose presence a debug build takes push notifications and mails.
const VARIABLE: &str = "CAMPANILE_TEST_STUB";

/// A provider that is not there.
#[derive(Debug, Default)]
pub struct Stub {
    taken: Mutex<Vec<Envelope>>,
    answers: Mutex<Vec<Outcome>>,
    file: Option<PathBuf>,
}

impl Stub {
    /// Lets it answer this to the next messages, and then accept all.
    pub fn answer(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers = outcomes.into_iter().collect();
        answers.reverse();
    }

    /// Everything that it was given, in that order.
    #[must_use]
    pub fn taken(&self) -> Vec<Envelope> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take(&self, envelope: &Envelope) -> Outcome {
        if let Some(path) = &self.file {
            let line = format!("{} {} {}\n", envelope.delivery, envelope.attempt, envelope.address);
            let file = OpenOptions::new().create(true).append(true).open(path);
            if file.and_then(|mut file| file.write_all(line.as_bytes())).is_err() {
                return Outcome::Retry;
            }
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.push(envelope.clone());
        let next = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        next.unwrap_or(Outcome::Accepted)
    }
}

#[async_trait]
impl Driver for Stub {
    async fn deliver(&self, envelopes: &[Envelope]) -> Vec<Outcome> {
        envelopes.iter().map(|envelope| self.take(envelope)).collect()
    }
}

/// The drivers of a process that a test has started: none, unless it names the file.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is no setting: only tests set it, and no release build reads it"
)]
pub fn drivers() -> Drivers {
    let Some(path) = std::env::var_os(VARIABLE) else {
        return Drivers::default();
    };
    let stub = Arc::new(Stub {
        file: Some(path.into()),
        ..Stub::default()
    });
    Drivers::default()
        .with(ChannelType::Push, Arc::clone(&stub) as Arc<dyn Driver>)
        .with(ChannelType::Email, stub)
}
