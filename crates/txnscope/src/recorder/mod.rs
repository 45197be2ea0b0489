//! Set-up of the metrics recorder: from the `metrics` facade to a page that Prometheus reads.
//!
//! [`Metrics::install`] makes `metrics-exporter-prometheus` the process's recorder and keeps it up; the catalogue's
//! own metrics it keeps beside it, in fixed buckets and without buffers, and adds `process_*`. Whatever else the application
//! records through the facade comes out on the same page; its histograms have buckets from 0.001 to 10,000, or those of a
//! builder of its own ([`Metrics::install_with`]).
//!
//! ```
//! # #[cfg(feature = "axum")]
//! # fn main() -> Result<(), txnscope::InstallError> {
//! let metrics = txnscope::Metrics::install()?;
//! let app: axum::Router = axum::Router::new().merge(metrics.router()); // GET /metrics
//! # drop(app);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "axum"))]
//! # fn main() {}
//! ```
//!
//! An application that has a recorder of its own installs that one first and needs nothing of this module: the
//! layer then records into it. Give `PrometheusBuilder` the catalogue's buckets with [`configure`], or its
//! histograms come out as summaries; and set no idle timeout, which loses the data of cached handles for good. What was
//! [declared](crate::TransactionLayer::declare) is on such a recorder's page from the first request on: nothing tells when it
//! was installed.
//!
//! Tests count into a [`Registry`] of their own ([`Metrics::isolated`]). `metrics::with_local_recorder` does not
//! do: the global registry resolves its handles once, with the recorder of whichever test came first.
//!
//! With a runner or a listener, an operation has 213 series, most of them buckets, or 42,600 for the 200 operations that there
//! can be; without either, 96.

mod composite;
mod counter;
mod families;
mod histogram;
mod shards;
mod upkeep;

use std::fmt;
use std::sync::{Arc, OnceLock};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use txnscope_catalog::{Emitter, Kind, emitted_by};

use self::composite::CompositeRecorder;
#[cfg(feature = "mongodb")]
pub(crate) use self::counter::ShardedCounter;
pub(crate) use self::families::Families;
use self::upkeep::Upkeep;
use crate::Registry;

/// The content type of the text format that [`Metrics::render`] writes.
pub const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The families of the process's recorder, if it is ours.
static INSTALLED: OnceLock<Arc<Families>> = OnceLock::new();

/// The families of the process's recorder, if it is ours.
#[cfg(feature = "mongodb")]
pub(crate) fn installed() -> Option<&'static Arc<Families>> {
    INSTALLED.get()
}

/// The recorder of this process, and the page that Prometheus reads.
///
/// Cheap to clone. Upkeep of the application's own histograms ends with the last clone.
#[derive(Clone)]
pub struct Metrics {
    exporter: PrometheusHandle,
    families: Arc<Families>,
    registry: Registry,
    _upkeep: Arc<Upkeep>,
}

impl Metrics {
    /// Installs the recorder for the whole process. Call it once, before the first layer takes a request. Histograms of
    /// the application's own have buckets from 0.001 to 10,000; for others, see [`install_with`](Self::install_with).
    ///
    /// # Errors
    ///
    /// If a recorder is installed already, or if a layer has counted before there was one: what it counted is
    /// lost, and what it would count as well.
    pub fn install() -> Result<Self, InstallError> {
        Self::install_with(with_buckets(PrometheusBuilder::new()))
    }

    /// The same, with a builder of the application's own for its own metrics: buckets for its histograms, say, which are
    /// summaries without any. What it says of labels and timeouts is not said of txnscope's metrics.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
    ///
    /// let builder = PrometheusBuilder::new()
    ///     .set_buckets_for_metric(Matcher::Full("cart_items".to_owned()), &[1.0, 3.0, 10.0, 30.0])?;
    /// let metrics = txnscope::Metrics::install_with(builder)?;
    /// # drop(metrics);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`install`](Self::install).
    pub fn install_with(builder: PrometheusBuilder) -> Result<Self, InstallError> {
        let recorder = CompositeRecorder::new(builder);
        let (exporter, families) = (recorder.exporter(), recorder.families());
        let registry = Registry::global();
        let counted_before = registry.is_used();
        metrics::set_global_recorder(recorder).map_err(|_| InstallError::AlreadyInstalled)?;
        let _ = INSTALLED.set(Arc::clone(&families));
        if counted_before {
            return Err(InstallError::TooLate);
        }
        registry.resolve_pending();
        Self::assemble(exporter, families, registry)
    }

