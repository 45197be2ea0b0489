//! `txnscope preflight`: is this deployment able to run transactions, and to be observed?
//!
//! | file | what it looks at |
//! | --- | --- |
//! | `deployment` | asks MongoDB, each question within its time |
//! | `version`, `topology`, `concern`, `capacity` | what the deployment is, from its answers alone |
//! | `members` | each member by itself, and its clock |
//! | `privileges` | what the sidecar's user may ask, and the profiler |
//! | `scratch` | a real transaction, when it is asked for |
//! | `monitoring` | Prometheus, Alertmanager, Grafana |
//! | `backend` | what the backends have counted, in Prometheus |

mod capacity;
mod concern;
mod deployment;
mod finding;
mod flags;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod hostile;
mod labels;
mod members;
mod monitoring;
mod output;
mod privileges;
mod scratch;
mod topology;
mod version;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{ArgMatches, parser::ValueSource};
use mongodb::bson::{DateTime, doc};
use txnscope_sidecar::CollectorSettings;

pub(crate) use flags::PreflightFlags;

use crate::deployment::Deployments;
use crate::file::File;
use crate::preflight::capacity::Expected;
use crate::preflight::deployment::{Answer, Deployment, Refusal, hello_of};
use crate::preflight::finding::{Finding, Verdict};
use crate::preflight::topology::Kind;
use crate::services::prometheus::{Prometheus, token};
use crate::services::{Given, Service};
use crate::{FAILURE, MISUSE, collectors, complain, print};

/// Whether the deployment answers at all.
const CONNECTION: &str = "connection";

pub(crate) fn run(flags: &PreflightFlags, matches: &ArgMatches) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let work = runtime
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(work(flags, matches)));
    match work {
        Ok(code) => ExitCode::from(code),
        Err(error) => complain(&error, MISUSE),
    }
}

async fn work(flags: &PreflightFlags, matches: &ArgMatches) -> Result<u8> {
    let file = File::named(flags.config_file.as_deref())?;
    let settings = collectors::settings(&file, &flags.collectors)?;
    let target = Deployments::new(flags.deployment.clone(), matches).one_of(&file)?;
    let services = Services::new(flags, matches)?;
    let deployment = Deployment::new(target.options().await?, flags.timeout)?;
    let (mut findings, monitoring) = tokio::join!(look(&deployment, flags, &settings), services.look());
    findings.extend(monitoring);
    print(&output::render(flags.output, &findings))?;
    Ok(if output::worst(&findings) == Verdict::Fail { FAILURE } else { 0 })
}

/// The deployment's part of the checklist.
async fn look(deployment: &Deployment, flags: &PreflightFlags, settings: &CollectorSettings) -> Vec<Finding> {
    let hello = match hello_of(&deployment.client, deployment.timeout()).await {
        Ok(hello) => hello,
        Err(refusal) => return vec![no_connection(deployment, &refusal).await],
    };
    let mut findings = vec![Finding::pass(CONNECTION, "the deployment answers")];
    let (kind, options) = (topology::kind(&hello), &deployment.options);
    let sharded = kind == Kind::Sharded;
    let set_status = async {
        match kind {
            Kind::ReplicaSet => deployment.ask(doc! {"replSetGetStatus": 1, "initialSync": 0}).await,
            Kind::Sharded | Kind::Standalone | Kind::Unsure => {
                Err(Refusal::Refused("it is no replica set".to_owned()))
            }
        }
    };
    let parameters =
        doc! {"getParameter": 1, "featureCompatibilityVersion": 1, "transactionLifetimeLimitSeconds": 1};
    let (build, status, set, parameters, defaults, connection) = tokio::join!(
        deployment.ask(doc! {"buildInfo": 1}),
        deployment.ask(doc! {"serverStatus": 1, "metrics": 0, "tcmalloc": 0, "oplog": 1}),
        set_status,
        deployment.ask(parameters),
        deployment.ask(doc! {"getDefaultRWConcern": 1}),
        deployment.ask(doc! {"connectionStatus": 1, "showPrivileges": true}),
    );
    // mongos knows no parameter of these, and says so.
    let parameters = if sharded { Ok(doc! {}) } else { parameters };
    let today = DateTime::now().try_to_rfc3339_string().unwrap_or_default();
    let today = today.split('T').next().unwrap_or_default();

    findings.push(topology::deployment(&hello, options.repl_set_name.as_deref()));
    findings.push(version::version(&build, sharded, today));
    findings.push(version::engine(&status, sharded));
    findings.push(version::compatibility(&parameters, &build, sharded));
    if kind == Kind::ReplicaSet {
        findings.push(topology::majority(&set, &hello));
        let members = members::ask(deployment, &topology::members(&hello)).await;
        findings.push(members::reached(&members));
        findings.push(members::clocks(&members));
    }
    if matches!(kind, Kind::ReplicaSet | Kind::Sharded) {
        findings.push(topology::oplog(&status, sharded, flags.oplog_window));
        findings.push(concern::default(options.write_concern.as_ref(), &defaults));
    }
    findings.push(version::lifetime(&parameters, sharded));
    let expected = Expected { concurrency: flags.concurrency, processes: flags.processes };
    findings.push(capacity::pool(options, expected));
    findings.push(capacity::connections(&status, options, expected));
    findings.push(capacity::tickets(&status, expected, sharded));
    findings.push(privileges::held(&connection, &status, settings));
    findings.push(privileges::profiler(&profilers(deployment, settings).await));
    if let Some(database) = &flags.scratch {
        findings.push(scratch::transaction(&deployment.client, database, deployment.timeout()).await);
    }
    findings
}

