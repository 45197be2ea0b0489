//! Which deployment, and who to be there: from flags, variables and the file.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::builder::OsStringValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use toml::Spanned;
use txnscope_catalog::escape_line;
use txnscope_mongo::{Credentials, EXPOSED_KEY, display_path, one_line};
use txnscope_sidecar::Target;

use crate::exposed::read_secret;
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
        warn_of_ignored(&target);
        Ok(target)
    }

    /// The deployments that the first of flags, variables and file names, if it names any.
    ///
    /// # Errors
    ///
    /// If one is wrong: with the flag, the variable or the line that it comes from, and without any part of it.
    pub(crate) fn targets(&self, file: &File) -> Result<Vec<Target>> {
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
                for path in &self.flags.uri_files {
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

    /// Those of `--mongodb.uri` or its variable.
    fn uris_of(&self, layer: ValueSource, complete: impl Fn(Target) -> Target) -> Result<Vec<Target>> {
        const HIDE: &str = "put the URI into a file and give that with --mongodb.uri-file, or into the variable \
                            MONGODB_URI; or give the password alone with --mongodb.username and \
                            --mongodb.password-file";
        let seen = layer == ValueSource::CommandLine;
        let from = if seen { "--mongodb.uri" } else { "TXNSCOPE_MONGODB_URI" };
        // Spaces stand between the URIs of a variable, and now and then around them.
        let given = self.flags.uris.iter().filter(|uri| !uri.to_string_lossy().trim().is_empty());
        let mut targets = Vec::new();
        for (index, uri) in given.enumerate() {
            let which = if self.flags.uris.len() > 1 {
                format!("{from}: URI {}", index + 1)
            } else {
                from.to_owned()
            };
            let target = Target::new(utf8(uri).with_context(|| which.clone())?);
            if seen && target.has_secret_in_uri() {
                // What is no URI may hold a password as well.
                target.check().map_err(|error| {
                    anyhow!("{which}: {error}. If it holds a password, which ps shows to everybody, {HIDE}")
                })?;
                bail!("{which} holds a password, which ps shows to everybody: {HIDE}");
            }
            let target = complete(target);
            target.check().with_context(|| which)?;
            targets.push(target);
        }
        Ok(targets)
    }

    /// Who to be where the URI names nobody.
    fn credentials(&self, file: &File) -> Result<Option<Credentials>> {
        let (flags, section) = (&self.flags, &file.mongodb);
        let given = |path: &Path| {
            let from = || format!("--mongodb.password-file: cannot use {}", display_path(path, path));
            read_secret(path, path).with_context(from)
        };
        let password = match (&flags.password_file, &self.environment.password) {
            (Some(path), _) if self.password_file == Some(ValueSource::CommandLine) => Some(given(path)?),
            (Some(_), Some(_)) => bail!("give one of {PASSWORD} and {PASSWORD}_FILE"),
            (Some(path), None) => Some(given(path)?),
            (None, Some(password)) => {
                let text = password.to_str().with_context(|| format!("{PASSWORD} is not UTF-8"))?;
                Some(one_line(text).with_context(|| format!("{PASSWORD} cannot be used"))?.to_owned())
            }
            (None, None) => match (&section.password, &section.password_file) {
                (Some(_), Some(path)) => {
                    bail!(file.at(path, "mongodb: give one of password and password_file"))
                }
                (Some(password), None) => Some(line(file, password, "mongodb.password")?),
                (None, Some(path)) => Some(secret(file, path)?),
                (None, None) => None,
            },
        };
        let username = flags.username.as_ref().or(section.username.as_ref());
        let username =
            username.map(|name| one_line(name).context("mongodb.username cannot be used")).transpose()?;
        match (username, password) {
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

/// Says which options of the URI are left out, to who has called the command: to the error output, where it is in
/// nobody's way.
fn warn_of_ignored(target: &Target) {
    let options: Vec<_> = target.ignored_options().iter().map(ToString::to_string).collect();
    if !options.is_empty() {
        let options = escape_line(&options.join(", ")).into_owned();
        let _ = writeln!(io::stderr().lock(), "txnscope: options of the URI have no effect here: {options}");
    }
    if target.key_is_readable_by_all_users() {
        let _ = writeln!(io::stderr().lock(), "txnscope: {EXPOSED_KEY}");
    }
}

/// What a file holds that the configuration file names.
pub(crate) fn secret(file: &File, path: &Spanned<PathBuf>) -> Result<String> {
    let beside = file.beside(path.get_ref());
    read_secret(path.get_ref(), &beside).map_err(|error| {
        file.at(path, format!("cannot use {}: {error}", display_path(path.get_ref(), &beside))).into()
    })
}

/// A secret that stands in the configuration file itself.
pub(crate) fn line(file: &File, value: &Spanned<String>, name: &str) -> Result<String> {
    let line = one_line(value.get_ref()).map(str::to_owned);
    line.map_err(|error| file.at(value, format!("{name} cannot be used: {error}")).into())
}
