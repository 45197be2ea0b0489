//! The deployment to connect to, and the credentials: from flags, variables and the configuration file.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ArgMatches;
use clap::parser::ValueSource;
use txnscope_mongo::{Credentials, EXPOSED_KEY, display_path, one_line};
use txnscope_sidecar::Target;

use crate::config::exposed::read_secret;
use crate::config::file::ConfigFile;
use crate::config::sections::MongoDb;
use crate::output::print_warning;

const URI: &str = "MONGODB_URI";
pub(crate) const PASSWORD: &str = "TXNSCOPE_MONGODB_PASSWORD";

/// The error if no deployment is named.
pub(crate) const MISSING_DEPLOYMENT: &str = "no deployment configured: give --mongodb.uri=mongodb://host:port/?replicaSet=name, \
                                             a file that holds the URI with --mongodb.uri-file, the \
                                             configuration file of the sidecar with --config.file, or set MONGODB_URI";

/// The arguments with the source of each, and the variables that have no flag.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionSources {
    args: MongoDb,
    uris: Option<ValueSource>,
    uri_files: Option<ValueSource>,
    password_file: Option<ValueSource>,
    environment: Environment,
}

/// The variables that have no flag.
#[derive(Clone, Default)]
struct Environment {
    uri: Option<OsString>,
    password: Option<OsString>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

impl ConnectionSources {
    pub(crate) fn new(args: MongoDb, matches: &ArgMatches) -> Self {
        let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            args,
            uris: matches.value_source("mongodb.uri"),
            uri_files: matches.value_source("mongodb.uri-file"),
            password_file: matches.value_source("mongodb.password-file"),
            environment: Environment { uri: of(URI), password: of(PASSWORD) },
        }
    }

    /// The only deployment that is named.
    ///
    /// # Errors
    ///
    /// If there is none, or more than one. The error holds no secret.
    pub(crate) fn single_target(&self, file: &ConfigFile) -> Result<Target> {
        let mut targets = self.targets(file)?;
        let target = targets.pop().context(MISSING_DEPLOYMENT)?;
        ensure!(
            targets.is_empty(),
            "{} deployments are configured, and this command takes one: name it with --mongodb.uri",
            targets.len() + 1
        );
        print_uri_warnings(&target);
        Ok(target)
    }

    /// The deployments that are named. Flags take precedence over variables, and variables over the file.
    ///
    /// # Errors
    ///
    /// If a URI is invalid. The error names its flag, variable or line, and repeats no part of it.
    pub(crate) fn targets(&self, file: &ConfigFile) -> Result<Vec<Target>> {
        let credentials = self.credentials(file)?;
        let complete = |target: Target| match &credentials {
            Some(credentials) => target.with_default_credentials(credentials),
            None => target,
        };
        for layer in [ValueSource::CommandLine, ValueSource::EnvVariable] {
            let mut targets = Vec::new();
            if self.uris == Some(layer) {
                targets.extend(self.uris_of(layer, complete)?);
            }
            if self.uri_files == Some(layer) {
                for path in self.args.uri_file.iter().flatten() {
                    let from = || format!("--mongodb.uri-file: cannot use {}", display_path(path, path));
                    let target = complete(Target::new(read_secret(path, path).with_context(from)?));
                    target.check().with_context(from)?;
                    targets.push(target);
                }
            }
            if layer == ValueSource::EnvVariable
                && targets.is_empty()
                && let Some(uri) = &self.environment.uri
            {
                let target = complete(Target::new(utf8(uri).context(URI)?));
                target.check().context(URI)?;
                targets.push(target);
            }
            if !targets.is_empty() {
                return Ok(targets);
            }
        }
        let mut targets = Vec::new();
        for (index, uri) in file.mongodb.uri.iter().flatten().enumerate() {
            let at = ["mongodb", "uri", &index.to_string()];
            let target = complete(Target::new(utf8(&uri.0)?));
            target.check().map_err(|error| file.error_at(&at, format!("mongodb.uri: {error}")))?;
            targets.push(target);
        }
        for (index, path) in file.mongodb.uri_file.iter().flatten().enumerate() {
            let at = ["mongodb", "uri_file", &index.to_string()];
            let target = complete(Target::new(secret_from_file(file, &at, path)?));
            target.check().map_err(|error| file.error_at(&at, format!("mongodb.uri_file: {error}")))?;
            targets.push(target);
        }
        Ok(targets)
    }

