//! The options of all drivers, and how each is treated.

use std::fmt;

/// How an option is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Passed to the driver. A value that the driver rejects is an error.
    Read,
    /// Passed to the driver, without influence on the servers and on security. A value that the driver rejects
    /// is left out with a warning.
    Tuning,
    /// An option of another driver, without effect here: left out with a warning.
    Foreign,
    /// Another driver's name for this option.
    Alias(&'static str),
    /// Treated as `Foreign` with this value; an error with any other, which would have no effect.
    Only(&'static str, &'static str),
    /// An error: the option would change how the connection is secured or where it leads, and is not supported.
    Unsupported(&'static str),
}

use Treatment::{Alias, Foreign, Only, Read, Tuning, Unsupported};

const HOST_NAMES: &str =
    "host names are always checked; give the server a certificate for the name that the URI uses";
const INVALID: &str =
    "write tlsAllowInvalidCertificates=true for a server whose certificate must not be checked";
const REVOCATION: &str = "revocation is not checked here";
const PROXY: &str = "proxies are not supported; connect directly or through a tunnel";
const SYSTEM_CA: &str = "name the file of the authorities with tlsCAFile";
const PASSWORD: &str = "use a key without a password, in a file that only txnscope can read";

/// Every option in MongoDB's manual or in the documentation of a driver.
pub(crate) const OPTIONS: &[(&str, Treatment)] = &[
    // Servers, authentication, and TLS.
    ("replicaSet", Read),
    ("directConnection", Read),
    ("loadBalanced", Read),
    ("srvServiceName", Read),
    ("srvMaxHosts", Read),
    ("authMechanism", Read),
    ("authSource", Read),
    ("authMechanismProperties", Read),
    ("tls", Read),
    ("ssl", Read),
    ("tlsInsecure", Read),
    ("tlsAllowInvalidCertificates", Read),
    ("tlsCAFile", Read),
    ("tlsCertificateKeyFile", Read),
    // Read concern, read preference, and write concern.
    ("readConcernLevel", Read),
    ("readPreference", Read),
    ("readPreferenceTags", Read),
    ("maxStalenessSeconds", Read),
    ("journal", Read),
    ("w", Read),
    ("wtimeoutMS", Read),
    // Driver tuning.
    ("appName", Tuning),
    ("connectTimeoutMS", Tuning),
    ("enableOverloadRetargeting", Tuning),
    ("heartbeatFrequencyMS", Tuning),
    ("localThresholdMS", Tuning),
    ("maxAdaptiveRetries", Tuning),
    ("maxConnecting", Tuning),
    ("maxIdleTimeMS", Tuning),
    ("maxPoolSize", Tuning),
    ("minPoolSize", Tuning),
    ("retryReads", Tuning),
    ("retryWrites", Tuning),
    ("serverMonitoringMode", Tuning),
    ("serverSelectionTimeoutMS", Tuning),
    ("waitQueueTimeoutMS", Tuning),
    // In MongoDB's manual, but not in this driver.
    ("adaptiveRetries", Foreign),
    ("compressors", Foreign),
    ("gssapiServiceName", Foreign),
    ("serverSelectionTryOnce", Foreign),
    ("socketTimeoutMS", Foreign),
    ("timeoutMS", Foreign),
    ("uuidRepresentation", Foreign),
    ("waitQueueMultiple", Foreign),
    ("zlibCompressionLevel", Foreign),
    ("zstdCompressionLevel", Foreign),
    ("proxyHost", Unsupported(PROXY)),
    ("proxyPort", Unsupported(PROXY)),
    ("proxyUsername", Unsupported(PROXY)),
    ("proxyPassword", Unsupported(PROXY)),
    ("tlsAllowInvalidHostnames", Only("false", HOST_NAMES)),
    ("tlsCertificateKeyFilePassword", Unsupported(PASSWORD)),
    ("tlsCRLFile", Unsupported(REVOCATION)),
    ("tlsDisableCertificateRevocationCheck", Only("true", REVOCATION)),
    ("tlsDisableOCSPEndpointCheck", Only("true", REVOCATION)),
    ("tlsUseSystemCA", Only("false", SYSTEM_CA)),
    ("tlsFIPSMode", Only("false", "there is no FIPS mode here")),
    // Options of single drivers, new and old: Java, Node.js, Python, Go, C#, C.
    ("autoReconnect", Foreign),
    ("auto_reconnect", Foreign),
    ("bsonRegExp", Foreign),
    ("bufferMaxEntries", Foreign),
    ("canonicalizeHostname", Foreign),
    ("checkServerIdentity", Only("true", HOST_NAMES)),
    ("connect", Foreign),
    ("connectWithNoPrimary", Foreign),
    ("document_class", Foreign),
    ("domainsEnabled", Foreign),
    ("driverInfo", Foreign),
    ("enableUtf8Validation", Foreign),
    ("family", Foreign),
    ("fieldsAsRaw", Foreign),
    ("forceServerObjectId", Foreign),
    ("fsync", Foreign),
    ("guids", Foreign),
    ("ha", Foreign),
    ("haInterval", Foreign),
    ("heartbeatIntervalMS", Alias("heartbeatFrequencyMS")),
    ("ignoreUndefined", Foreign),
    ("ipv6", Foreign),
    ("j", Alias("journal")),
    ("keepAlive", Foreign),
    ("keepAliveInitialDelay", Foreign),
    ("logger", Foreign),
    ("loggerLevel", Foreign),
    ("maxConnectionIdleTime", Foreign),
    ("maxConnectionLifeTime", Foreign),
    ("maxIdleTime", Foreign),
    ("maxLifeTime", Foreign),
    ("maxLifeTimeMS", Foreign),
    ("maxStaleness", Foreign),
    ("minHeartbeatFrequencyMS", Foreign),
    ("minSize", Foreign),
    ("modifications", Foreign),
    ("monitorCommands", Foreign),
    ("noDelay", Foreign),
    ("numberOfRetries", Foreign),
    ("pkFactory", Foreign),
    ("poolSize", Foreign),
    ("promiseLibrary", Foreign),
    ("promoteBuffers", Foreign),
    ("promoteLongs", Foreign),
    ("promoteValues", Foreign),
    ("raw", Foreign),
    ("readConcern", Foreign),
    ("reconnectInterval", Foreign),
    ("reconnectTries", Foreign),
    ("safe", Foreign),
    ("secondaryAcceptableLatencyMS", Foreign),
    ("serializeFunctions", Foreign),
    ("slaveOk", Foreign),
    ("socketKeepAlive", Foreign),
    ("strict", Foreign),
    ("tz_aware", Foreign),
    ("tzinfo", Foreign),
    ("unicode_decode_error_handler", Foreign),
    ("useBigInt64", Foreign),
    ("useCreateIndex", Foreign),
    ("useFindAndModify", Foreign),
    ("useNewUrlParser", Foreign),
    ("useUnifiedTopology", Foreign),
    ("uuidSubtype", Foreign),
    ("validateOptions", Foreign),
    ("waitQueueSize", Foreign),
    ("waitQueueTimeout", Foreign),
    ("wtimeout", Alias("wtimeoutMS")),
    ("sslAllowInvalidCertificates", Alias("tlsAllowInvalidCertificates")),
    ("sslAllowInvalidHostnames", Only("false", HOST_NAMES)),
    ("sslCertificateAuthorityFile", Alias("tlsCAFile")),
    ("sslClientCertificateKeyFile", Alias("tlsCertificateKeyFile")),
    ("sslClientCertificateKeyPassword", Unsupported(PASSWORD)),
    ("sslInsecure", Alias("tlsInsecure")),
    ("sslInvalidHostNameAllowed", Only("false", HOST_NAMES)),
    ("sslValidate", Only("true", INVALID)),
    ("sslVerifyCertificate", Only("true", INVALID)),
    ("ssl_ca_certs", Alias("tlsCAFile")),
    ("ssl_match_hostname", Only("true", HOST_NAMES)),
];

/// Advice for unknown options whose name resembles one of these.
const UNKNOWN: &str = "it is not known here, and by its name it may change how the connection is secured or where it \
                       leads. MongoDB's manual has the names, under \"Connection String Options\"";
const SECURING: &[&str] = &["tls", "ssl", "auth", "proxy", "gssapi"];

/// The option's documented name, and its treatment.
pub(crate) fn known(name: &str) -> Option<(&'static str, Treatment)> {
    OPTIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).copied()
}

