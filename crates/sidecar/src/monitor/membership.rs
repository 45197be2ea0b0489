//! Which servers to ask for the members of the deployment, and which replies to believe.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use mongodb::options::ServerAddress;

use super::DeploymentMonitor;
use crate::address;
use crate::error::PollErrorReason;
use crate::hello::{HelloRequest, close_client};
use crate::topology::{HelloReply, ReplicaSetView, Role, ServerKind};
use crate::uri::{MemberClient as Client, client};

impl DeploymentMonitor {
    /// Sends `hello` to the server that confirmed the deployment last; if that fails, to all members and hosts
    /// of the URI at once, until one of them confirms the known deployment.
    ///
    /// # Errors
    ///
    /// The reason, if no server answers.
    pub(super) async fn hello_from_any(
        &mut self,
        seeds: &BTreeMap<String, ServerAddress>,
    ) -> Result<(), PollErrorReason> {
        if let Some(preferred) = self.preferred.take()
            && let Some(hello_request) = self.hello_request_to_member(&preferred)
            && let Ok(reply) = hello_request.send(self.timing.timeout).await
            && self.is_confirmed_by(&preferred, &reply)
        {
            self.accept_confirmed(preferred, reply);
            return Ok(());
        }
        let mut requests: BTreeMap<_, _> = self
            .monitored
            .keys()
            .filter_map(|address| Some((address.clone(), self.hello_request_to_member(address)?)))
            .collect();
        for (address, host) in seeds {
            if !requests.contains_key(address)
                && let Some(hello_request) = self.hello_request(address, host)
            {
                requests.insert(address.clone(), hello_request);
            }
        }
        let limit = self.timing.timeout;
        let mut replies: FuturesUnordered<_> = requests
            .into_iter()
            .map(async |(address, hello_request)| (address, hello_request.send(limit).await))
            .collect();
        let (mut received, mut rejecting) = (BTreeMap::new(), Vec::new());
        let mut failure = PollErrorReason::ServerSelection;
        while let Some((address, reply)) = replies.next().await {
            match reply {
                Ok(reply) if self.is_confirmed_by(&address, &reply) => {
                    drop(replies);
                    self.accept_confirmed(address, reply);
                    return Ok(());
                }
                Ok(reply) => drop(received.insert(address, reply)),
                Err(error) => {
                    failure = error.reason;
                    if error.reason == PollErrorReason::Authentication {
                        rejecting.push(address);
                    }
                }
            }
        }
        drop(replies);
        for address in rejecting {
            let Some(reply) = self.hello_without_credentials(&address, seeds).await else { continue };
            if self.is_confirmed_by(&address, &reply) {
                self.update(reply);
                return Ok(());
            }
            received.insert(address, reply);
        }
        if received.is_empty() {
            return Err(failure);
        }
        let seeds: Vec<_> = seeds.keys().collect();
        self.known.reconsider(received, &seeds, &self.requirements);
        self.update_set_name();
        Ok(())
    }

    /// Whether a reply confirms the known deployment: by its view, or because the same process has confirmed it
    /// before.
    fn is_confirmed_by(&self, address: &str, reply: &HelloReply) -> bool {
        let is_proven = || {
            let monitored = self.monitored.get(address);
            monitored.is_some_and(|monitored| monitored.state.identity().is_proven(reply))
        };
        self.known.is_confirmed_by(reply, &self.requirements)
            || (self.known.has_same_set_name(reply) && is_proven())
    }

    fn accept_confirmed(&mut self, address: String, reply: HelloReply) {
        self.preferred = Some(address);
        self.update(reply);
        // The credentials are accepted again.
        for client in std::mem::take(&mut self.unauthenticated).into_values() {
            self.tasks.spawn(close_client(client));
        }
    }

    fn update(&mut self, reply: HelloReply) {
        self.known.update(reply);
        self.update_set_name();
    }

