//! A replica set.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures_util::future::try_join_all;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;

use crate::mongod::{Mongod, MongodOptions};
use crate::proxy::Proxy;

/// The options of a replica set.
#[derive(Debug, Clone)]
pub struct ReplicaSetOptions {
    members: u8,
    arguments: Vec<String>,
    auth: bool,
    version: Option<String>,
    proxied: bool,
    arbiter: bool,
    ipv6: bool,
    election_timeout: Duration,
}

/// The user of a set with authentication.
const ROOT: (&str, &str) = ("root", "the-password-of-root");

impl ReplicaSetOptions {
    /// A set with that many members (1 or 3).
    #[must_use]
    pub fn new(members: u8) -> Self {
        Self {
            members,
            arguments: Vec::new(),
            auth: false,
            version: None,
            proxied: false,
            arbiter: false,
            ipv6: false,
            election_timeout: Duration::from_secs(10),
        }
    }

    /// Sets a server parameter on every member.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.arguments.extend(["--setParameter".to_owned(), format!("{name}={value}")]);
        self
    }

    /// Passes a command line flag with a value to every mongod, such as `tlsMode`.
    #[must_use]
    pub fn argument(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([format!("--{name}"), value.to_owned()]);
        self
    }

    /// Enables authentication. The set has a user with the role `root`; [`ReplicaSet::uri`] contains its credentials.
    #[must_use]
    pub fn auth(mut self) -> Self {
        self.auth = true;
        self
    }

    /// Runs an older version of the server, such as `4.4.2`, that `cargo xtask fetch` installs.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = Some(version.to_owned());
        self
    }

    /// Puts a proxy in front of each member and configures the set with the proxies' addresses: clients and other
    /// members connect through them.
    #[must_use]
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Makes the last member an arbiter, which votes and holds no data.
    #[must_use]
    pub fn arbiter(mut self) -> Self {
        self.arbiter = true;
        self
    }

    /// Configures the set with IPv6 loopback addresses.
    #[must_use]
    pub fn ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// Sets the election timeout; the default is 10 s, as on any server. With a much shorter timeout a busy machine
    /// has spurious elections. Tests that kill a primary and wait for the next one set it lower.
    #[must_use]
    pub fn election_timeout(mut self, timeout: Duration) -> Self {
        self.election_timeout = timeout;
        self
    }

    /// Starts the set, and waits until its primary accepts writes.
    ///
    /// # Errors
    ///
    /// If a member does not start or none becomes primary.
    pub async fn start(self) -> Result<ReplicaSet> {
        let name = "rs0".to_owned();
        let options = MongodOptions {
            set: Some(name.clone()),
            key: self.auth.then(|| "a key that all members share".replace(' ', "")),
            arguments: self.arguments,
            version: self.version,
            ipv6: self.ipv6,
        };
        let members = try_join_all((0..self.members).map(|_| Mongod::start(options.clone()))).await?;
        let mut proxies = Vec::new();
        if self.proxied {
            for member in &members {
                proxies.push(Proxy::to(&member.address()).await?);
            }
        }
        let mut set = ReplicaSet { name, members, proxies, ipv6: self.ipv6, user: None };
        set.initiate(self.election_timeout, self.arbiter, self.auth).await?;
        set.primary().await?;
        set.wait_in_sync().await?;
        if self.auth {
            let (user, password) = ROOT;
            let primary = &set.members[set.primary().await?];
            // The localhost exception allows creating the first user, and ends with it.
            primary.admin(doc! {"createUser": user, "pwd": password, "roles": ["root"]}).await?;
            set.user = Some(ROOT);
        }
        Ok(set)
    }
}

/// A running replica set.
#[derive(Debug)]
pub struct ReplicaSet {
    name: String,
    members: Vec<Mongod>,
    /// One proxy for each member, or none.
    proxies: Vec<Proxy>,
    ipv6: bool,
    user: Option<(&'static str, &'static str)>,
}

impl ReplicaSet {
    /// Starts a set with that many members (1 or 3), and waits until its primary accepts writes.
    ///
    /// # Errors
    ///
    /// If a member does not start or none becomes primary.
    pub async fn start(members: u8) -> Result<Self> {
        ReplicaSetOptions::new(members).start().await
    }

