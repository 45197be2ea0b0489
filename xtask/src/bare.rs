//! `cargo xtask bare`: runs the README's two commands on a machine that has only the documented prerequisites.
//!
//! The machine is a minimal Debian in a folder, created by debootstrap, with a C compiler, Python and pip; the Rust
//! toolchain is the one that runs this program. The last commit is cloned into it. Everything is downloaded and built
//! again, so a step that depends on other parts of this machine fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::checks::now;
use crate::run::{checked, output};

/// The documented prerequisites as Debian packages. `gcc` alone does not install the C library's headers without its
/// recommended packages.
const PACKAGES: &str = "gcc,libc6-dev,python3,python3-pip,ca-certificates";

/// The oldest supported Debian.
pub(crate) const SUITE: &str = "bookworm";

/// How long the demo runs.
const DEMO: &str = "cargo xtask demo --for=30s";
const TEST: &str = "cargo xtask test";

/// Environment variables that configure access to the package registries.
const PASSED_ON: &[&str] = &[
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "PIP_INDEX_URL",
    "PIP_DEFAULT_TIMEOUT",
    "CARGO_HTTP_TIMEOUT",
    "CARGO_NET_RETRY",
];

/// The certificate authorities on Debian.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// Where tests of root reserve ports (`testkit::Port`). The machine shares the network with this one, and so the
/// reservations.
const PORTS: &str = "txnscope-ports-0";

/// Creates the machine, and runs both commands in it, or the given one.
pub(crate) fn run(only: Option<&str>, keep: bool) -> Result<ExitCode> {
    let commands: &[&str] = match only {
        None => &[DEMO, TEST],
        Some("demo") => &[DEMO],
        Some("test") => &[TEST],
        Some(other) => bail!("there is no command `{other}`; there are demo and test"),
    };
    for (program, package) in [("debootstrap", "debootstrap"), ("unshare", "util-linux"), ("git", "git")] {
        output(Command::new(program).arg("--version")).with_context(|| {
            format!("a bare machine is made by root, with {program}: apt-get install {package}")
        })?;
    }
    let machine = Machine::make(keep)?;
    for command in commands {
        let begin = now();
        eprintln!("==> on a bare {SUITE}: {command}");
        machine.run(command)?;
        eprintln!("==> on a bare {SUITE}: {command} passed in {:.0?}", begin.elapsed());
    }
    Ok(ExitCode::SUCCESS)
}

struct Machine {
    root: PathBuf,
    keep: bool,
}

impl Machine {
    fn make(keep: bool) -> Result<Self> {
        // Next to `target`, which may be on another disk than /tmp: the machine takes some gigabytes.
        let root = crate::root().join("target/bare");
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
        }
        fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
        let machine = Self { root, keep };
        eprintln!("==> making a bare {SUITE} in {}", machine.root.display());
        output(
            Command::new("debootstrap")
                .args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE])
                .arg(&machine.root)
                .args(mirror()),
        )?;
        machine.copy_network()?;
        checked(
            Command::new("git")
                .args(["clone", "--quiet", "--no-local"])
                .arg(crate::root())
                .arg(machine.root.join("txnscope")),
        )?;
        fs::create_dir_all(machine.root.join("opt/rust")).context("cannot create a folder for Rust")?;
        Ok(machine)
    }

    /// Copies the name resolution and the certificate authorities of this machine.
    fn copy_network(&self) -> Result<()> {
        for file in ["etc/resolv.conf", "etc/hosts", AUTHORITIES] {
            let here = Path::new("/").join(file);
            if here.is_file() {
                fs::copy(&here, self.root.join(file)).with_context(|| format!("cannot copy /{file}"))?;
            }
        }
        Ok(())
    }

    /// Runs a command in separate namespaces, so that its mounts and processes end with it.
    fn run(&self, line: &str) -> Result<()> {
        let toolchain = output(Command::new("rustc").args(["--print", "sysroot"]))?;
        let ports = std::env::temp_dir().join(PORTS);
        for folder in [&ports, &self.root.join("tmp").join(PORTS)] {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let script = format!(
            "set -e
            mount --rbind /dev {root}/dev
            mount -t proc proc {root}/proc
            mount --bind -o ro {toolchain} {root}/opt/rust
            mount --bind {ports} {root}/tmp/{PORTS}
            exec chroot {root} /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin \
             SSL_CERT_FILE=/{AUTHORITIES} PIP_CERT=/{AUTHORITIES} NODE_EXTRA_CA_CERTS=/{AUTHORITIES} \"$@\" sh -c 'cd /txnscope && exec {line}'",
            root = self.root.display(),
            ports = ports.display(),
            toolchain = toolchain.trim(),
        );
        let passed_on =
            PASSED_ON.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c"]).arg(script).arg("sh");
        checked(command.args(passed_on)).with_context(|| format!("on a bare {SUITE}, `{line}` failed"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}

/// The Debian mirror that this machine uses, if it is a Debian; debootstrap has a default.
pub(crate) fn mirror() -> Option<String> {
    let sites =
        output(Command::new("apt-get").args(["indextargets", "--format", "$(CODENAME) $(SITE)"])).ok()?;
    sites.lines().find_map(|line| Some(line.strip_prefix(SUITE)?.strip_prefix(' ')?.trim().to_owned()))
}
