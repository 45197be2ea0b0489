//! A wall clock that can be changed while a program runs, with the preloaded library libfaketime. Monotonic clocks
//! are not affected, as when NTP sets a clock or a virtual machine resumes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

/// The wall clock of one program, which is right until it is changed.
pub(crate) struct Clock {
    library: PathBuf,
    /// The offset from the right time.
    file: PathBuf,
}

impl Clock {
    /// The file that contains the offset.
    pub(crate) fn new(file: PathBuf) -> Result<Self> {
        let clock = Self { library: library()?, file };
        clock.turn(0)?;
        Ok(clock)
    }

    /// The environment variables with which a program uses the clock.
    pub(crate) fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone().into()),
            // The file is read at every use of the clock, so a change is effective at once.
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            // The times of files are not changed.
            ("NO_FAKE_STAT", "1".into()),
        ]
    }

    /// Sets the offset in seconds.
    pub(crate) fn turn(&self, seconds: i64) -> Result<()> {
        let next = self.file.with_extension("next");
        let set = std::fs::write(&next, format!("{seconds:+}\n"));
        // A rename is atomic: a reader never sees a partial number.
        set.and_then(|()| std::fs::rename(&next, &self.file)).context("cannot turn a clock")
    }
}

/// Removes the shared memory objects of a program, which remain if it is killed.
pub(crate) fn tidy(pid: u32) {
    for name in ["faketime_shm_", "sem.faketime_sem_"] {
        let _ = std::fs::remove_file(format!("/dev/shm/{name}{pid}"));
    }
}

/// Seconds since 1970 by a clock with that offset.
pub(crate) fn now(wrong: i64) -> Result<f64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "hours")]
    Ok(now + wrong as f64)
}

fn library() -> Result<PathBuf> {
    const VARIABLE: &str = "TXNSCOPE_FAKETIME";
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let path = named.unwrap_or_else(|| testkit::workspace().join(".tools/lib").join("libfaketimeMT.so.1"));
    if !path.is_file() {
        bail!(
            "there is no {}, which turns clocks; run `cargo xtask chaos`, which brings it, or set {VARIABLE} to \
             libfaketimeMT.so.1, of Debian's package libfaketime for example",
            path.display()
        );
    }
    ensure!(
        !path.to_string_lossy().contains([' ', ':']),
        "a library can be loaded beforehand only from a path without spaces and colons; copy {} to such a path, and set \
         {VARIABLE} to it",
        path.display()
    );
    Ok(path)
}
