//! Bad input: what a fuzz target begins with, damaged.

use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use crate::workspace;

/// What is put somewhere in place of something else: what parsers stumble over.
const ODD: &[&[u8]] = &[
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

/// Hands what is in `fuzz/seeds/TARGET` and in those files of the workspace to `read`, and after it so many damaged
/// copies of it.
///
/// # Panics
///
/// If `read` does; the least damage that makes it so is printed. Also if there is no seed.
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
    let damages = prop::collection::vec((any::<Index>(), 0_usize..40, odd()), 1..6);
    let input = (prop::sample::select(seeds), damages).prop_map(|(mut bytes, damages)| {
        for (place, length, odd) in damages {
            let begin = place.index(bytes.len() + 1);
            let end = bytes.len().min(begin + length);
            bytes.splice(begin..end, odd);
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

fn odd() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![prop::sample::select(ODD).prop_map(<[u8]>::to_vec), prop::collection::vec(any::<u8>(), 0..4),]
}
