//! The members that are watched: who joins is polled, who leaves is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use mongodb::options::{ClientOptions, ServerAddress};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{PollError, Reason, StartError};
use crate::poller::{Pace, watch_member};
use crate::snapshot::{MemberState, Snapshot};
use crate::source::{self, SourceSettings};
use crate::topology::{Hello, Membership, hello};
use crate::uri::{MemberClient as Client, Uri, client};

/// How long closing the connections may take at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// Follows one deployment.
pub(crate) struct Fleet {
    uri: Uri,
    /// The name of the replica set: what the URI says, and then what the set says.
    rs: String,
    /// What all clients have in common, and the hosts of the URI. Missing while DNS does not say.
    options: Option<ClientOptions>,
    pace: Pace,
    sources: SourceSettings,
    snapshot: Snapshot,
    tasks: TaskTracker,
    stop: CancellationToken,
    watched: BTreeMap<String, Watched>,
    /// Clients of servers that are asked who they are and are not watched, or not yet.
    asked: BTreeMap<String, Client>,
    /// The last account of the set that was accepted.
    known: Option<Membership>,
    /// Hosts of the URI that have turned out to be another name of a member, or nothing to watch.
    settled: BTreeSet<String>,
    /// Who answered last: is asked first.
    preferred: Option<String>,
}

