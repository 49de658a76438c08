//! How long to wait before something is tried again. It counts no attempts and never waits itself.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// The wait after so many failures: it doubles with each, up to `most`, and is spread by chance between half and all of
/// that, so that those who failed together do not come back together.
#[must_use]
pub fn backoff(first: Duration, failures: u32, most: Duration) -> Duration {
    const CHANCES: u32 = 1_024;
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    let whole = first.saturating_mul(doubled).min(most);
    let chance = RandomState::new().build_hasher().finish() % u64::from(CHANCES);
    let chance = u32::try_from(chance).unwrap_or_default();
    whole / 2 + whole / 2 * chance / CHANCES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_the_most_and_is_never_less_than_half() {
        let (first, most) = (Duration::from_millis(100), Duration::from_millis(1_000));
        for (failures, whole) in [
            (1, 100),
            (2, 200),
            (3, 400),
            (4, 800),
            (5, 1_000),
            (50, 1_000),
            (u32::MAX, 1_000),
        ] {
            let wait = backoff(first, failures, most);
            let whole = Duration::from_millis(whole);
            assert!((whole / 2..=whole).contains(&wait), "{failures}: {wait:?}");
        }
    }

    #[test]
    fn two_waits_differ() {
        let waits: Vec<_> = (0..8)
            .map(|_| backoff(Duration::from_secs(10), 1, Duration::MAX))
            .collect();
        assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
    }
}
