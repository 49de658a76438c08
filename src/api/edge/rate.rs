//! How often an app may call: token buckets per app, node and class of calls. It never waits; it lets in or refuses.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use http::header::{HeaderMap, HeaderName};

use crate::api::method::RateClass;
use crate::model::id::AppId;
use crate::model::{Caller, Error, Reason, Timestamp};

/// Buckets kept per class; callers beyond share one, so that made-up peers cannot fill the memory.
const BUCKETS_MAX: usize = 100_000;

/// The limits, per minute; `None`: no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Of most calls.
    pub standard: Option<NonZeroU32>,
    /// Of calls that create or delete users and credentials.
    pub core: Option<NonZeroU32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Bucket {
    App(AppId),
    Operator,
    Peer(IpAddr),
    /// All who come when there is no room for another bucket.
    Crowd,
}

struct Class {
    limit: NonZeroU32,
    buckets: RateLimiter<Bucket, DashMapStateStore<Bucket>, DefaultClock, StateInformationMiddleware>,
}

impl Class {
    fn new(limit: NonZeroU32) -> Self {
        Self {
            limit,
            buckets: RateLimiter::dashmap(Quota::per_minute(limit)).with_middleware(),
        }
    }
}

/// What a caller's bucket holds after a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    limit: u32,
    remaining: u32,
    /// How long to wait, when the call was refused, and when that is over.
    refused: Option<(Duration, Timestamp)>,
}

impl Allowance {
    /// The refusal, when the bucket was empty.
    pub(crate) fn refusal(&self) -> Option<Error> {
        let (wait, _) = self.refused?;
        let seconds = whole_seconds(wait);
        let problem = format!(
            "rate limit of {} calls per minute is used up, retry after {seconds} s",
            self.limit
        );
        let error = Error::new(Reason::TooManyRequests, problem)
            .with("limit", self.limit)
            .with("retryAfterSeconds", seconds)
            .retry_after(wait);
        Some(error)
    }

    /// Tells the caller, in both spellings that clients know.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        const LIMIT: [HeaderName; 2] = [
            HeaderName::from_static("x-rate-limit"),
            HeaderName::from_static("x-ratelimit-limit"),
        ];
        const REMAINING: [HeaderName; 2] = [
            HeaderName::from_static("x-rate-limit-remaining"),
            HeaderName::from_static("x-ratelimit-remaining"),
        ];
        const RESET: [HeaderName; 2] = [
            HeaderName::from_static("x-rate-limit-reset"),
            HeaderName::from_static("x-ratelimit-reset"),
        ];
        for (limit, remaining) in LIMIT.into_iter().zip(REMAINING) {
            headers.insert(limit, self.limit.into());
            headers.insert(remaining, self.remaining.into());
        }
        if let Some((wait, until)) = self.refused {
            for reset in RESET {
                headers.insert(reset, until.millis().div_euclid(1_000).into());
            }
            // The REST door writes it from the error as well; gRPC callers find it here.
            headers.insert(http::header::RETRY_AFTER, whole_seconds(wait).into());
        }
    }
}

/// Both classes of limits.
pub(crate) struct Limiter {
    standard: Option<Class>,
    core: Option<Class>,
    clock: DefaultClock,
}

impl Limiter {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            standard: options.standard.map(Class::new),
            core: options.core.map(Class::new),
            clock: DefaultClock::default(),
        }
    }

    /// Takes one call from a caller's bucket; `None` when the class has no limit. Callers without an app or the
    /// operator's key are told apart by the address they call from.
    pub(crate) fn take(&self, caller: Caller, peer: IpAddr, class: RateClass, now: Timestamp) -> Option<Allowance> {
        let class = match class {
            RateClass::Standard => self.standard.as_ref()?,
            RateClass::Core => self.core.as_ref()?,
        };
        let bucket = match caller {
            Caller::App { app, .. } => Bucket::App(app),
            Caller::Operator => Bucket::Operator,
            Caller::Public if class.buckets.len() >= BUCKETS_MAX => Bucket::Crowd,
            Caller::Public => Bucket::Peer(network(peer)),
        };
        let allowance = match class.buckets.check_key(&bucket) {
            Ok(state) => Allowance {
                limit: class.limit.get(),
                remaining: state.remaining_burst_capacity(),
                refused: None,
            },
            Err(until) => {
                let wait = until.wait_time_from(self.clock.now());
                let reset = now.plus(Duration::from_secs(whole_seconds(wait)));
                Allowance {
                    limit: class.limit.get(),
                    remaining: 0,
                    refused: Some((wait, reset)),
                }
            }
        };
        Some(allowance)
    }

    /// Forgets full buckets; to be called about once a minute.
    pub(crate) fn upkeep(&self) {
        for class in self.standard.iter().chain(&self.core) {
            class.buckets.retain_recent();
        }
    }
}

/// The address, or for IPv6 the network of /64 that one subscriber gets, RFC 6177.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    seconds.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn limiter(standard: u32) -> Limiter {
        Limiter::new(Options {
            standard: NonZeroU32::new(standard),
            core: None,
        })
    }

    #[test]
    fn each_caller_has_a_bucket_of_its_own() {
        let limiter = limiter(2);
        let now = Timestamp::from_millis(1_500).unwrap();
        let take = |caller| limiter.take(caller, HERE, RateClass::Standard, now).unwrap();
        assert_eq!(take(Caller::Operator).remaining, 1);
        assert_eq!(take(Caller::Operator).remaining, 0);
        let refused = take(Caller::Operator);
        let error = refused.refusal().unwrap();
        assert_eq!(error.reason(), Reason::TooManyRequests);
        assert_eq!(error.metadata()[1], ("retryAfterSeconds", "30".to_owned()));
        let mut headers = HeaderMap::new();
        refused.write(&mut headers);
        assert_eq!(headers["x-rate-limit-reset"], "31");
        assert_eq!(headers["retry-after"], "30");
        assert!(take(Caller::Public).refusal().is_none());
    }

    #[test]
    fn a_class_without_limit_counts_nothing() {
        let now = Timestamp::MIN;
        assert!(limiter(1).take(Caller::Operator, HERE, RateClass::Core, now).is_none());
    }
}
