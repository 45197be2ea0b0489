//! A replica set.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures_util::future::try_join_all;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;

use crate::mongod::{Mongod, MongodOptions};
use crate::proxy::Proxy;

/// How a replica set is started.
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

/// The user that a set with authentication has.
const ROOT: (&str, &str) = ("root", "the-password-of-root");

impl ReplicaSetOptions {
    /// A set of that many members (1 or 3).
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

    /// Gives every member's mongod a flag with a value: `tlsMode`, for example.
    #[must_use]
    pub fn argument(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([format!("--{name}"), value.to_owned()]);
        self
    }

    /// Wants authentication. The set has a user who may do everything; [`ReplicaSet::uri`] speaks as that user.
    #[must_use]
    pub fn auth(mut self) -> Self {
        self.auth = true;
        self
    }

    /// Runs an older version of the server, one of those that `cargo xtask fetch` brings: `4.4.2`.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = Some(version.to_owned());
        self
    }

    /// Puts a proxy before each member, and has the set know it by the proxy's address: whoever speaks to a member, be it
    /// another member, passes through it.
    #[must_use]
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Makes the last member an arbiter: it votes, and holds no data.
    #[must_use]
    pub fn arbiter(mut self) -> Self {
        self.arbiter = true;
        self
    }

    /// Has the members know one another by the loopback address of IPv6.
    #[must_use]
    pub fn ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// For how long a primary may be silent; 10 s unless this says otherwise, as by default on any server. After much less
    /// a busy machine has another primary now and then. Whoever kills a primary, and waits for the next, wants less.
    #[must_use]
    pub fn election_timeout(mut self, timeout: Duration) -> Self {
        self.election_timeout = timeout;
        self
    }

    /// Starts it, and waits until its primary takes writes.
    ///
    /// # Errors
    ///
    /// If a member does not come up or none becomes primary.
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
            // Through the localhost exception, which the first user ends.
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
    /// One for each member, or none.
    proxies: Vec<Proxy>,
    ipv6: bool,
    user: Option<(&'static str, &'static str)>,
}

impl ReplicaSet {
    /// Starts a set of that many members (1 or 3), and waits until its primary takes writes.
    ///
    /// # Errors
    ///
    /// If a member does not come up or none becomes primary.
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
        // Before the first user is there, authentication allows no more than to make it.
        if self.members.len() > 1 && !auth {
            // By themselves they would wait for as long as a primary may be silent.
            crate::wait::until("the first election", async || {
                first.admin(doc! {"replSetStepUp": 1}).await?;
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until each member is primary or secondary. One that still copies its first data can neither be elected nor
    /// finish when its source is killed.
    ///
    /// # Errors
    ///
    /// If one is not in time.
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

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its members.
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

    /// The addresses by which the set knows its members: those of the proxies, if there are any.
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

    /// The proxies before the members, in their order, if the set was started with them.
    #[must_use]
    pub fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    /// Waits until a member is primary and takes writes, and returns its index.
    ///
    /// # Errors
    ///
    /// If none is in time.
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

    /// Has another member elected, and returns its index when it takes writes.
    ///
    /// # Errors
    ///
    /// If the set has one member, or no election comes about.
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

    /// A client of the whole set, named `testkit`.
    ///
    /// # Errors
    ///
    /// If the driver refuses its options.
    pub async fn client(&self) -> Result<Client> {
        self.client_named("testkit").await
    }

    /// A client of the whole set with an application name, for failpoints that fire for it alone.
    ///
    /// # Errors
    ///
    /// If the driver refuses its options.
    pub async fn client_named(&self, app_name: &str) -> Result<Client> {
        let mut options = ClientOptions::parse(self.uri()).await?;
        options.app_name = Some(app_name.to_owned());
        Ok(Client::with_options(options)?)
    }
}
