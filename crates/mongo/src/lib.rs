//! How a MongoDB deployment is named and reached: its URI, the credentials, the TLS files and the name of its replica set.
//!
//! A URI is parsed once, by the driver's parser, into a [`Uri`]. Nothing else in the workspace cuts a URI into pieces,
//! searches it or prints it: a password can stand anywhere in a malformed one. What is said of a URI names an option or
//! a place, and never repeats a value.
//!
//! | module | what |
//! | --- | --- |
//! | `uri` | the type, and what it gives the driver |
//! | `cut` | the text of a URI in the pieces that the driver sees |
//! | `options` | the options of every driver, and what becomes of each here |
//! | `credentials` | a user and a password that are given apart from the URI |
//! | `file` | files as they are read: regular ones, of a bounded size |
//! | `line` | the one line of a file or a variable that holds a secret |
//! | `set_name` | the name of a replica set, checked |
//! | `shown` | the name of a file, as it may be shown |
//! | `tls` | the files of certificates, by their content |

mod credentials;
mod cut;
mod error;
mod file;
mod line;
mod options;
mod set_name;
mod shown;
mod tls;
mod uri;

pub use crate::credentials::Credentials;
pub use crate::error::UriError;
pub use crate::file::{
    EXPOSED_KEY, EXPOSED_SECRET, FILE_LIMIT, SECRET_LIMIT, is_readable_by_everybody, read_file,
};
pub use crate::line::{LineError, one_line, read_one_line};
pub use crate::options::Ignored;
pub use crate::set_name::SetName;
pub use crate::shown::shown_path;
pub use crate::tls::TlsFiles;
pub use crate::uri::Uri;
