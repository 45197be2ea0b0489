//! Shared libraries that mongod needs and a minimal system lacks: `.tools/libraries`.
//!
//! mongod was built for Ubuntu and links to libcurl, which a minimal Debian does not have. In that case Debian's
//! package is unpacked with all its dependencies, for this program only.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Package, Registry, Scratch, debian, make_executable, place};
use crate::run::output;

const LIBCURL: Package =
    Package { name: "libcurl4", version: "newest", sha256: "", registry: Registry::Debian };

/// Starts a server with the libraries that were fetched for it, if any, under any name and from any folder.
const WRAPPER: &str = "#!/bin/sh
here=$(dirname \"$(readlink -f \"$0\")\")
tools=\"$here/..\"
LD_LIBRARY_PATH=\"FOLDERS\" exec \"$here/mongod.bin\" \"$@\"
";

/// Installs the server in that folder of the tools as `mongod`, which starts with the libraries in `.tools/libraries`
/// and in the other given folders.
pub(super) fn keep_mongod(binary: &Path, folder: &Path, others: &[&str]) -> Result<()> {
    let others = others.iter().map(|name| format!("$tools/{name}"));
    let folders: Vec<_> = others.chain([debian::library_path("$tools/libraries")]).collect();
    make_executable(binary)?;
    // Renames are atomic, and the wrapper comes last: no process ever starts a partial server.
    fs::rename(binary, folder.join("mongod.bin")).context("cannot keep mongod")?;
    let wrapper = folder.join(format!("mongod-{}", std::process::id()));
    fs::write(&wrapper, WRAPPER.replace("FOLDERS", &folders.join(":")))
        .context("cannot write the start of mongod")?;
    make_executable(&wrapper)?;
    fs::rename(&wrapper, folder.join("mongod")).context("cannot keep the start of mongod")
}

/// Verifies that mongod starts, and fetches the libraries that it does not find.
pub(super) fn bring_for(mongod: &Path, tools: &Path) -> Result<()> {
    let Some(complaint) = complaint(mongod)? else { return Ok(()) };
    if complaint.contains("libcurl.so.4") && !tools.join("libraries").is_dir() {
        eprintln!("==> fetching {} for mongod", LIBCURL.name);
        let scratch = Scratch::new(tools, &LIBCURL)?;
        let made = debian::with_dependencies(LIBCURL.name, &scratch.0)
            .context("cannot fetch libcurl4 for mongod; install it: apt-get install libcurl4")?;
        place(&made, &tools.join("libraries"))?;
        return match self::complaint(mongod)? {
            None => Ok(()),
            Some(complaint) => bail!("mongod does not start: {complaint}"),
        };
    }
    bail!(
        "{} does not start: {complaint}; install what it asks for, or set TXNSCOPE_MONGOD to another mongod",
        mongod.display()
    )
}

/// The error if it does not start.
fn complaint(mongod: &Path) -> Result<Option<String>> {
    match output(Command::new(mongod).arg("--version")) {
        Ok(_) => Ok(None),
        Err(error) => {
            let text = format!("{error:#}");
            Ok(Some(text.lines().last().unwrap_or_default().to_owned()))
        }
    }
}
