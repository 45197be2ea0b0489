//! Where a fuzzer comes in. No part of any interface.

use std::path::Path;

use crate::file::File;
use crate::sources::{self, SourceFlags};

/// The configuration file.
pub fn config(text: &str) {
    if let Ok(file) = File::parse(Path::new("txnscope.toml"), text.to_owned()) {
        let _ = sources::settings(&file, &SourceFlags::default());
    }
}
