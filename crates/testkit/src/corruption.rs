//! Corrupted input: the seeds of a fuzz target with random bytes replaced.

use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use crate::workspace;

/// Byte sequences that parsers often mishandle; they replace parts of a seed.
const CORRUPT_VALUES: &[&[u8]] = &[
    b"",
    b"\0",
    b"\"",
    b"\\u0000",
    b"\xff",
    b"\xf0\x9f\x92\xb8",
    b"{",
    b"]",
    b"[[",
    b"\n\n",
    b"-1",
    b"1e999",
    b"9223372036854775808",
    b"null",
    b"NaN",
    b"://",
    b"@",
    b"%",
];

/// Passes the seeds in `fuzz/seeds/TARGET` and the given files of the workspace to `read`, and then `cases` corrupted
/// copies of them.
///
/// # Panics
///
/// If `read` panics; the smallest corruption that causes the panic is printed. Also if there is no seed.
pub fn assert_no_panic(target: &str, more: &[&str], cases: u32, read: impl Fn(&[u8])) {
    let folder = workspace().join("fuzz/seeds").join(target);
    let mut files: Vec<PathBuf> = more.iter().map(|file| workspace().join(file)).collect();
    if let Ok(entries) = std::fs::read_dir(&folder) {
        files.extend(entries.map(|entry| entry.expect("the folder can be read").path()));
    }
    files.sort();
    let seeds: Vec<Vec<u8>> =
        files.iter().map(|file| std::fs::read(file).expect("the seed can be read")).collect();
    assert!(!seeds.is_empty(), "{} has no seed", folder.display());
    seeds.iter().for_each(|seed| read(seed));
    let damages = prop::collection::vec((any::<Index>(), 0_usize..40, corrupt_value()), 1..6);
    let input = (prop::sample::select(seeds), damages).prop_map(|(mut bytes, damages)| {
        for (place, length, corrupt_value) in damages {
            let begin = place.index(bytes.len() + 1);
            let end = bytes.len().min(begin + length);
            bytes.splice(begin..end, corrupt_value);
        }
        bytes
    });
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let ended = TestRunner::new(config).run(&input, |bytes| {
        read(&bytes);
        Ok(())
    });
    if let Err(error) = ended {
        panic!("{error}");
    }
}

fn corrupt_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(CORRUPT_VALUES).prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..4),
    ]
}