    async fn initiate(&self, election_timeout: Duration, arbiter: bool, auth: bool) -> Result<()> {
        let mut members: Vec<_> =
            (0_i32..).zip(self.addresses()).map(|(id, host)| doc! {"_id": id, "host": host}).collect();
        if let Some(last) = members.last_mut().filter(|_| arbiter) {
            last.insert("arbiterOnly", true);
        }
        let timeout = i64::try_from(election_timeout.as_millis()).context("an election timeout")?;
        let settings = doc! {"electionTimeoutMillis": timeout, "heartbeatIntervalMillis": 200};
        let config = doc! {"_id": &self.name, "members": members, "settings": settings};
        let first = self.members.first().context("a replica set has a member")?;
        first.admin(doc! {"replSetInitiate": config}).await?;
        // With authentication, only creating the first user is allowed before there is a user.
        if self.members.len() > 1 && !auth {
            // Without this command the members would wait for an election timeout.
            crate::wait::until("the first election", async || {
                first.admin(doc! {"replSetStepUp": 1}).await?;
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until each member is primary or secondary. A member in initial sync can neither be elected nor finish if
    /// its sync source is killed.
    ///
    /// # Errors
    ///
    /// If a member is not ready in time.
    pub async fn wait_in_sync(&self) -> Result<()> {
        for member in &self.members {
            crate::wait::until("a member that has its data", async || {
                let hello = member.admin(doc! {"hello": 1}).await?;
                let is = |field| hello.get_bool(field).unwrap_or(false);
                if is("isWritablePrimary") || is("secondary") || is("arbiterOnly") {
                    Ok(())
                } else {
                    Err(anyhow!("{hello}"))
                }
            })
            .await?;
        }
        Ok(())
    }

    /// The name of the set.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The members.
    #[must_use]
    pub fn members(&self) -> &[Mongod] {
        &self.members
    }

    /// A member, to kill or restart.
    ///
    /// # Panics
    ///
    /// If there is no such member.
    pub fn member_mut(&mut self, index: usize) -> &mut Mongod {
        &mut self.members[index]
    }

    /// The URI of the whole set.
    #[must_use]
    pub fn uri(&self) -> String {
        let user = self.user.map(|(user, password)| format!("{user}:{password}@")).unwrap_or_default();
        format!("mongodb://{user}{}/?replicaSet={}", self.addresses().join(","), self.name)
    }

    /// The addresses in the configuration of the set: those of the proxies, if there are any.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        match self.proxies.as_slice() {
            [] if self.ipv6 => {
                let v6 = |member: &Mongod| member.address().replace("127.0.0.1", "[::1]");
                self.members.iter().map(v6).collect()
            }
            [] => self.members.iter().map(Mongod::address).collect(),
            proxies => proxies.iter().map(|proxy| proxy.address().to_string()).collect(),
        }
    }

    /// The proxies in front of the members, in the same order, if the set was started with them.
    #[must_use]
    pub fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    /// Waits until a member is primary and accepts writes, and returns its index.
    ///
    /// # Errors
    ///
    /// If there is none in time.
    pub async fn primary(&self) -> Result<usize> {
        crate::wait::until("a primary that takes writes", async || {
            let mut seen = Vec::new();
            for (index, member) in self.members.iter().enumerate() {
                match member.admin(doc! {"hello": 1}).await {
                    Ok(hello) if hello.get_bool("isWritablePrimary").unwrap_or(false) => return Ok(index),
                    Ok(hello) => seen.push(format!(
                        "{}: {}",
                        member.address(),
                        hello.get_str("setName").unwrap_or("no set")
                    )),
                    Err(error) => seen.push(format!("{error:#}")),
                }
            }
            Err(anyhow!("{}", seen.join("; ")))
        })
        .await
    }

    /// Has another member elected, and returns its index when it accepts writes.
    ///
    /// # Errors
    ///
    /// If the set has one member, or no election takes place.
    pub async fn step_up_another(&self) -> Result<usize> {
        let old = self.primary().await?;
        let Some(next) = (0..self.members.len()).find(|index| *index != old) else {
            bail!("the set has one member")
        };
        crate::wait::until("an election", async || {
            self.run(&self.members[next], doc! {"replSetStepUp": 1}).await?;
            Ok(())
        })
        .await?;
        crate::wait::until("the new primary", async || match self.primary().await? {
            index if index == next => Ok(index),
            index => Err(anyhow!("{} is primary", self.members[index].address())),
        })
        .await
    }

    async fn run(&self, member: &Mongod, command: Document) -> Result<Document> {
        let user = self.user.map(|(user, password)| format!("{user}:{password}@")).unwrap_or_default();
        let client =
            Client::with_uri_str(format!("mongodb://{user}{}/?directConnection=true", member.address()))
                .await?;
        Ok(client.database("admin").run_command(command).await?)
    }

    /// A client of the whole set with the application name `testkit`.
    ///
    /// # Errors
    ///
    /// If the driver rejects the options.
    pub async fn client(&self) -> Result<Client> {
        self.client_named("testkit").await
    }

    /// A client of the whole set with an application name, for failpoints of that name.
    ///
    /// # Errors
    ///
    /// If the driver rejects the options.
    pub async fn client_named(&self, app_name: &str) -> Result<Client> {
        let mut options = ClientOptions::parse(self.uri()).await?;
        options.app_name = Some(app_name.to_owned());
        Ok(Client::with_options(options)?)
    }
}
