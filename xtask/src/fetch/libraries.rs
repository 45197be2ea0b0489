//! The shared libraries that mongod wants and a small system lacks: `.tools/libraries`.
//!
//! mongod was built for Ubuntu and links to libcurl, which a minimal Debian does not have. Debian's own is brought then,
//! with all that it depends on, for this one program: nothing is installed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Package, Registry, Scratch, debian, make_executable, place};
use crate::run::output;

const LIBCURL: Package =
    Package { name: "libcurl4", version: "newest", sha256: "", registry: Registry::Debian };

/// Starts a server with the libraries that were brought for it, if any were, whoever calls it, and under whatever name.
const WRAPPER: &str = "#!/bin/sh
here=$(dirname \"$(readlink -f \"$0\")\")
tools=\"$here/..\"
LD_LIBRARY_PATH=\"FOLDERS\" exec \"$here/mongod.bin\" \"$@\"
";

/// Puts the server into that folder of the tools as `mongod`, which starts with the libraries in `.tools/libraries` and in
/// those other folders of the tools.
pub(super) fn keep_mongod(binary: &Path, folder: &Path, others: &[&str]) -> Result<()> {
    let own = "libraries/usr/lib/x86_64-linux-gnu";
    let folders: Vec<_> = others.iter().chain([&own]).map(|name| format!("$tools/{name}")).collect();
    make_executable(binary)?;
    // Renames are all or nothing, and the wrapper comes last: nobody ever starts half a server.
    fs::rename(binary, folder.join("mongod.bin")).context("cannot keep mongod")?;
    let wrapper = folder.join(format!("mongod-{}", std::process::id()));
    fs::write(&wrapper, WRAPPER.replace("FOLDERS", &folders.join(":")))
        .context("cannot write the start of mongod")?;
    make_executable(&wrapper)?;
    fs::rename(&wrapper, folder.join("mongod")).context("cannot keep the start of mongod")
}

/// Has that mongod start: brings what it does not find.
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

/// Why it does not start, if so.
fn complaint(mongod: &Path) -> Result<Option<String>> {
    match output(Command::new(mongod).arg("--version")) {
        Ok(_) => Ok(None),
        Err(error) => {
            let text = format!("{error:#}");
            Ok(Some(text.lines().last().unwrap_or_default().to_owned()))
        }
    }
}
