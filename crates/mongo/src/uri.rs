//! URIs of deployments: parsed once, by the driver's parser, and never shown.

use std::fmt;
use std::net::Ipv6Addr;

use futures_util::FutureExt;
use mongodb::options::{AuthMechanism, ClientOptions, ConnectionString, Credential, HostInfo, ServerAddress};

use crate::credentials::Credentials;
use crate::error::UriError;
use crate::options::{Ignored, Treatment, is_plain, known, unknown_option_advice};
use crate::secret_line::{LineError, check_single_line, one_line};
use crate::set_name::SetName;
use crate::tls::TlsFiles;
use crate::uri_parts::{UriParts, split_option};

/// The parsed and validated URI of a deployment: its hosts are host names, addresses or paths, and its
/// `replicaSet` is a valid name.
///
/// Options that only other drivers have are left out, and [`ignored`](Self::ignored) returns them; those that
/// would change how a connection is secured or where it leads are an error.
#[derive(Clone, PartialEq)]
pub struct Uri {
    /// The URI as given. `None` if its mechanism needs a user and it has none.
    own_user: Option<Box<ConnectionString>>,
    /// The URI with a placeholder user, if it has no user and its mechanism takes one.
    placeholder_user: Option<Box<ConnectionString>>,
    set_name: Option<SetName>,
    ignored: Vec<Ignored>,
    /// Whether the URI has `authMechanismProperties`, which the driver discards where it does not use them. They
    /// may contain a token.
    has_properties: bool,
}

/// The driver's result for a text.
struct Parsed {
    own_user: Option<ConnectionString>,
    placeholder_user: Option<ConnectionString>,
}

impl Uri {
    /// Contacts no server: an SRV name is resolved by [`options`](Self::options).
    ///
    /// # Errors
    ///
    /// If the text is no URI or has unsupported options. The error repeats nothing of it.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let text = one_line(text).map_err(|error| match error {
            LineError::Empty => UriError::Malformed,
            error => UriError::Line(error),
        })?;
        let uri_parts = UriParts::new(text)
            .filter(|uri_parts| !uri_parts.has_broken_escape())
            .ok_or(UriError::Malformed)?;
        // Without options, the error must be in the user or the hosts.
        Parsed::of(&uri_parts, &[]).ok_or(UriError::Malformed)?;
        let mut ignored = Vec::new();
        let options = select_options(&uri_parts.options, &mut ignored)?;
        let has_properties = options.iter().any(|(name, _)| *name == "authMechanismProperties");
        let kept = drop_rejected_options(&uri_parts, options, &mut ignored)?;
        let Parsed { own_user, placeholder_user } = Parsed::of(&uri_parts, &kept).ok_or(UriError::Refused)?;

        let any_user = own_user.as_ref().or(placeholder_user.as_ref()).ok_or(UriError::Refused)?;
        check_hosts(&any_user.host_info)?;
        let set_name = any_user.replica_set.as_deref();
        let set_name = set_name.map(|name| SetName::parse(name).ok_or(UriError::SetName)).transpose()?;
        ignored.sort_by(|a, b| a.name().cmp(b.name()));
        ignored.dedup();
        let placeholder_user = placeholder_user.filter(|parsed| takes_password(parsed.credential.as_ref()));
        Ok(Self {
            own_user: own_user.map(Box::new),
            placeholder_user: placeholder_user.map(Box::new),
            set_name,
            ignored,
            has_properties,
        })
    }

    /// Whether a text contains a MongoDB URI, for example in place of a file name. Such a text must not be
    /// shown.
    #[must_use]
    pub fn is_in(text: &str) -> bool {
        let text = text.to_lowercase();
        text.contains("mongodb://") || text.contains("mongodb+srv://")
    }

    /// The ignored options, by name.
    #[must_use]
    pub fn ignored(&self) -> &[Ignored] {
        &self.ignored
    }

    /// Whether separate credentials can be used: the URI has no user, and no mechanism that takes none.
    #[must_use]
    pub fn takes_credentials(&self) -> bool {
        self.placeholder_user.is_some()
    }

    /// Whether the URI contains a secret that must not appear in `ps`.
    #[must_use]
    pub fn contains_secret(&self) -> bool {
        let credential = self.own_user.as_ref().and_then(|own_user| own_user.credential.as_ref());
        credential.is_some_and(|credential| credential.password.is_some())
            || self.has_properties
            || self.ignored.iter().any(Ignored::may_contain_secret)
    }

    /// The SRV name of a `mongodb+srv://` URI.
    #[must_use]
    pub fn dns_name(&self) -> Option<&str> {
        match &self.any_user().host_info {
            HostInfo::DnsRecord(name) => Some(name),
            _ => None,
        }
    }

    /// Whether the URI has `directConnection=true`.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.any_user().direct_connection == Some(true)
    }

    /// Whether the URI leads to a load balancer.
    #[must_use]
    pub fn is_load_balanced(&self) -> bool {
        self.any_user().load_balanced == Some(true)
    }

    /// The required name of the replica set.
    #[must_use]
    pub fn set_name(&self) -> Option<&SetName> {
        self.set_name.as_ref()
    }

    /// Validates the combination with separate credentials.
    ///
    /// # Errors
    ///
    /// If there are two users, or none where one is needed, or if user or password are invalid.
    pub fn check(&self, credentials: Option<&Credentials>) -> Result<(), UriError> {
        self.with_user(credentials).map(drop)
    }

    /// The contents of the URI's TLS files.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or has invalid contents.
    pub fn tls_files(&self) -> Result<TlsFiles, UriError> {
        TlsFiles::read(self.any_user())
    }

    /// Whether all users of the machine can read the private key file.
    #[must_use]
    pub fn key_is_readable_by_all_users(&self) -> bool {
        TlsFiles::key_is_readable_by_all_users(self.any_user())
    }

    /// The driver's options. Resolves an SRV name through DNS.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check) and [`tls_files`](Self::tls_files), and if DNS does not answer.
    pub async fn options(&self, credentials: Option<&Credentials>) -> Result<ClientOptions, UriError> {
        let parsed = self.with_user(credentials)?;
        self.tls_files()?;
        ClientOptions::parse(parsed).await.map_err(|error| UriError::from_client_error(&error))
    }

    /// The URI's own user, or the given credentials with the URI's mechanism, database and properties.
    fn with_user(&self, credentials: Option<&Credentials>) -> Result<ConnectionString, UriError> {
        let Some(credentials) = credentials else {
            return self.own_user.as_deref().cloned().ok_or(UriError::NoUser);
        };
        credentials.check()?;
        let Some(placeholder_user) = &self.placeholder_user else {
            let named = self.any_user().credential.as_ref().is_some_and(|one| one.username.is_some());
            return Err(if named { UriError::TwoUsers } else { UriError::NoPassword });
        };
        let mut parsed = ConnectionString::clone(placeholder_user);
        let credential = parsed.credential.get_or_insert_default();
        credential.username = Some(credentials.username.clone());
        credential.password = Some(credentials.password.clone());
        if let Some(source) = &credentials.source {
            credential.source = Some(source.clone());
        }
        Ok(parsed)
    }

    fn any_user(&self) -> &ConnectionString {
        static NONE: std::sync::LazyLock<ConnectionString> =
            std::sync::LazyLock::new(ConnectionString::default);
        // One of both always exists.
        self.own_user.as_deref().or(self.placeholder_user.as_deref()).unwrap_or(&NONE)
    }
}

