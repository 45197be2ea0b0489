//! One round of a scenario: the set-up, the burst, and what must hold afterwards.

use anyhow::{Result, anyhow, bail, ensure};
use toml::Spanned;

use crate::commands::drill::backend::{Reply, Request, describe, unexpected};
use crate::commands::drill::race::RaceEnvironment;
use crate::commands::drill::race::afterwards::Afterwards;
use crate::commands::drill::race::burst::{Burst, Watched};
use crate::commands::drill::race::findings::{Counter, Findings};
use crate::commands::drill::scenario::check::in_order;
use crate::commands::drill::scenario::expression::Expression;
use crate::commands::drill::scenario::file::{Race, SetUp};
use crate::commands::drill::scenario::number::Number;
use crate::commands::drill::scenario::request::{build, capture};
use crate::commands::drill::scenario::variables::{Variable, Variables};

/// The maximum number of requests of a burst, and of the repetitions of a request.
const MAX_REQUESTS: usize = 10_000;

/// How a round ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RoundEnd {
    Completed,
    /// The backend does not have a route of the scenario.
    NotOffered(String),
}

/// The numbers that a scenario computes from the number of concurrent requests.
///
/// # Errors
///
/// If they cannot be computed.
pub(super) fn numbers(race: &Race, n: usize) -> Result<Variables, String> {
    let mut variables = Variables::default();
    variables.set_number("n", n);
    for (name, expression) in in_order(&race.numbers) {
        let number = expression.get_ref().evaluate(&|name| variables.number(name))?;
        variables.set_number(name.get_ref(), number);
    }
    Ok(variables)
}

/// Runs one round on new data.
///
/// # Errors
///
/// If the set-up fails, or an expression cannot be computed. The round is then inconclusive.
pub(super) async fn run(
    env: &RaceEnvironment,
    race: &Race,
    round: u32,
    findings: &mut Findings,
) -> Result<RoundEnd> {
    let mut variables = numbers(race, env.n).map_err(|error| anyhow!(error))?;
    variables.set_number("round", usize::try_from(round)?);
    variables.set("mark", Variable::Text(env.mark.clone()));
    for request in set_up_order(&race.setup, round) {
        if let Some(reason) = set_up(env, request, &mut variables).await? {
            return Ok(RoundEnd::NotOffered(reason));
        }
    }
    let (min, max) = bounds(race, &variables)?;
    let requests = burst_requests(env, race, &variables)?;
    let Watches { polled, in_responses } = watches(race, &variables)?;
    let burst = Burst::send(&env.backend, &env.probe, requests, &polled).await;
    if let Some(reason) = missing_route(env, race, &burst) {
        return Ok(RoundEnd::NotOffered(reason));
    }
    let count = findings.record_burst(&burst, race, &polled, &env.error);
    for (pointer, at_least) in in_responses {
        findings.assert_responses(&burst, race, pointer, at_least);
    }
    findings.assert_successes(min, max.unwrap_or(usize::MAX), count);
    let mut counters = vec![Counter { name: "succeeded".to_owned(), count }];
    for (index, request) in race.burst.iter().enumerate() {
        if let Some(name) = &request.name {
            let name = format!("{}.succeeded", name.get_ref());
            counters.push(Counter { name, count: burst.count(race, Some(index)) });
        }
    }
    for Counter { name, count } in &counters {
        variables.set_number(name, count.succeeded);
    }
    Afterwards { env, variables, counters, findings, incomplete: false }.check_all(&race.after).await?;
    Ok(RoundEnd::Completed)
}

/// The requests of the set-up in the order of this round.
fn set_up_order(requests: &[SetUp], round: u32) -> Vec<&SetUp> {
    let mut order: Vec<_> = requests.iter().collect();
    if round.is_multiple_of(2) {
        order.chunk_by_mut(|first, second| first.alternate && second.alternate).for_each(<[_]>::reverse);
    }
    order
}

/// Sends a request of the set-up. Returns the reason if the backend does not offer it.
async fn set_up(env: &RaceEnvironment, request: &SetUp, variables: &mut Variables) -> Result<Option<String>> {
    let times = match &request.times {
        Some(times) => count(times, variables)?,
        None => 1,
    };
    for index in 0..times {
        if request.times.is_some() {
            variables.set_number("i", index + 1);
        }
        let SetUp { method, path, headers, body, status: statuses, .. } = request;
        let sent = build(*method, path, headers, body.as_ref(), variables, index)?;
        let (method, path) = (sent.method.clone(), sent.path.clone());
        match env.backend.send(sent).await {
            Reply::Received(status, body) if statuses.contains(status) => {
                let what = format!("{method} {path} responded with {}", status.as_u16());
                capture(&request.capture, &body, request.times.is_some(), variables)
                    .map_err(|why| anyhow!("{what}, but {why}"))?;
            }
            Reply::Received(status, body) if matches!(status.as_u16(), 404 | 405) => {
                let reply = describe(&Reply::Received(status, body), &env.error);
                return Ok(Some(format!("{method} {path} responded with {reply}")));
            }
            reply => bail!(unexpected(&method, &path, &reply, &env.error, &statuses.to_string())),
        }
    }
    Ok(None)
}