struct Watched {
    client: Client,
    state: Arc<MemberState>,
    stop: CancellationToken,
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
        sources: SourceSettings,
        snapshot: Snapshot,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let options = match uri.dns_name {
            None => Some(uri.resolve().await?),
            Some(_) => None,
        };
        let mut asked = BTreeMap::new();
        if let Some(options) = &options
            && let Some(host) = options.hosts.first()
        {
            let client = client(options, host.clone(), pace.timeout)?;
            asked.insert(host.to_string(), client);
        }
        Ok(Self {
            rs: uri.rs.clone().unwrap_or_default(),
            uri,
            options,
            pace,
            sources,
            snapshot,
            tasks,
            stop,
            watched: BTreeMap::new(),
            asked,
            known: None,
            settled: BTreeSet::new(),
            preferred: None,
        })
    }

    /// Looks after the members until it is stopped. Returns when the connections are closed.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(self.follow()).await;
        let clients =
            self.watched.into_values().map(|watched| watched.client).chain(self.asked.into_values());
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
        if self.options.is_none() {
            self.ask_dns().await;
        }
        let seeds = self.seeds();
        if seeds.is_empty() {
            return;
        }
        let began = Instant::now();
        let silent = match self.ask_anyone(&seeds).await {
            Ok(Hello::Member(membership)) => {
                if self.uri.direct {
                    self.rename(&membership.rs)
                } else {
                    self.accept(membership)
                }
                None
            }
            Ok(Hello::Alone | Hello::Mongos | Hello::Unsure) => None,
            Err(reason) => Some(reason),
        };
        let mut wanted = match &self.known {
            Some(known) => known.members.clone(),
            // Nobody has told us better: the hosts of the URI it is.
            None => seeds.keys().cloned().collect(),
        };
        if self.known.is_some() {
            wanted.extend(self.hidden(&seeds, &wanted).await);
        }
        let joined = self.watch_exactly(&wanted);
        // Who is new and has just said nothing is down already: that shows before the first poll has ended.
        if let Some(reason) = silent {
            for state in joined {
                for source in state.sources() {
                    source.note(began, self.pace.interval, Err(reason));
                }
            }
        }
    }

    /// The hosts of the URI, in the form in which addresses are shown.
    fn seeds(&self) -> BTreeMap<String, ServerAddress> {
        let hosts = self.options.iter().flat_map(|options| &options.hosts);
        hosts.map(|host| (host.to_string(), host.clone())).collect()
    }

    /// Until DNS answers, its name stands for the deployment, and is down.
    async fn ask_dns(&mut self) {
        let Some(name) = self.uri.dns_name.clone() else { return };
        let began = Instant::now();
        let error = match timeout(self.pace.timeout, self.uri.resolve()).await {
            Ok(Ok(options)) => {
                self.options = Some(options);
                return self.snapshot.remove(&name);
            }
            Ok(Err(error)) => PollError::new(Reason::Network, error.to_string()),
            Err(_) => PollError::timeout(self.pace.timeout),
        };
        let known = self.snapshot.members().into_iter().find(|member| member.address() == name);
        let state = known.unwrap_or_else(|| {
            tracing::warn!(name, %error, "DNS does not say who belongs to the deployment; asking again");
            let state = Arc::new(self.state(name));
            self.snapshot.insert(Arc::clone(&state));
            state
        });
        for source in state.sources() {
            source.note(began, self.pace.interval, Err(error.reason));
        }
    }

    fn state(&self, address: String) -> MemberState {
        let names = source::all(&self.sources).into_iter().map(|source| source.name());
        MemberState::new(address, self.rs.clone(), names)
    }

    /// The account of whoever gives one first: the member that gave it last; else all others, and the hosts of the
    /// URI, at once. If nobody says anything, why.
    async fn ask_anyone(&mut self, seeds: &BTreeMap<String, ServerAddress>) -> Result<Hello, Reason> {
        if let Some(preferred) = self.preferred.take()
            && let Some(watched) = self.watched.get(&preferred)
            && let Ok(hello @ (Hello::Member(_) | Hello::Alone | Hello::Mongos)) =
                self.ask(watched.client.clone()).await
        {
            self.preferred = Some(preferred);
            return Ok(hello);
        }
        let mut others: BTreeMap<_, _> =
            self.watched.iter().map(|(address, watched)| (address.clone(), watched.client.clone())).collect();
        for (address, host) in seeds {
            if let Some(client) = self.client(address, host) {
                others.entry(address.clone()).or_insert(client);
            }
        }
        let fleet = &*self;
        let mut answers: FuturesUnordered<_> =
            others.into_iter().map(async |(address, client)| (address, fleet.ask(client).await)).collect();
        let mut last = Err(Reason::ServerSelection);
        while let Some((address, answer)) = answers.next().await {
            match answer {
                Ok(hello @ (Hello::Member(_) | Hello::Alone | Hello::Mongos)) => {
                    drop(answers);
                    self.preferred = Some(address);
                    return Ok(hello);
                }
                Ok(Hello::Unsure) => last = Ok(Hello::Unsure),
                Err(error) => last = last.map_err(|_| error.reason),
            }
        }
        last
    }

    async fn ask(&self, client: Client) -> Result<Hello, PollError> {
        let limit = self.pace.timeout;
        match timeout(limit, hello(&client)).await {
            Ok(Err(error)) => Err(client.cause().of(error).await),
            Ok(answer) => answer,
            Err(_) => Err(client.cause().of_timeout(limit)),
        }
    }

    /// The client of a server, which is made if there is none.
    fn client(&mut self, address: &str, host: &ServerAddress) -> Option<Client> {
        if let Some(watched) = self.watched.get(address) {
            return Some(watched.client.clone());
        }
        if let Some(client) = self.asked.get(address) {
            return Some(client.clone());
        }
        match client(self.options.as_ref()?, host.clone(), self.pace.timeout) {
            Ok(client) => {
                self.asked.insert(address.to_owned(), client.clone());
                Some(client)
            }
            Err(error) => {
                tracing::error!(member = address, %error, "the driver refuses the URI's options");
                None
            }
        }
    }

    fn accept(&mut self, account: Membership) {
        match &self.known {
            Some(known) if !account.supersedes(known) => return,
            Some(known) if known.members == account.members => {}
            Some(_) | None => {
                let members: Vec<_> = account.members.iter().map(String::as_str).collect();
                tracing::info!(rs = account.rs, members = members.join(","), "following the replica set");
                if self.uri.rs.as_ref().is_some_and(|rs| *rs != account.rs) {
                    tracing::warn!(rs = account.rs, "the URI names another replica set than the one found");
                }
                self.settled.clear();
            }
        }
        self.rename(&account.rs);
        self.known = Some(account);
    }

    fn rename(&mut self, rs: &str) {
        rs.clone_into(&mut self.rs);
        self.watched.values().for_each(|watched| watched.state.set_rs(rs));
    }

    /// Hosts of the URI that belong to the set and are not named by it: hidden members. They are watched because
    /// they are listed.
    async fn hidden(
        &mut self,
        seeds: &BTreeMap<String, ServerAddress>,
        members: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let mut hidden = BTreeSet::new();
        for (address, host) in seeds {
            if members.contains(address) || self.settled.contains(address) {
                continue;
            }
            let Some(client) = self.client(address, host) else { continue };
            let is_hidden = match self.ask(client).await {
                Ok(Hello::Member(account)) => account.rs == self.rs && account.is_of_a_hidden_member(),
                Ok(Hello::Alone | Hello::Mongos | Hello::Unsure) => false,
                // No answer changes nothing, and it is asked again.
                Err(_) if self.watched.contains_key(address) => true,
                Err(_) => continue,
            };
            if is_hidden {
                hidden.insert(address.clone());
            } else {
                self.settled.insert(address.clone());
            }
        }
        hidden
    }

    /// Returns who has joined.
    fn watch_exactly(&mut self, wanted: &BTreeSet<String>) -> Vec<Arc<MemberState>> {
        let gone: Vec<_> =
            self.watched.keys().filter(|address| !wanted.contains(*address)).cloned().collect();
        for address in gone {
            self.leave(&address);
        }
        let new: Vec<_> = wanted.iter().filter(|address| !self.watched.contains_key(*address)).collect();
        let joined = new.into_iter().filter_map(|address| self.join(address)).collect();
        // What is watched has its client now; what is settled needs none.
        for (address, client) in std::mem::take(&mut self.asked) {
            if self.settled.contains(&address) {
                self.tasks.spawn(farewell(client));
            } else if !wanted.contains(&address) {
                self.asked.insert(address, client);
            }
        }
        joined
    }

    fn join(&mut self, address: &str) -> Option<Arc<MemberState>> {
        let Ok(host) = ServerAddress::parse(address) else {
            tracing::error!(member = address, "the set names a member by an address that makes no sense");
            return None;
        };
        let client = self.client(address, &host)?;
        let state = Arc::new(self.state(address.to_owned()));
        let stop = self.stop.child_token();
        let sources = source::all(&self.sources);
        watch_member(&state, &client, sources, self.pace, &self.tasks, &stop);
        self.snapshot.insert(Arc::clone(&state));
        tracing::info!(member = address, "watching a member");
        self.watched.insert(address.to_owned(), Watched { client, state: Arc::clone(&state), stop });
        Some(state)
    }

    fn leave(&mut self, address: &str) {
        if let Some(Watched { client, stop, state: _ }) = self.watched.remove(address) {
            tracing::info!(member = address, "a member has left");
            stop.cancel();
            self.snapshot.remove(address);
            self.tasks.spawn(farewell(client));
        }
    }
}

/// Closes a client's connections.
async fn farewell(client: Client) {
    let _ = timeout(FAREWELL, client.into_client().shutdown().immediate(true).into_future()).await;
}
