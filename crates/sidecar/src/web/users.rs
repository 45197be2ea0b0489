//! Basic authentication: bcrypt hashes, as the file has them.
//!
//! A hash takes a processor a long time on purpose. So results are kept, and one is computed at a time: who guesses
//! passwords keeps one processor busy, and those whose password is known already do not wait behind him.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tokio::sync::Semaphore;

/// How many results are kept. Enough for every Prometheus there is, and what guesses leave is little.
const KEPT: usize = 256;

/// Who may ask.
pub(super) struct Users {
    hashes: BTreeMap<String, String>,
    /// What the password of somebody unknown is compared with: as dear as the dearest of the others, and no
    /// password's hash.
    decoy: String,
    results: Mutex<HashMap<[u8; 32], bool>>,
    turn: Semaphore,
}

impl Users {
    /// # Errors
    ///
    /// With the name of a user whose hash is none.
    pub(super) fn new(hashes: BTreeMap<String, String>) -> Result<Self, String> {
        let mut dearest = 4;
        for (name, hash) in &hashes {
            let parts = HashParts::from_str(hash).map_err(|_| name.clone())?;
            dearest = dearest.max(parts.get_cost());
        }
        let decoy = format!("$2b${dearest:02}${}", "abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZabcde");
        Ok(Self { hashes, decoy, results: Mutex::default(), turn: Semaphore::new(1) })
    }

    /// Whether the request comes from one of them.
    pub(super) async fn admit(self: &Arc<Self>, headers: &HeaderMap) -> bool {
        let Some((name, password)) = credentials(headers) else { return false };
        let key = key(&name, &password);
        if let Some(result) = self.known(key) {
            return result;
        }
        let Ok(_turn) = self.turn.acquire().await else { return false };
        // Somebody may have asked the same meanwhile.
        if let Some(result) = self.known(key) {
            return result;
        }
        let users = Arc::clone(self);
        let result =
            tokio::task::spawn_blocking(move || users.verify(&name, &password)).await.unwrap_or(false);
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        if results.len() >= KEPT {
            // What guesses have left, first.
            results.retain(|_, admitted| *admitted);
        }
        if results.len() < KEPT {
            results.insert(key, result);
        }
        result
    }

    fn known(&self, key: [u8; 32]) -> Option<bool> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied()
    }

    /// Takes as long for a name that is unknown as for one that is known.
    fn verify(&self, name: &str, password: &[u8]) -> bool {
        let mut hash = self.decoy.as_str();
        let mut is_known = Choice::from(0);
        for (known, its_hash) in &self.hashes {
            let same = known.as_bytes().ct_eq(name.as_bytes());
            if same.into() {
                hash = its_hash;
            }
            is_known |= same;
        }
        let matches = bcrypt::verify(password, hash).unwrap_or(false);
        (is_known & Choice::from(u8::from(matches))).into()
    }
}

fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some((String::from_utf8(decoded[..colon].to_vec()).ok()?, decoded[colon + 1..].to_vec()))
}

/// So that no password is kept.
fn key(name: &str, password: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(name.len().to_be_bytes());
    hash.update(name);
    hash.update(password);
    hash.finalize().into()
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("names", &self.hashes.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Arc<Users> {
        let hash = bcrypt::hash("hunter2", 5).unwrap();
        Arc::new(Users::new([("prometheus".to_owned(), hash)].into()).unwrap())
    }

    fn asks(value: &str) -> HeaderMap {
        [(AUTHORIZATION, value.parse().unwrap())].into_iter().collect()
    }

    fn basic(text: &str) -> HeaderMap {
        asks(&format!("Basic {}", STANDARD.encode(text)))
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_will_do() {
        let users = users();
        for _ in ["computed", "kept"] {
            assert!(users.admit(&basic("prometheus:hunter2")).await);
            for wrong in
                ["prometheus:hunter", "prometheus:", "prometheus", "nobody:hunter2", ":hunter2", "", ":"]
            {
                assert!(!users.admit(&basic(wrong)).await, "{wrong}");
            }
        }
        assert!(!users.admit(&HeaderMap::new()).await);
        for odd in ["", "Basic", "Basic !", "Bearer aHVudGVyMg==", "Basic /w=="] {
            assert!(!users.admit(&asks(odd)).await, "{odd}");
        }
    }

    #[tokio::test]
    async fn somebody_unknown_costs_what_somebody_known_costs() {
        let users = users();
        assert!(!users.verify("nobody", b"hunter2"));
        let decoy = HashParts::from_str(&users.decoy).unwrap();
        assert_eq!(decoy.get_cost(), 5, "as dear as the dearest");
        // The comparison with the decoy is a real one: an odd hash would be refused before it is computed.
        assert!(bcrypt::verify("hunter2", &users.decoy).is_ok());
    }

    #[tokio::test]
    async fn guesses_fill_no_memory_and_drive_out_nobody() {
        let users = users();
        assert!(users.admit(&basic("prometheus:hunter2")).await);
        for guess in 0..2 * KEPT {
            users.results.lock().unwrap().insert(key("guess", &guess.to_be_bytes()), false);
        }
        assert!(!users.admit(&basic("prometheus:wrong")).await);
        assert!(users.results.lock().unwrap().len() <= KEPT);
        assert_eq!(users.known(key("prometheus", b"hunter2")), Some(true));
    }

    #[test]
    fn what_is_no_hash_is_refused_with_the_user_s_name_alone() {
        for odd in ["", "hunter2", "$2y$10$short", "$1$salt$hash"] {
            assert_eq!(
                Users::new([("prometheus".to_owned(), odd.to_owned())].into()).unwrap_err(),
                "prometheus"
            );
        }
    }
}
