//! A browser for the live page and for the preview of the dashboards: Debian's Chromium with the libraries that this system lacks, without
//! root.
//!
//! The version is not pinned, because Debian's archive keeps only the latest one. apt verifies the archive's
//! signature.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Package, Registry, debian, make_executable};
use crate::run::output;

const CHROMIUM: Package =
    Package { name: "chromium", version: "newest", sha256: "", registry: Registry::Debian };

/// Starts the browser with the libraries and the fonts next to it.
const WRAPPER: &str = "#!/bin/sh
here=$(dirname \"$(readlink -f \"$0\")\")
export FONTCONFIG_FILE=\"$here/fonts.conf\"
LD_LIBRARY_PATH=\"LIBRARIES:$here/usr/lib/x86_64-linux-gnu/pulseaudio\" exec \"$here/usr/lib/chromium/chromium\" \"$@\"
";

/// The fonts of the system and those that were fetched. A page ends with a crash where there is no font.
const FONTS: &str = r#"<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <dir prefix="relative">usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
</fontconfig>
"#;

/// Debian's Chromium where it is installed.
const INSTALLED: &str = "/usr/bin/chromium";

/// The browser that `TXNSCOPE_CHROMIUM` names, or our own, which is fetched if it is missing.
pub(super) fn bring(tools: &Path) -> Result<PathBuf> {
    debian::program("TXNSCOPE_CHROMIUM", &CHROMIUM, tools, "chromium", unpack)
}

fn unpack(scratch: &Path) -> Result<PathBuf> {
    let made = debian::with_dependencies(CHROMIUM.name, scratch)?;
    // apt downloads nothing that is installed.
    let start = match made.join("usr/lib/chromium/chromium").is_file() {
        true => WRAPPER.replace("LIBRARIES", &debian::library_path("$here")),
        false if Path::new(INSTALLED).is_file() => format!("#!/bin/sh\nexec {INSTALLED} \"$@\"\n"),
        false => bail!("apt downloaded no chromium, and {INSTALLED} is not there"),
    };
    fs::write(made.join("fonts.conf"), FONTS).context("cannot write the fonts of chromium")?;
    let wrapper = made.join("chromium");
    fs::write(&wrapper, start).context("cannot write the start of chromium")?;
    make_executable(&wrapper)?;
    output(Command::new(&wrapper).arg("--version")).context("it does not start")?;
    Ok(made)
}
