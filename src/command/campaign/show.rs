//! What a person sees of a campaign: lines that stay, and on a terminal a bar below them. It asks the server nothing.

use std::io::{IsTerminal, stderr, stdout};
use std::sync::{Mutex, MutexGuard, PoisonError};

use campanile::pb::v1;
use indicatif::{ProgressBar, ProgressStyle};
use v1::CheckResult;

use super::Fault;
use crate::command::print;

/// Without a terminal a line is written whenever so much more of a hundred is done.
const STEP: u64 = 10;

/// Where it is shown.
pub(super) struct Screen {
    is_terminal: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bar: Option<ProgressBar>,
    /// What was told last of a hundred, and of what.
    told: Option<(&'static str, u64)>,
    key: Option<String>,
    sent: Option<String>,
}

impl Screen {
    /// Standard output.
    pub(super) fn new() -> Self {
        Self {
            // The bar is written to standard error.
            is_terminal: stdout().is_terminal() && stderr().is_terminal(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line above the bar.
    pub(super) fn line(&self, text: &str) -> Result<(), Fault> {
        match &self.state().bar {
            Some(bar) => {
                bar.println(text);
                Ok(())
            }
            None => print(&format!("{text}\n")),
        }
    }

    /// Notes by what it can be gone on with.
    pub(super) fn begun(&self, key: &str) {
        self.state().key = Some(key.to_owned());
    }

    /// Notes that it is sent.
    pub(super) fn sent(&self, id: &str) {
        self.state().sent = Some(id.to_owned());
    }

    /// Notes that there is nothing left to go on with.
    pub(super) fn settled(&self) {
        self.state().key = None;
    }

    /// Takes the bar away.
    pub(super) fn over(&self) {
        let mut state = self.state();
        state.told = None;
        if let Some(bar) = state.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// What to do when it was interrupted.
    pub(super) fn interrupted(&self, send: &super::Send) -> String {
        self.over();
        match self.again(send) {
            Some(again) => format!("interrupted\n{again}"),
            None => "interrupted; nothing was begun".to_owned(),
        }
    }

    /// A fault, and what to do about it when something was begun.
    pub(super) fn failed(&self, send: &super::Send, fault: Fault) -> Fault {
        self.over();
        match self.again(send) {
            Some(again) => Fault::Ended(fault.code(), format!("{fault}\n{again}")),
            None => fault,
        }
    }

    /// How to go on with what was begun. That nothing was sent is not said: the answer to a send may have been lost.
    fn again(&self, send: &super::Send) -> Option<String> {
        let state = self.state();
        let again = send.again(state.key.as_deref()?);
        Some(match &state.sent {
            Some(id) => format!("{id} goes on by itself. To see it end:\n  {again}"),
            None => format!("To go on with it:\n  {again}"),
        })
    }

    /// A bar, or where there is no terminal a line now and then.
    fn show(&self, what: &'static str, (done, all): (u64, u64), more: &str) -> Result<(), Fault> {
        let mut state = self.state();
        if self.is_terminal {
            let bar = state.bar.get_or_insert_with(|| bar(all));
            bar.set_length(all);
            bar.set_position(done);
            bar.set_message(format!("{what}{more}"));
            return Ok(());
        }
        let percent = done.saturating_mul(100) / all.max(1) / STEP * STEP;
        if state.told == Some((what, percent)) {
            return Ok(());
        }
        state.told = Some((what, percent));
        drop(state);
        print(&format!("{what} {done} of {all}{more}\n"))
    }

    /// What is to be told how far an upload has come.
    pub(super) fn uploading(&self, from: u64, all: u64) -> impl Fn(u64) + Send + 'static + use<> {
        let bar = self.is_terminal.then(|| {
            let mut state = self.state();
            state.bar.get_or_insert_with(|| bar(all)).clone()
        });
        let told = move |at: u64| {
            if let Some(bar) = &bar {
                bar.set_position(at);
                bar.set_message("uploading");
            }
        };
        told(from);
        told
    }

    /// How far an import has come.
    pub(super) fn importing(&self, job: &v1::ImportJob) -> Result<(), Fault> {
        let Some(all) = job.bytes_total else {
            return Ok(());
        };
        let rows = job.counts.unwrap_or_default().rows;
        let (done, all) = (natural(job.next_offset), natural(all));
        self.show("importing", (done, all), &format!(" bytes, {rows} rows"))
    }

    /// How far a preflight has come. One that is over at once is not told of.
    pub(super) fn checking(&self, progress: v1::PreflightProgress) -> Result<(), Fault> {
        let (done, all) = (natural(progress.checked_count.into()), natural(progress.total.into()));
        if done > 0 {
            self.show("checking", (done, all), "")?;
        }
        Ok(())
    }

    /// How far a campaign has come.
    pub(super) fn progress(&self, progress: &v1::CampaignProgress) -> Result<(), Fault> {
        let counts = progress.recipients.unwrap_or_default();
        let done = natural((counts.completed + counts.failed + counts.cancelled).into());
        let mut more = String::new();
        if let Some(rate) = progress.per_second {
            more.push_str(&format!(", {rate} a second"));
        }
        if let Some(seconds) = progress.remaining_seconds {
            more.push_str(&format!(", {} left", duration(seconds)));
        }
        let what = match v1::CampaignStatus::try_from(progress.status) {
            Ok(v1::CampaignStatus::Paused) => "paused",
            Ok(v1::CampaignStatus::Scheduled) => "scheduled",
            _ => "sending",
        };
        self.show(what, (done, natural(counts.total.into())), &more)
    }
}

fn bar(all: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}  {elapsed}");
    ProgressBar::new(all).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn natural(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

fn duration(seconds: i32) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

/// The word of a status.
pub(super) fn status_word(status: i32) -> String {
    v1::CampaignStatus::try_from(status).map_or_else(
        |_| status.to_string(),
        |known| {
            known
                .as_str_name()
                .trim_start_matches("CAMPAIGN_STATUS_")
                .to_lowercase()
        },
    )
}

/// What an import came to.
pub(super) fn import(job: &v1::ImportJob) -> String {
    let counts = job.counts.unwrap_or_default();
    format!(
        "imported {} rows: {} added, {} duplicate, {} unknown, {} failed",
        counts.rows, counts.added, counts.duplicate, counts.unknown, counts.failed
    )
}

/// What is wrong with a row.
pub(super) fn problem(problem: &v1::ImportProblem) -> String {
    let column = match problem.column.as_str() {
        "" => String::new(),
        column => format!(", {column}"),
    };
    let received = problem
        .received
        .as_ref()
        .map(|received| format!(", received {received:?}"));
    format!(
        "  line {}{column}: {}{}",
        problem.line,
        problem.rule,
        received.unwrap_or_default()
    )
}

/// What would become of everybody.
pub(super) fn preflight(found: &v1::PreflightCampaignResponse) -> Vec<String> {
    let mut lines = vec![format!(
        "preflight: {} recipients, {} of them reachable",
        found.total, found.reachable
    )];
    for channel in &found.channels {
        let name = v1::ChannelType::try_from(channel.channel_type).map_or("?", |kind| kind.as_str_name());
        let name = name.trim_start_matches("CHANNEL_TYPE_").to_lowercase();
        let reason = channel.reason.as_ref().map(|reason| format!(", {reason}"));
        let later = channel.step.filter(|step| *step > 1);
        let later = later.map(|step| format!(" at most, as step {step}"));
        lines.push(format!(
            "  {name}: {} deliveries{}{}",
            channel.deliveries,
            later.unwrap_or_default(),
            reason.unwrap_or_default()
        ));
    }
    for exclusion in &found.exclusions {
        lines.push(format!("  left out for {}: {}", exclusion.reason, exclusion.count));
    }
    for one in &found.problems {
        let problems: Vec<String> = one
            .problems
            .iter()
            .map(|(path, rule)| format!("{path} {rule}"))
            .collect();
        lines.push(format!("  {}: {}", one.uid, problems.join("; ")));
    }
    if let Some(seconds) = found.estimated_seconds {
        lines.push(format!("  takes about {}", duration(seconds)));
    }
    lines
}

/// Why a recipient was not reached.
pub(super) fn why(recipient: &v1::CampaignRecipient) -> String {
    let stopped = recipient
        .checks
        .iter()
        .find(|check| check.result == i32::from(CheckResult::Failed));
    let Some(check) = stopped else {
        let reasons = recipient
            .deliveries
            .iter()
            .filter_map(|delivery| delivery.reason.clone());
        return reasons.collect::<Vec<_>>().join(", ");
    };
    let problems = check.problems.iter().map(|(path, rule)| format!("{path} {rule}"));
    let reason = check.reason.clone().unwrap_or_else(|| check.name.clone());
    [vec![reason], problems.collect()].concat().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_tell_them() {
        assert_eq!(
            [0, 119, 120, 7_199, 7_200].map(duration),
            ["0 s", "119 s", "2 min", "119 min", "2 h"]
        );
    }
}