    /// A recorder of its own, for a test or for a second page in one process. Use its [`registry`](Self::registry)
    /// with [`TransactionLayer::with_registry`](crate::TransactionLayer::with_registry).
    ///
    /// # Errors
    ///
    /// If no thread can be started for upkeep.
    pub fn isolated() -> Result<Self, InstallError> {
        let recorder = CompositeRecorder::new(with_buckets(PrometheusBuilder::new()));
        let (exporter, families) = (recorder.exporter(), recorder.families());
        let registry = Registry::with_builtin_recorder(recorder, Arc::clone(&families));
        Self::assemble(exporter, families, registry)
    }

    fn assemble(
        exporter: PrometheusHandle,
        families: Arc<Families>,
        registry: Registry,
    ) -> Result<Self, InstallError> {
        let upkeep = Arc::new(Upkeep::start(exporter.clone()).map_err(InstallError::Upkeep)?);
        Ok(Self { exporter, families, registry, _upkeep: upkeep })
    }

    /// The operations that this recorder counts.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.registry
    }

    /// The page, in the text format 0.0.4. It takes milliseconds for thousands of series and blocks meanwhile:
    /// in async code prefer [`render_off_worker`](Self::render_off_worker).
    #[must_use]
    pub fn render(&self) -> String {
        let mut page = self.exporter.render();
        // An application that exports these itself has them in the exporter's part.
        let has_process = page.contains("# TYPE process_");
        self.families.render(&mut page);
        if !has_process {
            families::render_process(&mut page);
        }
        page
    }

    /// The page, rendered on the runtime's blocking threads, away from the async workers.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    pub async fn render_off_worker(&self) -> String {
        let metrics = self.clone();
        match tokio::task::spawn_blocking(move || metrics.render()).await {
            Ok(page) => page,
            // The runtime is shutting down: there is no worker left to hold up.
            Err(_) => self.render(),
        }
    }

    /// A router with `GET /metrics`, to merge into the application's.
    #[cfg(feature = "axum")]
    pub fn router<S>(&self) -> axum::Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        let metrics = self.clone();
        let page = move || {
            let metrics = metrics.clone();
            async move { ([(http::header::CONTENT_TYPE, TEXT_FORMAT)], metrics.render_off_worker().await) }
        };
        axum::Router::new().route("/metrics", axum::routing::get(page))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// Gives a builder of the application's own the catalogue's buckets.
///
/// ```
/// let recorder = txnscope::recorder::configure(metrics_exporter_prometheus::PrometheusBuilder::new()).build_recorder();
/// # drop(recorder);
/// ```
///
/// # Panics
///
/// Never: the catalogue's buckets are not empty, which its tests hold.
#[must_use]
#[allow(clippy::expect_used, reason = "the only error is an empty list of buckets")]
pub fn configure(builder: PrometheusBuilder) -> PrometheusBuilder {
    emitted_by(Emitter::Library).filter(|metric| metric.kind == Kind::Histogram).fold(
        builder,
        |builder, metric| {
            builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)
                .expect("the catalogue's buckets are not empty")
        },
    )
}

/// For histograms of which nothing is known: seconds, items, bytes.
const ANY_BUCKETS: &[f64] = &[
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0,
    500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0,
];

#[allow(clippy::expect_used, reason = "the only error is an empty list of buckets")]
fn with_buckets(builder: PrometheusBuilder) -> PrometheusBuilder {
    builder.set_buckets(ANY_BUCKETS).expect("the buckets are not empty")
}

/// Why the recorder could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The process has a recorder.
    #[error(
        "a metrics recorder is installed already; let the layer record into that one, and give its builder the buckets with txnscope::recorder::configure"
    )]
    AlreadyInstalled,
    /// A layer counted before.
    #[error("a TransactionLayer has counted before a recorder was installed; call Metrics::install first")]
    TooLate,
    /// No thread for upkeep.
    #[error("no thread could be started for the upkeep of histograms")]
    Upkeep(#[source] std::io::Error),
}
