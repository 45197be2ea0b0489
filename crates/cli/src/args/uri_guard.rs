//! A guard against URIs in arguments that take something else.

use std::ffi::OsStr;

use clap::ArgMatches;
use txnscope_mongo::Uri;

use crate::args::usage_error::UsageError;

/// Rejects a URI of MongoDB as the value of any argument but `--mongodb.uri`. Only the code behind that flag never
/// repeats the value; an error about a missing file, for example, would print the password.
///
/// # Errors
///
/// If an argument has such a value. The error names the flag and repeats nothing.
pub(crate) fn reject_uri_argument(command: &clap::Command, matches: &ArgMatches) -> Result<(), UsageError> {
    match argument_with_uri(command, matches) {
        None => Ok(()),
        Some(flag) => Err(UsageError::invalid(&format!(
            "--{flag} is given a URI of MongoDB. It is not repeated here, since it may hold a password. A URI with a \
             password belongs in the file of --mongodb.uri-file, or in the variable MONGODB_URI"
        ))),
    }
}

fn argument_with_uri(command: &clap::Command, matches: &ArgMatches) -> Option<String> {
    let is_uri = |value: &OsStr| Uri::is_in(&value.to_string_lossy());
    for argument in command.get_arguments().filter(|argument| argument.get_id() != "mongodb.uri") {
        let values = matches.try_get_raw(argument.get_id().as_str()).ok().flatten();
        if values.into_iter().flatten().any(is_uri) {
            return Some(argument.get_long().unwrap_or(argument.get_id().as_str()).to_owned());
        }
    }
    let (name, matches) = matches.subcommand()?;
    argument_with_uri(command.find_subcommand(name)?, matches)
}