async fn profilers(deployment: &Deployment, settings: &CollectorSettings) -> Vec<(String, Answer)> {
    let mut levels = Vec::new();
    if settings.profile.enabled {
        for database in &settings.profile.databases {
            levels.push((database.clone(), deployment.ask_on(database, doc! {"profile": -1}).await));
        }
    }
    levels
}

/// Why nothing answers. The driver drops a server that is no member of the set that the URI names; asked by itself, it
/// says what it is.
async fn no_connection(deployment: &Deployment, refusal: &Refusal) -> Finding {
    match refusal {
        Refusal::Credentials(_) => {
            return Finding::fail(
                CONNECTION,
                refusal.to_string(),
                "mend user, password or authSource; the user is made with what `txnscope role` prints",
            );
        }
        Refusal::Denied | Refusal::Refused(_) => {
            return Finding::fail(
                CONNECTION,
                format!("it answers, and does not say hello: {refusal}"),
                "is this MongoDB, and is the user allowed to be here?",
            );
        }
        Refusal::Unreachable(_) => {}
    }
    let mut told = Vec::new();
    for address in &deployment.options.hosts {
        let Ok(client) = deployment.member(address) else { continue };
        match hello_of(&client, deployment.timeout()).await {
            Ok(hello) => {
                let found = topology::deployment(&hello, deployment.options.repl_set_name.as_deref());
                if found.verdict == Verdict::Fail {
                    return found;
                }
                told.push(format!("{address} answers by itself"));
            }
            Err(Refusal::Credentials(why)) => told.push(format!("{address}: {why}")),
            Err(error) => told.push(format!("{address}: {error}")),
        }
    }
    Finding::fail(
        CONNECTION,
        format!("no member answers: {}", told.join("; ")),
        "is mongod running there, do firewall and TLS (tls=true) let this machine in, and are host and port right?",
    )
}

/// What the user may not see is no failure of the deployment.
fn not_known(check: &'static str, refusal: &Refusal, action: &str) -> Finding {
    let cure = match refusal {
        Refusal::Denied => {
            format!("grant this user {action} on the cluster: `txnscope role` prints the role")
        }
        Refusal::Credentials(_) | Refusal::Unreachable(_) | Refusal::Refused(_) => "run it again".to_owned(),
    };
    Finding::warn(check, format!("not known: {refusal}"), cure)
}

/// The services that the flags name.
struct Services {
    prometheus: Option<Prometheus>,
    alertmanager: Option<Service>,
    grafana: Option<Service>,
}

impl Services {
    fn new(flags: &PreflightFlags, matches: &ArgMatches) -> Result<Self> {
        let service = |name: &'static str, url: &Option<String>, token_file: &Option<std::path::PathBuf>| {
            let Some(url) = url else { return Ok(None) };
            let token = token(&format!("TXNSCOPE_{}_TOKEN", name.to_uppercase()));
            let seen = matches.value_source(&format!("{name}-url")) == Some(ValueSource::CommandLine);
            let given = Given { name, url, seen, token_file: token_file.as_deref(), token: token.as_ref() };
            Service::new(given, flags.timeout).map(Some)
        };
        Ok(Self {
            prometheus: Prometheus::new(&flags.prometheus, matches, flags.timeout)?,
            alertmanager: service("alertmanager", &flags.alertmanager_url, &flags.alertmanager_token_file)?,
            grafana: service("grafana", &flags.grafana_url, &flags.grafana_token_file)?,
        })
    }

    async fn look(&self) -> Vec<Finding> {
        let prometheus = async {
            match &self.prometheus {
                Some(prometheus) => monitoring::prometheus(prometheus).await,
                None => vec![Finding::skip("Prometheus", "--prometheus.url was not given")],
            }
        };
        let alertmanager = async {
            match &self.alertmanager {
                Some(service) => monitoring::alertmanager(service).await,
                None => Finding::skip("Alertmanager", "--alertmanager.url was not given"),
            }
        };
        let grafana = async {
            match &self.grafana {
                Some(service) => monitoring::dashboards(service).await,
                None => Finding::skip("dashboards", "--grafana.url was not given"),
            }
        };
        let (mut findings, alertmanager, grafana) = tokio::join!(prometheus, alertmanager, grafana);
        findings.extend([alertmanager, grafana]);
        findings
    }
}
