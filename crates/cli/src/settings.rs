//! Flags, variables and the file, in one: a flag goes before a variable, a variable before the file.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ArgMatches;
use toml::Spanned;
use txnscope_mongo::{Credentials, one_line};
use txnscope_sidecar::{Config, StartError, Target, is_name};

use crate::checks;
use crate::collectors;
use crate::deployment::{Deployments, PASSWORD, WHICH, line, secret};
use crate::exposed;
use crate::file::{File, nearest};
use crate::flags::{Level, LogFormat, ServeFlags};

const PREFIX: &str = "TXNSCOPE_";

/// What was given at the start, from which the configuration can be read again.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) flags: ServeFlags,
    deployments: Deployments,
}

/// How to log, and what to do.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) level: Level,
    pub(crate) format: LogFormat,
    pub(crate) config: Config,
}

impl Given {
    pub(crate) fn new(flags: ServeFlags, matches: &ArgMatches) -> Self {
        Self { deployments: Deployments::new(flags.deployment.clone(), matches), flags }
    }

    /// Reads all files anew.
    ///
    /// # Errors
    ///
    /// If something is missing or makes no sense. The error holds no secret.
    pub(crate) fn settings(&self) -> Result<Settings> {
        let flags = &self.flags;
        let file = File::named(flags.config_file.as_deref())?;
        self.note_exposed(&file);
        let mut config = Config::default();
        config.targets = self.deployments.targets(&file)?;
        // They stand in what is said below, and one that is none may be a URI.
        let names = file.auth_modules.keys().chain(file.targets.keys());
        if !names.into_iter().all(|name| is_name(name)) {
            bail!(file.lacks(StartError::Name.to_string()));
        }
        for (name, module) in &file.auth_modules {
            let password = match (&module.password, &module.password_file) {
                (Some(password), None) => line(&file, password, &format!("auth_modules.{name}: password"))?,
                (None, Some(path)) => secret(&file, path)?,
                (None, None) => {
                    bail!(file.lacks(format!("auth_modules.{name}: give password or password_file")))
                }
                (Some(_), Some(path)) => {
                    bail!(
                        file.at(path, format!("auth_modules.{name}: give one of password and password_file"))
                    )
                }
            };
            let username = one_line(&module.username).map_err(|error| {
                file.lacks(format!("auth_modules.{name}: username cannot be used: {error}"))
            })?;
            let credentials = Credentials::new(username, password);
            let credentials = match &module.auth_source {
                Some(collector) => credentials.of_database(collector),
                None => credentials,
            };
            config.auth_modules.insert(name.clone(), credentials);
        }
        for (name, target) in &file.targets {
            let (uri, at) = match (&target.uri, &target.uri_file) {
                (Some(uri), None) => (uri.get_ref().clone(), uri.span()),
                (None, Some(path)) => (secret(&file, path)?, path.span()),
                (None, None) => bail!(file.lacks(format!("targets.{name}: give uri or uri_file"))),
                (Some(_), Some(path)) => {
                    bail!(file.at(path, format!("targets.{name}: give one of uri and uri_file")))
                }
            };
            let mut found = Target::new(uri);
            let known: Vec<_> = config.auth_modules.keys().map(String::as_str).collect();
            let module = |module: &Spanned<String>| {
                config.auth_modules.get(module.get_ref()).ok_or_else(|| {
                    let meant =
                        nearest(module.get_ref(), &known).map(|name| format!("; did you mean `{name}`?"));
                    let what = format!("there is no such auth module{}", meant.unwrap_or_default());
                    file.at(module, what)
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
            let wrong = |error| file.at(&Spanned::new(at.clone(), ()), format!("targets.{name}: {error}"));
            found.check().map_err(wrong)?;
            config.probes.insert(name.clone(), found);
        }
        config.collectors = collectors::settings(&file, &flags.collectors)?;
        self.web(&file, &mut config)?;
        let time = |flag: Option<_>, key: Option<crate::file::Time>| flag.or(key.map(|time| time.0));
        if let Some(interval) = time(flags.interval, file.poll.interval) {
            config.poll_interval = interval;
        }
        if let Some(timeout) = time(flags.timeout, file.poll.timeout) {
            config.poll_timeout = timeout;
        }
        if let Some(idle) = time(flags.idle_timeout, file.probe.idle_timeout) {
            config.probe_idle_timeout = idle;
        }
        config.checks = checks::named(flags.checks_file.as_deref(), &file, "; ")?;
        ensure!(!config.targets.is_empty() || !config.probes.is_empty(), WHICH);
        Ok(Settings {
            level: flags.level.or(file.log.level).unwrap_or(Level::Info),
            format: flags.format.or(file.log.format).unwrap_or(LogFormat::Logfmt),
            config,
        })
    }

    /// The configuration file is as secret as what stands in it.
    fn note_exposed(&self, file: &File) {
        let uris =
            file.mongodb.uri.iter().chain(file.targets.values().filter_map(|target| target.uri.as_ref()));
        let holds_secrets = file.mongodb.password.is_some()
            || file.auth_modules.values().any(|module| module.password.is_some())
            || uris.map(|uri| Target::new(uri.get_ref().clone())).any(|target| target.has_secret_in_uri());
        if let Some(path) = self.flags.config_file.as_ref().filter(|_| holds_secrets) {
            exposed::note(path, path);
        }
    }

    fn web(&self, file: &File, config: &mut Config) -> Result<()> {
        let (flags, web) = (&self.flags, &file.web);
        if !flags.listen_addresses.is_empty() {
            let addresses =
                flags.listen_addresses.iter().map(|text| addresses(text).context("--web.listen-address"));
            config.listen_addresses = addresses.collect::<Result<Vec<_>>>()?.concat();
        } else if !web.listen_address.is_empty() {
            let addresses = web.listen_address.iter().map(|text| {
                let wrong = |error| file.at(text, format!("web.listen_address: {error:#}"));
                addresses(text.get_ref()).map_err(wrong)
            });
            config.listen_addresses = addresses.collect::<Result<Vec<_>, _>>()?.concat();
        }
        config.systemd_socket = flags.systemd_socket.or(web.systemd_socket).unwrap_or_default();
        if let Some(path) = flags.telemetry_path.as_ref().or(web.telemetry_path.as_ref()) {
            config.telemetry_path.clone_from(path);
        }
        let beside = web.config.file.as_ref().map(|path| file.beside(path));
        config.web_config_file = flags.web_config_file.clone().or(beside);
        if let Some(most) = flags.max_requests.or(web.max_requests) {
            config.max_requests = most;
        }
        let hosts = if flags.allowed_hosts.is_empty() { &web.allowed_hosts } else { &flags.allowed_hosts };
        config.allowed_hosts.clone_from(hosts);
        Ok(())
    }
}

/// Says which variables look like ours and are not. Others may have their reasons: an orchestrator sets variables
/// after the names of its services.
pub(crate) fn misspelt_variables() -> Vec<(String, String)> {
    let command = <crate::flags::Flags as clap::CommandFactory>::command();
    let serve = command.find_subcommand("serve");
    let arguments = serve.iter().flat_map(|serve| serve.get_arguments());
    let mut known: Vec<_> = arguments.filter_map(|argument| argument.get_env()?.to_str()).collect();
    known.push(PASSWORD);
    let ours = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let ours = ours.filter(|name| !known.contains(&name.as_str()));
    let known: Vec<_> = known.iter().filter_map(|name| name.strip_prefix(PREFIX)).collect();
    ours.filter_map(|name| {
        let meant = nearest(name.strip_prefix(PREFIX)?, &known)?;
        Some((name.clone(), format!("{PREFIX}{meant}")))
    })
    .collect()
}

/// `host:port`, `[::1]:port`, or `:port` for every address.
pub(crate) fn addresses(text: &str) -> Result<Vec<SocketAddr>> {
    if let Some(port) = text.strip_prefix(':') {
        let port: u16 = port.parse().map_err(|_| anyhow!("the port is no number from 0 to 65535"))?;
        // Of both kinds, where the machine has both.
        let both = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
        let has_both =
            std::net::TcpListener::bind(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0))).is_ok();
        return Ok(vec![if has_both { both } else { (std::net::Ipv4Addr::UNSPECIFIED, port).into() }]);
    }
    let mut found = text.to_socket_addrs().context("this is no host:port that can be listened on")?;
    // A name may have several addresses; the first is the one that others are given.
    Ok(vec![found.next().context("the name has no address")?])
}