    fn hello_request_to_member(&self, address: &str) -> Option<HelloRequest> {
        let monitored = self.monitored.get(address)?;
        Some(HelloRequest::to_member(monitored.client.clone()?, &monitored.state))
    }

    /// A `hello` request to a server, monitored or not.
    fn hello_request(&mut self, address: &str, host: &ServerAddress) -> Option<HelloRequest> {
        if let Some(hello_request) = self.hello_request_to_member(address) {
            return Some(hello_request);
        }
        if let Some(client) = self.candidate_clients.get(address) {
            return Some(HelloRequest::to_unknown_server(client.clone()));
        }
        let client = self.new_client(address, host, false)?;
        self.candidate_clients.insert(address.to_owned(), client.clone());
        Some(HelloRequest::to_unknown_server(client))
    }

    /// Sends `hello` without credentials to a server that rejects ours. It needs no authentication.
    async fn hello_without_credentials(
        &mut self,
        address: &str,
        seeds: &BTreeMap<String, ServerAddress>,
    ) -> Option<HelloReply> {
        let host = seeds.get(address).cloned().or_else(|| address::parse(address))?;
        if !self.unauthenticated.contains_key(address) {
            let client = self.new_client(address, &host, true)?;
            self.unauthenticated.insert(address.to_owned(), client);
        }
        let hello_request = HelloRequest::to_unknown_server(self.unauthenticated.get(address)?.clone());
        let reply = hello_request.send(self.timing.timeout).await.ok()?;
        if reply.role == Role::Arbiter
            && let Some(monitored) = self.monitored.get_mut(address)
            && !monitored.unauthenticated
        {
            // An arbiter has no users, so it is polled without credentials from now on.
            monitored.unauthenticated = true;
            self.reconnect(address);
        }
        Some(reply)
    }

    pub(super) fn new_client(
        &self,
        address: &str,
        host: &ServerAddress,
        unauthenticated: bool,
    ) -> Option<Client> {
        let mut options = self.hosts.options()?.clone();
        if unauthenticated {
            options.credential = None;
        }
        match client(&options, host.clone(), self.timing.timeout) {
            Ok(client) => Some(client),
            Err(error) => {
                tracing::error!(member = address, %error, "the driver refuses the URI's options");
                None
            }
        }
    }

    /// Hosts of the URI that the set does not list, and that are no aliases of listed members: hidden ones,
    /// removed ones, unreachable ones, other servers. Each is monitored because the URI lists it.
    pub(super) async fn unlisted_seeds(
        &mut self,
        set: &ReplicaSetView,
        seeds: &BTreeMap<String, ServerAddress>,
    ) -> BTreeMap<String, Option<ServerAddress>> {
        self.aliases.retain(|_, member| set.members.contains_key(member));
        let mut unlisted_seeds: BTreeMap<_, _> = seeds
            .iter()
            .filter(|(name, _)| !set.members.contains_key(*name) && !self.aliases.contains_key(*name))
            .map(|(name, host)| (name.clone(), Some(host.clone())))
            .collect();
        let mut requests = Vec::new();
        for (name, host) in &unlisted_seeds {
            let Some(host) = host else { continue };
            requests
                .extend(self.hello_request(name, host).map(|hello_request| (name.clone(), hello_request)));
        }
        let limit = self.timing.timeout;
        let replies: FuturesUnordered<_> = requests
            .into_iter()
            .map(async |(name, hello_request)| (name, hello_request.send(limit).await))
            .collect();
        for (name, reply) in replies.collect::<Vec<_>>().await {
            let Ok(HelloReply { kind: ServerKind::Member(view), .. }) = reply else { continue };
            if view.rs != set.rs {
                continue;
            }
            match view.me {
                Some(me) if set.members.contains_key(&me) => {
                    unlisted_seeds.remove(&name);
                    self.aliases.insert(name, me);
                }
                Some(_) => {}
                // A member that does not say its name is monitored under its listed name.
                None => drop(unlisted_seeds.remove(&name)),
            }
        }
        unlisted_seeds
    }
}
