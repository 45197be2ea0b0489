use mongodb::options::Tls;
use proptest::prelude::*;

use super::*;

fn credential(uri: &str, credentials: &Credentials) -> Credential {
    let uri = Uri::parse(uri).unwrap_or_else(|error| panic!("{uri}: {error}"));
    let options = uri.options(Some(credentials)).now_or_never().expect("no server is contacted").unwrap();
    options.credential.unwrap()
}

fn options(uri: &str) -> ClientOptions {
    let parsed = Uri::parse(uri).unwrap_or_else(|error| panic!("{uri}: {error}"));
    parsed.options(None).now_or_never().expect("no server is contacted").unwrap()
}

fn ignored(uri: &str) -> Vec<String> {
    let uri = Uri::parse(uri).unwrap_or_else(|error| panic!("{uri}: {error}"));
    uri.ignored().iter().map(ToString::to_string).collect()
}

fn who() -> Credentials {
    Credentials::new("tx@n:scope", "hun/ter?2")
}

#[test]
fn malformed_uri_is_not_quoted() {
    for text in [
        "mongodb://user:hunter2/x@host/",
        "mongodb://user:hunter2?x@host/",
        "mongodb://user:12?hunter2=x@host/",
        "mongodb://user:hun:ter2@host/",
        "mongodb://user:hunter2@host:port/",
        "mongodb://user:ok@host:hunter2/",
        "mongodb://user:ok@[hunter2]/",
        "mongodb://user:ok@ho%20st-hunter2/",
        "mongodb://user:ok@hunter2 host/",
        "mongodb://user:ok@host/hun$ter2",
        "mongo://user:hunter2@host/",
        "user:hunter2@host",
        "mongodb://user:ok@host/?authMechanism=hunter2",
        "mongodb://user:ok@host/?tls=hunter2",
        "mongodb://user:ok@host/?replicaSet=hunter2%0A",
        "mongodb://user:ok@host/?tlsAllowInvalidHostnames=hunter2",
        "mongodb://user:ok@host/?tlsCertificateKeyFilePassword=hunter2",
        "mongodb://user:ok@host/?proxyPassword=hunter2",
        "mongodb://user:ok@host/?readPreference=hunter2",
        "mongodb://user:ok@host/?hunter2",
        "mongodb://user:ok@host/?authhunter2=hunter2",
        "mongodb://user:hunter2%4\u{fffd}@host/",
        "mongodb://user:hunter2%@host/",
        "mongodb://user:ok@host/\nhunter2",
        "mongodb://user:ok@host/?replicaSet=rs0\r\nhunter2",
        "mongodb://user:hun\tter2@host/",
        "",
    ] {
        let error = Uri::parse(text).expect_err(text);
        let said = format!("{error} {error:?}");
        assert!(!said.contains("hun") && !said.contains("ter2"), "{text}: {said}");
    }
}

#[test]
fn direct_connection_srv_and_set_name_are_parsed() {
    let uri = Uri::parse("mongodb://u:hunter2@db1,db2/?replicaSet=rs0").unwrap();
    assert_eq!(uri.set_name().map(SetName::as_str), Some("rs0"));
    assert!(!uri.is_direct() && uri.dns_name().is_none() && uri.contains_secret());
    assert!(!format!("{uri:?}").contains("hunter2"));
    assert!(Uri::parse("mongodb://db1/?directConnection=true\n").unwrap().is_direct());
    let uri = Uri::parse("mongodb+srv://cluster.example.net/?retryWrites=true&w=majority").unwrap();
    assert_eq!(uri.dns_name(), Some("cluster.example.net"));
    assert!(Uri::parse("mongodb://db1/?loadBalanced=true").unwrap().is_load_balanced());
}

