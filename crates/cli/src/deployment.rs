//! Which deployment, and who to be there: from flags, variables and the file.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::builder::OsStringValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use toml::Spanned;
use txnscope_sidecar::{Credentials, Target};

use crate::file::File;

const URI: &str = "MONGODB_URI";
pub(crate) const PASSWORD: &str = "TXNSCOPE_MONGODB_PASSWORD";

/// What is said to whoever names no deployment.
pub(crate) const WHICH: &str = "which deployment? Give --mongodb.uri=mongodb://host:port/?replicaSet=name, or a file \
                                that holds it with --mongodb.uri-file, or set MONGODB_URI";

/// The flags of every command that speaks to a deployment.
#[derive(Clone, Args)]
pub(crate) struct DeploymentFlags {
    /// A deployment: mongodb://host:port/?replicaSet=name. Every member is found from it, unless it says
    /// directConnection=true. Repeat it for more. Without password: flags are seen in ps. MONGODB_URI is read as well.
    #[arg(
        id = "uri",
        long = "mongodb.uri",
        value_name = "URI",
        env = "TXNSCOPE_MONGODB_URI",
        hide_env_values = true,
        value_delimiter = ' ',
        value_parser = OsStringValueParser::new()
    )]
    pub(crate) uris: Vec<OsString>,

    /// A file with a URI and nothing else. Repeat it for more.
    #[arg(
        id = "uri-file",
        long = "mongodb.uri-file",
        value_name = "FILE",
        env = "TXNSCOPE_MONGODB_URI_FILE",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pub(crate) uri_files: Vec<PathBuf>,

    /// Who to be where the URI names nobody.
    #[arg(
        long = "mongodb.username",
        value_name = "NAME",
        env = "TXNSCOPE_MONGODB_USERNAME",
        hide_env_values = true
    )]
    pub(crate) username: Option<String>,

    /// A file with the password of that user and nothing else. TXNSCOPE_MONGODB_PASSWORD is the password itself.
    #[arg(
        id = "password-file",
        long = "mongodb.password-file",
        value_name = "FILE",
        env = "TXNSCOPE_MONGODB_PASSWORD_FILE",
        hide_env_values = true
    )]
    pub(crate) password_file: Option<PathBuf>,
}

impl fmt::Debug for DeploymentFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeploymentFlags").finish_non_exhaustive()
    }
}

/// These flags, where each came from, and the variables that go with them.
#[derive(Debug, Clone)]
pub(crate) struct Deployments {
    flags: DeploymentFlags,
    uris: Option<ValueSource>,
    uri_files: Option<ValueSource>,
    password_file: Option<ValueSource>,
    environment: Environment,
}

/// The variables that no flag stands for.
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

