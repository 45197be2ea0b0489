//! The sources of the configuration of `serve`. Precedence: flag, environment variable, configuration file.

use anyhow::{Result, bail, ensure};
use clap::{ArgMatches, Args as _};
use toml::Spanned;
use txnscope_mongo::{Credentials, one_line};
use txnscope_sidecar::{Config, StartError, Target, is_name};

use super::args::ServeArgs;
use crate::args::connection::{
    ConnectionSources, MISSING_DEPLOYMENT, PASSWORD, inline_secret, secret_from_file,
};
use crate::args::nearest::nearest;
use crate::collectors;
use crate::config::checks::load_checks;
use crate::config::exposed;
use crate::config::file::{ConfigFile, Time};
use crate::config::listen::listen_addresses;
use crate::output::logging::{Level, LogFormat};

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
    pub(crate) level: Level,
    pub(crate) format: LogFormat,
    pub(crate) config: Config,
}

impl ConfigSources {
    pub(crate) fn new(args: ServeArgs, matches: &ArgMatches) -> Self {
        Self { connection: ConnectionSources::new(args.connection.clone(), matches), args }
    }

    /// Reads all files and merges the sources.
    ///
    /// # Errors
    ///
    /// If a setting is missing or invalid. The error holds no secret.
    pub(crate) fn load(&self) -> Result<Settings> {
        let flags = &self.args;
        let file = ConfigFile::load(flags.config_file.as_deref())?;
        self.check_permissions(&file);
        let mut config = Config::default();
        config.targets = self.connection.targets(&file)?;
        // The errors below contain these names, and an invalid one may be a URI.
        let names = file.auth_modules.keys().chain(file.targets.keys());
        if !names.into_iter().all(|name| is_name(name)) {
            bail!(file.missing_key(StartError::Name.to_string()));
        }
        for (name, module) in &file.auth_modules {
            let password = match (&module.password, &module.password_file) {
                (Some(password), None) => {
                    inline_secret(&file, password, &format!("auth_modules.{name}: password"))?
                }
                (None, Some(path)) => secret_from_file(&file, path)?,
                (None, None) => {
                    bail!(file.missing_key(format!(
                        "auth_modules.{name}: password is missing: give password or password_file"
                    )))
                }
                (Some(_), Some(path)) => {
                    bail!(
                        file.error_at(path, format!("auth_modules.{name}: password and password_file exclude each other: give only one of them"))
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
            let (uri, at) = match (&target.uri, &target.uri_file) {
                (Some(uri), None) => (uri.get_ref().clone(), uri.span()),
                (None, Some(path)) => (secret_from_file(&file, path)?, path.span()),
                (None, None) => bail!(
                    file.missing_key(format!("targets.{name}: the URI is missing: give uri or uri_file"))
                ),
                (Some(_), Some(path)) => {
                    bail!(file.error_at(
                        path,
                        format!("targets.{name}: uri and uri_file exclude each other: give only one of them")
                    ))
                }
            };
            let mut found = Target::new(uri);
            let known: Vec<_> = config.auth_modules.keys().map(String::as_str).collect();
            let module = |module: &Spanned<String>| {
                config.auth_modules.get(module.get_ref()).ok_or_else(|| {
                    let meant =
                        nearest(module.get_ref(), &known).map(|name| format!("; did you mean `{name}`?"));
                    let what = format!("unknown auth module{}", meant.unwrap_or_default());
                    file.error_at(module, what)
                })
            };
            if let Some(name) = &target.auth_module {
                found = found.with_credentials(module(name)?.clone());
            }
            if let Some(names) = &target.auth_modules {
                for name in names {
                    module(name)?;
                }
                found = found.with_auth_modules(names.iter().map(|name| name.get_ref().clone()));
            }
            let wrong =
                |error| file.error_at(&Spanned::new(at.clone(), ()), format!("targets.{name}: {error}"));
            found.check().map_err(wrong)?;
            config.probes.insert(name.clone(), found);
        }
        config.collectors = collectors::settings(&file, &flags.collectors)?;
        self.web(&file, &mut config)?;
        let time = |flag: Option<_>, key: Option<Time>| flag.or(key.map(|time| time.0));
        if let Some(interval) = time(flags.interval, file.poll.interval) {
            config.poll_interval = interval;
        }
        if let Some(timeout) = time(flags.timeout, file.poll.timeout) {
            config.poll_timeout = timeout;
        }
        if let Some(idle) = time(flags.idle_timeout, file.probe.idle_timeout) {
            config.probe_idle_timeout = idle;
        }
        config.checks = load_checks(flags.checks_file.as_deref(), &file, "; ")?;
        ensure!(!config.targets.is_empty() || !config.probes.is_empty(), MISSING_DEPLOYMENT);
        let (level, format) = flags.log.resolve((file.log.level, file.log.format));
        Ok(Settings { level, format, config })
    }

    /// Warns about a configuration file that holds secrets and that all users can read.
    fn check_permissions(&self, file: &ConfigFile) {
        let uris =
            file.mongodb.uri.iter().chain(file.targets.values().filter_map(|target| target.uri.as_ref()));
        let holds_secrets = file.mongodb.password.is_some()
            || file.auth_modules.values().any(|module| module.password.is_some())
            || uris.map(|uri| Target::new(uri.get_ref().clone())).any(|target| target.has_secret_in_uri());
        if let Some(path) = self.args.config_file.as_ref().filter(|_| holds_secrets) {
            exposed::check_permissions(path, path);
        }
    }

    fn web(&self, file: &ConfigFile, config: &mut Config) -> Result<()> {
        let (flags, web) = (&self.args, &file.web);
        let addresses = listen_addresses(&flags.listen_addresses, file)?;
        if !addresses.is_empty() {
            config.listen_addresses = addresses;
        }
        config.systemd_socket = flags.systemd_socket.or(web.systemd_socket).unwrap_or_default();
        if let Some(path) = flags.telemetry_path.as_ref().or(web.telemetry_path.as_ref()) {
            config.telemetry_path.clone_from(path);
        }
        let resolved = web.config.file.as_ref().map(|path| file.resolve_path(path));
        config.web_config_file = flags.web_config_file.clone().or(resolved);
        if let Some(most) = flags.max_requests.or(web.max_requests) {
            config.max_requests = most;
        }
        let hosts = if flags.allowed_hosts.is_empty() { &web.allowed_hosts } else { &flags.allowed_hosts };
        config.allowed_hosts.clone_from(hosts);
        Ok(())
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
