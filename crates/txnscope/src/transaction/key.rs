//! The key of a queue: a hash, and a prefix of the hashed bytes for messages.

use std::any::type_name_of_val;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};

/// A key. Two keys with the same hash share a queue, which costs waiting time only.
#[derive(Clone, Copy)]
pub(super) struct Key {
    hash: u64,
    of: &'static str,
    prefix: KeyPrefix,
}

impl Key {
    pub(super) fn of(key: &impl Hash) -> Self {
        let hasher = foldhash::fast::FixedState::default().build_hasher();
        let mut reader = RecordingHasher { hasher, prefix: KeyPrefix::default() };
        key.hash(&mut reader);
        Self { hash: reader.hasher.finish(), of: type_name_of_val(key), prefix: reader.prefix }
    }

    #[allow(clippy::cast_possible_truncation, reason = "only the low bits are wanted")]
    pub(super) fn shard(self, shards: usize) -> usize {
        self.hash as usize % shards
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.hash.cmp(&other.hash)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

/// Displays a number or a text; for other types the type and the hash.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(number) = self.prefix.number(self.of.trim_start_matches('&')) {
            return write!(f, "{number}");
        }
        match self.prefix.texts() {
            Some(texts) => write!(f, "{}{}", texts.join(" / "), if self.prefix.is_cut() { "…" } else { "" }),
            None => write!(f, "{} #{:016x}", self.of, self.hash),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// The first bytes that were hashed.
#[derive(Clone, Copy, Default)]
struct KeyPrefix {
    bytes: [u8; 32],
    len: usize,
}

impl KeyPrefix {
    fn is_cut(&self) -> bool {
        self.len > self.bytes.len()
    }

    /// Decodes the bytes as a number of the given type.
    fn number(&self, of: &str) -> Option<i128> {
        let bytes = self.bytes.get(..self.len)?;
        let mut wide = [0; 16];
        wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let unsigned = u128::from_le_bytes(wide);
        match of {
            "u8" | "u16" | "u32" | "u64" | "usize" | "u128" => i128::try_from(unsigned).ok(),
            "i8" | "i16" | "i32" | "i64" | "isize" | "i128" if !bytes.is_empty() => {
                let unused = 128 - 8 * u32::try_from(bytes.len()).ok()?;
                Some((unsigned << unused).cast_signed() >> unused)
            }
            _ => None,
        }
    }

    /// Decodes the bytes as texts: `str` hashes end with a byte that occurs in no text.
    fn texts(&self) -> Option<Vec<String>> {
        let bytes = &self.bytes[..self.len.min(self.bytes.len())];
        let texts = bytes.split(|byte| *byte == 0xff).filter(|word| !word.is_empty());
        let texts = texts.map(|word| {
            let text = std::str::from_utf8(word).ok()?;
            text.chars().all(|c| !c.is_control()).then(|| format!("{text:?}"))
        });
        texts.collect::<Option<Vec<_>>>().filter(|texts| !texts.is_empty())
    }
}

/// A hasher that keeps the first bytes that it hashes.
struct RecordingHasher<H> {
    hasher: H,
    prefix: KeyPrefix,
}

impl<H: Hasher> Hasher for RecordingHasher<H> {
    fn finish(&self) -> u64 {
        self.hasher.finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.hasher.write(bytes);
        let KeyPrefix { bytes: kept, len } = &mut self.prefix;
        if let Some(room) = kept.get_mut(*len..) {
            let more = room.len().min(bytes.len());
            room[..more].copy_from_slice(&bytes[..more]);
        }
        *len += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_displayed_as_its_value() {
        let long = "x".repeat(40);
        for (key, expected) in [
            (Key::of(&7), "7"),
            (Key::of(&-7_i64), "-7"),
            (Key::of(&u64::MAX), "18446744073709551615"),
            (Key::of(&"hot"), "\"hot\""),
            (Key::of(&String::from("a\u{202e}\"b")), "\"a\\u{202e}\\\"b\""),
            (Key::of(&("retainers", "R-1")), "\"retainers\" / \"R-1\""),
            (Key::of(&long), "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"…"),
        ] {
            assert_eq!(key.to_string(), expected);
        }
        for opaque in [Key::of(&[1_u8, 2, 3]), Key::of(&()), Key::of(&"a\u{1b}[2J")] {
            assert!(opaque.to_string().contains(" #"), "{opaque}");
        }
        assert_eq!(Key::of(&7), Key::of(&7));
        assert_ne!(Key::of(&"a"), Key::of(&"b"));
    }
}
