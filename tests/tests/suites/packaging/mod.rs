//! The files of `packaging/` that need no build: the chart, the mixin and the unit. `cargo xtask package --check` tests what is
//! built from them.

mod chart;
mod chart_values;
mod kubernetes;
mod mixin;
mod release;
mod unit;

use std::process::Command;

use serde_json::Value;

/// Runs a command, and returns its standard output, or else its error.
fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().unwrap_or_else(|error| panic!("{program}: {error}; run `cargo xtask fetch`"));
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The groups of all rule files, in the order of the files that is given.
fn groups(files: &[&str]) -> Vec<Value> {
    let read = |name: &&str| {
        let file = testkit::workspace().join(format!("alerts/rules/{name}.yml"));
        let text = std::fs::read_to_string(file).unwrap();
        let parsed: Value = serde_saphyr::from_str(&text).unwrap();
        parsed["groups"].as_array().unwrap().clone()
    };
    files.iter().flat_map(read).collect()
}
