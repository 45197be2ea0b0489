//! A deployment's URI: parsed once, by the driver's parser, and never shown.

use std::fmt;
use std::net::Ipv6Addr;

use futures_util::FutureExt;
use mongodb::options::{AuthMechanism, ClientOptions, ConnectionString, Credential, HostInfo, ServerAddress};

use crate::credentials::Credentials;
use crate::cut::{Cut, pair};
use crate::error::UriError;
use crate::line::{LineError, clean, one_line};
use crate::options::{Ignored, Treatment, is_plain, known, refused_unknown};
use crate::set_name::SetName;
use crate::tls::TlsFiles;

/// The URI of a deployment, as the driver reads it. What it names was checked: its hosts are host names, addresses or
/// paths, and its `replicaSet` can be the name of a set.
///
/// Options that other drivers have and this one has not are left out, and [`ignored`](Self::ignored) names them; those
/// that would change how a connection is secured or where it leads are an error.
#[derive(Clone, PartialEq)]
pub struct Uri {
    /// As it stands there. Missing if it says how to authenticate and not as whom.
    plain: Option<Box<ConnectionString>>,
    /// The same as somebody, if it names nobody and how it authenticates takes a user and a password.
    open: Option<Box<ConnectionString>>,
    set_name: Option<SetName>,
    ignored: Vec<Ignored>,
    /// Whether it has `authMechanismProperties`, which the driver forgets where it has no use for them. A token may be
    /// among them.
    has_properties: bool,
}

/// What the driver makes of a text.
struct Parsed {
    plain: Option<ConnectionString>,
    open: Option<ConnectionString>,
}

