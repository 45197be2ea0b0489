//! The fixtures of a load test, created before the load starts, and its requests.

use std::sync::Arc;

use anyhow::{Result, anyhow, bail, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::commands::drill::backend::{Backend, MissingReply, Reply, Request, unexpected};
use crate::commands::drill::load::schedule::Schedule;
use crate::commands::drill::scenario::check::in_order;
use crate::commands::drill::scenario::file::SetUp;
use crate::commands::drill::scenario::load::{Load, LoadRequest};
use crate::commands::drill::scenario::number::Number;
use crate::commands::drill::scenario::request::{build, capture};
use crate::commands::drill::scenario::variables::{Variable, Variables};

/// The maximum number of repetitions of a request of the set-up.
const MAX_FIXTURES: usize = 100_000;
/// The number of concurrent requests that create fixtures.
const SETUP_CONCURRENCY: usize = 16;

#[derive(Debug)]
pub(crate) struct Fixtures {
    backend: Backend,
    load: Arc<Load>,
    schedule: Schedule,
    /// All variables, lists included.
    variables: Variables,
    /// Those that every request gets.
    common: Variables,
    seed: u64,
}

/// How often each request of the set-up is sent.
#[derive(Debug)]
pub(crate) struct FixturePlan {
    times: Vec<usize>,
    variables: Variables,
}

impl FixturePlan {
    /// # Errors
    ///
    /// If a load of this size needs too many fixtures.
    pub(crate) fn new(load: &Load, arrivals: u64, entities: u32) -> Result<Self> {
        let mut variables = Variables::default();
        variables.set_number("arrivals", usize::try_from(arrivals)?);
        variables.set_number("entities", usize::try_from(entities)?);
        let times = |request: &SetUp| {
            let Some(times) = &request.times else { return Ok(1) };
            let number: Number =
                times.get_ref().evaluate(&|name| variables.number(name)).map_err(|error| anyhow!(error))?;
            let whole = number.whole().filter(|whole| *whole <= MAX_FIXTURES);
            whole.ok_or_else(|| {
                anyhow!(
                    "{arrivals} arrivals need {number} requests of the set-up, and the maximum is {MAX_FIXTURES}: \
                     lower --rate or --duration"
                )
            })
        };
        Ok(Self { times: load.setup.iter().map(times).collect::<Result<_>>()?, variables })
    }
}

impl Fixtures {
    /// Creates the fixtures. `on_progress` gets the number of responses so far.
    ///
    /// # Errors
    ///
    /// If the backend rejects a request.
    pub(crate) async fn create(
        (backend, error): (&Backend, &str),
        load: Arc<Load>,
        mark: &str,
        plan: FixturePlan,
        seed: u64,
        mut on_progress: impl FnMut(usize),
    ) -> Result<Self> {
        let FixturePlan { times, mut variables } = plan;
        variables.set("mark", Variable::Text(mark.to_owned()));
        let mut before = 0;
        for (setup, times) in load.setup.iter().zip(times) {
            let known = &variables;
            let responses = stream::iter(0..times).map(|index| async move {
                let mut variables = known.clone();
                variables.set_number("i", index + 1);
                let SetUp { method, path, headers, body, status: statuses, .. } = setup;
                let sent = build(*method, path, headers, body.as_ref(), &variables, index)?;
                let (method, path) = (sent.method.clone(), sent.path.clone());
                match backend.send(sent).await {
                    Reply::Received(status, body) if statuses.contains(status) => {
                        let mut captured = Variables::default();
                        capture(&setup.capture, &body, setup.times.is_some(), &mut captured)
                            .map_err(|why| anyhow!("{method} {path} responded with {status}, but {why}"))?;
                        Ok(captured)
                    }
                    reply => bail!(unexpected(&method, &path, &reply, error, &statuses.to_string())),
                }
            });
            let captured: Vec<_> = responses.buffer_unordered(SETUP_CONCURRENCY).try_collect().await?;
            before += captured.len();
            captured.into_iter().for_each(|captured| variables.append(captured));
            on_progress(before);
        }
        let schedule = Schedule::new(&load.request.iter().map(LoadRequest::weight).collect::<Vec<_>>());
        let common = variables.without_lists();
        let backend = backend.clone();
        let fixtures = Self { backend, load, schedule, variables, common, seed };
        // The first request of each kind shows whether all can be built.
        for request in &fixtures.load.request {
            fixtures.request(request, 0)?;
        }
        Ok(fixtures)
    }

    /// Sends the request of an arrival.
    pub(crate) async fn send(self: Arc<Self>, arrival: u64) -> Reply {
        match self.request(&self.load.request[self.schedule.request(arrival)], arrival) {
            Ok(request) => self.backend.send(request).await,
            Err(_) => Reply::Missing(MissingReply::Unreachable),
        }
    }

    fn request(&self, request: &LoadRequest, arrival: u64) -> Result<Request> {
        // Each arrival has its own generator, so that its choices depend only on the seed.
        let mut rng = StdRng::seed_from_u64(self.seed ^ arrival.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut variables = self.common.clone();
        variables.set_number("arrival", usize::try_from(arrival)?);
        let mut picked: Vec<(&str, usize)> = Vec::new();
        for (name, list) in in_order(&request.pick) {
            let list = list.get_ref().as_str();
            let values = self.variables.list(list);
            let mut others: Vec<_> =
                picked.iter().filter(|(of, _)| *of == list).map(|(_, index)| *index).collect();
            ensure!(
                others.len() < values.len(),
                "{list} has {} values, which a request needs at once",
                values.len()
            );
            // One of those that are not picked yet.
            let mut index = rng.random_range(0..values.len() - others.len());
            others.sort_unstable();
            others.into_iter().for_each(|other| index += usize::from(index >= other));
            picked.push((list, index));
            variables.set(name.get_ref(), values[index].clone());
        }
        for (name, list) in &request.take {
            let values = self.variables.list(list.get_ref());
            ensure!(!values.is_empty(), "{} has no values", list.get_ref());
            let next = usize::try_from(self.schedule.earlier(arrival))? % values.len();
            variables.set(name.get_ref(), values[next].clone());
        }
        let LoadRequest { method, path, headers, body, .. } = request;
        build(*method, path, headers, body.as_ref(), &variables, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::drill::scenario::file::ScenarioFile;

    #[test]
    fn each_completion_has_its_own_payment() {
        let load = ScenarioFile::load(None).unwrap().load.unwrap();
        let schedule = Schedule::new(&load.request.iter().map(LoadRequest::weight).collect::<Vec<_>>());
        let complete = load.request.iter().position(|request| request.take.len() == 1).unwrap();
        for arrivals in [1, 2, 3, 4, 5, 999, 1_000] {
            let payments = FixturePlan::new(&load, arrivals, 10).unwrap().times[2] as u64;
            let completions = (0..arrivals).filter(|arrival| schedule.request(*arrival) == complete);
            assert!(
                completions.map(|arrival| schedule.earlier(arrival)).max().is_none_or(|most| most < payments)
            );
        }
        assert!(FixturePlan::new(&load, 500_001, 10).is_err());
        assert_eq!(FixturePlan::new(&load, 20_001, 10).unwrap().times, [10, 10, 4_001]);
    }
}
