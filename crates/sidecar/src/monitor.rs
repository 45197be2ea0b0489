//! Monitoring of one deployment: members that join are polled, members that leave are not.

mod membership;

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
use crate::discovery::{KnownDeployment, UriRequirements};
use crate::error::{PollErrorReason, StartError};
use crate::hello::close_client;
use crate::hosts::{Dns, Hosts};
use crate::poller::{PollTiming, spawn_pollers};
use crate::snapshot::{MemberState, Snapshot};
use crate::uri::{MemberClient as Client, Uri, client};

/// Monitors one deployment.
pub(crate) struct DeploymentMonitor {
    hosts: Hosts,
    requirements: UriRequirements,
    /// The name of the replica set: from the URI, then from the set itself.
    rs: String,
    timing: PollTiming,
    collectors: CollectorSettings,
    snapshot: Snapshot,
    tasks: TaskTracker,
    stop: CancellationToken,
    monitored: BTreeMap<String, MonitoredMember>,
    /// Clients of servers that are sent `hello` and are not monitored, or not yet.
    candidate_clients: BTreeMap<String, Client>,
    /// Clients without credentials, for servers that reject ours: `hello` needs no authentication.
    unauthenticated: BTreeMap<String, Client>,
    known: KnownDeployment,
    /// Hosts of the URI that are aliases of members, with the member's name.
    aliases: BTreeMap<String, String>,
    /// The member that confirmed the deployment last, which is asked first.
    preferred: Option<String>,
}

struct MonitoredMember {
    /// `None` if the address cannot be dialed.
    client: Option<Client>,
    state: Arc<MemberState>,
    stop: CancellationToken,
    /// The member is polled without credentials, since it is an arbiter.
    unauthenticated: bool,
}

impl DeploymentMonitor {
    /// Validates the options with the driver, without contacting any server. An SRV name that does not resolve
    /// yet is retried later.
    ///
    /// # Errors
    ///
    /// If the driver does not accept the URI's options.
    pub(crate) async fn new(
        uri: Uri,
        timing: PollTiming,
        collectors: CollectorSettings,
        snapshot: Snapshot,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let requirements = UriRequirements { rs: uri.rs.clone(), direct: uri.direct };
        let hosts = Hosts::new(uri).await?;
        let mut candidate_clients = BTreeMap::new();
        if let Some(options) = hosts.options()
            && let Some((name, host)) = hosts.seeds().into_iter().next()
        {
            let client = client(options, host, timing.timeout)?;
            candidate_clients.insert(name, client);
        }
        Ok(Self {
            rs: requirements.rs.clone().unwrap_or_default(),
            requirements,
            hosts,
            timing,
            collectors,
            snapshot,
            tasks,
            stop,
            monitored: BTreeMap::new(),
            candidate_clients,
            unauthenticated: BTreeMap::new(),
            known: KnownDeployment::default(),
            aliases: BTreeMap::new(),
            preferred: None,
        })
    }

