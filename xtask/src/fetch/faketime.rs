//! Debian's libfaketime, with which fault injection changes a program's wall clock: `.tools/lib`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Package, Registry, Scratch, debian, find};

const FAKETIME: Package = Package {
    name: "libfaketime",
    version: "0.9.10-2.1",
    sha256: "b09481e7690680966005330c3f907bba4b5eefc35e1faaea4783cc55655d1150",
    registry: Registry::Debian,
};

/// The variant for programs with several threads.
const LIBRARY: &str = "libfaketimeMT.so.1";

/// Fetches the library if it is missing and `TXNSCOPE_FAKETIME` names no other.
pub(super) fn bring(tools: &Path) -> Result<()> {
    let folder = tools.join("lib");
    if std::env::var_os("TXNSCOPE_FAKETIME").is_some() || folder.join(LIBRARY).is_file() {
        return Ok(());
    }
    eprintln!("==> fetching {} {} for clocks that can be turned", FAKETIME.name, FAKETIME.version);
    let scratch = Scratch::new(tools, &FAKETIME)?;
    let unpacked = debian::one(&FAKETIME, &scratch.0).with_context(|| {
        format!("cannot fetch libfaketime; install it yourself and set TXNSCOPE_FAKETIME to its {LIBRARY}")
    })?;
    let found = find(&unpacked, LIBRARY).with_context(|| format!("{} has no {LIBRARY}", FAKETIME.name))?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // A rename is atomic: no process ever loads a partial library.
    fs::rename(&found, folder.join(LIBRARY)).with_context(|| format!("cannot keep {LIBRARY}"))
}
