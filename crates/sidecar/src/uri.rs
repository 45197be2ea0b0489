//! What the members of a deployment have in common, and a client of one member.

use std::ops::Deref;
use std::time::Duration;

use mongodb::Client;
use mongodb::options::{ClientOptions, DriverInfo, ServerAddress, ServerMonitoringMode};
use txnscope_mongo::{SetName, UriError};

use crate::cause::FailureCause;
use crate::error::StartError;
use crate::target::Target;

/// The name under which the server's log and `$currentOp` know us.
pub(crate) const APP_NAME: &str = "txnscope";

/// All that is ever open to a member, besides the connection of the driver's monitor.
const MAX_POOL_SIZE: u32 = 2;

/// What a target's URI says of the deployment.
#[derive(Debug, Clone)]
pub(crate) struct Uri {
    target: Target,
    /// The name behind `mongodb+srv://`, whose members DNS knows.
    pub(crate) dns_name: Option<String>,
    /// Watch the one member that is named, and no other.
    pub(crate) direct: bool,
    /// The name that the replica set should have, which was checked to be one: it becomes a label.
    pub(crate) rs: Option<String>,
}

impl Uri {
    pub(crate) fn of(target: &Target) -> Result<Self, StartError> {
        target.check()?;
        let uri = target.uri()?;
        Ok(Self {
            dns_name: uri.dns_name().map(str::to_owned),
            direct: uri.is_direct(),
            rs: uri.set_name().map(SetName::as_str).map(str::to_owned),
            target: target.clone(),
        })
    }

    /// The options that all members share, with the hosts that the URI names. Asks DNS if there is a name.
    pub(crate) async fn resolve(&self) -> Result<ClientOptions, StartError> {
        self.target.options().await
    }
}

/// A client of one member, and why the driver last gave up on that.
#[derive(Debug, Clone)]
pub(crate) struct MemberClient {
    client: Client,
    cause: FailureCause,
}

impl MemberClient {
    pub(crate) fn into_client(self) -> Client {
        self.client
    }

    pub(crate) fn cause(&self) -> &FailureCause {
        &self.cause
    }
}

impl Deref for MemberClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// A client of that member alone: two pooled connections at most, and as little of the driver's own traffic as
/// possible. It connects when it is first used.
///
/// Of the URI's options, those that say who we are and how to connect are kept; the pool and the timeouts are ours.
pub(crate) fn client(
    of: &ClientOptions,
    address: ServerAddress,
    timeout: Duration,
) -> Result<MemberClient, UriError> {
    let cause = FailureCause::default();
    let mut options = ClientOptions::default();
    options.hosts = vec![address];
    options.direct_connection = Some(true);
    options.app_name = Some(APP_NAME.to_owned());
    options.driver_info =
        Some(DriverInfo::builder().name(APP_NAME).version(env!("CARGO_PKG_VERSION").to_owned()).build());
    options.credential.clone_from(&of.credential);
    options.tls.clone_from(&of.tls);
    options.server_api.clone_from(&of.server_api);
    options.max_pool_size = Some(MAX_POOL_SIZE);
    options.min_pool_size = Some(0);
    // Half of what a poll may take: then a member that is away is told from one that does not answer.
    options.connect_timeout = Some(timeout / 2);
    options.server_selection_timeout = Some(timeout / 2);
    options.server_monitoring_mode = Some(ServerMonitoringMode::Poll);
    options.retry_reads = Some(false);
    options.sdam_event_handler = Some(cause.handler());
    let client = Client::with_options(options).map_err(|error| UriError::of_client(&error))?;
    Ok(MemberClient { client, cause })
}
