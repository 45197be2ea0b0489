//! Reading of regular files of bounded size.
//!
//! Opening a pipe blocks until a writer opens it, and a device may never end. Neither may block a server that
//! reads its configuration.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::Path;

/// The maximum size of a file with one secret: a URI, a password, a token.
pub const SECRET_LIMIT: u64 = 64 * 1024;

/// The maximum size of any other file: a configuration, certificates, checks.
pub const FILE_LIMIT: u64 = 4 * 1024 * 1024;

/// Reads a regular file of at most `limit` bytes. Symbolic links are followed, since Kubernetes and systemd use
/// them.
///
/// # Errors
///
/// If the file cannot be read, is a directory, a pipe or a device, or is too large. The error does not quote its
/// contents.
pub fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Checked before opening, which would block on a pipe.
    check(&std::fs::metadata(path)?, limit)?;
    let file = File::open(path)?;
    // Checked again, since the file may have been replaced.
    check(&file.metadata()?, limit)?;
    let mut bytes = Vec::new();
    // The file may grow while it is read, and files in `/proc` have no size.
    let read = file.take(limit + 1).read_to_end(&mut bytes)? as u64;
    if read > limit { Err(too_large(limit)) } else { Ok(bytes) }
}

/// The warning about a file with a secret that [every user can read](is_readable_by_all_users).
pub const EXPOSED_SECRET: &str =
    "every user of this machine may read a file that holds secrets: chmod o-r takes that away";

/// The warning about a URI's private key file. The file is not named: the option may contain the key itself.
pub const EXPOSED_KEY: &str =
    "every user of this machine may read the file of tlsCertificateKeyFile: chmod o-r takes that away";

/// Whether all users of the machine can read the file. `false` if that cannot be determined.
#[must_use]
pub fn is_readable_by_all_users(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

fn check(file: &Metadata, limit: u64) -> io::Result<()> {
    if !file.is_file() {
        return Err(io::Error::other(
            "this is no regular file but a directory, a pipe or a device: give the name of a file",
        ));
    }
    if file.len() > limit { Err(too_large(limit)) } else { Ok(()) }
}

fn too_large(limit: u64) -> io::Error {
    io::Error::other(format!("the file is larger than {} KiB, the most that is read of it", limit / 1024))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn too_large_or_irregular_file_is_rejected() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(read_file(&file, 5).unwrap(), b"12345");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read_file(&link, 5).unwrap(), b"12345");
        let error = |path: &Path, limit| read_file(path, limit).unwrap_err().to_string();
        assert!(error(&file, 4).contains("larger than"), "{}", error(&file, 4));
        for invalid in [folder.path(), Path::new("/dev/zero"), Path::new("/dev/null")] {
            assert!(
                error(invalid, 5).contains("no regular file"),
                "{}: {}",
                invalid.display(),
                error(invalid, 5)
            );
        }
        // Its size is zero, and it has many bytes.
        assert!(error(Path::new("/proc/self/smaps"), 5).contains("larger than"));
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(error(&pipe, 5).contains("a pipe"), "{}", error(&pipe, 5));
        assert_eq!(read_file(Path::new("/nowhere/x"), 5).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn file_readable_by_all_users_is_detected() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, noticed) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_readable_by_all_users(file.path()), noticed, "{mode:o}");
        }
        assert!(!is_readable_by_all_users(Path::new("/nowhere/x")));
    }
}
