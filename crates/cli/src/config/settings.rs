//! Settings, each declared once: from the name `a.b_c` and a few words come the flag `--a.b-c`, the variable `TXNSCOPE_A_B_C`,
//! the key `a.b_c` of the configuration file, the help text with the default, and the place of the value.
//!
//! A section is one struct for both sources: clap reads it from flags and variables, serde from the file. Applying the
//! file's section first and that of the flags second gives the precedence.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches};
use serde::Deserialize;

use crate::args::duration::{duration, format_duration};
use crate::output::logging::{Level, LogFormat};

/// A section of settings.
pub(crate) trait Section: Sized {
    /// What the settings belong to.
    type Resolved;

    /// The defaults.
    fn defaults() -> Self::Resolved;

    /// Sets what has a value.
    fn apply(&self, resolved: &mut Self::Resolved);

    /// The settings of the file, replaced by those of the flags.
    fn resolve(file: &Self, flags: &Self) -> Self::Resolved {
        let mut resolved = Self::defaults();
        file.apply(&mut resolved);
        flags.apply(&mut resolved);
        resolved
    }
}

/// What the settings of a section belong to if the code reads them one by one.
#[derive(Debug)]
pub(crate) struct Nothing;

/// Declares a section: `key: Type [VALUE] => place;`, where the place is the field that gets the value and has the default.
/// `= place` only shows the default. After the settings, `without flag` declares a key of the file only, and `section` a
/// section inside of this one.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident in $section:literal for $resolved:ty = $defaults:expr;
        $(
            $(#[doc = $doc:literal])+
            $key:ident: $type:ty [$value_name:ident] $(=> $($place:ident).+)? $(= $($shown:ident).+)?;
        )*
        $(without flag $hidden:ident: $hidden_type:ty;)*
        $(section $sub:ident: $sub_type:ty;)*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Default, PartialEq, Eq, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        $vis struct $name {
            $($(#[doc = $doc])+ pub(crate) $key: Option<$type>,)*
            $(pub(crate) $hidden: Option<$hidden_type>,)*
            $(pub(crate) $sub: $sub_type,)*
        }

        impl clap::Args for $name {
            fn augment_args(command: clap::Command) -> clap::Command {
                let defaults = <Self as $crate::config::settings::Section>::defaults();
                let _ = defaults;
                $(
                    let shown: Option<String> = None;
                    $(let shown = shown.or($crate::config::settings::Shown::shown(&defaults.$($place).+));)?
                    $(let shown = shown.or($crate::config::settings::Shown::shown(&defaults.$($shown).+));)?
                    let command = command.arg($crate::config::settings::argument::<$type>(
                        concat!($section, ".", stringify!($key)),
                        stringify!($value_name),
                        concat!($($doc),+),
                        shown,
                    ));
                )*
                $(let command = <$sub_type as clap::Args>::augment_args(command);)*
                command
            }

            fn augment_args_for_update(command: clap::Command) -> clap::Command {
                Self::augment_args(command)
            }
        }

        impl clap::FromArgMatches for $name {
            fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
                let _ = matches;
                Ok(Self {
                    $($key: $crate::config::settings::read(matches, concat!($section, ".", stringify!($key))),)*
                    $($hidden: None,)*
                    $($sub: clap::FromArgMatches::from_arg_matches(matches)?,)*
                })
            }

            fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }

        impl $crate::config::settings::Section for $name {
            type Resolved = $resolved;

            fn defaults() -> $resolved {
                $defaults
            }

            fn apply(&self, resolved: &mut $resolved) {
                let _ = &resolved;
                $($($crate::config::settings::set(&mut resolved.$($place).+, self.$key.as_ref());)?)*
                $($crate::config::settings::Section::apply(&self.$sub, resolved);)*
            }
        }
    };
}
pub(crate) use settings;

/// The flag of a setting, without its hyphens, which is also the id of its argument. In the section without a name it is the
/// key alone.
fn flag(key: &str) -> String {
    key.trim_start_matches('.').replace('_', "-")
}

/// The argument of a setting. A line of documentation begins with a space.
pub(crate) fn argument<T: Value>(
    key: &str,
    value_name: &'static str,
    documentation: &str,
    default: Option<String>,
) -> Arg {
    let mut help = documentation.trim().trim_end_matches('.').to_owned();
    if let Some(default) = default {
        help += &format!(". Default: {default}");
    }
    let variable = format!("TXNSCOPE_{}", flag(key).to_uppercase().replace(['.', '-'], "_"));
    let argument = Arg::new(flag(key)).long(flag(key)).env(variable).hide_env_values(true);
    T::define(argument.value_name(value_name).help(help))
}

/// The value of a setting by its flag or its variable.
pub(crate) fn read<T: Value>(matches: &ArgMatches, key: &str) -> Option<T> {
    T::read(matches, &flag(key))
}

/// Replaces a setting, if there is a value.
pub(crate) fn set<T: Clone + Into<U>, U>(setting: &mut U, value: Option<&T>) {
    if let Some(value) = value {
        *setting = value.clone().into();
    }
}

/// A type of settings: one value, or a list.
pub(crate) trait Value: Sized {
    fn define(argument: Arg) -> Arg;
    fn read(matches: &ArgMatches, id: &str) -> Option<Self>;
}