impl Deployments {
    pub(crate) fn new(flags: DeploymentFlags, matches: &ArgMatches) -> Self {
        let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            flags,
            uris: matches.value_source("uri"),
            uri_files: matches.value_source("uri-file"),
            password_file: matches.value_source("password-file"),
            environment: Environment { uri: of(URI), password: of(PASSWORD) },
        }
    }

    /// The one deployment that is named.
    ///
    /// # Errors
    ///
    /// If there is none, or more than one. The error holds no secret.
    pub(crate) fn one_of(&self, file: &File) -> Result<Target> {
        let mut targets = self.targets(file)?;
        let target = targets.pop().context(WHICH)?;
        ensure!(targets.is_empty(), "{} deployments are named: name one", targets.len() + 1);
        Ok(target)
    }

    /// The deployments that the first of flags, variables and file names, if it names any.
    pub(crate) fn targets(&self, file: &File) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        for layer in [ValueSource::CommandLine, ValueSource::EnvVariable] {
            if self.uris == Some(layer) {
                for uri in &self.flags.uris {
                    let target = Target::new(utf8(uri)?);
                    ensure!(
                        layer != ValueSource::CommandLine || !target.has_secret_in_uri(),
                        "--mongodb.uri holds a password, which ps shows to everybody: put the URI into a file and \
                         give that with --mongodb.uri-file, or into the variable MONGODB_URI; or give the password \
                         alone with --mongodb.username and --mongodb.password-file"
                    );
                    targets.push(target);
                }
            }
            if self.uri_files == Some(layer) {
                for path in &self.flags.uri_files {
                    let uri = read(path)
                        .with_context(|| format!("--mongodb.uri-file: cannot use {}", path.display()))?;
                    targets.push(Target::new(uri));
                }
            }
            if layer == ValueSource::EnvVariable
                && targets.is_empty()
                && let Some(uri) = &self.environment.uri
            {
                targets.push(Target::new(utf8(uri)?));
            }
            if !targets.is_empty() {
                break;
            }
        }
        let credentials = self.credentials(file)?;
        let complete = |target: Target| match &credentials {
            Some(credentials) if !target.names_a_user() => target.with_credentials(credentials.clone()),
            Some(_) | None => target,
        };
        if !targets.is_empty() {
            return Ok(targets.into_iter().map(complete).collect());
        }
        for uri in &file.mongodb.uri {
            let target = complete(Target::new(uri.get_ref().clone()));
            target.check().map_err(|error| file.at(uri, format!("mongodb.uri: {error}")))?;
            targets.push(target);
        }
        for path in &file.mongodb.uri_file {
            let target = complete(Target::new(secret(file, path)?));
            target.check().map_err(|error| file.at(path, format!("mongodb.uri_file: {error}")))?;
            targets.push(target);
        }
        Ok(targets)
    }

    /// Who to be where the URI names nobody.
    fn credentials(&self, file: &File) -> Result<Option<Credentials>> {
        let (flags, section) = (&self.flags, &file.mongodb);
        let given = |path: &Path| {
            read(path).with_context(|| format!("--mongodb.password-file: cannot use {}", path.display()))
        };
        let password = match (&flags.password_file, &self.environment.password) {
            (Some(path), _) if self.password_file == Some(ValueSource::CommandLine) => Some(given(path)?),
            (Some(_), Some(_)) => bail!("give one of {PASSWORD} and {PASSWORD}_FILE"),
            (Some(path), None) => Some(given(path)?),
            (None, Some(password)) => {
                let text = password.to_str().with_context(|| format!("{PASSWORD} is not UTF-8"))?;
                Some(text.to_owned())
            }
            (None, None) => match (&section.password, &section.password_file) {
                (Some(_), Some(path)) => {
                    bail!(file.at(path, "mongodb: give one of password and password_file"))
                }
                (Some(password), None) => Some(password.get_ref().clone()),
                (None, Some(path)) => Some(secret(file, path)?),
                (None, None) => None,
            },
        };
        match (flags.username.as_ref().or(section.username.as_ref()), password) {
            (Some(username), Some(password)) => Ok(Some(Credentials::new(username, password))),
            (None, None) => Ok(None),
            (Some(_), None) => bail!("mongodb.username wants a password: give mongodb.password_file"),
            (None, Some(_)) => bail!("a password is given, and not whose it is: give mongodb.username"),
        }
    }
}

fn utf8(uri: &OsStr) -> Result<String> {
    uri.to_str().map(str::to_owned).context("the URI is not UTF-8; percent-encode what is not ASCII")
}

/// What a file holds that the configuration file names.
pub(crate) fn secret(file: &File, path: &Spanned<PathBuf>) -> Result<String> {
    let beside = file.beside(path.get_ref());
    read(&beside).map_err(|error| file.at(path, format!("cannot use {}: {error:#}", beside.display())).into())
}

/// The one line that the file holds.
fn read(file: &Path) -> Result<String> {
    let text = String::from_utf8(std::fs::read(file)?).map_err(|_| anyhow!("it is not UTF-8"))?;
    let line = text.trim();
    ensure!(!line.is_empty(), "it is empty");
    Ok(line.to_owned())
}
