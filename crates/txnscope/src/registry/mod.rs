//! The registry of operations, each resolved once.

mod address_cache;
mod backend;
mod operation_metrics;

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};

use metrics::Recorder;
use txnscope_catalog::{MAX_OPERATIONS, OVERFLOW};

use self::address_cache::AddressCache;
pub(crate) use self::backend::RecorderHandle;
#[cfg(feature = "mongodb")]
pub(crate) use self::backend::{SecondsCounter, label, operation};
pub(crate) use self::operation_metrics::OperationMetrics;
use crate::recorder::Families;
use crate::timestamp::Timestamp;
use crate::{Operation, OperationName};

/// The operations that one recorder counts: at most 200 distinct ones, then `overflow`.
///
/// A registry lives as long as the process: its contents are leaked on purpose, bounded by the number of operations,
/// so that a request needs neither a reference count nor a lock.
#[derive(Clone, Copy)]
pub struct Registry(&'static Inner);

struct Inner {
    recorder: RecorderHandle,
    /// Open addressing, written under `registrations`, read without a lock. A power of two and at least twice the
    /// operations it may hold, so that a probe is short and always ends at an empty slot.
    slots: Box<[OnceLock<&'static OperationMetrics>]>,
    hasher: foldhash::fast::FixedState,
    address_cache: AddressCache,
    registrations: Mutex<Registrations>,
    overflow: OnceLock<&'static OperationMetrics>,
    /// The placeholder of names that are not registered yet.
    placeholder: OnceLock<&'static OperationMetrics>,
    described: Once,
    /// Whether transactions are run or observed: then each operation has transaction metrics from the start.
    #[cfg(feature = "mongodb")]
    transaction_metrics_enabled: std::sync::atomic::AtomicBool,
    /// The open transactions.
    #[cfg(feature = "mongodb")]
    open: crate::transaction::OpenTransactions,
}

/// The maximum number of registered names that a caller can make up, and for which no handler is known to have been
/// reached.
const MAX_UNPROVEN: usize = MAX_OPERATIONS / 2;

#[derive(Default)]
struct Registrations {
    registered: usize,
    /// How many of these names may have been made up by a caller.
    unproven: usize,
    /// Operations declared before the recorder was installed.
    declared_early: Vec<Operation>,
    recorder_installed: bool,
}

impl Registry {
    /// Returns the registry of the process's global recorder.
    #[must_use]
    pub fn global() -> Self {
        static GLOBAL: OnceLock<Registry> = OnceLock::new();
        *GLOBAL.get_or_init(|| Self::build(RecorderHandle::Global))
    }

    /// Creates a registry that records into `recorder`.
    #[must_use]
    pub fn new(recorder: impl Recorder + Send + Sync + 'static) -> Self {
        Self::with_recorder(recorder, None)
    }

    /// Creates a registry on this crate's recorder.
    pub(crate) fn with_builtin_recorder(
        recorder: impl Recorder + Send + Sync + 'static,
        families: Arc<Families>,
    ) -> Self {
        Self::with_recorder(recorder, Some(families))
    }

    fn with_recorder(
        recorder: impl Recorder + Send + Sync + 'static,
        families: Option<Arc<Families>>,
    ) -> Self {
        let registry = Self::build(RecorderHandle::Own { recorder: Box::new(recorder), families });
        registry.resolve_pending();
        registry
    }

    fn build(recorder: RecorderHandle) -> Self {
        // The first read of the clock calibrates it, which can take tens of milliseconds; do so here and not in a
        // request.
        let _ = Timestamp::now();
        let slots = (2 * MAX_OPERATIONS).next_power_of_two();
        Self(Box::leak(Box::new(Inner {
            recorder,
            slots: (0..slots).map(|_| OnceLock::new()).collect(),
            hasher: foldhash::fast::FixedState::default(),
            address_cache: AddressCache::default(),
            registrations: Mutex::default(),
            overflow: OnceLock::new(),
            placeholder: OnceLock::new(),
            described: Once::new(),
            #[cfg(feature = "mongodb")]
            transaction_metrics_enabled: std::sync::atomic::AtomicBool::new(false),
            #[cfg(feature = "mongodb")]
            open: crate::transaction::OpenTransactions::default(),
        })))
    }

    /// Gives every operation, including later ones, the metrics of its transactions.
    #[cfg(feature = "mongodb")]
    pub(crate) fn enable_transaction_metrics(&self) {
        let registrations = self.0.registrations.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.transaction_metrics_enabled.store(true, std::sync::atomic::Ordering::Relaxed);
        for metrics in self.0.slots.iter().filter_map(OnceLock::get) {
            let _ = metrics.transaction_metrics();
        }
        drop(registrations);
    }

    /// Returns the open transactions that this registry counts.
    #[cfg(feature = "mongodb")]
    #[must_use]
    pub fn open_transactions(&self) -> &'static crate::transaction::OpenTransactions {
        &self.0.open
    }

    /// Declares operations: their series are exported as zero before the first request.
    ///
    /// On the global registry the series appear with the recorder: with
    /// [`Metrics::install`](crate::Metrics::install), or with the first request. With a recorder of the application's
    /// own, they always appear with the first request, since the registry cannot detect when that recorder was
    /// installed.
    pub fn declare(&self, operations: impl IntoIterator<Item = Operation>) {
        let mut registrations = self.0.registrations.lock().unwrap_or_else(PoisonError::into_inner);
        registrations.declared_early.extend(operations);
        let recorder_installed = registrations.recorder_installed;
        drop(registrations);
        if recorder_installed {
            self.resolve_pending();
        }
    }

    /// Whether anything was counted already, so that installing a recorder now is too late.
    pub(crate) fn is_used(&self) -> bool {
        self.0.registrations.lock().unwrap_or_else(PoisonError::into_inner).recorder_installed
    }

    /// Registers the operations that were declared before the recorder was installed.
    pub(crate) fn resolve_pending(&self) {
        let declared_early = {
            let mut registrations = self.0.registrations.lock().unwrap_or_else(PoisonError::into_inner);
            registrations.recorder_installed = true;
            std::mem::take(&mut registrations.declared_early)
        };
        for operation in declared_early {
            let metrics = self.resolve(OperationName::named(operation.name));
            // An operation over the limit would declare its reasons for `overflow`, which is none of its own.
            if metrics.name == operation.name {
                metrics.declare(&operation);
            }
        }
    }

    /// Returns the metrics of an operation. Allocates only the first time.
    pub(crate) fn resolve(&self, name: OperationName<'_>) -> &'static OperationMetrics {
        self.get(name).unwrap_or_else(|| self.register(name.canonical()))
    }

    /// Returns the metrics of a registered operation.
    pub(crate) fn get(&self, name: OperationName<'_>) -> Option<&'static OperationMetrics> {
        let index = self.0.address_cache.get(name) & (self.0.slots.len() - 1);
        match self.0.slots[index].get() {
            Some(metrics) if metrics.is_named(name) => Some(metrics),
            _ => self.get_by_hash(name),
        }
    }

    #[inline(never)]
    fn get_by_hash(&self, asked: OperationName<'_>) -> Option<&'static OperationMetrics> {
        let (index, metrics) = self.find(asked.canonical()).ok()?;
        self.0.address_cache.insert(asked, index);
        Some(metrics)
    }

    /// Registers the declared operations, and returns whether `name` is among the registered ones.
    pub(crate) fn resolve_pending_and_contains(&self, name: OperationName<'_>) -> bool {
        if !self.is_used() {
            self.resolve_pending();
        }
        self.find(name.canonical()).is_ok()
    }

    /// Returns the placeholder of names that are not registered yet.
    pub(crate) fn placeholder(&self) -> &'static OperationMetrics {
        self.0.placeholder.get_or_init(|| OperationMetrics::placeholder(self.0))
    }

    /// Registers a name that a caller can make up. Unless a handler is known to be `reached`, such names are limited
    /// in number: beyond the limit the request counts as unmatched.
    pub(crate) fn register_unproven(&self, name: &str, reached: bool) -> &'static OperationMetrics {
        let name = OperationName::named(name).canonical();
        if !reached && self.find(name).is_err() {
            let mut registrations = self.0.registrations.lock().unwrap_or_else(PoisonError::into_inner);
            if registrations.unproven == MAX_UNPROVEN {
                drop(registrations);
                return self.resolve(OperationName::UNMATCHED);
            }
            registrations.unproven += 1;
        }
        self.resolve(name)
    }

    /// Returns the operation and its slot, or the empty slot where it belongs.
    fn find(&self, name: OperationName<'_>) -> Result<(usize, &'static OperationMetrics), usize> {
        let slots = &self.0.slots;
        let mask = slots.len() - 1;
        let mut hasher = self.0.hasher.build_hasher();
        hasher.write(name.method.as_bytes());
        hasher.write(name.rest.as_bytes());
        #[allow(clippy::cast_possible_truncation, reason = "only the low bits are wanted")]
        let mut index = hasher.finish() as usize & mask;
        loop {
            match slots[index].get() {
                Some(metrics) if metrics.is_named(name) => return Ok((index, metrics)),
                Some(_) => index = (index + 1) & mask,
                None => return Err(index),
            }
        }
    }

    #[cold]
    fn register(&self, name: OperationName<'_>) -> &'static OperationMetrics {
        if name.method.is_empty() && name.rest.is_empty() {
            // Prometheus treats an empty label as absent.
            return self.resolve(OperationName::UNMATCHED);
        }
        let mut registrations = self.0.registrations.lock().unwrap_or_else(PoisonError::into_inner);
        if !registrations.recorder_installed {
            drop(registrations);
            self.resolve_pending();
            return self.resolve(name);
        }
        self.0.described.call_once(|| self.0.recorder.describe());
        // Only holders of the lock fill slots, so the slot that this finds is still empty below.
        let index = match self.find(name) {
            Ok((_, metrics)) => return metrics,
            Err(index) => index,
        };
        if registrations.registered == MAX_OPERATIONS {
            return self.0.overflow.get_or_init(|| OperationMetrics::leak(self.0, OVERFLOW.to_owned()));
        }
        registrations.registered += 1;
        let metrics = *self.0.slots[index].get_or_init(|| OperationMetrics::leak(self.0, name.label()));
        #[cfg(feature = "mongodb")]
        if self.0.transaction_metrics_enabled.load(std::sync::atomic::Ordering::Relaxed) {
            let _ = metrics.transaction_metrics();
        }
        metrics
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            self.0.slots.iter().filter_map(OnceLock::get).map(|metrics| metrics.name).collect();
        f.debug_struct("Registry").field("operations", &names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