/// A type of one value.
pub(crate) trait Single: Clone + Send + Sync + 'static {
    fn define(argument: Arg) -> Arg;
}

impl<T: Single> Value for T {
    fn define(argument: Arg) -> Arg {
        <T as Single>::define(argument)
    }

    fn read(matches: &ArgMatches, id: &str) -> Option<Self> {
        matches.get_one(id).cloned()
    }
}

/// A flag can be repeated; spaces separate the values in a variable.
impl<T: Single> Value for Vec<T> {
    fn define(argument: Arg) -> Arg {
        T::define(argument).action(ArgAction::Append).value_delimiter(' ')
    }

    fn read(matches: &ArgMatches, id: &str) -> Option<Self> {
        Some(matches.get_many(id)?.cloned().collect())
    }
}

/// Types that clap parses by itself.
macro_rules! single {
    ($($type:ty),*) => {
        $(impl $crate::config::settings::Single for $type {
            fn define(argument: clap::Arg) -> clap::Arg {
                argument.value_parser(clap::value_parser!($type))
            }
        })*
    };
}
pub(crate) use single;
single!(Level, LogFormat, PathBuf, String, Time, Uri, u64, usize);

impl Single for bool {
    fn define(argument: Arg) -> Arg {
        let argument = argument.num_args(0..=1).require_equals(true).default_missing_value("true");
        argument.value_parser(clap::value_parser!(Self))
    }
}

/// A duration in the format of the flags: 500ms, 5s, 1m.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Time(pub(crate) Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        duration(text).map(Self)
    }
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Time> for Duration {
    fn from(time: Time) -> Self {
        time.0
    }
}

/// A URI that may not be UTF-8. The error about it must not repeat it, as clap's would.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub(crate) struct Uri(pub(crate) OsString);

impl From<OsString> for Uri {
    fn from(text: OsString) -> Self {
        Self(text)
    }
}

impl From<String> for Uri {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

/// A default, as the help text shows it.
pub(crate) trait Shown {
    fn shown(&self) -> Option<String>;
}

macro_rules! shown {
    ($($type:ty: $text:expr),* $(,)?) => {
        $(impl Shown for $type {
            fn shown(&self) -> Option<String> {
                let text: fn(&Self) -> Option<String> = $text;
                text(self)
            }
        })*
    };
}
shown! {
    bool: |on| Some(on.to_string()),
    usize: |number| Some(number.to_string()),
    String: |text| Some(text.clone()),
    // 75s is easier to read than 1m15s.
    Duration: |time| Some(if time.as_secs() < 120 { format!("{time:?}") } else { format_duration(*time) }),
    Level: |level| Some(format!("{level:?}").to_lowercase()),
    LogFormat: |format| Some(format!("{format:?}").to_lowercase()),
    Vec<SocketAddr>: |addresses| addresses.first().map(ToString::to_string),
    // No value, or none of these: the documentation says what applies then.
    Vec<String>: |_| None,
    Option<u64>: |_| None,
    Option<PathBuf>: |_| None,
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Place {
        time: Duration,
        names: Vec<String>,
        on: bool,
    }

    settings! {
        #[derive(Debug)]
        struct Part in "demo.part" for Place =
            Place { time: Duration::from_secs(90), names: Vec::new(), on: true };
        /// The time, in
        /// two lines.
        some_time: Time [TIME] => time;
        /// Some names. Repeat it for more.
        names: Vec<String> [NAME] => names;
        /// Whether it runs.
        on: bool [BOOL] => on;
        without flag secret: String;
    }

    fn part(words: &[&str]) -> Part {
        let command = Part::augment_args(Command::new("demo"));
        let matches = command.try_get_matches_from([&["demo"], words].concat()).unwrap();
        Part::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn flag_variable_and_help_come_from_the_declaration() {
        let command = Part::augment_args(Command::new("demo"));
        let arguments: Vec<_> = command.get_arguments().collect();
        let [time, names, on] = arguments[..] else { panic!("{arguments:?}") };
        assert_eq!(time.get_long(), Some("demo.part.some-time"));
        assert_eq!(time.get_env().unwrap(), "TXNSCOPE_DEMO_PART_SOME_TIME");
        assert_eq!(time.get_help().unwrap().to_string(), "The time, in two lines. Default: 90s");
        assert_eq!(names.get_help().unwrap().to_string(), "Some names. Repeat it for more");
        assert_eq!(on.get_help().unwrap().to_string(), "Whether it runs. Default: true");
    }

    #[test]
    fn flags_override_the_file_and_the_file_overrides_defaults() {
        fn place(file: &Part, flags: &Part) -> (u64, String, bool) {
            let Place { time, names, on } = Part::resolve(file, flags);
            (time.as_secs(), names.join(" "), on)
        }
        let file: Part = toml::from_str("some_time = \"2m\"\nnames = [\"a\"]\nsecret = \"b\"").unwrap();
        assert_eq!(file.secret.as_deref(), Some("b"));
        let none = Part::default();
        assert_eq!(place(&none, &none), (90, String::new(), true));
        assert_eq!(place(&file, &part(&[])), (120, "a".to_owned(), true));
        let flags = part(&["--demo.part.names=b c", "--demo.part.names=d", "--demo.part.on=false"]);
        assert_eq!(place(&file, &flags), (120, "b c d".to_owned(), false));
        assert!(place(&none, &part(&["--demo.part.on"])).2);
    }
}
