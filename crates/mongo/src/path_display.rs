//! Display of file names.

use std::path::Path;

/// The maximum length of a displayed name, in bytes.
const MAX_LENGTH: usize = 255;

/// The file's name for a message, or a placeholder: the user may have put the secret itself in place of its file
/// name. A name is shown if the file exists, or if it looks like a path.
///
/// `named` is the name as configured, and `file` the resolved path.
#[must_use]
pub fn display_path(named: &Path, file: &Path) -> String {
    const WITHHELD: &str = "a file that is not there (its name is not repeated: it may be the secret itself; give the whole path, or begin it with ./)";
    let text = file.display().to_string();
    let is_plain_char = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | '~' | ' ');
    // A secret may begin with a slash; files directly below the root are rare.
    let is_deep = named.is_absolute() && named.components().count() > 2;
    let begins = |named: &str| named.starts_with("./") || named.starts_with("../");
    let is_path = (is_deep || named.to_str().is_some_and(begins)) && text.chars().all(is_plain_char);
    let may_be_shown =
        text.len() <= MAX_LENGTH && (is_path || (file.exists() && !text.contains(char::is_control)));
    if may_be_shown { text } else { WITHHELD.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_file_name_is_withheld() {
        let shown = |text: &str| display_path(Path::new(text), Path::new(text));
        for name in ["/nowhere/uri", "./uri.txt", "../uri", "/", "Cargo.toml"] {
            assert_eq!(shown(name), name);
        }
        for secret in [
            "hunter2",
            "hunter2.x",
            "/hunter2",
            "mongodb://user:hunter2@host/",
            "/x:hunter2@host",
            "-----BEGIN PRIVATE KEY-----\nhunter2",
            "",
        ] {
            assert!(!shown(secret).contains("hunter2"), "{secret}");
        }
    }
}
