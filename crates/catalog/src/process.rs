//! Process metrics, as in other client libraries and exporters.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Emitter, Kind, Metric, Stability, Unit};

const fn process(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    help: &'static str,
    source: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        unit,
        help,
        labels: &[],
        buckets: &[],
        emitter: Emitter::Both,
        source,
        stability: Stability::Stable,
    }
}

/// Start time of the process: a change means a restart.
pub const PROCESS_START_TIME: Metric = process(
    "process_start_time_seconds",
    Kind::Gauge,
    Unit::Seconds,
    "Start time of the process since the Unix epoch in seconds. Linux only, as all of process_*.",
    "/proc/self/stat and /proc/uptime, once",
);

/// Time on the CPU.
pub const PROCESS_CPU_SECONDS: Metric = process(
    "process_cpu_seconds_total",
    Kind::Counter,
    Unit::Seconds,
    "Total user and system CPU time spent in seconds.",
    "/proc/self/stat",
);

/// Resident memory.
pub const PROCESS_RESIDENT_MEMORY: Metric = process(
    "process_resident_memory_bytes",
    Kind::Gauge,
    Unit::Bytes,
    "Resident memory size in bytes.",
    "/proc/self/status",
);

/// Virtual memory.
pub const PROCESS_VIRTUAL_MEMORY: Metric = process(
    "process_virtual_memory_bytes",
    Kind::Gauge,
    Unit::Bytes,
    "Virtual memory size in bytes.",
    "/proc/self/status",
);

/// Threads.
pub const PROCESS_THREADS: Metric = process(
    "process_threads",
    Kind::Gauge,
    Unit::Count,
    "Number of OS threads in the process.",
    "/proc/self/status",
);

/// Open files and connections.
pub const PROCESS_OPEN_FDS: Metric = process(
    "process_open_fds",
    Kind::Gauge,
    Unit::Count,
    "Number of open file descriptors.",
    "/proc/self/fd",
);

/// Limit on open files.
pub const PROCESS_MAX_FDS: Metric = process(
    "process_max_fds",
    Kind::Gauge,
    Unit::Count,
    "Maximum number of open file descriptors.",
    "/proc/self/limits",
);

/// Linux reports times in hundredths of a second, independent of the kernel's clock.
const TICKS: f64 = 100.0;

/// The current process metrics, as far as they can be read. None on systems without `/proc`.
///
/// Takes about ten microseconds and, where the kernel counts open files by itself (Linux 6.2), allocates
/// nothing.
pub fn process_now() -> impl Iterator<Item = (&'static Metric, f64)> {
    let mut values = [None; 7];
    with_file("/proc/self/stat", |text| {
        // The program name, in parentheses, may contain anything.
        let mut fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
        let (user, system) = (number(fields.nth(11)), number(fields.next()));
        values[0] =
            Some((&PROCESS_CPU_SECONDS, user.zip(system).map(|(user, system)| (user + system) / TICKS)));
        // Of the remaining fields the seventh is the start, in ticks since boot.
        values[1] = Some((&PROCESS_START_TIME, number(fields.nth(6)).and_then(start_time)));
    });
    with_file("/proc/self/status", |text| {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            number(line.split_ascii_whitespace().next())
        };
        let kilobytes = |name| field(name).map(|value| value * 1024.0);
        values[2] = Some((&PROCESS_RESIDENT_MEMORY, kilobytes("VmRSS")));
        values[3] = Some((&PROCESS_VIRTUAL_MEMORY, kilobytes("VmSize")));
        values[4] = Some((&PROCESS_THREADS, field("Threads")));
    });
    values[5] = Some((&PROCESS_OPEN_FDS, open_files()));
    with_file("/proc/self/limits", |text| {
        let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
        let soft = line.and_then(|line| line.split_ascii_whitespace().next());
        values[6] = Some((
            &PROCESS_MAX_FDS,
            if soft == Some("unlimited") { Some(f64::INFINITY) } else { number(soft) },
        ));
    });
    values.into_iter().flatten().filter_map(|(metric, value)| Some((metric, value?)))
}

fn number(text: Option<&str>) -> Option<f64> {
    text?.parse().ok()
}

/// These files are small, and whole in one read.
fn with_file(path: &str, read: impl FnOnce(&str)) {
    use std::io::Read as _;
    let mut buffer = [0; 4096];
    let Ok(mut file) = std::fs::File::open(path) else { return };
    let Ok(length) = file.read(&mut buffer) else { return };
    let bytes = buffer.get(..length).unwrap_or_default();
    // The program name need not be UTF-8, and no other field is text.
    let valid = bytes.iter().rposition(|byte| *byte == b')').filter(|_| path.ends_with("/stat")).unwrap_or(0);
    if let Ok(text) = std::str::from_utf8(bytes.get(valid..).unwrap_or_default()) {
        read(text);
    }
}

/// Constant for the lifetime of the process, even if the wall clock is set.
fn start_time(ticks: f64) -> Option<f64> {
    static START: OnceLock<Option<f64>> = OnceLock::new();
    *START.get_or_init(|| {
        let mut uptime = None;
        with_file("/proc/uptime", |text| uptime = number(text.split_ascii_whitespace().next()));
        let age = Duration::try_from_secs_f64((uptime? - ticks / TICKS).max(0.0)).ok()?;
        Some(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.checked_sub(age)?.as_secs_f64())
    })
}

#[allow(clippy::cast_precision_loss, reason = "a number of files")]
fn open_files() -> Option<f64> {
    match std::fs::metadata("/proc/self/fd").ok()?.len() {
        // Before Linux 6.2 the folder has no size and must be listed, which itself opens a file.
        0 => Some((std::fs::read_dir("/proc/self/fd").ok()?.count() as f64 - 1.0).max(0.0)),
        files => Some(files as f64),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn now(metric: &Metric) -> f64 {
        let mut found = process_now().filter(|(other, _)| other.name == metric.name);
        found.next().unwrap_or_else(|| panic!("{} is not there", metric.name)).1
    }

    #[test]
    fn process_metrics_match_the_system() {
        assert_eq!(process_now().count(), 7);
        let began =
            SystemTime::now().duration_since(UNIX_EPOCH).map(|now| now.as_secs_f64()).unwrap_or_default();
        let start = now(&PROCESS_START_TIME);
        assert!(start <= began && began - start < 3_600.0, "{start} and now {began}");
        assert_eq!(start.to_bits(), now(&PROCESS_START_TIME).to_bits(), "it never changes");
        let (resident, virtual_size) = (now(&PROCESS_RESIDENT_MEMORY), now(&PROCESS_VIRTUAL_MEMORY));
        assert!(resident > 100_000.0 && resident < virtual_size, "{resident} of {virtual_size}");
        assert!(now(&PROCESS_THREADS) >= 1.0);
        assert!(now(&PROCESS_CPU_SECONDS) >= 0.0);
        assert!(now(&PROCESS_OPEN_FDS) >= 3.0 && now(&PROCESS_OPEN_FDS) <= now(&PROCESS_MAX_FDS));
    }

    #[test]
    fn opened_file_is_counted() {
        let count = |files: usize| {
            let held: Vec<_> = (0..files).map(|_| std::fs::File::open("/proc/self/stat")).collect();
            let open = now(&PROCESS_OPEN_FDS);
            drop(held);
            open
        };
        // Other tests of this process open some files, but fewer than this.
        assert!(count(100) - count(0) > 50.0);
    }
}
