//! `txnscope preflight`: checks that a deployment supports transactions and is monitored.
//!
//! | module | contents |
//! | --- | --- |
//! | `deployment` | commands to MongoDB, each with a timeout |
//! | `version`, `topology`, `concern`, `capacity` | findings from replies of the deployment |
//! | `clients` | the applications that are connected |
//! | `members` | whether each member can be reached, and its clock |
//! | `privileges` | the privileges of the sidecar's user, and the profiler |
//! | `scratch` | a real transaction, if it is requested |
//! | `monitoring` | Prometheus, Alertmanager, Grafana |
//! | `labels` | the metrics of the backends in Prometheus |
//! | `backend` | a backend's own metrics page |

mod args;
mod backend;
mod capacity;
mod clients;
mod concern;
mod deployment;
mod finding;
mod labels;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod malformed_input;
mod members;
mod monitoring;
mod output;
mod privileges;
mod scratch;
mod topology;
mod version;

use anyhow::Result;
use clap::ArgMatches;
use mongodb::bson::{DateTime, doc};
use txnscope_sidecar::CollectorSettings;

pub(crate) use self::args::PreflightArgs;

use crate::args::connection::ConnectionSources;
use crate::args::exit_status::ExitStatus;
use crate::client::services::ServiceClient;
use crate::client::services::prometheus::Prometheus;
use crate::commands::preflight::capacity::Expected;
use crate::commands::preflight::deployment::{Deployment, QueryError, Reply, hello_of};
use crate::commands::preflight::finding::{Finding, Status};
use crate::commands::preflight::topology::Kind;
use crate::config::collectors;
use crate::config::file::ConfigFile;
use crate::output::{print, report_result};
use crate::runtime::block_on;

const CONNECTION: &str = "connection";

pub(crate) fn run(args: &PreflightArgs, matches: &ArgMatches) -> ExitStatus {
    report_result(block_on(preflight(args, matches)))
}

async fn preflight(args: &PreflightArgs, matches: &ArgMatches) -> Result<ExitStatus> {
    let config = ConfigFile::load(args.config.file.as_deref())?;
    let settings = collectors::settings(&config, &args.collectors)?;
    let target = ConnectionSources::new(args.mongodb.clone(), matches).single_target(&config)?;
    let services = Services::new(args, matches)?;
    let deployment = Deployment::new(target.options().await?, args.timeout)?;
    let (mut findings, monitoring) =
        tokio::join!(check_deployment(&deployment, args, &settings), services.check());
    findings.extend(monitoring);
    print(&output::render(args.output, &findings))?;
    Ok(match output::worst(&findings) {
        Status::Fail => ExitStatus::Failure,
        Status::Pass | Status::Skip | Status::Warn => ExitStatus::Success,
    })
}

/// The findings about the deployment.
async fn check_deployment(
    deployment: &Deployment,
    args: &PreflightArgs,
    settings: &CollectorSettings,
) -> Vec<Finding> {
    let hello = match hello_of(&deployment.client, deployment.timeout()).await {
        Ok(hello) => hello,
        Err(error) => return vec![no_connection(deployment, &error).await],
    };
    let mut findings = vec![Finding::pass(CONNECTION, "the deployment responds")];
    let (kind, options) = (topology::kind(&hello), &deployment.options);
    let sharded = kind == Kind::Sharded;
    let set_status = async {
        match kind {
            Kind::ReplicaSet => deployment.run(doc! {"replSetGetStatus": 1, "initialSync": 0}).await,
            Kind::Sharded | Kind::Standalone | Kind::Uninitialized => {
                Err(QueryError::CommandFailed("it is not a replica set".to_owned()))
            }
        }
    };
    let parameters =
        doc! {"getParameter": 1, "featureCompatibilityVersion": 1, "transactionLifetimeLimitSeconds": 1};
    let (build, status, set, parameters, defaults, connection, connected) = tokio::join!(
        deployment.run(doc! {"buildInfo": 1}),
        deployment.run(doc! {"serverStatus": 1, "metrics": 0, "tcmalloc": 0, "oplog": 1}),
        set_status,
        deployment.run(parameters),
        deployment.run(doc! {"getDefaultRWConcern": 1}),
        deployment.run(doc! {"connectionStatus": 1, "showPrivileges": true}),
        clients::connected(deployment),
    );
    // mongos has none of these parameters and returns an error.
    let parameters = if sharded { Ok(doc! {}) } else { parameters };
    let today = DateTime::now().try_to_rfc3339_string().unwrap_or_default();
    let today = today.split('T').next().unwrap_or_default();

    findings.push(topology::deployment(&hello, options.repl_set_name.as_deref()));
    findings.push(version::version(&build, sharded, today));
    findings.push(version::engine(&status, sharded));
    findings.push(version::compatibility(&parameters, &build, sharded));
    if kind == Kind::ReplicaSet {
        findings.push(topology::majority(&set, &hello));
        let members = members::check(deployment, &topology::members(&hello)).await;
        findings.push(members::reached(&members));
        findings.push(members::clocks(&members));
    }
    if matches!(kind, Kind::ReplicaSet | Kind::Sharded) {
        findings.push(topology::oplog(&status, sharded, args.oplog_window));
        findings.push(concern::default(options.write_concern.as_ref(), &defaults));
    }
    findings.push(version::lifetime(&parameters, sharded));
    let expected = Expected { concurrency: args.concurrency, processes: args.processes };
    let default_pool = clients::smallest_default(&connected);
    findings.push(capacity::pool(options, default_pool.as_ref(), expected));
    findings.push(capacity::connections(&status, options, default_pool.as_ref(), expected));
    findings.push(clients::names(&connected));
    findings.push(capacity::tickets(&status, expected, sharded));
    findings.push(privileges::granted(&connection, &status, settings));
    findings.push(privileges::profiler(&profilers(deployment, settings).await));
    if let Some(database) = &args.scratch {
        findings.push(scratch::transaction(&deployment.client, database, deployment.timeout()).await);
    }
    findings
}

