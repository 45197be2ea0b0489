//! `cargo xtask bare`: the README's two commands on a machine that has nothing but what the README asks for.
//!
//! The machine is a minimal Debian in a folder, made by debootstrap, with a C compiler, Python and pip; the Rust toolchain
//! is the one that runs this. What is tested is a clone of the last commit. Everything is fetched and built anew, so that
//! a step that leans on something of the machine at hand fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::checks::now;
use crate::run::{checked, output};

/// What the README asks for, as Debian's packages. `gcc` does not bring the headers and start files of the C library by
/// itself where recommended packages are left out.
const PACKAGES: &str = "gcc,libc6-dev,python3,python3-pip,ca-certificates";

/// The oldest Debian that we say we run on.
const SUITE: &str = "bookworm";

/// How long the demo runs for.
const DEMO: &str = "cargo xtask demo --for=30s";
const TEST: &str = "cargo xtask test";

/// What tells programs how to reach the registries from here, if anything does.
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

/// Where the certificates of authorities are on Debian.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// Makes the machine, and runs the commands there: both, or the one named.
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
        // Beside `target`, which may be on another disk than /tmp: it takes some gigabytes.
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

    /// Names are found and authorities trusted as they are here.
    fn copy_network(&self) -> Result<()> {
        for file in ["etc/resolv.conf", "etc/hosts", AUTHORITIES] {
            let here = Path::new("/").join(file);
            if here.is_file() {
                fs::copy(&here, self.root.join(file)).with_context(|| format!("cannot copy /{file}"))?;
            }
        }
        Ok(())
    }

    /// In namespaces of its own: whatever it mounts or leaves running is gone when it ends.
    fn run(&self, line: &str) -> Result<()> {
        let toolchain = output(Command::new("rustc").args(["--print", "sysroot"]))?;
        let script = format!(
            "set -e
            mount --rbind /dev {root}/dev
            mount -t proc proc {root}/proc
            mount --bind -o ro {toolchain} {root}/opt/rust
            exec chroot {root} /usr/bin/env -i HOME=/root LANG=C.UTF-8 PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin \
             SSL_CERT_FILE=/{AUTHORITIES} PIP_CERT=/{AUTHORITIES} \"$@\" sh -c 'cd /txnscope && exec {line}'",
            root = self.root.display(),
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

/// The mirror of Debian that this machine uses, if it is a Debian; debootstrap knows one by itself.
fn mirror() -> Option<String> {
    let sites =
        output(Command::new("apt-get").args(["indextargets", "--format", "$(CODENAME) $(SITE)"])).ok()?;
    sites.lines().find_map(|line| Some(line.strip_prefix(SUITE)?.strip_prefix(' ')?.trim().to_owned()))
}
