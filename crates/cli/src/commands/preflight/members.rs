//! Direct connections to the members: whether each can be reached, and its clock.

use std::time::{Duration, SystemTime};

use mongodb::bson::Bson;
use mongodb::options::ServerAddress;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::deployment::{Deployment, QueryError, field};
use super::finding::Finding;

const REACHED: &str = "members reached";
const CLOCK: &str = "clocks";
/// The maximum skew in seconds: more than NTP leaves, and enough to misorder log entries.
const MAX_SKEW: f64 = 1.0;
/// The first round includes the time to connect. The fastest round has the most precise result.
const ROUNDS: usize = 3;

/// The result for one member.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) address: String,
    pub(crate) clock: Result<Clock, QueryError>,
}

/// The offset of a clock from that of this machine, in seconds, and its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Clock {
    pub(crate) offset: f64,
    pub(crate) uncertainty: f64,
}

/// Connects to all members concurrently.
pub(crate) async fn check(deployment: &Deployment, addresses: &[&str]) -> Vec<Member> {
    let mut checks = JoinSet::new();
    for address in addresses {
        let client = ServerAddress::parse(address)
            .map_err(|error| error.kind.to_string())
            .and_then(|address| deployment.member(&address).map_err(|error| error.to_string()));
        let (name, timeout) = ((*address).to_owned(), deployment.timeout());
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                checks.spawn(async move {
                    Member { address: name, clock: Err(QueryError::CommandFailed(error)) }
                });
                continue;
            }
        };
        checks.spawn(async move {
            let clock = clock(&client, timeout).await;
            Member { address: name, clock }
        });
    }
    let mut members = checks.join_all().await;
    members.sort_by(|one, other| one.address.cmp(&other.address));
    members
}

async fn clock(client: &mongodb::Client, timeout: Duration) -> Result<Clock, QueryError> {
    let mut best: Option<Clock> = None;
    for _ in 0..ROUNDS {
        let (before, began) = (SystemTime::now(), Instant::now());
        let hello = super::deployment::hello_of(client, timeout).await?;
        let uncertainty = began.elapsed().as_secs_f64() / 2.0;
        let Some(Bson::DateTime(there)) = field(&hello, &["localTime"]) else {
            return Err(QueryError::CommandFailed("it does not report its time".to_owned()));
        };
        let here = before.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
            + uncertainty;
        #[allow(clippy::cast_precision_loss, reason = "exact until the year 287396")]
        let offset = there.timestamp_millis() as f64 / 1e3 - here;
        if best.is_none_or(|best| uncertainty < best.uncertainty) {
            best = Some(Clock { offset, uncertainty });
        }
    }
    best.ok_or_else(|| QueryError::CommandFailed("no command was run".to_owned()))
}

/// The sidecar polls each member, so it must be able to reach all of them.
pub(crate) fn reached(members: &[Member]) -> Finding {
    let unreachable: Vec<String> = members
        .iter()
        .filter_map(|member| Some(format!("{}: {}", member.address, member.clock.as_ref().err()?)))
        .collect();
    if unreachable.is_empty() {
        return Finding::pass(REACHED, format!("all {} can be reached from this machine", members.len()));
    }
    Finding::warn(
        REACHED,
        format!("{} of {} cannot be reached: {}", unreachable.len(), members.len(), unreachable.join("; ")),
        "make each member reachable by its name in rs.conf(), for the backend and for the sidecar",
    )
}

/// Clock skew makes durations wrong and misorders log entries of different machines.
pub(crate) fn clocks(members: &[Member]) -> Finding {
    let known: Vec<(&str, Clock)> = members
        .iter()
        .filter_map(|member| Some((member.address.as_str(), *member.clock.as_ref().ok()?)))
        .collect();
    let certain_skew = |clock: &Clock| clock.offset.abs() - clock.uncertainty;
    let Some((worst, clock)) =
        known.iter().max_by(|(_, one), (_, other)| certain_skew(one).total_cmp(&certain_skew(other)))
    else {
        return Finding::skip(CLOCK, "no member reports its time");
    };
    let direction = if clock.offset >= 0.0 { "ahead of" } else { "behind" };
    let shown = format!(
        "{worst} is {:.1} s {direction} this machine (± {:.1} s)",
        clock.offset.abs(),
        clock.uncertainty
    );
    if certain_skew(clock) > MAX_SKEW {
        Finding::warn(CLOCK, shown, "run NTP (chrony, systemd-timesyncd) on all members and on this machine")
    } else {
        Finding::pass(CLOCK, format!("at most {:.3} s from the clock of this machine", clock.offset.abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    fn member(offset: f64, uncertainty: f64) -> Member {
        Member { address: format!("db{offset}"), clock: Ok(Clock { offset, uncertainty }) }
    }

    #[test]
    fn offset_within_the_round_trip_is_no_skew() {
        assert_eq!(clocks(&[member(0.01, 0.001), member(-0.4, 0.1)]).status, Status::Pass);
        assert_eq!(clocks(&[member(1.4, 0.5)]).status, Status::Pass);
        let found = clocks(&[member(0.0, 0.1), member(-7.0, 0.1)]);
        assert_eq!(found.status, Status::Warn);
        assert!(found.evidence.starts_with("db-7 is 7.0 s behind"), "{found:?}");
        assert_eq!(clocks(&[]).status, Status::Skip);
    }
}
