//! Files as they are read here: regular ones, of a bounded size.
//!
//! Opening a pipe waits until somebody writes to it, and a device may never end. Whoever reads a configuration while a
//! server runs must be held up by neither.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::Path;

/// The most bytes of a file that holds one secret: a URI, a password, a token.
pub const SECRET_LIMIT: u64 = 64 * 1024;

/// The most bytes of any other file: a configuration, certificates, checks.
pub const FILE_LIMIT: u64 = 4 * 1024 * 1024;

/// The bytes of a regular file of at most `limit` bytes. Symbolic links are followed, as Kubernetes and systemd have
/// them.
///
/// # Errors
///
/// If the file cannot be read, is a directory, a pipe or a device, or is larger. The error says nothing of what is in it.
pub fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Before it is opened: opening a pipe would wait for its other end.
    check(&std::fs::metadata(path)?, limit)?;
    let file = File::open(path)?;
    // And again, as it may be another file by now.
    check(&file.metadata()?, limit)?;
    let mut bytes = Vec::new();
    // It may grow while it is read, and files of `/proc` do not say how large they are.
    let read = file.take(limit + 1).read_to_end(&mut bytes)? as u64;
    if read > limit { Err(too_large(limit)) } else { Ok(bytes) }
}

/// What to say of a file with a secret that [is readable by everybody](is_readable_by_everybody).
pub const EXPOSED_SECRET: &str =
    "every user of this machine may read a file that holds secrets: chmod o-r takes that away";

/// The same of a URI's private key, whose file is not named: what stands in its place may be the key itself.
pub const EXPOSED_KEY: &str =
    "every user of this machine may read the file of tlsCertificateKeyFile: chmod o-r takes that away";

/// Whether every user of the machine may read the file, so that a secret in it is none. `false` where that cannot be
/// known.
#[must_use]
pub fn is_readable_by_everybody(path: &Path) -> bool {
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
    fn a_file_that_is_too_large_or_no_regular_file_is_refused() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(read_file(&file, 5).unwrap(), b"12345");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read_file(&link, 5).unwrap(), b"12345");
        let said = |path: &Path, limit| read_file(path, limit).unwrap_err().to_string();
        assert!(said(&file, 4).contains("larger than"), "{}", said(&file, 4));
        for odd in [folder.path(), Path::new("/dev/zero"), Path::new("/dev/null")] {
            assert!(said(odd, 5).contains("no regular file"), "{}: {}", odd.display(), said(odd, 5));
        }
        // It says that it has no bytes, and has many.
        assert!(said(Path::new("/proc/self/smaps"), 5).contains("larger than"));
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(said(&pipe, 5).contains("a pipe"), "{}", said(&pipe, 5));
        assert_eq!(read_file(Path::new("/nowhere/x"), 5).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_that_everybody_may_read_is_noticed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, noticed) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_readable_by_everybody(file.path()), noticed, "{mode:o}");
        }
        assert!(!is_readable_by_everybody(Path::new("/nowhere/x")));
    }
}