async fn profilers(deployment: &Deployment, settings: &CollectorSettings) -> Vec<(String, Reply)> {
    let mut levels = Vec::new();
    if settings.profile.enabled {
        for database in &settings.profile.databases {
            levels.push((database.clone(), deployment.run_on(database, doc! {"profile": -1}).await));
        }
    }
    levels
}

/// Why the deployment does not respond. The driver drops a server that is not a member of the set of the URI; a direct
/// connection shows what the server is.
async fn no_connection(deployment: &Deployment, error: &QueryError) -> Finding {
    match error {
        QueryError::Authentication(_) => {
            return Finding::fail(
                CONNECTION,
                error.to_string(),
                "correct user, password or authSource; `txnscope role` prints the commands that create the user",
            );
        }
        QueryError::PermissionDenied | QueryError::CommandFailed(_) => {
            return Finding::fail(
                CONNECTION,
                format!("it responds, and rejects the command hello: {error}"),
                "check that this is MongoDB and that the user may connect to it",
            );
        }
        QueryError::Unreachable(_) => {}
    }
    let mut reasons = Vec::new();
    for address in &deployment.options.hosts {
        let Ok(client) = deployment.member(address) else { continue };
        match hello_of(&client, deployment.timeout()).await {
            Ok(hello) => {
                let found = topology::deployment(&hello, deployment.options.repl_set_name.as_deref());
                if found.status == Status::Fail {
                    return found;
                }
                reasons.push(format!("{address} responds to a direct connection"));
            }
            Err(QueryError::Authentication(why)) => reasons.push(format!("{address}: {why}")),
            Err(error) => reasons.push(format!("{address}: {error}")),
        }
    }
    Finding::fail(
        CONNECTION,
        format!("no member responds: {}", reasons.join("; ")),
        "check that mongod is running there, that host and port are right, and that firewall and TLS (tls=true) let this \
         machine connect",
    )
}

/// A warning about a fact that could not be found out. A missing privilege is no failure of the deployment.
fn unknown(check: &'static str, error: &QueryError, action: &str) -> Finding {
    let remediation = match error {
        QueryError::PermissionDenied => {
            format!("grant this user {action} on the cluster: `txnscope role` prints the role")
        }
        QueryError::Authentication(_) | QueryError::Unreachable(_) | QueryError::CommandFailed(_) => {
            "run preflight again".to_owned()
        }
    };
    Finding::warn(check, format!("unknown: {error}"), remediation)
}

/// The services that the arguments name.
struct Services {
    prometheus: Option<Prometheus>,
    backend: Option<ServiceClient>,
    alertmanager: Option<ServiceClient>,
    grafana: Option<ServiceClient>,
}

impl Services {
    fn new(args: &PreflightArgs, matches: &ArgMatches) -> Result<Self> {
        let (backend, alertmanager, grafana) = (&args.backend, &args.alertmanager, &args.grafana);
        let service = |url_flag, flags| ServiceClient::from_flags(url_flag, flags, matches, args.timeout);
        Ok(Self {
            backend: service("backend.metrics-url", (&backend.metrics_url, &backend.token_file))?,
            prometheus: Prometheus::new(&args.prometheus, matches, args.timeout)?,
            alertmanager: service("alertmanager.url", (&alertmanager.url, &alertmanager.token_file))?,
            grafana: service("grafana.url", (&grafana.url, &grafana.token_file))?,
        })
    }

    async fn check(&self) -> Vec<Finding> {
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
        let backend = async {
            match &self.backend {
                Some(service) => backend::metrics_page(service).await,
                None => Vec::new(),
            }
        };
        let (mut findings, prometheus, alertmanager, grafana) =
            tokio::join!(backend, prometheus, alertmanager, grafana);
        findings.extend(prometheus);
        findings.extend([alertmanager, grafana]);
        findings
    }
}