#[test]
fn ipv6_socket_and_non_ascii_hosts_are_accepted() {
    let hosts = |uri: &str| options(uri).hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(hosts("mongodb://[::1]:27018,[fe80::1]/").len(), 2);
    assert_eq!(hosts("mongodb://u:p@%2Ftmp%2Fmongodb-27017.sock/"), ["/tmp/mongodb-27017.sock"]);
    assert_eq!(hosts("mongodb://DB_1.Example,größe:1/"), ["db_1.example:27017", "größe:1"]);
}

#[test]
fn separate_credentials_keep_uri_mechanism_source_and_properties() {
    use AuthMechanism::{Plain, ScramSha1, ScramSha256};
    for (uri, mechanism, source) in [
        ("mongodb://db1/", None, "admin"),
        ("mongodb://db1", None, "admin"),
        ("mongodb://db1/shop", None, "shop"),
        ("mongodb://db1/shop?authSource=users", None, "users"),
        ("mongodb://db1/?authSource=sh%6Fp", None, "shop"),
        ("mongodb://db1/?AUTHSOURCE=%24external&authMechanism=PLAIN", Some(Plain), "$external"),
        ("mongodb://db1/?authMechanism=PLAIN", Some(Plain), "$external"),
        ("mongodb://db1/?authMechanism=SCRAM-SHA-1", Some(ScramSha1), "admin"),
        ("mongodb://db1/?authMechanism=SCRAM%2DSHA%2D256&authSource=a", Some(ScramSha256), "a"),
        ("mongodb://db1/shop?authMechanism=SCRAM-SHA-256", Some(ScramSha256), "shop"),
        ("mongodb://db1/?appName=a@b&authSource=users", None, "users"),
        ("mongodb://[::1]:27018,%2Ftmp%2Fm.sock/?authSource=users", None, "users"),
    ] {
        let found = credential(uri, &who());
        assert_eq!(found.username.as_deref(), Some("tx@n:scope"), "{uri}");
        assert_eq!(found.password.as_deref(), Some("hun/ter?2"), "{uri}");
        assert_eq!((found.mechanism, found.source.as_deref()), (mechanism, Some(source)), "{uri}");
    }
    let uri = "mongodb://db1/?authMechanism=PLAIN&authMechanismProperties=SERVICE_NAME:ldap";
    let found = credential(uri, &who());
    assert_eq!(found.mechanism_properties.unwrap().get_str("SERVICE_NAME").unwrap(), "ldap");
    let found = credential("mongodb://db1/?authSource=users", &who().with_auth_source("other"));
    assert_eq!(found.source.as_deref(), Some("other"));
}

#[test]
fn passwordless_mechanism_rejects_credentials() {
    for uri in [
        "mongodb://db1/?authMechanism=MONGODB-X509&tls=true",
        "mongodb://CN%3Dclient@db1/?authMechanism=MONGODB-X509&tls=true",
        "mongodb://db1/?authMechanism=MONGODB-OIDC&authMechanismProperties=ENVIRONMENT:k8s",
    ] {
        let parsed = Uri::parse(uri).unwrap();
        assert!(!parsed.takes_credentials(), "{uri}");
        assert!(parsed.check(Some(&who())).is_err() && parsed.check(None).is_ok(), "{uri}");
        let alone = options(uri).credential.unwrap();
        assert!(alone.password.is_none() && alone.source.as_deref() == Some("$external"), "{uri}");
    }
    let both = Uri::parse("mongodb://user:hunter2@db1/").unwrap();
    assert_eq!(both.check(Some(&who())), Err(UriError::TwoUsers));
    let without_user = Uri::parse("mongodb://db1/?authMechanism=PLAIN").unwrap();
    assert_eq!(without_user.check(None), Err(UriError::NoUser));
    let what = Credentials::new("u", "hunter2\nhunter3");
    let error = Uri::parse("mongodb://db1/").unwrap().check(Some(&what)).unwrap_err().to_string();
    assert!(error.contains("password") && !error.contains("hunter"), "{error}");
}

