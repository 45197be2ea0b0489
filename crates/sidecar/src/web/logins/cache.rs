//! A bounded cache of login results.

use std::collections::{HashMap, HashSet};

/// The maximum number of right logins, more than any file has users.
const RIGHT: usize = 1024;

/// The maximum number of other logins in each generation.
const OTHERS: usize = 4096;

/// A bounded cache of login results.
#[derive(Default)]
pub(super) struct LoginCache {
    right: HashSet<[u8; 32]>,
    /// Whether the login was wrong; if not, it was not checked. The newer generation, and the older.
    others: [HashMap<[u8; 32], bool>; 2],
}

impl LoginCache {
    pub(super) fn get(&self, key: &[u8; 32]) -> Option<bool> {
        if self.right.contains(key) {
            return Some(true);
        }
        self.others.iter().find_map(|others| others.get(key).filter(|wrong| **wrong)).map(|_| false)
    }

    /// Whether a request with this login was turned away or cancelled.
    pub(super) fn was_abandoned(&self, key: &[u8; 32]) -> bool {
        self.others.iter().any(|others| others.get(key) == Some(&false))
    }

    pub(super) fn insert(&mut self, key: [u8; 32], is_right: Option<bool>) {
        if is_right == Some(true) {
            if self.right.len() >= RIGHT {
                // Some are of outdated hashes; the others cost one hash each.
                self.right.clear();
            }
            self.right.insert(key);
            return;
        }
        if self.others[0].len() >= OTHERS {
            self.others[1] = std::mem::take(&mut self.others[0]);
        }
        self.others[0].insert(key, is_right == Some(false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_cache_is_bounded_and_keeps_right_logins() {
        let mut cache = LoginCache::default();
        let key = |guess: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&guess.to_be_bytes());
            key
        };
        cache.insert([1; 32], Some(true));
        for guess in 0..10 * OTHERS {
            cache.insert(key(guess), (guess % 2 == 0).then_some(false));
        }
        assert!(cache.others.iter().all(|others| others.len() <= OTHERS));
        assert_eq!(cache.get(&[1; 32]), Some(true));
        let last = 10 * OTHERS - 1;
        assert!(cache.get(&key(last)).is_none() && cache.was_abandoned(&key(last)));
        assert!(cache.get(&key(last - 1)) == Some(false) && !cache.was_abandoned(&key(last - 1)));
    }
}