/// Why an unknown option is rejected, if it is.
pub(crate) fn unknown_option_advice(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    SECURING.iter().any(|beginning| name.starts_with(beginning)).then_some(UNKNOWN)
}

/// An ignored option of a URI. Shows its name and never its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    name: String,
    /// The documented option with the most similar name, if this one is unknown.
    meant: Option<&'static str>,
    known: bool,
}

impl Ignored {
    pub(crate) fn known(name: &'static str) -> Self {
        Self { name: name.to_owned(), meant: None, known: true }
    }

    /// An unknown option. `place` counts from 1, and is used if the text does not look like a name.
    pub(crate) fn unknown(name: &str, place: usize) -> Self {
        let close = OPTIONS.iter().map(|(known, _)| {
            (strsim::damerau_levenshtein(&known.to_ascii_lowercase(), &name.to_ascii_lowercase()), *known)
        });
        let meant = close.min().filter(|(distance, _)| *distance <= 1 + name.chars().count() / 5);
        let name = if is_plain(name) { name.to_owned() } else { format!("number {place}") };
        Self { name, meant: meant.map(|(_, known)| known), known: false }
    }

    /// The documented name or, for an unknown option, the name in the URI.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the value of this option is secret.
    pub(crate) fn may_contain_secret(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        ["password", "passwd", "passphrase", "secret", "token", "credential", "key"]
            .iter()
            .any(|word| name.contains(word))
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        match (self.known, self.meant) {
            (true, _) => Ok(()),
            (false, Some(meant)) => write!(f, " (unknown; did you mean {meant}?)"),
            (false, None) => write!(f, " (unknown)"),
        }
    }
}

/// Whether a text looks like the name of an option, and not like a part of a password.
pub(crate) fn is_plain(name: &str) -> bool {
    name.len() <= 48
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '.'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn option_table_is_unique_and_aliases_are_known() {
        let mut seen = BTreeSet::new();
        for (name, treatment) in OPTIONS {
            assert!(seen.insert(name.to_ascii_lowercase()), "{name} stands there twice");
            if let Alias(meant) = treatment {
                assert!(matches!(known(meant), Some((_, Read | Tuning))), "{name}");
            }
        }
    }

    #[test]
    fn unknown_option_is_shown_only_if_it_looks_like_a_name() {
        let shown = |name: &str| Ignored::unknown(name, 3).to_string();
        assert_eq!(shown("fooBar"), "fooBar (unknown)");
        assert_eq!(shown("maxPoolSiz"), "maxPoolSiz (unknown; did you mean maxPoolSize?)");
        assert_eq!(shown("hunter2"), "number 3 (unknown)");
    }
}
