//! What the benchmark of the proxy compares with and measures with: Debian's nginx and wrk, in `.tools/nginx` and
//! `.tools/wrk`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Package, Programs, Registry, debian, make_executable};

const NGINX: Package = Package {
    name: "nginx",
    version: "1.22.1-9+deb12u11",
    sha256: "4e2778e675c07d0f2d8d3b6f5ff84f6483ade1d82c21c910eb9a2787e1cf1b1a",
    registry: Registry::Debian,
};

const WRK: Package = Package {
    name: "wrk",
    version: "4.1.0-3+b2",
    sha256: "b0206dc74df85365a248ddac2433c0ee3f210579fc5ed83758e73354bb1bbefb",
    registry: Registry::Debian,
};

/// wrk's scripts are in Lua.
const LUAJIT: Package = Package {
    name: "libluajit-5.1-2",
    version: "2.1.0~beta3+git20220320+dfsg-4.1+deb12u1",
    sha256: "1f0ea919d09d47420993aca0102ec0aed46338b2bf7e072a4b4566c5616f09d2",
    registry: Registry::Debian,
};

/// Starts wrk with the library next to it.
const WRAPPER: &str = "#!/bin/sh
here=$(dirname \"$(readlink -f \"$0\")\")
LD_LIBRARY_PATH=\"$here/lib\" exec \"$here/wrk.bin\" \"$@\"
";

/// The programs, each with the environment variable that names another one.
pub(super) fn bring(tools: &Path) -> Result<Programs> {
    let nginx = debian::program("TXNSCOPE_NGINX", &NGINX, tools, "usr/sbin/nginx", |scratch| {
        debian::one(&NGINX, scratch)
    })?;
    let wrk = debian::program("TXNSCOPE_WRK", &WRK, tools, "wrk", unpack_wrk)?;
    Ok(vec![("TXNSCOPE_NGINX", nginx), ("TXNSCOPE_WRK", wrk)])
}

fn unpack_wrk(scratch: &Path) -> Result<PathBuf> {
    let made = scratch.join("made");
    fs::create_dir_all(made.join("lib")).context("cannot create a folder for wrk")?;
    let of = |package: &Package| {
        let folder = scratch.join(package.name);
        fs::create_dir(&folder).context("cannot create a folder for a package")?;
        debian::one(package, &folder)
    };
    fs::rename(of(&WRK)?.join("usr/bin/wrk"), made.join("wrk.bin")).context("cannot keep wrk")?;
    let libraries = of(&LUAJIT)?.join("usr/lib/x86_64-linux-gnu");
    for library in fs::read_dir(&libraries).context("cannot read the library of wrk")? {
        let library = library?;
        fs::rename(library.path(), made.join("lib").join(library.file_name()))
            .context("cannot keep the library of wrk")?;
    }
    let wrapper = made.join("wrk");
    fs::write(&wrapper, WRAPPER).context("cannot write the start of wrk")?;
    make_executable(&wrapper)?;
    Ok(made)
}
