//! A file's name as it may be shown.

use std::path::Path;

/// The most bytes of a name that are shown.
const LONGEST: usize = 255;

/// The file's name in quotes of no kind, or words for it: where a name belongs, people write the secret itself. Shown is
/// the name of a file that is there, and one that begins as paths do and has nothing in it that a path has not.
///
/// `named` is the name as it was given, and `file` where that leads.
#[must_use]
pub fn shown_path(named: &Path, file: &Path) -> String {
    const UNSHOWN: &str = "a file that is not there (its name is not repeated: it may be the secret itself; give the whole path, or begin it with ./)";
    let text = file.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | '~' | ' ');
    // A slash may be a secret's first character; a file right below the root is rare.
    let is_deep = named.is_absolute() && named.components().count() > 2;
    let begins = |named: &str| named.starts_with("./") || named.starts_with("../");
    let is_path = (is_deep || named.to_str().is_some_and(begins)) && text.chars().all(plain);
    let is_shown = text.len() <= LONGEST && (is_path || (file.exists() && !text.contains(char::is_control)));
    if is_shown { text } else { UNSHOWN.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_of_a_file_is_not_shown() {
        let shown = |text: &str| shown_path(Path::new(text), Path::new(text));
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
