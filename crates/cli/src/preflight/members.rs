//! Each member by itself: whether it is reached from here, and what its clock says.

use std::time::{Duration, SystemTime};

use mongodb::bson::Bson;
use mongodb::options::ServerAddress;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::deployment::{Deployment, Refusal, field};
use super::finding::Finding;

const REACHED: &str = "members reached";
const CLOCK: &str = "clocks";
/// More than NTP leaves, and enough to put the rows of a log into a wrong order.
const SKEW: f64 = 1.0;
/// The first question pays for the connection; the quickest of all tells most about the clock.
const ROUNDS: usize = 3;

/// What was learnt of one member.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) address: String,
    pub(crate) clock: Result<Clock, Refusal>,
}

/// How far a clock is ahead of ours, in seconds, give or take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Clock {
    pub(crate) ahead: f64,
    pub(crate) give: f64,
}

/// Asks them all at once.
pub(crate) async fn ask(deployment: &Deployment, addresses: &[&str]) -> Vec<Member> {
    let mut asked = JoinSet::new();
    for address in addresses {
        let client = ServerAddress::parse(address)
            .map_err(|error| error.kind.to_string())
            .and_then(|address| deployment.member(&address).map_err(|error| error.to_string()));
        let (name, timeout) = ((*address).to_owned(), deployment.timeout());
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                asked.spawn(async move { Member { address: name, clock: Err(Refusal::Refused(error)) } });
                continue;
            }
        };
        asked.spawn(async move {
            let clock = clock(&client, timeout).await;
            Member { address: name, clock }
        });
    }
    let mut members = asked.join_all().await;
    members.sort_by(|one, other| one.address.cmp(&other.address));
    members
}

async fn clock(client: &mongodb::Client, timeout: Duration) -> Result<Clock, Refusal> {
    let mut best: Option<Clock> = None;
    for _ in 0..ROUNDS {
        let (before, began) = (SystemTime::now(), Instant::now());
        let hello = super::deployment::hello_of(client, timeout).await?;
        let give = began.elapsed().as_secs_f64() / 2.0;
        let Some(Bson::DateTime(there)) = field(&hello, &["localTime"]) else {
            return Err(Refusal::Refused("it does not tell the time".to_owned()));
        };
        let here =
            before.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()) + give;
        #[allow(
            clippy::cast_precision_loss,
            reason = "milliseconds since 1970 are exact in an f64 for 285,000 years"
        )]
        let ahead = there.timestamp_millis() as f64 / 1e3 - here;
        if best.is_none_or(|best| give < best.give) {
            best = Some(Clock { ahead, give });
        }
    }
    best.ok_or_else(|| Refusal::Refused("it was not asked".to_owned()))
}

/// The sidecar polls each member, so each must be reached from where it runs.
pub(crate) fn reached(members: &[Member]) -> Finding {
    let away: Vec<String> = members
        .iter()
        .filter_map(|member| Some(format!("{}: {}", member.address, member.clock.as_ref().err()?)))
        .collect();
    if away.is_empty() {
        return Finding::pass(REACHED, format!("all {} from here", members.len()));
    }
    Finding::warn(
        REACHED,
        format!("{} of {} are not: {}", away.len(), members.len(), away.join("; ")),
        "each must be reached by the name that rs.conf() has for it, by the backend and by the sidecar",
    )
}

/// Clocks that differ make every age and every join of logs wrong.
pub(crate) fn clocks(members: &[Member]) -> Finding {
    let known: Vec<(&str, Clock)> = members
        .iter()
        .filter_map(|member| Some((member.address.as_str(), *member.clock.as_ref().ok()?)))
        .collect();
    let off = |clock: &Clock| clock.ahead.abs() - clock.give;
    let Some((worst, clock)) = known.iter().max_by(|(_, one), (_, other)| off(one).total_cmp(&off(other)))
    else {
        return Finding::skip(CLOCK, "no member tells its time");
    };
    let direction = if clock.ahead >= 0.0 { "ahead of" } else { "behind" };
    let shown = format!(
        "{worst} is {:.1} s {direction} this machine, give or take {:.1} s",
        clock.ahead.abs(),
        clock.give
    );
    if off(clock) > SKEW {
        Finding::warn(
            CLOCK,
            shown,
            "have NTP (chrony, systemd-timesyncd) on every member and on this machine",
        )
    } else {
        Finding::pass(CLOCK, format!("at most {:.3} s from this machine's", clock.ahead.abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn member(ahead: f64, give: f64) -> Member {
        Member { address: format!("db{ahead}"), clock: Ok(Clock { ahead, give }) }
    }

    #[test]
    fn what_the_round_trip_explains_is_no_skew() {
        assert_eq!(clocks(&[member(0.01, 0.001), member(-0.4, 0.1)]).verdict, Verdict::Pass);
        assert_eq!(clocks(&[member(1.4, 0.5)]).verdict, Verdict::Pass);
        let found = clocks(&[member(0.0, 0.1), member(-7.0, 0.1)]);
        assert_eq!(found.verdict, Verdict::Warn);
        assert!(found.evidence.starts_with("db-7 is 7.0 s behind"), "{found:?}");
        assert_eq!(clocks(&[]).verdict, Verdict::Skip);
    }
}
