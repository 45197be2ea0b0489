//! The sources of the configuration of `serve`. Precedence: flag, environment variable, configuration file.

use anyhow::{Result, bail, ensure};
use clap::{ArgMatches, Args as _};
use txnscope_catalog::nearest;
use txnscope_mongo::{Credentials, one_line};
use txnscope_sidecar::{Config, StartError, Target, is_name};

use super::args::ServeArgs;
use crate::args::connection::{
    ConnectionSources, MISSING_DEPLOYMENT, PASSWORD, inline_secret, secret_from_file,
};
use crate::config::checks::load_checks;
use crate::config::file::ConfigFile;
use crate::config::listen::listen_addresses;
use crate::config::sections::Log;
use crate::config::settings::Section as _;
use crate::config::{collectors, exposed};
use crate::output::logging::LogSettings;

const PREFIX: &str = "TXNSCOPE_";

/// The sources, from which the configuration can be loaded again.
#[derive(Debug, Clone)]
pub(crate) struct ConfigSources {
    pub(crate) args: ServeArgs,
    connection: ConnectionSources,
}

/// The settings of logging, and the configuration of the sidecar.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) log: LogSettings,
    pub(crate) config: Config,
}

impl ConfigSources {
    pub(crate) fn new(args: ServeArgs, matches: &ArgMatches) -> Self {
        Self { connection: ConnectionSources::new(args.mongodb.clone(), matches), args }
    }

    /// Reads all files and merges the sources.
    ///
    /// # Errors
    ///
    /// If a setting is missing or invalid. The error holds no secret.
    pub(crate) fn load(&self) -> Result<Settings> {
        let flags = &self.args;
        let file = ConfigFile::load(flags.config.file.as_deref())?;
        self.check_permissions(&file);
        let mut config = Config::default();
        config.targets = self.connection.targets(&file)?;
        // The errors below contain these names, and an invalid one may be a URI.
        let names = file.auth_modules.keys().chain(file.targets.keys());
        if !names.into_iter().all(|name| is_name(name)) {
            bail!(file.missing_key(StartError::Name.to_string()));
        }
        for (name, module) in &file.auth_modules {
            let at = |key| ["auth_modules", name, key];
            let password = match (&module.password, &module.password_file) {
                (Some(password), None) => inline_secret(
                    &file,
                    &at("password"),
                    password,
                    &format!("auth_modules.{name}: password"),
                )?,
                (None, Some(path)) => secret_from_file(&file, &at("password_file"), path)?,
                (None, None) => {
                    bail!(file.missing_key(format!(
                        "auth_modules.{name}: password is missing: give password or password_file"
                    )))
                }
                (Some(_), Some(_)) => {
                    bail!(
                        file.error_at(&at("password_file"), format!("auth_modules.{name}: password and password_file exclude each other: give only one of them"))
                    )
                }
            };
            let username = one_line(&module.username).map_err(|error| {
                file.missing_key(format!("auth_modules.{name}: username cannot be used: {error}"))
            })?;
            let credentials = Credentials::new(username, password);
            let credentials = match &module.auth_source {
                Some(collector) => credentials.with_auth_source(collector),
                None => credentials,
            };
            config.auth_modules.insert(name.clone(), credentials);
        }
        for (name, target) in &file.targets {
            let at = |key| ["targets", name, key];
            let (uri, key) = match (&target.uri, &target.uri_file) {
                (Some(uri), None) => (uri.clone(), "uri"),
                (None, Some(path)) => (secret_from_file(&file, &at("uri_file"), path)?, "uri_file"),
                (None, None) => bail!(
                    file.missing_key(format!("targets.{name}: the URI is missing: give uri or uri_file"))
                ),
                (Some(_), Some(_)) => {
                    bail!(file.error_at(
                        &at("uri_file"),
                        format!("targets.{name}: uri and uri_file exclude each other: give only one of them")
                    ))
                }
            };
            let mut found = Target::new(uri);
            let known: Vec<_> = config.auth_modules.keys().map(String::as_str).collect();
            let module = |module: &str, at: &[&str]| {
                config.auth_modules.get(module).ok_or_else(|| {
                    let meant = nearest(module, &known).map(|name| format!("; did you mean `{name}`?"));
                    file.error_at(at, format!("unknown auth module{}", meant.unwrap_or_default()))
                })
            };
            if let Some(name) = &target.auth_module {
                found = found.with_credentials(module(name, &at("auth_module"))?.clone());
            }
            if let Some(names) = &target.auth_modules {
                for (index, one) in names.iter().enumerate() {
                    module(one, &["targets", name, "auth_modules", &index.to_string()])?;
                }
                found = found.with_auth_modules(names.clone());
            }
            found.check().map_err(|error| file.error_at(&at(key), format!("targets.{name}: {error}")))?;
            config.probes.insert(name.clone(), found);
        }
        config.collectors = collectors::settings(&file, &flags.collectors)?;
        for (web, poll, probe) in
            [(&file.web, &file.poll, &file.probe), (&flags.web, &flags.poll, &flags.probe)]
        {
            web.apply(&mut config);
            poll.apply(&mut config);
            probe.apply(&mut config);
        }
        let addresses = listen_addresses(flags.web.listen_address.as_deref(), &file)?;
        if !addresses.is_empty() {
            config.listen_addresses = addresses;
        }
        config.revision = env!("TXNSCOPE_REVISION");
        config.checks = load_checks(&flags.checks, &file, "; ")?;
        ensure!(!config.targets.is_empty() || !config.probes.is_empty(), MISSING_DEPLOYMENT);
        Ok(Settings { log: Log::resolve(&file.log, &flags.log), config })
    }

    /// Warns about a configuration file that holds secrets and that all users can read.
    fn check_permissions(&self, file: &ConfigFile) {
        let uris = file.mongodb.uri.iter().flatten().filter_map(|uri| uri.0.to_str());
        let uris = uris.chain(file.targets.values().filter_map(|target| target.uri.as_deref()));
        let holds_secrets = file.mongodb.password.is_some()
            || file.auth_modules.values().any(|module| module.password.is_some())
            || uris.map(|uri| Target::new(uri.to_owned())).any(|target| target.has_secret_in_uri());
        if let Some(path) = self.args.config.file.as_ref().filter(|_| holds_secrets) {
            exposed::check_permissions(path, path);
        }
    }
}

/// Variables whose names are probably misspellings, each with the closest valid name. Other unknown variables are fine:
/// an orchestrator sets variables that begin with the names of its services.
pub(crate) fn misspelled_variables() -> Vec<(String, String)> {
    let command = ServeArgs::augment_args(clap::Command::new("serve"));
    let mut known: Vec<_> =
        command.get_arguments().filter_map(|argument| argument.get_env()?.to_str()).collect();
    known.push(PASSWORD);
    let unknown = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let unknown = unknown.filter(|name| !known.contains(&name.as_str()));
    let known: Vec<_> = known.iter().filter_map(|name| name.strip_prefix(PREFIX)).collect();
    unknown
        .filter_map(|name| {
            let meant = nearest(name.strip_prefix(PREFIX)?, &known)?;
            Some((name.clone(), format!("{PREFIX}{meant}")))
        })
        .collect()
}