#[test]
fn options_of_other_drivers_are_ignored_by_name() {
    for (uri, expected) in [
        ("mongodb://db1/?compressors=hunter2,zlib", vec!["compressors"]),
        ("mongodb://db1/?socketTimeoutMS=hunter2", vec!["socketTimeoutMS"]),
        (
            "mongodb://u:p@db1/?uuidRepresentation=standard&TIMEOUTMS=5",
            vec!["timeoutMS", "uuidRepresentation"],
        ),
        ("mongodb://db1/?maxPoolSize=0&waitQueueTimeoutMS=-1", vec!["maxPoolSize", "waitQueueTimeoutMS"]),
        ("mongodb://db1/?fooBar=hunter2", vec!["fooBar (unknown)"]),
        ("mongodb://db1/?replicaSe=hunter2", vec!["replicaSe (unknown; did you mean replicaSet?)"]),
        ("mongodb://db1/?tlsAllowInvalidHostnames=false", vec!["tlsAllowInvalidHostnames"]),
        ("mongodb://db1/?tlsDisableOCSPEndpointCheck=true", vec!["tlsDisableOCSPEndpointCheck"]),
        ("mongodb://db1/?j=true&wtimeout=5&heartbeatIntervalMS=600&retryWrites=false&w=majority", vec![]),
        ("mongodb://db1/?readPreferenceTags=dc:ny&readPreference=nearest&maxStalenessSeconds=120", vec![]),
    ] {
        assert_eq!(ignored(uri), expected, "{uri}");
    }
    let found = options("mongodb://db1/?j=true&wtimeout=5&compressors=zstd&replicaSet=rs0&ssl_ca_certs=/nowhere&tlsInsecure=true".replace("&ssl_ca_certs=/nowhere", "").as_str());
    assert_eq!(found.repl_set_name.as_deref(), Some("rs0"));
    let concern = found.write_concern.unwrap();
    assert_eq!((concern.journal, concern.w_timeout), (Some(true), Some(std::time::Duration::from_millis(5))));
    assert!(matches!(found.tls, Some(Tls::Enabled(tls)) if tls.allow_invalid_certificates == Some(true)));
}

/// Each option of MongoDB's manual, with a value that other drivers accept.
#[test]
fn manual_options_are_used_or_reported() {
    for option in [
        "replicaSet=rs0",
        "tls=true",
        "ssl=true",
        "tlsInsecure=true",
        "tlsAllowInvalidCertificates=true",
        "connectTimeoutMS=5",
        "socketTimeoutMS=5",
        "compressors=snappy,zlib,zstd",
        "zlibCompressionLevel=3",
        "maxPoolSize=0",
        "minPoolSize=0",
        "maxConnecting=2",
        "maxIdleTimeMS=0",
        "waitQueueMultiple=2",
        "waitQueueTimeoutMS=5",
        "w=majority",
        "w=1",
        "wtimeoutMS=5",
        "journal=true",
        "readConcernLevel=majority",
        "readPreference=secondaryPreferred",
        "authSource=a",
        "gssapiServiceName=mongodb",
        "localThresholdMS=5",
        "serverSelectionTimeoutMS=5",
        "serverSelectionTryOnce=false",
        "heartbeatFrequencyMS=5",
        "appName=a%20b",
        "retryReads=true",
        "retryWrites=true",
        "uuidRepresentation=standard",
        "directConnection=true",
        "loadBalanced=false",
        "timeoutMS=5",
        "serverMonitoringMode=auto",
        "maxStalenessSeconds=-1",
        "tlsDisableOCSPEndpointCheck=true",
        "tlsDisableCertificateRevocationCheck=true",
        "tlsAllowInvalidHostnames=false",
    ] {
        let uri = Uri::parse(&format!("mongodb://u:p@db1/?{option}"));
        assert!(uri.is_ok(), "{option}: {uri:?}");
        let name = option.split('=').next().unwrap();
        if !matches!(known(name), Some((_, Treatment::Read | Treatment::Tuning))) {
            assert_eq!(uri.unwrap().ignored()[0].name(), name);
        }
    }
}

