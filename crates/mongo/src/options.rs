//! The options of every driver, and what becomes of each here.

use std::fmt;

/// What becomes of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// The driver reads it. A value that it does not take is an error.
    Read,
    /// The driver reads it, and it changes neither whom we speak to nor how that is secured. A value that other drivers
    /// take and this one does not is left out with a warning.
    Tuning,
    /// Another driver's, without effect here: left out with a warning.
    Foreign,
    /// Another driver's name for this option.
    Alias(&'static str),
    /// Without effect if it has this value: then as `Foreign`. Any other would be without effect too, and is an error.
    Only(&'static str, &'static str),
    /// It would change how the connection is secured or where it leads, and has no effect here: an error.
    Unsupported(&'static str),
}

use Treatment::{Alias, Foreign, Only, Read, Tuning, Unsupported};

const HOST_NAMES: &str =
    "host names are always checked; give the server a certificate for the name that the URI uses";
const INVALID: &str =
    "write tlsAllowInvalidCertificates=true for a server whose certificate must not be checked";
const REVOCATION: &str = "revocation is not checked here";
const PROXY: &str = "no proxy is spoken to; let the connection pass it some other way";
const SYSTEM_CA: &str = "name the file of the authorities with tlsCAFile";
const PASSWORD: &str = "keep the key without a password, in a file that is readable by us alone";

/// Every option that MongoDB's manual or a driver documents, as it is spelled there.
pub(crate) const OPTIONS: &[(&str, Treatment)] = &[
    // Whom to speak to, as whom, and how that is secured.
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
    // What is read, and how durably what is written is kept.
    ("readConcernLevel", Read),
    ("readPreference", Read),
    ("readPreferenceTags", Read),
    ("maxStalenessSeconds", Read),
    ("journal", Read),
    ("w", Read),
    ("wtimeoutMS", Read),
    // How the driver works.
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
    // In MongoDB's manual, and not in this driver.
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
    // Of single drivers, new and old: Java, Node.js, Python, Go, C#, C.
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

/// What is said of an option that is in no table and sounds like one of these.
const UNKNOWN: &str = "it is not known here, and by its name it may change how the connection is secured or where it \
                       leads. MongoDB's manual has the names, under \"Connection String Options\"";
const SECURING: &[&str] = &["tls", "ssl", "auth", "proxy", "gssapi"];

/// The option's name as it is spelled in the table, and what becomes of it.
pub(crate) fn known(name: &str) -> Option<(&'static str, Treatment)> {
    OPTIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).copied()
}

/// Why an option that is in no table is refused, if it is.
pub(crate) fn refused_unknown(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    SECURING.iter().any(|beginning| name.starts_with(beginning)).then_some(UNKNOWN)
}

/// An option without effect here. Shows its name and never its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    name: String,
    /// The option that was probably meant, if this one is in no table.
    meant: Option<&'static str>,
    known: bool,
}

impl Ignored {
    pub(crate) fn known(name: &'static str) -> Self {
        Self { name: name.to_owned(), meant: None, known: true }
    }

    /// One that is in no table. `place` counts from 1: it is what is said of a text that does not look like a name.
    pub(crate) fn unknown(name: &str, place: usize) -> Self {
        let close = OPTIONS.iter().map(|(known, _)| {
            (strsim::damerau_levenshtein(&known.to_ascii_lowercase(), &name.to_ascii_lowercase()), *known)
        });
        let meant = close.min().filter(|(distance, _)| *distance <= 1 + name.chars().count() / 5);
        let name = if is_plain(name) { name.to_owned() } else { format!("number {place}") };
        Self { name, meant: meant.map(|(_, known)| known), known: false }
    }

    /// Its name, as MongoDB's manual spells it or, if that does not have it, as it stands in the URI.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the value of an option of that name is something that must not be seen.
    pub(crate) fn may_hold_a_secret(&self) -> bool {
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

/// Whether it looks like the name of an option, and not like a piece of a password.
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
    fn each_option_stands_in_the_table_once_and_an_alias_means_one_that_is_read() {
        let mut seen = BTreeSet::new();
        for (name, treatment) in OPTIONS {
            assert!(seen.insert(name.to_ascii_lowercase()), "{name} stands there twice");
            if let Alias(meant) = treatment {
                assert!(matches!(known(meant), Some((_, Read | Tuning))), "{name}");
            }
        }
    }

    #[test]
    fn an_unknown_option_is_named_only_if_it_looks_like_a_name() {
        let shown = |name: &str| Ignored::unknown(name, 3).to_string();
        assert_eq!(shown("fooBar"), "fooBar (unknown)");
        assert_eq!(shown("maxPoolSiz"), "maxPoolSiz (unknown; did you mean maxPoolSize?)");
        assert_eq!(shown("hunter2"), "number 3 (unknown)");
    }
}
