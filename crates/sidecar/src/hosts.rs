//! The hosts of the URI: those that it names, or those that DNS names for it.

use std::collections::BTreeMap;
use std::time::Duration;

use mongodb::options::{ClientOptions, ServerAddress};
use tokio::time::{Instant, timeout};

use crate::address;
use crate::error::{PollError, PollErrorReason, StartError};
use crate::uri::Uri;

/// How often an SRV name is resolved again. In a sharded cluster this is the only way to learn of added and removed
/// mongos.
const DNS_INTERVAL: Duration = Duration::from_secs(60);

/// Where the hosts of the URI are from.
pub(crate) struct Hosts {
    uri: Uri,
    /// What all clients have in common, and the hosts. Missing while DNS does not say.
    options: Option<ClientOptions>,
    /// When DNS is asked again.
    next: Instant,
    interval: Duration,
    /// What DNS says, in a test.
    #[cfg(test)]
    records: Option<Records>,
}

#[cfg(test)]
pub(crate) type Records = std::sync::Arc<std::sync::Mutex<Vec<String>>>;

/// What DNS has said.
pub(crate) enum Dns {
    /// What is known; or it was not asked.
    Unchanged,
    /// The first hosts.
    Resolved,
    /// Other hosts than before.
    Changed,
    /// Nothing, and nothing is known.
    Unavailable(PollError),
}

impl Hosts {
    /// Only a name that DNS does not know yet is left for later.
    ///
    /// # Errors
    ///
    /// If the driver does not accept the URI's options.
    pub(crate) async fn new(uri: Uri) -> Result<Self, StartError> {
        let options = match uri.dns_name {
            None => Some(uri.resolve().await?),
            Some(_) => None,
        };
        Ok(Self {
            uri,
            options,
            next: Instant::now(),
            interval: DNS_INTERVAL,
            #[cfg(test)]
            records: None,
        })
    }

    /// The SRV name, if the URI has one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.uri.dns_name.as_deref()
    }

    /// The options that all clients share, once the hosts are known.
    pub(crate) fn options(&self) -> Option<&ClientOptions> {
        self.options.as_ref()
    }

    /// The hosts, by normalized address.
    pub(crate) fn seeds(&self) -> BTreeMap<String, ServerAddress> {
        let hosts = self.options.iter().flat_map(|options| &options.hosts);
        hosts.map(|host| (address::format_address(host), host.clone())).collect()
    }

    /// Resolves the SRV name until that succeeds once, and then periodically. While DNS fails, the last result
    /// is kept.
    pub(crate) async fn refresh(&mut self, limit: Duration) -> Dns {
        if self.uri.dns_name.is_none() || (self.options.is_some() && Instant::now() < self.next) {
            return Dns::Unchanged;
        }
        let resolved = timeout(limit, self.resolve()).await;
        self.next = Instant::now() + self.interval;
        let error = match resolved {
            Ok(Ok(options)) => return self.update_hosts(options),
            Ok(Err(error)) => PollError::new(PollErrorReason::Network, error.to_string()),
            Err(_) => PollError::timeout(limit),
        };
        if self.options.is_some() {
            tracing::debug!(name = self.uri.dns_name, %error, "DNS does not answer; keeping the last result");
            return Dns::Unchanged;
        }
        Dns::Unavailable(error)
    }

    fn update_hosts(&mut self, options: ClientOptions) -> Dns {
        let before = self.seeds();
        let Some(known) = &mut self.options else {
            self.options = Some(options);
            return Dns::Resolved;
        };
        if options.hosts.is_empty() {
            return Dns::Unchanged;
        }
        known.hosts = options.hosts;
        let now = self.seeds();
        if now.keys().eq(before.keys()) {
            return Dns::Unchanged;
        }
        let hosts: Vec<_> = now.keys().map(String::as_str).collect();
        tracing::info!(name = self.uri.dns_name, hosts = hosts.join(","), "the DNS records have changed");
        Dns::Changed
    }

    async fn resolve(&self) -> Result<ClientOptions, StartError> {
        #[cfg(test)]
        if let Some(records) = &self.records {
            let mut options = ClientOptions::default();
            let hosts = records.lock().map_err(|_| StartError::NoTarget)?;
            options.hosts = hosts.iter().filter_map(|host| address::parse(host)).collect();
            return Ok(options);
        }
        self.uri.resolve().await
    }

    /// Sets the DNS records for a test, and resolves at every refresh.
    #[cfg(test)]
    pub(crate) fn set_test_records(&mut self, records: Records) {
        (self.records, self.interval) = (Some(records), Duration::ZERO);
    }
}
