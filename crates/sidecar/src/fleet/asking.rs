//! Whom to ask who is there, and whom to believe.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use mongodb::options::ServerAddress;

use super::Fleet;
use crate::address;
use crate::error::Reason;
use crate::inquiry::{Inquiry, farewell};
use crate::topology::{Answer, Kind, Membership, Role};
use crate::uri::{MemberClient as Client, client};

impl Fleet {
    /// Asks who gave an account last; else all others, and the hosts of the URI, at once, until one of them confirms
    /// what is known.
    ///
    /// # Errors
    ///
    /// If nobody says anything: why.
    pub(super) async fn ask_around(&mut self, seeds: &BTreeMap<String, ServerAddress>) -> Result<(), Reason> {
        if let Some(preferred) = self.preferred.take()
            && let Some(inquiry) = self.inquiry_of_watched(&preferred)
            && let Ok(answer) = inquiry.put(self.pace.timeout).await
            && self.is_confirmed_by(&preferred, &answer)
        {
            self.confirmed(preferred, answer);
            return Ok(());
        }
        let mut inquiries: BTreeMap<_, _> = self
            .watched
            .keys()
            .filter_map(|address| Some((address.clone(), self.inquiry_of_watched(address)?)))
            .collect();
        for (address, host) in seeds {
            if !inquiries.contains_key(address)
                && let Some(inquiry) = self.inquiry(address, host)
            {
                inquiries.insert(address.clone(), inquiry);
            }
        }
        let limit = self.pace.timeout;
        let mut answers: FuturesUnordered<_> = inquiries
            .into_iter()
            .map(async |(address, inquiry)| (address, inquiry.put(limit).await))
            .collect();
        let (mut heard, mut let_in_nowhere) = (BTreeMap::new(), Vec::new());
        let mut silent = Reason::ServerSelection;
        while let Some((address, answer)) = answers.next().await {
            match answer {
                Ok(answer) if self.is_confirmed_by(&address, &answer) => {
                    drop(answers);
                    self.confirmed(address, answer);
                    return Ok(());
                }
                Ok(answer) => drop(heard.insert(address, answer)),
                Err(error) => {
                    silent = error.reason;
                    if error.reason == Reason::Authentication {
                        let_in_nowhere.push(address);
                    }
                }
            }
        }
        drop(answers);
        for address in let_in_nowhere {
            let Some(answer) = self.ask_without_user(&address, seeds).await else { continue };
            if self.is_confirmed_by(&address, &answer) {
                self.learn(answer);
                return Ok(());
            }
            heard.insert(address, answer);
        }
        if heard.is_empty() {
            return Err(silent);
        }
        let seeds: Vec<_> = seeds.keys().collect();
        self.known.reconsider(heard, &seeds, &self.demand);
        self.rename();
        Ok(())
    }

    /// Whether the deployment that is known is the one that answers: by what it says of itself, or because the process is
    /// one that has answered for it before.
    fn is_confirmed_by(&self, address: &str, answer: &Answer) -> bool {
        let is_proven = || {
            let watched = self.watched.get(address);
            watched.is_some_and(|watched| watched.state.identity().is_proven(answer))
        };
        self.known.is_confirmed_by(answer, &self.demand) || (self.known.has_its_name(answer) && is_proven())
    }

    fn confirmed(&mut self, address: String, answer: Answer) {
        self.preferred = Some(address);
        self.learn(answer);
        // Our user is let in again.
        for client in std::mem::take(&mut self.userless).into_values() {
            self.tasks.spawn(farewell(client));
        }
    }

    fn learn(&mut self, answer: Answer) {
        self.known.learn(answer);
        self.rename();
    }

    fn inquiry_of_watched(&self, address: &str) -> Option<Inquiry> {
        let watched = self.watched.get(address)?;
        Some(Inquiry::of(watched.client.clone()?, &watched.state))
    }

    /// The question to a server that is watched or not.
    fn inquiry(&mut self, address: &str, host: &ServerAddress) -> Option<Inquiry> {
        if let Some(inquiry) = self.inquiry_of_watched(address) {
            return Some(inquiry);
        }
        if let Some(client) = self.asked.get(address) {
            return Some(Inquiry::of_stranger(client.clone()));
        }
        let client = self.new_client(address, host, false)?;
        self.asked.insert(address.to_owned(), client.clone());
        Some(Inquiry::of_stranger(client))
    }

    /// Who it is that does not let our user in. Nobody needs to be let in for that question.
    async fn ask_without_user(
        &mut self,
        address: &str,
        seeds: &BTreeMap<String, ServerAddress>,
    ) -> Option<Answer> {
        let host = seeds.get(address).cloned().or_else(|| address::parse(address))?;
        if !self.userless.contains_key(address) {
            let client = self.new_client(address, &host, true)?;
            self.userless.insert(address.to_owned(), client);
        }
        let inquiry = Inquiry::of_stranger(self.userless.get(address)?.clone());
        let answer = inquiry.put(self.pace.timeout).await.ok()?;
        if answer.role == Role::Arbiter
            && let Some(watched) = self.watched.get_mut(address)
            && !watched.userless
        {
            // It has no users, and never will: whatever it says without one is all that can be had.
            watched.userless = true;
            self.renew(address);
        }
        Some(answer)
    }

    pub(super) fn new_client(&self, address: &str, host: &ServerAddress, userless: bool) -> Option<Client> {
        let mut options = self.hosts.options()?.clone();
        if userless {
            options.credential = None;
        }
        match client(&options, host.clone(), self.pace.timeout) {
            Ok(client) => Some(client),
            Err(error) => {
                tracing::error!(member = address, %error, "the driver refuses the URI's options");
                None
            }
        }
    }

    /// Hosts of the URI that the set does not name, and that are no other name of a member that it does: hidden ones, one
    /// that was removed, one that does not answer, a stranger. Each is watched because it is listed.
    pub(super) async fn beside(
        &mut self,
        set: &Membership,
        seeds: &BTreeMap<String, ServerAddress>,
    ) -> BTreeMap<String, Option<ServerAddress>> {
        self.aliases.retain(|_, member| set.members.contains_key(member));
        let mut beside: BTreeMap<_, _> = seeds
            .iter()
            .filter(|(name, _)| !set.members.contains_key(*name) && !self.aliases.contains_key(*name))
            .map(|(name, host)| (name.clone(), Some(host.clone())))
            .collect();
        let mut inquiries = Vec::new();
        for (name, host) in &beside {
            let Some(host) = host else { continue };
            inquiries.extend(self.inquiry(name, host).map(|inquiry| (name.clone(), inquiry)));
        }
        let limit = self.pace.timeout;
        let answers: FuturesUnordered<_> =
            inquiries.into_iter().map(async |(name, inquiry)| (name, inquiry.put(limit).await)).collect();
        for (name, answer) in answers.collect::<Vec<_>>().await {
            let Ok(Answer { kind: Kind::Member(account), .. }) = answer else { continue };
            if account.rs != set.rs {
                continue;
            }
            match account.me {
                Some(me) if set.members.contains_key(&me) => {
                    beside.remove(&name);
                    self.aliases.insert(name, me);
                }
                Some(_) => {}
                // It does not say which of the members it is. They are watched by the names that the set has for them.
                None => drop(beside.remove(&name)),
            }
        }
        beside
    }
}
