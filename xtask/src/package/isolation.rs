//! Namespaces in which the installation tests run, with a MongoDB of their own, and containers without an engine.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Build, image};
use crate::fetch;
use crate::run::{checked, output};

/// The shell functions of the tests.
pub(super) const FUNCTIONS: &str = include_str!("installed.sh");

/// The port of the MongoDB, which is not the default: the exporter has to be configured.
pub(super) const PORT: u16 = 27018;

/// Runs a shell script in namespaces of its own: its mounts and processes end with it, and its ports are no others'. A MongoDB runs
/// there, on machines that the tests have one for.
pub(super) fn isolated(build: &Build, script: &str) -> Result<()> {
    let mut prelude = "set -e; ip link set lo up\n".to_owned();
    if let Some(mongod) = mongod(build)? {
        let data = build.stage.join("mongod");
        if data.exists() {
            fs::remove_dir_all(&data).context("cannot remove the data of mongod")?;
        }
        fs::create_dir_all(&data).context("cannot create a folder for mongod")?;
        let data = data.display();
        let _ = writeln!(
            prelude,
            "{mongod} --dbpath={data} --port={PORT} --bind_ip=127.0.0.1 --nounixsocket >{data}/log 2>&1 &"
        );
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c"]);
    command.arg(format!("{prelude}{script}"));
    checked(&mut command).context("this needs root, util-linux and iproute2")
}

fn mongod(build: &Build) -> Result<Option<String>> {
    if build.architecture()?.0 != "amd64" {
        return Ok(None);
    }
    Ok(Some(fetch::mongod()?.display().to_string()))
}

/// What the metrics page has once the exporter polls that MongoDB, as a regular expression.
pub(super) fn exported(build: &Build) -> Result<String> {
    let up = u8::from(mongod(build)?.is_some());
    Ok(format!("^mongodb_up{{.*127.0.0.1:{PORT}.*}} {up}"))
}

/// A file that is mounted into a container.
pub(super) struct MountedFile {
    pub(super) path: String,
    pub(super) text: String,
    pub(super) mode: u64,
}

/// A container of the image, as a container engine or a kubelet starts it.
pub(super) struct Container {
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<String>,
    pub(super) files: Vec<MountedFile>,
    /// The user, its group, and the group that owns the mounted files.
    pub(super) user: (u64, u64, u64),
    /// The arguments of the health check in the container.
    pub(super) health: Vec<String>,
    /// The path of the probe, which the kubelet requests.
    pub(super) probe: String,
}

impl Container {
    /// Has the program check its arguments, with the files at another place.
    pub(super) fn check_arguments(&self, build: &Build) -> Result<()> {
        let mut arguments = self.arguments.clone();
        for (index, file) in self.files.iter().enumerate() {
            let staged = build.stage.join(format!("mounted-{index}"));
            fs::write(&staged, &file.text).context("cannot write a file to mount")?;
            let staged = staged.display().to_string();
            arguments.iter_mut().for_each(|argument| *argument = argument.replace(&file.path, &staged));
        }
        output(Command::new(build.stage.join("txnscope")).args(arguments).arg("--check-config"))?;
        Ok(())
    }

    /// Starts the command in the image's root, read-only and without privileges, until its page has the MongoDB. Returns the log.
    pub(super) fn run(&self, build: &Build) -> Result<String> {
        let root = image::root(build)?;
        let log = build.stage.join("log");
        let (user, group, owner) = self.user;
        let environment =
            image::ENVIRONMENT.iter().copied().chain(self.environment.iter().map(String::as_str));
        let environment: Vec<_> = environment.map(quoted).collect();
        let words = |words: &[String]| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let (root, shown_log) = (root.display(), log.display());
        let scratch = build.stage.display();
        let mut script = format!("scratch={scratch}\n{FUNCTIONS}\nmount --bind {root} {root}\n");
        for (index, MountedFile { path, text, mode }) in self.files.iter().enumerate() {
            let file = build.stage.join(format!("mounted-{index}"));
            fs::write(&file, text).context("cannot write a file to mount")?;
            let folder = path.rsplit_once('/').context("a mounted file has a folder")?.0;
            let (folder, path) = (quoted(&format!("{root}{folder}")), quoted(&format!("{root}{path}")));
            // Several files of one folder share its mount.
            let _ = writeln!(
                script,
                "mkdir -p {folder}; mountpoint -q {folder} || mount -t tmpfs -o mode=0755 tmpfs {folder}\n\
                 install -m {mode:o} -o 0 -g {owner} {} {path}",
                file.display()
            );
        }
        let _ = write!(
            script,
            "mount -o remount,bind,ro,nosuid,nodev {root}
            # Replaces the shell, so that signals reach the program.
            exec_in_container() {{
                exec env -i PATH=$PATH {} setpriv --no-new-privs chroot --userspec={user}:{group} --groups={owner} \
                    {root} /usr/bin/txnscope \"$@\"
            }}
            health() {{ (exec_in_container {}); }}
            (exec_in_container {}) >{shown_log} 2>&1 &
            sidecar=$!
            wait_for_metric $sidecar {shown_log} {} health
            get {} | head -1 | grep -q ' 200 ' || fail 'the probe is not answered'
            stop $sidecar {shown_log}",
            environment.join(" "),
            words(&self.health),
            words(&self.arguments),
            quoted(&exported(build)?),
            quoted(&self.probe),
        );
        isolated(build, &script)?;
        fs::read_to_string(&log).context("cannot read the log")
    }
}

/// A word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
