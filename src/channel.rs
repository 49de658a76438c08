//! The way out: a driver for each channel type that something other than this service delivers. A driver knows its provider
//! and nothing else: it is asked outside of every transaction, and what its answer means is the domain's decision. In-app
//! has no driver, because its feed item is written with its delivery.

#[cfg(debug_assertions)]
pub mod stub;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::model::channel::{ChannelType, JsonObject};
use crate::model::id::DeliveryId;

/// One message to one address.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The delivery. It is the same however often the message is tried, so a provider that takes an idempotency key gets
    /// this one.
    pub delivery: DeliveryId,
    /// How often a driver was asked to take it, this time included. Beyond the first, an earlier try may have reached the
    /// provider without anybody hearing of it.
    pub attempt: u32,
    /// Where it goes. As long as users have no addresses of their own, this is the uid.
    pub address: String,
    /// The content for the channel type, with the values in it.
    pub content: JsonObject,
}

/// What a driver made of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The provider has taken it.
    Accepted,
    /// It may be taken later.
    Retry,
    /// It never will be.
    Refused,
}

/// Takes messages of one channel type to a provider.
#[async_trait]
pub trait Driver: fmt::Debug + Send + Sync {
    /// Takes messages, and says of each, in their order, what became of it. One whose outcome is missing is tried again. It
    /// ends by itself within [`DELIVERY_TIME_MAX`], or it is given up then.
    async fn deliver(&self, envelopes: &[Envelope]) -> Vec<Outcome>;
}

/// How long a driver may take for what it is asked at once.
pub const DELIVERY_TIME_MAX: Duration = Duration::from_secs(20);

/// The drivers of an installation by channel type. Cheap to clone. None is built in so far.
#[derive(Clone, Debug, Default)]
pub struct Drivers(Arc<BTreeMap<i16, Arc<dyn Driver>>>);

impl Drivers {
    /// The same with one more.
    #[must_use]
    pub fn with(self, channel_type: ChannelType, driver: Arc<dyn Driver>) -> Self {
        let mut drivers = self.0.as_ref().clone();
        drivers.insert(channel_type.number(), driver);
        Self(Arc::new(drivers))
    }

    /// The driver of a channel type.
    #[must_use]
    pub fn get(&self, channel_type: ChannelType) -> Option<&Arc<dyn Driver>> {
        self.0.get(&channel_type.number())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The drivers that this build has: the stub, where a test asks for it.
#[cfg(debug_assertions)]
#[must_use]
pub fn built_in() -> Drivers {
    stub::drivers()
}

/// The drivers that this build has: none so far.
#[cfg(not(debug_assertions))]
#[must_use]
pub fn built_in() -> Drivers {
    Drivers::default()
}