    /// Monitors the members until it is stopped. Returns when the connections are closed.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.monitor()).await;
        let monitored = self.monitored.into_values().filter_map(|monitored| monitored.client);
        let clients =
            monitored.chain(self.candidate_clients.into_values()).chain(self.unauthenticated.into_values());
        let closing: FuturesUnordered<_> = clients.map(close_client).collect();
        closing.collect::<()>().await;
    }

    async fn monitor(&mut self) {
        let mut ticks = tokio::time::interval(self.timing.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.refresh().await;
        }
    }

    async fn refresh(&mut self) {
        self.resolve_dns().await;
        let seeds = self.hosts.seeds();
        if seeds.is_empty() {
            return;
        }
        let began = Instant::now();
        let failure = self.hello_from_any(&seeds).await.err();
        let members = match self.known.monitored_set(&self.requirements).cloned() {
            // Nothing better is known than the hosts of the URI.
            None => seeds.into_iter().map(|(name, host)| (name, Some(host))).collect(),
            Some(set) => {
                let mut members = set.members.clone();
                members.extend(self.unlisted_seeds(&set, &seeds).await);
                members
            }
        };
        let joined = self.set_members(members);
        for monitored in self.monitored.values().filter(|monitored| monitored.client.is_none()) {
            record_failure(&monitored.state, began, self.timing.interval, PollErrorReason::ServerSelection);
        }
        // A new member that has just not answered is down before its first poll has ended.
        if let Some(reason) = failure {
            for state in joined {
                record_failure(&state, began, self.timing.interval, reason);
            }
        }
    }

    /// Until DNS answers, the SRV name stands for the deployment, and is down.
    async fn resolve_dns(&mut self) {
        let Some(name) = self.hosts.name().map(str::to_owned) else { return };
        let began = Instant::now();
        match self.hosts.refresh(self.timing.timeout).await {
            Dns::Unchanged => {}
            Dns::Resolved => self.snapshot.remove(&name),
            Dns::Changed => self.aliases.clear(),
            Dns::Unavailable(error) => {
                let known = self.snapshot.members().into_iter().find(|member| member.address() == name);
                let state = known.unwrap_or_else(|| {
                    tracing::warn!(name, %error, "the SRV name does not resolve; retrying");
                    let state = Arc::new(self.new_member_state(name));
                    self.snapshot.insert(Arc::clone(&state));
                    state
                });
                record_failure(&state, began, self.timing.interval, error.reason);
            }
        }
    }

    fn new_member_state(&self, address: String) -> MemberState {
        let others = collector::enabled_collectors(&self.collectors).others;
        MemberState::new(address, self.rs.clone(), others.iter().map(|collector| collector.name()))
    }

    /// Sets the known name of the set for all members.
    fn update_set_name(&mut self) {
        if let KnownDeployment::Set(set) = &self.known {
            set.rs.clone_into(&mut self.rs);
            self.monitored.values().for_each(|monitored| monitored.state.set_rs(&set.rs));
        }
    }

    /// Returns the members that have joined.
    fn set_members(&mut self, members: BTreeMap<String, Option<ServerAddress>>) -> Vec<Arc<MemberState>> {
        let gone: Vec<_> =
            self.monitored.keys().filter(|address| !members.contains_key(*address)).cloned().collect();
        for address in gone {
            self.remove_member(&address);
        }
        let mistaken =
            self.monitored.iter().filter(|(_, monitored)| monitored.state.identity().take_mismatch());
        let mistaken: Vec<_> = mistaken.map(|(address, _)| address.clone()).collect();
        for monitored in self.monitored.values() {
            let expected = self.known.expected_at(monitored.state.address(), &self.requirements);
            monitored.state.identity().set_expected(expected);
        }
        for address in mistaken {
            // A connection that leads to another server is replaced: the address may lead to the member again.
            self.reconnect(&address);
        }
        // A monitored member has its client now; an alias needs none.
        let aliases = std::mem::take(&mut self.candidate_clients);
        let (settled, candidate_clients) =
            aliases.into_iter().partition(|(address, _)| self.aliases.contains_key(address));
        self.candidate_clients = candidate_clients;
        let settled: BTreeMap<String, Client> = settled;
        for client in settled.into_values() {
            self.tasks.spawn(close_client(client));
        }
        let new = members.into_iter().filter(|(address, _)| !self.monitored.contains_key(address));
        let new: Vec<_> = new.collect();
        new.into_iter().map(|(address, host)| self.add_member(address, host.as_ref())).collect()
    }

    /// A member whose address cannot be dialed is monitored too: it is down.
    fn add_member(&mut self, address: String, host: Option<&ServerAddress>) -> Arc<MemberState> {
        let unauthenticated = match self.known.monitored_set(&self.requirements) {
            Some(set) => set.arbiters.contains(&address),
            None => false,
        };
        let candidate_clients = self.candidate_clients.remove(&address);
        let client = match host {
            None => {
                tracing::error!(
                    member = address,
                    "the set lists a member with an address that cannot be dialed"
                );
                None
            }
            Some(_) if candidate_clients.is_some() && !unauthenticated => candidate_clients,
            Some(host) => {
                candidate_clients.map(|client| self.tasks.spawn(close_client(client)));
                self.new_client(&address, host, unauthenticated)
            }
        };
        let state = Arc::new(self.new_member_state(address.clone()));
        state.identity().set_expected(self.known.expected_at(&address, &self.requirements));
        let stop = self.stop.child_token();
        let monitored = MonitoredMember { client, state: Arc::clone(&state), stop, unauthenticated };
        self.start_polling(&monitored);
        self.snapshot.insert(Arc::clone(&state));
        tracing::info!(member = address, "monitoring a member");
        self.monitored.insert(address, monitored);
        state
    }

    fn start_polling(&self, MonitoredMember { client, state, stop, .. }: &MonitoredMember) {
        if let Some(client) = client {
            let collectors = collector::enabled_collectors(&self.collectors);
            spawn_pollers(state, client, collectors, self.timing, &self.tasks, stop);
        }
    }

    /// Polls a member over new connections, and keeps what is known about it.
    fn reconnect(&mut self, address: &str) {
        let Some(mut monitored) = self.monitored.remove(address) else { return };
        let host = self.hosts.seeds().get(address).cloned().or_else(|| address::parse(address));
        monitored.stop.cancel();
        monitored.stop = self.stop.child_token();
        let client = host.and_then(|host| self.new_client(address, &host, monitored.unauthenticated));
        if let Some(before) = std::mem::replace(&mut monitored.client, client) {
            self.tasks.spawn(close_client(before));
        }
        self.start_polling(&monitored);
        self.monitored.insert(address.to_owned(), monitored);
    }

    fn remove_member(&mut self, address: &str) {
        if let Some(MonitoredMember { client, stop, .. }) = self.monitored.remove(address) {
            tracing::info!(member = address, "a member has left");
            stop.cancel();
            self.snapshot.remove(address);
            if let Some(client) = client {
                self.tasks.spawn(close_client(client));
            }
        }
    }
}

/// Records for every collector of a member that it did not answer.
fn record_failure(state: &MemberState, began: Instant, interval: Duration, reason: PollErrorReason) {
    for collector in state.collectors() {
        collector.record(began, interval, Err(reason));
    }
}

#[cfg(test)]
mod tests;
