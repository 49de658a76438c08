//! How many descriptors the process may have open, and how many of them clients get: with none left it could not even
//! reach its own database. It opens nothing itself.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the process has open for itself, such as its log, its listener and its signals, with some to spare.
const OWN: u64 = 32;
/// Open for each database connection: with SQLite the file and its log, with PostgreSQL a socket to read by and one to
/// write by.
const PER_DATABASE_CONNECTION: u64 = 2;
/// The part of all descriptors that clients get however few there are.
const CLIENTS_MIN: u64 = 4;

/// Allows the process as many descriptors as it may have, and says how many client connections there is room for: at most
/// as many as are wanted. More wait to be accepted.
pub(super) fn connections_max(wanted: usize, database_connections: u32) -> usize {
    let Some(limit) = raised() else { return wanted };
    let most = usize::try_from(room(limit, database_connections)).unwrap_or(usize::MAX);
    if most < wanted {
        tracing::warn!(
            descriptors = limit,
            connections_max = most,
            "the limit of descriptors leaves room for fewer client connections than connections_max; raise it (ulimit -n, \
             LimitNOFILE)"
        );
    }
    wanted.min(most)
}

/// The limit of descriptors once it is as high as the process itself may set it; `None`: there is none. Most systems begin
/// with 1,024, which is there for programs older than ours, and allow far more.
fn raised() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let highest = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, highest) {
        Ok(()) => maximum,
        Err(fault) => {
            tracing::warn!(cause = %fault, "the limit of descriptors cannot be raised");
            current
        }
    }
}

fn room(limit: u64, database_connections: u32) -> u64 {
    let own = OWN + PER_DATABASE_CONNECTION * u64::from(database_connections);
    limit.saturating_sub(own).max(limit / CLIENTS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_process_does_not_need_and_never_nothing() {
        assert_eq!(room(1_024, 16), 960);
        assert_eq!(room(64, 4), 24);
        assert_eq!(room(64, 16), 16);
        assert_eq!(room(8, 16), 2);
    }
}
