//! Client options of a deployment, and clients of single members.

use std::ops::Deref;
use std::time::Duration;

use mongodb::Client;
use mongodb::options::{ClientOptions, DriverInfo, ServerAddress, ServerMonitoringMode};
use txnscope_mongo::{SetName, UriError};

use crate::cause::FailureCause;
use crate::error::StartError;
use crate::target::Target;

/// The application name in the server's log and in `$currentOp`.
pub(crate) const APP_NAME: &str = "txnscope";

/// The maximum number of connections to a member, besides that of the driver's monitor.
const MAX_POOL_SIZE: u32 = 2;

/// The parts of a target's URI that concern the deployment.
#[derive(Debug, Clone)]
pub(crate) struct Uri {
    target: Target,
    /// The SRV name of a `mongodb+srv://` URI.
    pub(crate) dns_name: Option<String>,
    /// Monitor only the member that the URI names.
    pub(crate) direct: bool,
    /// The required name of the replica set, validated, since it becomes a label.
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

    /// The options that all members share, with the hosts of the URI. Resolves an SRV name through DNS.
    pub(crate) async fn resolve(&self) -> Result<ClientOptions, StartError> {
        self.target.options().await
    }
}

/// A client of one member, with the last error of the driver.
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

/// A client of one member: two pooled connections at most, and as little traffic of the driver as possible. It
/// connects at the first use.
///
/// Of the URI's options, those for authentication and TLS are kept; the pool and the timeouts are fixed here.
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
    // Half of the poll timeout, so that an unreachable member can be distinguished from one that does not answer.
    options.connect_timeout = Some(timeout / 2);
    options.server_selection_timeout = Some(timeout / 2);
    options.server_monitoring_mode = Some(ServerMonitoringMode::Poll);
    options.retry_reads = Some(false);
    options.sdam_event_handler = Some(cause.handler());
    let client = Client::with_options(options).map_err(|error| UriError::from_client_error(&error))?;
    Ok(MemberClient { client, cause })
}
