//! The faults: how each is injected, which effect is awaited, and how it ends.

mod callers;
mod clocks;
mod codes;
mod members;
mod network;
mod processes;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use rand::rngs::StdRng;
use testkit::wait;
use tokio::time::Instant;
use txnscope_catalog::{self as catalog, Metric};

use crate::audit::Exception;
use crate::environment::Environment;

/// The faults that can be injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// No fault, as a reference.
    Calm,
    /// Another member calls for an election.
    StepUp,
    /// The primary steps down.
    StepDown,
    /// The primary is killed (SIGKILL), and started again when another has been elected.
    KillPrimary,
    /// A secondary is killed and started again.
    KillSecondary,
    /// The primary is paused (SIGSTOP), and resumed when another has been elected.
    FreezePrimary,
    /// The primary is unreachable for the other members and all clients.
    PartitionMember,
    /// The ledger reaches no member; the members reach each other.
    PartitionClient,
    /// Requests of the ledger arrive, but their replies are lost.
    LostReplies,
    /// Every connection of the ledger and between members is slow.
    SlowNetwork,
    /// Every connection to a member is closed.
    CutConnections,
    /// The server fails with each error code that has a reason, on a statement, the commit and the abort, with the
    /// code's own labels, with `TransientTransactionError` and with none.
    Codes,
    /// As `Codes`, with a random sample.
    SomeCodes,
    /// The server's disk is full: error 14031 on each write and commit.
    DiskFull,
    /// The server is overloaded: it rejects every command with code 462 and the labels of an overload.
    Overload,
    /// Every statement is so slow that the ledger's connection pool is exhausted.
    FullPool,
    /// Two hundred callers disconnect at random moments.
    Disconnects,
    /// Handlers panic, before and within a transaction.
    Panics,
    /// The ledger is killed and started again.
    KillBackend,
    /// The ledger's runtime is shut down with all its tasks, and replaced.
    ShutDownRuntime,
    /// The sidecar is killed and started again.
    KillSidecar,
    /// The sidecar is paused for four intervals, so that its clock jumps.
    FreezeSidecar,
    /// The sidecar's wall clock is changed by hours, forward and back. Its monotonic clock is not affected.
    TurnClock,
    /// The ledger's wall clock is changed by hours.
    TurnBackendClock,
    /// Prometheus is killed and started again.
    RestartPrometheus,
}

/// The result of a fault.
#[derive(Debug, Default)]
pub(crate) struct FaultRun {
    /// From its beginning to its end.
    pub(crate) held: Duration,
    /// How often a failpoint has answered instead of the server.
    pub(crate) injected: u64,
    /// A remark for the line of the round.
    pub(crate) remark: String,
    pub(crate) exceptions: &'static [Exception],
}

impl FaultRun {
    pub(crate) fn excepts(&self, exception: Exception) -> bool {
        self.exceptions.contains(&exception)
    }

    /// A fault that began then and ends now.
    fn since(broken: Instant) -> Self {
        Self { held: broken.elapsed(), ..Self::default() }
    }
}

impl Fault {
    /// The faults of the short form, each of which takes seconds.
    pub(crate) const SHORT: [Self; 6] = [
        Self::StepUp,
        Self::SomeCodes,
        Self::Disconnects,
        Self::Panics,
        Self::CutConnections,
        Self::KillSidecar,
    ];

    /// The faults of the long form.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied().filter(|fault| !matches!(fault, Self::Calm | Self::SomeCodes))
    }

    /// The name, as on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The invariants that cannot hold after the fault.
    fn exceptions(self) -> &'static [Exception] {
        match self {
            Self::KillPrimary | Self::KillSecondary => &[Exception::ServerBegan],
            Self::KillBackend => &[Exception::BackendBegan],
            Self::ShutDownRuntime => &[Exception::RuntimeGone],
            Self::Codes | Self::SomeCodes | Self::DiskFull => &[Exception::Injected],
            Self::Calm
            | Self::StepUp
            | Self::StepDown
            | Self::FreezePrimary
            | Self::PartitionMember
            | Self::PartitionClient
            | Self::LostReplies
            | Self::SlowNetwork
            | Self::CutConnections
            | Self::Overload
            | Self::FullPool
            | Self::Disconnects
            | Self::Panics
            | Self::KillSidecar
            | Self::FreezeSidecar
            | Self::TurnClock
            | Self::TurnBackendClock
            | Self::RestartPrometheus => &[],
        }
    }

    /// Injects the fault, waits for its effect, and ends it.
    pub(crate) async fn inject(self, env: &mut Environment, rng: &mut StdRng) -> Result<FaultRun> {
        let fault_run = match self {
            Self::Calm => calm(env).await,
            Self::StepUp => members::step_up(env).await,
            Self::StepDown => members::step_down(env).await,
            Self::KillPrimary => members::kill_primary(env).await,
            Self::KillSecondary => members::kill_secondary(env, rng).await,
            Self::FreezePrimary => members::freeze_primary(env).await,
            Self::PartitionMember => network::partition_member(env).await,
            Self::PartitionClient => network::partition_client(env).await,
            Self::LostReplies => network::lost_replies(env).await,
            Self::SlowNetwork => network::slow(env, rng).await,
            Self::CutConnections => network::cut(env, rng).await,
            Self::Codes => codes::all(env, rng).await,
            Self::SomeCodes => codes::some(env, rng).await,
            Self::DiskFull => codes::disk_full(env).await,
            Self::Overload => codes::overload(env).await,
            Self::FullPool => callers::full_pool(env).await,
            Self::Disconnects => callers::disconnects(env, rng).await,
            Self::Panics => callers::panics(env).await,
            Self::KillBackend => processes::kill_backend(env).await,
            Self::ShutDownRuntime => processes::shut_down_runtime(env).await,
            Self::KillSidecar => processes::kill_sidecar(env).await,
            Self::FreezeSidecar => processes::freeze_sidecar(env).await,
            Self::TurnClock => clocks::sidecar(env, rng).await,
            Self::TurnBackendClock => clocks::backend(env, rng).await,
            Self::RestartPrometheus => processes::restart_prometheus(env).await,
        };
        let fault_run = fault_run.with_context(|| self.name())?;
        Ok(FaultRun { exceptions: self.exceptions(), ..fault_run })
    }
}

async fn calm(env: &Environment) -> Result<FaultRun> {
    let begun = Instant::now();
    wait_for_operations(env, &catalog::TRANSACTION_DURATION, "succeeded", 60.0).await?;
    Ok(FaultRun::since(begun))
}

/// Waits until the ledger has counted this many additional operations with that outcome.
async fn wait_for_operations(env: &Environment, metric: &Metric, outcome: &str, times: f64) -> Result<()> {
    let count = async || {
        let page = env.ledger_page().await?;
        let name = match metric.kind {
            catalog::Kind::Histogram => format!("{}_count", metric.name),
            catalog::Kind::Counter | catalog::Kind::Gauge => metric.name.to_owned(),
        };
        anyhow::Ok(page.sum(&name, &[("outcome", outcome)]))
    };
    let before = count().await?;
    wait::until(&format!("{times} operations that {outcome}"), async || {
        let now = count().await? - before;
        ensure!(now >= times, "{now} {outcome}");
        Ok(())
    })
    .await
}
