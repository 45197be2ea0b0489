//! Set-up of the metrics recorder: from the `metrics` facade to a page that Prometheus reads.
//!
//! [`Metrics::install`] installs `metrics-exporter-prometheus` as the process's recorder and runs its upkeep. The
//! catalog's metrics are kept apart, in fixed buckets and without buffers, and `process_*` is added. Metrics that the
//! application records through the facade are rendered on the same page; their histograms have buckets from 0.001 to
//! 10,000, or those of a builder of its own ([`Metrics::install_with`]).
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
//! An application with a recorder of its own installs that recorder first and does not need this module: the layer
//! then records into it. Give `PrometheusBuilder` the catalog's buckets with [`configure`], or its histograms are
//! exported as summaries; and set no idle timeout, which permanently loses the data of cached handles.
//! [Declared](crate::TransactionLayer::declare) operations appear on such a recorder's page with the first request.
//!
//! Tests count into a [`Registry`] of their own ([`Metrics::isolated`]). `metrics::with_local_recorder` does not
//! work: the global registry resolves its handles once, with the recorder of the first test.
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

/// The families of the process's recorder, if this crate installed it.
static INSTALLED: OnceLock<Arc<Families>> = OnceLock::new();

/// The families of the process's recorder, if this crate installed it.
#[cfg(feature = "mongodb")]
pub(crate) fn installed() -> Option<&'static Arc<Families>> {
    INSTALLED.get()
}

/// The recorder of this process, and its rendering in the Prometheus text format.
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
    /// If a recorder is installed already, or if a layer has counted before: its counts are lost, and so are its
    /// later ones.
    pub fn install() -> Result<Self, InstallError> {
        Self::install_with(with_buckets(PrometheusBuilder::new()))
    }

    /// Installs the recorder with an exporter builder that configures the application's own metrics, such as the
    /// buckets of its histograms, which are summaries without any. The builder's labels and timeouts do not apply to
    /// txnscope's metrics.
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
    /// See [`install`](Self::install).
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

    /// Creates a recorder apart from the process's, for a test or for a second page in one process. Use its
    /// [`registry`](Self::registry) with [`TransactionLayer::with_registry`](crate::TransactionLayer::with_registry).
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

    /// Returns the registry of the operations that this recorder counts.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.registry
    }

    /// Renders all metrics in the text format 0.0.4. Rendering takes milliseconds for thousands of series and blocks
    /// the thread: in async code prefer [`render_off_worker`](Self::render_off_worker).
    #[must_use]
    pub fn render(&self) -> String {
        let mut page = self.exporter.render();
        // Skip these if the application exports them itself through the exporter.
        let has_process = page.contains("# TYPE process_");
        self.families.render(&mut page);
        if !has_process {
            families::render_process(&mut page);
        }
        page
    }

    /// Renders all metrics on the runtime's blocking threads, away from the async workers.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    pub async fn render_off_worker(&self) -> String {
        let metrics = self.clone();
        match tokio::task::spawn_blocking(move || metrics.render()).await {
            Ok(page) => page,
            // The runtime is shutting down: render on this thread.
            Err(_) => self.render(),
        }
    }

    /// Returns a router with `GET /metrics`, to merge into the application's.
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

/// Configures an exporter builder of the application with the catalog's buckets.
///
/// ```
/// let recorder = txnscope::recorder::configure(metrics_exporter_prometheus::PrometheusBuilder::new()).build_recorder();
/// # drop(recorder);
/// ```
///
/// # Panics
///
/// Never: the catalog's buckets are not empty, which its tests ensure.
#[must_use]
#[allow(clippy::expect_used, reason = "the only error is an empty list of buckets")]
pub fn configure(builder: PrometheusBuilder) -> PrometheusBuilder {
    emitted_by(Emitter::Library).filter(|metric| metric.kind == Kind::Histogram).fold(
        builder,
        |builder, metric| {
            builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), metric.buckets)
                .expect("the catalog's buckets are not empty")
        },
    )
}

/// The buckets of application histograms in an unknown unit: seconds, items, bytes.
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
    /// The process already has a recorder.
    #[error(
        "a metrics recorder is installed already; let the layer record into that one, and give its builder the buckets with txnscope::recorder::configure"
    )]
    AlreadyInstalled,
    /// A layer counted before a recorder was installed.
    #[error("a TransactionLayer has counted before a recorder was installed; call Metrics::install first")]
    TooLate,
    /// The upkeep thread could not be started.
    #[error("no thread could be started for the upkeep of histograms")]
    Upkeep(#[source] std::io::Error),
}