impl Uri {
    /// Asks nobody: a `mongodb+srv://` name is resolved by [`options`](Self::options).
    ///
    /// # Errors
    ///
    /// If the text is no URI or asks for what cannot be had. The error repeats nothing of it.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let text = one_line(text).map_err(|error| match error {
            LineError::Empty => UriError::Malformed,
            error => UriError::Line(error),
        })?;
        let cut = Cut::new(text).filter(|cut| !cut.has_broken_escape()).ok_or(UriError::Malformed)?;
        // Without any option: what is wrong then is wrong with the user or the hosts.
        Parsed::of(&cut, &[]).ok_or(UriError::Malformed)?;
        let mut ignored = Vec::new();
        let options = chosen(&cut.options, &mut ignored)?;
        let has_properties = options.iter().any(|(name, _)| *name == "authMechanismProperties");
        let kept = accepted(&cut, options, &mut ignored)?;
        let Parsed { plain, open } = Parsed::of(&cut, &kept).ok_or(UriError::Refused)?;

        let any = plain.as_ref().or(open.as_ref()).ok_or(UriError::Refused)?;
        check_hosts(&any.host_info)?;
        let set_name = any.replica_set.as_deref();
        let set_name = set_name.map(|name| SetName::parse(name).ok_or(UriError::SetName)).transpose()?;
        ignored.sort_by(|a, b| a.name().cmp(b.name()));
        ignored.dedup();
        let open = open.filter(|parsed| takes_a_password(parsed.credential.as_ref()));
        Ok(Self { plain: plain.map(Box::new), open: open.map(Box::new), set_name, ignored, has_properties })
    }

    /// Whether the URI of a deployment stands in a text that is none: in the place of a file's name, say. Nothing of such a
    /// text can be shown.
    #[must_use]
    pub fn stands_in(text: &str) -> bool {
        let text = text.to_lowercase();
        text.contains("mongodb://") || text.contains("mongodb+srv://")
    }

    /// The options that stand there and have no effect, by name.
    #[must_use]
    pub fn ignored(&self) -> &[Ignored] {
        &self.ignored
    }

    /// Whether a user and a password can be given apart from it: it names nobody, and authenticates in no other way.
    #[must_use]
    pub fn takes_credentials(&self) -> bool {
        self.open.is_some()
    }

    /// Whether there is something in it that must not be seen in `ps`: a password, say.
    #[must_use]
    pub fn holds_a_secret(&self) -> bool {
        let credential = self.plain.as_ref().and_then(|plain| plain.credential.as_ref());
        credential.is_some_and(|credential| credential.password.is_some())
            || self.has_properties
            || self.ignored.iter().any(Ignored::may_hold_a_secret)
    }

    /// The name behind `mongodb+srv://`, whose members DNS knows.
    #[must_use]
    pub fn dns_name(&self) -> Option<&str> {
        match &self.any().host_info {
            HostInfo::DnsRecord(name) => Some(name),
            _ => None,
        }
    }

    /// Whether the one member that is named is meant, and no other.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.any().direct_connection == Some(true)
    }

    /// Whether it leads to a load balancer, behind which one server or another answers.
    #[must_use]
    pub fn is_load_balanced(&self) -> bool {
        self.any().load_balanced == Some(true)
    }

    /// The name that the replica set should have.
    #[must_use]
    pub fn set_name(&self) -> Option<&SetName> {
        self.set_name.as_ref()
    }

    /// Checks that it says who to be if it must, and that these credentials go with it.
    ///
    /// # Errors
    ///
    /// If two users are named, or none where one is needed, or a name or a password cannot be one.
    pub fn check(&self, credentials: Option<&Credentials>) -> Result<(), UriError> {
        self.as_whom(credentials).map(drop)
    }

    /// What the files of certificates hold that it names.
    ///
    /// # Errors
    ///
    /// If one cannot be read, or does not hold what it should.
    pub fn tls_files(&self) -> Result<TlsFiles, UriError> {
        TlsFiles::read(self.any())
    }

    /// Whether every user of the machine may read the file with the private key that it names.
    #[must_use]
    pub fn key_is_readable_by_everybody(&self) -> bool {
        TlsFiles::key_is_readable_by_everybody(self.any())
    }

    /// What the driver needs to reach the deployment. Asks DNS if there is a name that only DNS knows.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check) and [`tls_files`](Self::tls_files), and if DNS does not answer.
    pub async fn options(&self, credentials: Option<&Credentials>) -> Result<ClientOptions, UriError> {
        let parsed = self.as_whom(credentials)?;
        self.tls_files()?;
        ClientOptions::parse(parsed).await.map_err(|error| UriError::of_client(&error))
    }

    /// As the user that the URI names, or as the one that is given, whom the driver's parser has a place for: mechanism,
    /// database and properties are the URI's.
    fn as_whom(&self, credentials: Option<&Credentials>) -> Result<ConnectionString, UriError> {
        let Some(credentials) = credentials else {
            return self.plain.as_deref().cloned().ok_or(UriError::NoUser);
        };
        credentials.check()?;
        let Some(open) = &self.open else {
            let named = self.any().credential.as_ref().is_some_and(|one| one.username.is_some());
            return Err(if named { UriError::TwoUsers } else { UriError::NoPassword });
        };
        let mut parsed = ConnectionString::clone(open);
        let credential = parsed.credential.get_or_insert_default();
        credential.username = Some(credentials.username.clone());
        credential.password = Some(credentials.password.clone());
        if let Some(source) = &credentials.source {
            credential.source = Some(source.clone());
        }
        Ok(parsed)
    }

    fn any(&self) -> &ConnectionString {
        static NONE: std::sync::LazyLock<ConnectionString> =
            std::sync::LazyLock::new(ConnectionString::default);
        // One of both is always there.
        self.plain.as_deref().or(self.open.as_deref()).unwrap_or(&NONE)
    }
}

/// Without the URI itself.
impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Uri");
        shown.field("set_name", &self.set_name).field("direct", &self.is_direct()).finish_non_exhaustive()
    }
}

impl Parsed {
    /// What the driver makes of the URI with these options, if it takes it as it is or as somebody.
    fn of(cut: &Cut<'_>, options: &[String]) -> Option<Self> {
        let parse = |text: String| ConnectionString::parse(text).ok().filter(is_accepted);
        let (plain, open) = (parse(cut.with(options)), parse(cut.with_somebody(options)));
        (plain.is_some() || open.is_some()).then_some(Self { plain, open })
    }
}

