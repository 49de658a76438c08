//! What a preflight found: what would become of an audience if its campaign were sent now. Nothing here reads one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;
use crate::model::channel::{ChannelType, JsonObject};
use crate::model::user::Uid;

/// Recipients whose problems are named.
pub const PROBLEMS_MAX: usize = 100;
/// Problems that are named of one recipient.
pub const PROBLEMS_OF_ONE_MAX: usize = 20;
/// Recipients whose content is shown.
pub const SAMPLES_MAX: usize = 3;

/// What would become of an audience.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preflight {
    /// What names this result to a send.
    pub plan_token: String,
    /// The recipients.
    pub total: u32,
    /// Those that would be reached.
    pub reachable: u32,
    /// What would happen on each channel type.
    pub channels: Vec<ChannelForecast>,
    /// Who would be left out, by reason.
    pub exclusions: BTreeMap<String, u32>,
    /// The first recipients whose variables are at fault.
    pub problems: Vec<RecipientProblems>,
    /// How it looks for the first recipients that would be reached.
    pub samples: Vec<Sample>,
    /// How long it would take, in seconds.
    pub estimated_seconds: Option<u32>,
    /// When the audience was read.
    pub checked_at: Timestamp,
}

/// What would happen on one channel type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelForecast {
    /// The channel type.
    pub channel_type: ChannelType,
    /// The step of the sequence that goes through it, from 1.
    pub step: Option<i32>,
    /// The deliveries; of a later step, those that there would be at most.
    pub deliveries: u32,
    /// Why there would be none.
    pub reason: Option<String>,
}

/// What is wrong with the variables of one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientProblems {
    /// The recipient.
    pub uid: Uid,
    /// Their number in the audience.
    pub position: u32,
    /// For each path the rule that it breaks.
    pub problems: BTreeMap<String, String>,
}

/// How the in-app content looks for one recipient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The recipient.
    pub uid: Uid,
    /// The content, where the template has any.
    pub content: Option<JsonObject>,
}