/// Does not show the URI.
impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Uri");
        shown.field("set_name", &self.set_name).field("direct", &self.is_direct()).finish_non_exhaustive()
    }
}

impl Parsed {
    /// The driver's result for these options, with or without the placeholder user.
    fn of(uri_parts: &UriParts<'_>, options: &[String]) -> Option<Self> {
        let parse = |text: String| ConnectionString::parse(text).ok().filter(is_accepted);
        let (own_user, placeholder_user) =
            (parse(uri_parts.with(options)), parse(uri_parts.with_placeholder_user(options)));
        (own_user.is_some() || placeholder_user.is_some()).then_some(Self { own_user, placeholder_user })
    }
}

/// Whether the driver accepts the options. An SRV name is not resolved.
fn is_accepted(parsed: &ConnectionString) -> bool {
    let mut parsed = parsed.clone();
    if let HostInfo::DnsRecord(_) = parsed.host_info {
        // No server is contacted, so any address will do.
        let anywhere = ServerAddress::Tcp { host: "localhost".to_owned(), port: None };
        parsed.host_info = HostInfo::HostIdentifiers(vec![anywhere]);
    }
    ClientOptions::parse(parsed).into_future().now_or_never().is_some_and(|options| options.is_ok())
}

/// The options that the driver may know, under its own names.
fn select_options(
    options: &[&str],
    ignored: &mut Vec<Ignored>,
) -> Result<Vec<(&'static str, String)>, UriError> {
    let mut select_options = Vec::new();
    for (place, option) in (1..).zip(options) {
        let (name, value) = split_option(option).ok_or(UriError::Pair(place))?;
        let Some((known, treatment)) = known(name) else {
            // A host may follow an @, and a password may precede it.
            if option.contains('@') {
                return Err(UriError::Pair(place));
            }
            if let Some(advice) = unknown_option_advice(name) {
                let name = if is_plain(name) { name.to_owned() } else { format!("number {place}") };
                return Err(UriError::Unsupported { name, advice });
            }
            ignored.push(Ignored::unknown(name, place));
            continue;
        };
        match treatment {
            Treatment::Read | Treatment::Tuning => select_options.push((known, (*option).to_owned())),
            Treatment::Alias(meant) => select_options.push((meant, format!("{meant}={value}"))),
            Treatment::Foreign => ignored.push(Ignored::known(known)),
            Treatment::Only(harmless, _) if value.eq_ignore_ascii_case(harmless) => {
                ignored.push(Ignored::known(known));
            }
            Treatment::Only(_, advice) | Treatment::Unsupported(advice) => {
                return Err(UriError::Unsupported { name: known.to_owned(), advice });
            }
        }
    }
    Ok(select_options)
}