/// Whether the driver takes the options together. A name that only DNS knows is not asked for.
fn is_accepted(parsed: &ConnectionString) -> bool {
    let mut parsed = parsed.clone();
    if let HostInfo::DnsRecord(_) = parsed.host_info {
        // Nobody is spoken to: any address will do.
        let anywhere = ServerAddress::Tcp { host: "localhost".to_owned(), port: None };
        parsed.host_info = HostInfo::HostIdentifiers(vec![anywhere]);
    }
    ClientOptions::parse(parsed).into_future().now_or_never().is_some_and(|options| options.is_ok())
}

/// The options that the driver may know, under its names for them.
fn chosen(options: &[&str], ignored: &mut Vec<Ignored>) -> Result<Vec<(&'static str, String)>, UriError> {
    let mut chosen = Vec::new();
    for (place, option) in (1..).zip(options) {
        let (name, value) = pair(option).ok_or(UriError::Pair(place))?;
        let Some((known, treatment)) = known(name) else {
            // Behind an @ may stand a host, and before it a password.
            if option.contains('@') {
                return Err(UriError::Pair(place));
            }
            if let Some(advice) = refused_unknown(name) {
                let name = if is_plain(name) { name.to_owned() } else { format!("number {place}") };
                return Err(UriError::Unsupported { name, advice });
            }
            ignored.push(Ignored::unknown(name, place));
            continue;
        };
        match treatment {
            Treatment::Read | Treatment::Tuning => chosen.push((known, (*option).to_owned())),
            Treatment::Alias(meant) => chosen.push((meant, format!("{meant}={value}"))),
            Treatment::Foreign => ignored.push(Ignored::known(known)),
            Treatment::Only(harmless, _) if value.eq_ignore_ascii_case(harmless) => {
                ignored.push(Ignored::known(known));
            }
            Treatment::Only(_, advice) | Treatment::Unsupported(advice) => {
                return Err(UriError::Unsupported { name: known.to_owned(), advice });
            }
        }
    }
    Ok(chosen)
}

/// Those of the options that the driver takes together. One that it does not take is an error with its name, or left out
/// if it changes nothing that matters here.
fn accepted(
    cut: &Cut<'_>,
    options: Vec<(&'static str, String)>,
    ignored: &mut Vec<Ignored>,
) -> Result<Vec<String>, UriError> {
    let all: Vec<_> = options.iter().map(|(_, option)| option.clone()).collect();
    if Parsed::of(cut, &all).is_some() {
        return Ok(all);
    }
    // One after the other, and those that were not taken once more at the end: an option may need one behind it.
    let mut kept: Vec<String> = Vec::new();
    let mut waiting = options;
    loop {
        let before = waiting.len();
        let mut refused = Vec::new();
        for (name, option) in waiting {
            kept.push(option);
            if Parsed::of(cut, &kept).is_none() {
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
            _ => return Err(UriError::Option { name, why: why(name) }),
        }
    }
    Ok(kept)
}

fn why(name: &str) -> &'static str {
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
            ": it should be true or false, stand there once, and not contradict another option"
        }
        "maxStalenessSeconds" | "readPreferenceTags" | "readPreference" => {
            ": does it go together with readPreference, and is there one?"
        }
        "srvServiceName" | "srvMaxHosts" => ": it goes with mongodb+srv:// only, and not with replicaSet",
        _ => ": does it stand there twice?",
    }
}

/// Whether somebody with a password can be put in the place of the user.
fn takes_a_password(credential: Option<&Credential>) -> bool {
    match credential.and_then(|credential| credential.mechanism.as_ref()) {
        None | Some(AuthMechanism::ScramSha1 | AuthMechanism::ScramSha256 | AuthMechanism::Plain) => true,
        Some(_) => false,
    }
}

/// What becomes a label and a name on a page is a host's name, an address, or a path.
fn check_hosts(hosts: &HostInfo) -> Result<(), UriError> {
    let is_name = |host: &str| {
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        host.len() <= 253 && (host.chars().all(fits) || host.parse::<Ipv6Addr>().is_ok())
    };
    let fits = |address: &ServerAddress| match address {
        ServerAddress::Tcp { host, .. } => is_name(host),
        ServerAddress::Unix { path } => path.to_str().is_some_and(|path| {
            path.starts_with('/') && clean(path).is_ok() && !path.contains(['@', '"', '\\'])
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