#[test]
fn unsupported_security_option_is_an_error() {
    for (option, name) in [
        ("tlsAllowInvalidHostnames=true", "tlsAllowInvalidHostnames"),
        ("tlsCertificateKeyFilePassword=x", "tlsCertificateKeyFilePassword"),
        ("tlsCRLFile=x", "tlsCRLFile"),
        ("proxyHost=x", "proxyHost"),
        ("tlsSomethingNew=x", "tlsSomethingNew"),
        ("authSomethingNew=x", "authSomethingNew"),
        ("sslValidate=false", "sslValidate"),
        ("authMechanism=GSSAPI", "authMechanism"),
        ("authMechanism=MONGODB-AWS", "authMechanism"),
        ("tls=yes", "tls"),
        ("tls=true&tls=false", "tls"),
        ("replicaSet=a&replicaSet=b", "replicaSet"),
    ] {
        let error = Uri::parse(&format!("mongodb://u:p@db1/?{option}")).expect_err(option).to_string();
        assert!(error.contains(&format!("option {name} ")), "{option}: {error}");
    }
}

#[test]
fn secrets_in_a_uri_are_recognized() {
    for secret in [
        "mongodb://user:hunter2@db1/",
        "mongodb://user:@db1/",
        "mongodb://db1/?authMechanismProperties=AWS_SESSION_TOKEN:hunter2",
        "mongodb://db1/?someToken=hunter2",
    ] {
        assert!(Uri::parse(secret).unwrap().contains_secret(), "{secret}");
    }
    for public in ["mongodb://db1:27017,db2:27017/?replicaSet=rs0", "mongodb://CN%3Dclient@db1/"] {
        assert!(!Uri::parse(public).unwrap().contains_secret(), "{public}");
    }
}

#[test]
fn unusable_tls_file_is_reported_by_option() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hunter2.pem");
    let uri = |option: &str| format!("mongodb://db1/?tls=true&{option}={}", file.display());
    for content in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\n")] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        for option in ["tlsCAFile", "tlsCertificateKeyFile"] {
            let error = Uri::parse(&uri(option)).unwrap().tls_files().unwrap_err().to_string();
            assert!(error.contains(option) && !error.contains("hunter2"), "{error}");
        }
    }
}

proptest! {
    /// Wherever a secret is in a malformed URI, no message repeats it; in a valid one only names of options are
    /// shown.
    #[test]
    fn uri_errors_repeat_no_value(
        user in "[a-z%/?#:@&= ]{0,6}", password in "[a-z0-9%/?#:@&=\\n]{0,6}", host in "[a-z0-9:,\\[\\]%]{0,6}",
        name in "(replicaSet|tls|appName|authSource|authMechanism|w|compressors|[a-zA-Z]{0,6})", value in "[a-z@%&=/?]{0,6}",
    ) {
        let mark = "MARK7";
        for text in [
            format!("mongodb://{user}{mark}:{password}@{host}/?{name}={value}"),
            format!("mongodb://{user}:{password}{mark}@{host}/?{name}={value}"),
            format!("mongodb://{user}:{password}@{host}/{mark}?{name}={value}"),
            format!("mongodb://{user}:{password}@{host}/?{name}={value}{mark}"),
            format!("mongodb://{user}:{password}@{host}/?{name}={value}&{mark}={value}"),
            format!("mongodb://{user}:{password}@{host}:{mark}/?{name}={value}"),
            format!("mongodb://{user}:{password}@{host}/?{name}={value}\n{mark}"),
        ] {
            let said = match Uri::parse(&text) {
                Ok(uri) => {
                    let ignored: String = uri.ignored().iter().map(ToString::to_string).collect();
                    format!("{ignored} {:?} {:?}", uri.check(None), uri.tls_files())
                }
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!said.contains(mark), "{text}: {said}");
        }
    }
}