    /// The deployments of `--mongodb.uri` or its variable.
    fn uris_of(&self, layer: ValueSource, complete: impl Fn(Target) -> Target) -> Result<Vec<Target>> {
        const HIDE: &str = "put the URI into a file and give that with --mongodb.uri-file, or into the variable \
                            MONGODB_URI; or give the password alone with --mongodb.username and \
                            --mongodb.password-file";
        let seen = layer == ValueSource::CommandLine;
        let from = if seen { "--mongodb.uri" } else { "TXNSCOPE_MONGODB_URI" };
        // Spaces separate the URIs of a variable, and some users write them around a URI as well.
        let uris = self.args.uri.as_deref().unwrap_or_default();
        let given = uris.iter().map(|uri| &uri.0).filter(|uri| !uri.to_string_lossy().trim().is_empty());
        let mut targets = Vec::new();
        for (index, uri) in given.enumerate() {
            let which = if uris.len() > 1 { format!("{from}: URI {}", index + 1) } else { from.to_owned() };
            let target = Target::new(utf8(uri).with_context(|| which.clone())?);
            if seen && target.has_secret_in_uri() {
                // An invalid URI may hold a password as well.
                target.check().map_err(|error| {
                    anyhow!("{which}: {error}. If it holds a password, which ps shows to all users, {HIDE}")
                })?;
                bail!("{which} holds a password, which ps shows to all users: {HIDE}");
            }
            let target = complete(target);
            target.check().with_context(|| which)?;
            targets.push(target);
        }
        Ok(targets)
    }

    /// The credentials for URIs that have none.
    fn credentials(&self, file: &ConfigFile) -> Result<Option<Credentials>> {
        let (args, section) = (&self.args, &file.mongodb);
        let given = |path: &Path| {
            let from = || format!("--mongodb.password-file: cannot use {}", display_path(path, path));
            read_secret(path, path).with_context(from)
        };
        let password = match (&args.password_file, &self.environment.password) {
            (Some(path), _) if self.password_file == Some(ValueSource::CommandLine) => Some(given(path)?),
            (Some(_), Some(_)) => bail!("{PASSWORD} and {PASSWORD}_FILE are both set: set only one of them"),
            (Some(path), None) => Some(given(path)?),
            (None, Some(password)) => {
                let text = password.to_str().with_context(|| format!("{PASSWORD} is not UTF-8"))?;
                Some(one_line(text).with_context(|| format!("{PASSWORD} cannot be used"))?.to_owned())
            }
            (None, None) => match (&section.password, &section.password_file) {
                (Some(_), Some(_)) => {
                    bail!(file.error_at(
                        &["mongodb", "password_file"],
                        "mongodb: password and password_file exclude each other: give only one of them"
                    ))
                }
                (Some(password), None) => {
                    Some(inline_secret(file, &["mongodb", "password"], password, "mongodb.password")?)
                }
                (None, Some(path)) => Some(secret_from_file(file, &["mongodb", "password_file"], path)?),
                (None, None) => None,
            },
        };
        let username = args.username.as_ref().or(section.username.as_ref());
        let username =
            username.map(|name| one_line(name).context("mongodb.username cannot be used")).transpose()?;
        match (username, password) {
            (Some(username), Some(password)) => Ok(Some(Credentials::new(username, password))),
            (None, None) => Ok(None),
            (Some(_), None) => {
                bail!("mongodb.username is given without a password: give mongodb.password_file as well")
            }
            (None, Some(_)) => {
                bail!("a password is given without a user name: give mongodb.username as well")
            }
        }
    }
}

fn utf8(uri: &OsStr) -> Result<String> {
    uri.to_str()
        .map(str::to_owned)
        .context("the URI is not UTF-8; percent-encode characters that are not ASCII")
}

/// Prints a warning about options of the URI that have no effect, and about an exposed key.
fn print_uri_warnings(target: &Target) {
    let options: Vec<_> = target.ignored_options().iter().map(ToString::to_string).collect();
    if !options.is_empty() {
        print_warning(&format!("these options of the URI have no effect here: {}", options.join(", ")));
    }
    if target.key_is_readable_by_all_users() {
        print_warning(EXPOSED_KEY);
    }
}

/// Reads a secret from a file that the configuration file names.
pub(crate) fn secret_from_file(file: &ConfigFile, at: &[&str], path: &Path) -> Result<String> {
    let resolved = file.resolve_path(path);
    read_secret(path, &resolved).map_err(|error| {
        file.error_at(at, format!("cannot use {}: {error}", display_path(path, &resolved))).into()
    })
}

/// A secret that is a value of the configuration file itself.
pub(crate) fn inline_secret(file: &ConfigFile, at: &[&str], value: &str, name: &str) -> Result<String> {
    let line = one_line(value).map(str::to_owned);
    line.map_err(|error| file.error_at(at, format!("{name} cannot be used: {error}")).into())
}
