//! The members that are watched: who joins is polled, who leaves is not.

mod asking;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use mongodb::options::ServerAddress;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::address;
use crate::collector::{self, CollectorSettings};
use crate::discovery::{Demand, Deployment};
use crate::error::{Reason, StartError};
use crate::hosts::{Dns, Hosts};
use crate::inquiry::farewell;
use crate::poller::{Pace, watch_member};
use crate::snapshot::{MemberState, Snapshot};
use crate::uri::{MemberClient as Client, Uri, client};

/// Follows one deployment.
pub(crate) struct Fleet {
    hosts: Hosts,
    demand: Demand,
    /// The name of the replica set: what the URI says, and then what the set says.
    rs: String,
    pace: Pace,
    collectors: CollectorSettings,
    snapshot: Snapshot,
    tasks: TaskTracker,
    stop: CancellationToken,
    watched: BTreeMap<String, Watched>,
    /// Clients of servers that are asked who they are and are not watched, or not yet.
    asked: BTreeMap<String, Client>,
    /// Clients without a user, of servers that let ours not in: whoever has no users, says all the same who it is.
    userless: BTreeMap<String, Client>,
    known: Deployment,
    /// Hosts of the URI that have turned out to be another name of a member, and of which.
    aliases: BTreeMap<String, String>,
    /// Who answered last: is asked first.
    preferred: Option<String>,
}

struct Watched {
    /// `None`: its address leads nowhere.
    client: Option<Client>,
    state: Arc<MemberState>,
    stop: CancellationToken,
    /// It is asked without a user: it is an arbiter.
    userless: bool,
}

impl Fleet {
    /// Checks the options with the driver, without speaking to any server. Only a name that DNS does not know yet is
    /// left for later.
    ///
    /// # Errors
    ///
    /// If the driver does not accept the URI's options.
    pub(crate) async fn new(
        uri: Uri,
        pace: Pace,
        collectors: CollectorSettings,
        snapshot: Snapshot,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let demand = Demand { rs: uri.rs.clone(), direct: uri.direct };
        let hosts = Hosts::new(uri).await?;
        let mut asked = BTreeMap::new();
        if let Some(options) = hosts.options()
            && let Some((name, host)) = hosts.seeds().into_iter().next()
        {
            let client = client(options, host, pace.timeout)?;
            asked.insert(name, client);
        }
        Ok(Self {
            rs: demand.rs.clone().unwrap_or_default(),
            demand,
            hosts,
            pace,
            collectors,
            snapshot,
            tasks,
            stop,
            watched: BTreeMap::new(),
            asked,
            userless: BTreeMap::new(),
            known: Deployment::default(),
            aliases: BTreeMap::new(),
            preferred: None,
        })
    }