/// The options that the driver accepts together. A rejected one is an error, or is left out if it is only
/// tuning.
fn drop_rejected_options(
    uri_parts: &UriParts<'_>,
    options: Vec<(&'static str, String)>,
    ignored: &mut Vec<Ignored>,
) -> Result<Vec<String>, UriError> {
    let all: Vec<_> = options.iter().map(|(_, option)| option.clone()).collect();
    if Parsed::of(uri_parts, &all).is_some() {
        return Ok(all);
    }
    // One after another; rejected ones are tried again at the end, since an option may depend on a later one.
    let mut kept: Vec<String> = Vec::new();
    let mut waiting = options;
    loop {
        let before = waiting.len();
        let mut refused = Vec::new();
        for (name, option) in waiting {
            kept.push(option);
            if Parsed::of(uri_parts, &kept).is_none() {
                refused.extend(kept.pop().map(|option| (name, option)));
            }
        }
        if refused.is_empty() {
            return Ok(kept);
        }
        waiting = refused;
        if waiting.len() == before {
            break;
        }
    }
    for (name, _) in waiting {
        match known(name) {
            Some((name, Treatment::Tuning)) => ignored.push(Ignored::known(name)),
            _ => return Err(UriError::Option { name, advice: advice(name) }),
        }
    }
    Ok(kept)
}

fn advice(name: &str) -> &'static str {
    match name {
        "authMechanism" => {
            ": there are SCRAM-SHA-256, SCRAM-SHA-1, PLAIN, MONGODB-X509 (which takes no password) and MONGODB-OIDC; \
             GSSAPI and MONGODB-AWS are not built in"
        }
        "tls"
        | "ssl"
        | "directConnection"
        | "loadBalanced"
        | "journal"
        | "tlsInsecure"
        | "tlsAllowInvalidCertificates" => {
            ": it must be true or false, occur once, and not contradict another option"
        }
        "maxStalenessSeconds" | "readPreferenceTags" | "readPreference" => {
            ": it needs a readPreference that allows it"
        }
        "srvServiceName" | "srvMaxHosts" => ": it goes with mongodb+srv:// only, and not with replicaSet",
        _ => ": check whether it occurs twice",
    }
}

/// Whether the URI can have a placeholder user with a password.
fn takes_password(credential: Option<&Credential>) -> bool {
    match credential.and_then(|credential| credential.mechanism.as_ref()) {
        None | Some(AuthMechanism::ScramSha1 | AuthMechanism::ScramSha256 | AuthMechanism::Plain) => true,
        Some(_) => false,
    }
}

/// Hosts become labels, so they must be host names, addresses or paths.
fn check_hosts(hosts: &HostInfo) -> Result<(), UriError> {
    let is_name = |host: &str| {
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        host.len() <= 253 && (host.chars().all(fits) || host.parse::<Ipv6Addr>().is_ok())
    };
    let fits = |address: &ServerAddress| match address {
        ServerAddress::Tcp { host, .. } => is_name(host),
        ServerAddress::Unix { path } => path.to_str().is_some_and(|path| {
            path.starts_with('/') && check_single_line(path).is_ok() && !path.contains(['@', '"', '\\'])
        }),
        _ => false,
    };
    match hosts {
        HostInfo::HostIdentifiers(hosts) => {
            hosts.iter().position(|host| !fits(host)).map_or(Ok(()), |place| Err(UriError::Host(place + 1)))
        }
        HostInfo::DnsRecord(name) if is_name(name) => Ok(()),
        _ => Err(UriError::Host(1)),
    }
}

#[cfg(test)]
mod tests;
