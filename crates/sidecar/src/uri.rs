//! The deployment's URI: read once, and never shown.

use std::fmt;
use std::time::Duration;

use mongodb::Client;
use mongodb::error::Error as DriverError;
use mongodb::options::{
    ClientOptions, ConnectionString, Credential, DriverInfo, HostInfo, ServerAddress, ServerMonitoringMode,
};

use crate::error::StartError;
use crate::target::{Credentials, Target};

/// The name under which the server's log and `$currentOp` know us.
pub(crate) const APP_NAME: &str = "txnscope";

/// All that is ever open to a member, besides the connection of the driver's monitor.
const MAX_POOL_SIZE: u32 = 2;

/// A URI that has the right form.
#[derive(Clone)]
pub(crate) struct Uri {
    text: String,
    credentials: Option<Credentials>,
    /// The name behind `mongodb+srv://`, whose members DNS knows.
    pub(crate) dns_name: Option<String>,
    /// Watch the one member that is named, and no other.
    pub(crate) direct: bool,
    /// The name that the replica set should have.
    pub(crate) rs: Option<String>,
}

impl Uri {
    pub(crate) fn parse(target: &Target) -> Result<Self, StartError> {
        let text = target.uri();
        if has_broken_escape(text) {
            return Err(StartError::Uri(ESCAPED.to_owned()));
        }
        let parsed = ConnectionString::parse(text).map_err(|error| malformed(text, &error))?;
        if parsed.load_balanced == Some(true) {
            return Err(StartError::Uri(
                "a URI with loadBalanced=true reaches one server or another: name the members instead".into(),
            ));
        }
        let credentials = target.credentials().cloned();
        let named = parsed.credential.as_ref().is_some_and(|credential| credential.username.is_some());
        if named && credentials.is_some() {
            return Err(StartError::Uri(
                "the URI names a user, and so does what goes with it: say in one place who to be".into(),
            ));
        }
        let dns_name = match parsed.host_info {
            HostInfo::DnsRecord(name) => Some(name),
            _ => None,
        };
        let direct = parsed.direct_connection == Some(true);
        Ok(Self { text: text.to_owned(), credentials, dns_name, direct, rs: parsed.replica_set })
    }

    /// The options that all members share, with the hosts that the URI names. Asks DNS if there is a name.
    pub(crate) async fn resolve(&self) -> Result<ClientOptions, StartError> {
        let mut options =
            ClientOptions::parse(&self.text).await.map_err(|error| malformed(&self.text, &error))?;
        if let Some(Credentials { username, password, source }) = &self.credentials {
            // Without a user, the driver drops what the URI says about where the user is.
            let source = source.clone().or_else(|| auth_source(&self.text));
            let mut credential = Credential::builder().username(username.clone()).build();
            credential.password = Some(password.clone());
            credential.source = source;
            options.credential = Some(credential);
        }
        Ok(options)
    }
}

/// Without the URI itself.
impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uri").field("rs", &self.rs).field("direct", &self.direct).finish_non_exhaustive()
    }
}

fn auth_source(uri: &str) -> Option<String> {
    let (_, options) = uri.split_once('?')?;
    let mut options = options.split('&').filter_map(|option| option.split_once('='));
    options.find(|(name, _)| name.eq_ignore_ascii_case("authSource")).map(|(_, source)| source.to_owned())
}

const ESCAPED: &str = "the URI is malformed. It should read mongodb://user:password@host:port/?replicaSet=name; in the user \
                       and the password, each of : / ? # [ ] @ % must be percent-encoded. (More cannot be said without \
                       quoting it.)";

/// Whether a `%` in the user or the password is followed by no two hexadecimal digits. At one that is followed by a letter
/// beyond ASCII the driver panics, and says what stands there.
fn has_broken_escape(text: &str) -> bool {
    let (user, _) = text.rsplit_once('@').unwrap_or_default();
    let is_whole =
        |part: &str| part.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    !user.split('%').skip(1).all(is_whole)
}

/// The driver may quote a piece of the URI. Where there is an `@`, the piece may be one of the password.
fn malformed(text: &str, error: &DriverError) -> StartError {
    StartError::Uri(if text.contains('@') {
        ESCAPED.to_owned()
    } else {
        format!("the URI is malformed: {}", error.kind)
    })
}

/// A client of that member alone: two pooled connections at most, and as little of the driver's own traffic as
/// possible. It connects when it is first used.
///
/// Of the URI's options, those that say who we are and how to connect are kept; the pool and the timeouts are ours.
pub(crate) fn client(
    of: &ClientOptions,
    address: ServerAddress,
    timeout: Duration,
) -> Result<Client, DriverError> {
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
    Client::with_options(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Uri, StartError> {
        Uri::parse(&Target::new(text))
    }

    #[test]
    fn a_malformed_uri_with_credentials_is_not_quoted() {
        for text in [
            "mongodb://user:hunter2/x@host/",
            "mongodb://user:hunter2?x@host/",
            "mongodb://user:hun:ter2@host/",
            "mongodb://user:hunter2@host:port/",
            "mongo://user:hunter2@host/",
            "mongodb://user:hunter2@host/?authMechanism=hunter2",
            "mongodb://user:hunter2%4\u{fffd}@host/",
            "mongodb://user:hunter2%@host/",
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(!error.contains("hun") && error.contains("percent-encoded"), "{text}: {error}");
        }
    }

    #[test]
    fn without_credentials_the_driver_says_what_is_wrong() {
        let error = parse("mongodb://host:port/").unwrap_err().to_string();
        assert!(error.contains("port"), "{error}");
    }

    #[test]
    fn the_uri_says_which_members() {
        let uri = parse("mongodb://u:hunter2@db1,db2/?replicaSet=rs0").unwrap();
        assert_eq!((uri.rs.as_deref(), uri.direct, &uri.dns_name), (Some("rs0"), false, &None));
        assert!(!format!("{uri:?}").contains("hunter2"));
        assert!(parse("mongodb://db1/?directConnection=true").unwrap().direct);
        let uri = parse("mongodb+srv://cluster.example.net/").unwrap();
        assert_eq!(uri.dns_name.as_deref(), Some("cluster.example.net"));
        assert!(parse("mongodb://db1/?loadBalanced=true").is_err());
    }

    #[tokio::test]
    async fn credentials_come_from_one_place() {
        let who = Credentials::new("txnscope", "hunter2");
        let options = async |uri: &str, who: Credentials| {
            let target = Target::new(uri).with_credentials(who);
            Uri::parse(&target).unwrap().resolve().await.unwrap().credential.unwrap()
        };
        let found = options("mongodb://db1/?authSource=users", who.clone()).await;
        assert_eq!((found.username.as_deref(), found.source.as_deref()), (Some("txnscope"), Some("users")));
        assert_eq!(found.password.as_deref(), Some("hunter2"));
        let found = options("mongodb://db1/", who.clone().of_database("other")).await;
        assert_eq!(found.source.as_deref(), Some("other"));
        let both = Target::new("mongodb://user:hunter2@db1/").with_credentials(who);
        let error = Uri::parse(&both).unwrap_err().to_string();
        assert!(error.contains("one place") && !error.contains("hunter2"), "{error}");
    }
}