/// The requests of the burst, of each kind one after the other.
fn burst_requests(
    env: &RaceEnvironment,
    race: &Race,
    variables: &Variables,
) -> Result<Vec<(usize, Request)>> {
    let times =
        race.burst.iter().map(|request| request.times.as_ref().map_or(Ok(env.n), |t| count(t, variables)));
    let times = times.collect::<Result<Vec<_>>>()?;
    let all: usize = times.iter().sum();
    ensure!(
        all <= MAX_REQUESTS,
        "the burst has {all} requests, and the maximum is {MAX_REQUESTS}: lower --concurrency or times"
    );
    let mut variables = variables.clone();
    let mut requests = Vec::with_capacity(all);
    for round in 0..times.iter().copied().max().unwrap_or(0) {
        variables.set_number("i", round + 1);
        for (index, kind) in race.burst.iter().enumerate().filter(|(index, _)| round < times[*index]) {
            let request =
                build(kind.method, &kind.path, &kind.headers, kind.body.as_ref(), &variables, round)?;
            requests.push((index, request));
        }
    }
    Ok(requests)
}

/// The limits of numbers during the burst.
#[derive(Debug, Default)]
struct Watches<'a> {
    polled: Vec<Watched>,
    /// Pointers into the successful responses.
    in_responses: Vec<(&'a str, Number)>,
}

/// The numbers that are polled during the burst, and the pointers to numbers in its responses.
fn watches<'a>(race: &'a Race, variables: &Variables) -> Result<Watches<'a>> {
    let mut watches = Watches::default();
    for watch in &race.watch {
        let at_least =
            watch.at_least.as_ref().map_or(Ok(Number::ZERO), |limit| evaluate(limit, variables))?;
        match &watch.path {
            Some(path) => {
                let path = path.get_ref().render_path(variables, 0).map_err(|error| anyhow!(error))?;
                watches.polled.push(Watched { path, pointer: watch.json.0.clone(), at_least });
            }
            None => watches.in_responses.push((watch.json.0.as_str(), at_least)),
        }
    }
    Ok(watches)
}

/// Why the scenario is not offered: every response to an optional request is 404 or 405.
fn missing_route(env: &RaceEnvironment, race: &Race, burst: &Burst) -> Option<String> {
    let is_missing = |reply: &Reply| {
        matches!(reply, Reply::Received(status, _)
            if matches!(status.as_u16(), 404 | 405) && !race.success_status.contains(*status))
    };
    race.burst.iter().enumerate().filter(|(_, request)| request.optional).find_map(|(index, request)| {
        let mut replies = burst.replies.iter().filter(|(of, _)| *of == index).map(|(_, reply)| reply);
        let first = replies.next().filter(|reply| is_missing(reply))?;
        let method = http::Method::from(request.method);
        let what = request.name.as_ref().map_or_else(String::new, |name| format!(" ({})", name.get_ref()));
        let reply = describe(first, &env.error);
        replies.all(is_missing).then(|| format!("every {method} of the burst{what} responded with {reply}"))
    })
}

/// The numbers of requests that must and may succeed.
fn bounds(race: &Race, variables: &Variables) -> Result<(usize, Option<usize>)> {
    let count =
        |bound: &Option<Spanned<Expression>>| bound.as_ref().map(|bound| count(bound, variables)).transpose();
    Ok(match count(&race.succeed)? {
        Some(exactly) => (exactly, Some(exactly)),
        None => (count(&race.succeed_at_least)?.unwrap_or(0), count(&race.succeed_at_most)?),
    })
}

fn evaluate(expression: &Spanned<Expression>, variables: &Variables) -> Result<Number> {
    expression.get_ref().evaluate(&|name| variables.number(name)).map_err(|error| anyhow!(error))
}

/// The value of an expression that is a number of requests.
fn count(expression: &Spanned<Expression>, variables: &Variables) -> Result<usize> {
    let number = evaluate(expression, variables)?;
    let whole = number.whole().filter(|whole| *whole <= MAX_REQUESTS);
    whole.ok_or_else(|| {
        anyhow!("a number of requests is {number}, and must be an integer from 0 to {MAX_REQUESTS}")
    })
}