    /// Looks after the members until it is stopped. Returns when the connections are closed.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.follow()).await;
        let watched = self.watched.into_values().filter_map(|watched| watched.client);
        let clients = watched.chain(self.asked.into_values()).chain(self.userless.into_values());
        let farewells: FuturesUnordered<_> = clients.map(farewell).collect();
        farewells.collect::<()>().await;
    }

    async fn follow(&mut self) {
        let mut ticks = tokio::time::interval(self.pace.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.round().await;
        }
    }

    async fn round(&mut self) {
        self.ask_dns().await;
        let seeds = self.hosts.seeds();
        if seeds.is_empty() {
            return;
        }
        let began = Instant::now();
        let silent = self.ask_around(&seeds).await.err();
        let wanted = match self.known.followed(&self.demand).cloned() {
            // Nobody has told us better: the hosts of the URI it is.
            None => seeds.into_iter().map(|(name, host)| (name, Some(host))).collect(),
            Some(set) => {
                let mut wanted = set.members.clone();
                wanted.extend(self.beside(&set, &seeds).await);
                wanted
            }
        };
        let joined = self.watch_exactly(wanted);
        for watched in self.watched.values().filter(|watched| watched.client.is_none()) {
            fail(&watched.state, began, self.pace.interval, Reason::ServerSelection);
        }
        // Who is new and has just said nothing is down already: that shows before the first poll has ended.
        if let Some(reason) = silent {
            for state in joined {
                fail(&state, began, self.pace.interval, reason);
            }
        }
    }

    /// Until DNS answers, its name stands for the deployment, and is down.
    async fn ask_dns(&mut self) {
        let Some(name) = self.hosts.name().map(str::to_owned) else { return };
        let began = Instant::now();
        match self.hosts.refresh(self.pace.timeout).await {
            Dns::Same => {}
            Dns::First => self.snapshot.remove(&name),
            Dns::Changed => self.aliases.clear(),
            Dns::Silent(error) => {
                let known = self.snapshot.members().into_iter().find(|member| member.address() == name);
                let state = known.unwrap_or_else(|| {
                    tracing::warn!(name, %error, "DNS does not say who belongs to the deployment; asking again");
                    let state = Arc::new(self.state(name));
                    self.snapshot.insert(Arc::clone(&state));
                    state
                });
                fail(&state, began, self.pace.interval, error.reason);
            }
        }
    }

    fn state(&self, address: String) -> MemberState {
        let names = collector::all(&self.collectors).into_iter().map(|collector| collector.name());
        MemberState::new(address, self.rs.clone(), names)
    }

    /// From now on, all are members of the set that is known, by its name.
    fn rename(&mut self) {
        if let Deployment::Set(set) = &self.known {
            set.rs.clone_into(&mut self.rs);
            self.watched.values().for_each(|watched| watched.state.set_rs(&set.rs));
        }
    }

    /// Returns who has joined.
    fn watch_exactly(&mut self, wanted: BTreeMap<String, Option<ServerAddress>>) -> Vec<Arc<MemberState>> {
        let gone: Vec<_> =
            self.watched.keys().filter(|address| !wanted.contains_key(*address)).cloned().collect();
        for address in gone {
            self.leave(&address);
        }
        let mistaken = self.watched.iter().filter(|(_, watched)| watched.state.identity().take_mistake());
        let mistaken: Vec<_> = mistaken.map(|(address, _)| address.clone()).collect();
        for watched in self.watched.values() {
            let expected = self.known.expected_at(watched.state.address(), &self.demand);
            watched.state.identity().expect(expected);
        }
        for address in mistaken {
            // A connection that leads to a stranger is not kept: the address may lead to the member again.
            self.renew(&address);
        }
        // What is watched has its client now; another name of a member needs none.
        let aliases = std::mem::take(&mut self.asked);
        let (settled, asked) =
            aliases.into_iter().partition(|(address, _)| self.aliases.contains_key(address));
        self.asked = asked;
        let settled: BTreeMap<String, Client> = settled;
        for client in settled.into_values() {
            self.tasks.spawn(farewell(client));
        }
        let new = wanted.into_iter().filter(|(address, _)| !self.watched.contains_key(address));
        let new: Vec<_> = new.collect();
        new.into_iter().map(|(address, host)| self.join(address, host.as_ref())).collect()
    }

    /// A member whose address leads nowhere is one all the same: it is down.
    fn join(&mut self, address: String, host: Option<&ServerAddress>) -> Arc<MemberState> {
        let userless = match self.known.followed(&self.demand) {
            Some(set) => set.arbiters.contains(&address),
            None => false,
        };
        let asked = self.asked.remove(&address);
        let client = match host {
            None => {
                tracing::error!(member = address, "the set names a member by an address that leads nowhere");
                None
            }
            Some(_) if asked.is_some() && !userless => asked,
            Some(host) => {
                asked.map(|client| self.tasks.spawn(farewell(client)));
                self.new_client(&address, host, userless)
            }
        };
        let state = Arc::new(self.state(address.clone()));
        state.identity().expect(self.known.expected_at(&address, &self.demand));
        let stop = self.stop.child_token();
        let watched = Watched { client, state: Arc::clone(&state), stop, userless };
        self.poll(&watched);
        self.snapshot.insert(Arc::clone(&state));
        tracing::info!(member = address, "watching a member");
        self.watched.insert(address, watched);
        state
    }

    fn poll(&self, Watched { client, state, stop, .. }: &Watched) {
        if let Some(client) = client {
            let collectors = collector::all(&self.collectors);
            watch_member(state, client, collectors, self.pace, &self.tasks, stop);
        }
    }

    /// Polls a member over connections that are new. What is known of it stands.
    fn renew(&mut self, address: &str) {
        let Some(mut watched) = self.watched.remove(address) else { return };
        let host = self.hosts.seeds().get(address).cloned().or_else(|| address::parse(address));
        watched.stop.cancel();
        watched.stop = self.stop.child_token();
        let client = host.and_then(|host| self.new_client(address, &host, watched.userless));
        if let Some(before) = std::mem::replace(&mut watched.client, client) {
            self.tasks.spawn(farewell(before));
        }
        self.poll(&watched);
        self.watched.insert(address.to_owned(), watched);
    }

    fn leave(&mut self, address: &str) {
        if let Some(Watched { client, stop, .. }) = self.watched.remove(address) {
            tracing::info!(member = address, "a member has left");
            stop.cancel();
            self.snapshot.remove(address);
            if let Some(client) = client {
                self.tasks.spawn(farewell(client));
            }
        }
    }
}

/// Notes for every collector of a member that it did not answer.
fn fail(state: &MemberState, began: Instant, interval: Duration, reason: Reason) {
    for collector in state.collectors() {
        collector.note(began, interval, Err(reason));
    }
}

#[cfg(test)]
mod tests;
