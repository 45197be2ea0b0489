//! Access to MongoDB deployments: URI, credentials, TLS files, and replica set name.
//!
//! A URI is parsed once, by the driver's parser, into a [`Uri`]. Nothing else in the workspace splits, searches
//! or prints a URI: a password can be anywhere in a malformed one. Messages about a URI name an option or a
//! position, and never repeat a value.
//!
//! | module | contents |
//! | --- | --- |
//! | `uri` | the parsed URI, and the driver options |
//! | `driver_error` | the class of a driver's error |
//! | `uri_parts` | splitting of a URI at the driver's delimiters |
//! | `options` | the options of all drivers, and how each is treated |
//! | `credentials` | credentials apart from the URI |
//! | `file` | reading of regular files of bounded size |
//! | `secret_line` | secrets that consist of one line |
//! | `set_name` | validated names of replica sets |
//! | `path_display` | display of file names that may be misplaced secrets |
//! | `tls` | TLS files, by their contents |

mod credentials;
mod driver_error;
mod error;
mod file;
mod options;
mod path_display;
mod secret_line;
mod set_name;
mod tls;
mod uri;
mod uri_parts;

pub use crate::credentials::Credentials;
pub use crate::driver_error::{ErrorClass, server_code};
pub use crate::error::UriError;
pub use crate::file::{
    EXPOSED_KEY, EXPOSED_SECRET, FILE_LIMIT, SECRET_LIMIT, is_readable_by_all_users, read_file,
};
pub use crate::options::Ignored;
pub use crate::path_display::display_path;
pub use crate::secret_line::{LineError, one_line, read_one_line};
pub use crate::set_name::SetName;
pub use crate::tls::TlsFiles;
pub use crate::uri::Uri;

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
