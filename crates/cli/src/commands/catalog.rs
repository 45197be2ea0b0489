//! `txnscope catalog`: all metrics that txnscope exports, and all settings.

use std::fmt::Write as _;

use clap::{Arg, Args, Command, ValueEnum};
use txnscope_catalog as catalog;

use crate::args::exit_status::ExitStatus;
use crate::output::print_result;

#[derive(Debug, Args)]
pub(crate) struct CatalogArgs {
    /// Output format.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = CatalogFormat::Markdown)]
    format: CatalogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CatalogFormat {
    /// The tables of docs/metrics.md.
    Markdown,
    /// One name on each line.
    Names,
    /// The settings instead: the tables of docs/configuration.md.
    Settings,
}

/// Prints the catalog; `program` is the command line as a whole.
pub(crate) fn run(args: &CatalogArgs, program: &Command) -> ExitStatus {
    print_result(&match args.format {
        CatalogFormat::Markdown => catalog::markdown(),
        CatalogFormat::Names => catalog::METRICS.iter().flat_map(|metric| [metric.name, "\n"]).collect(),
        CatalogFormat::Settings => settings(program),
    })
}

const HEAD: &str = "# Configuration

Generated from the declarations of the settings (`settings!` in `crates/cli`) by `cargo xtask gen`; a test compares the two.

Precedence: flag, environment variable, configuration file, default. The flag `--a.b-c` is the variable `TXNSCOPE_A_B_C` and the key
`a.b_c` of the file. A flag with a list can be repeated; in a variable, spaces separate the values. A `BOOL` is `true` or `false`, and
the flag without a value is `true`. A `TIME` has a unit: `500ms`, `30s`, `1h30m`.
";

/// The contents of `docs/configuration.md`.
fn settings(program: &Command) -> String {
    let mut page = HEAD.to_owned();
    for (command, has_file) in [("serve", true), ("proxy", false)] {
        let key = if has_file { " key of the file |" } else { "" };
        let line = if has_file { " --- |" } else { "" };
        let _ = write!(
            page,
            "\n## `txnscope {command}`\n\n\
             | flag | environment variable |{key} value | default | meaning |\n| --- | --- |{line} --- | --- | --- |\n"
        );
        let arguments = program.find_subcommand(command).into_iter().flat_map(Command::get_arguments);
        arguments.for_each(|argument| row(&mut page, argument, has_file));
    }
    page
}

fn row(page: &mut String, argument: &Arg, has_file: bool) {
    let Some(flag) = argument.get_long().filter(|flag| !["help", "version"].contains(flag)) else { return };
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let help = help.replace('\n', " ");
    let (meaning, default) = help.rsplit_once(". Default: ").unwrap_or((&help, ""));
    let variable = argument.get_env().map(|name| format!("`{}`", name.display())).unwrap_or_default();
    let key = match flag {
        _ if !has_file => String::new(),
        "check-config" | "config.file" => "  |".to_owned(),
        _ => format!(" `{}` |", flag.replace('-', "_")),
    };
    let takes_value = argument.get_action().takes_values();
    let value = argument.get_value_names().filter(|_| takes_value).map(|names| names.join(" "));
    let value = value.unwrap_or_default();
    let _ = writeln!(page, "| `--{flag}` | {variable} |{key} {value} | {default} | {meaning} |");
}
