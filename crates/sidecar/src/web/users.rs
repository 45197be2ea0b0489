//! Basic authentication: the configured users, and the verification of a password.
//!
//! A bcrypt hash is slow on purpose. [`logins`](super::logins) decides when one is computed, and caches the
//! results.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// The part of a password that bcrypt uses, in bytes.
const PASSWORD_LIMIT: usize = 72;

/// The configured users.
pub(super) struct Users {
    hashes: BTreeMap<String, String>,
    /// Dummy hash for unknown users, with the highest configured cost to equalize timing. It matches no
    /// password.
    dummy_hash: String,
    max_cost: u32,
}

/// The credentials of a request.
pub(super) enum Credentials {
    /// No credentials.
    None,
    /// Something else than a name and a password.
    Malformed,
    Given(Login),
}

/// A name and a password. Whether they are right never changes: with another hash, it is another login.
pub(super) struct Login {
    /// A digest of the name, the password and the hash, so that no password is kept.
    pub(super) key: [u8; 32],
    hash: String,
    is_known: bool,
    max_cost: u32,
    password: Vec<u8>,
}

impl Users {
    /// # Errors
    ///
    /// With the name of a user whose hash is invalid.
    pub(super) fn new(hashes: BTreeMap<String, String>) -> Result<Self, String> {
        let mut max_cost = 4;
        for (name, hash) in &hashes {
            let parts = HashParts::from_str(hash).map_err(|_| name.clone())?;
            if !(4..=31).contains(&parts.get_cost()) {
                return Err(name.clone());
            }
            max_cost = max_cost.max(parts.get_cost());
        }
        let dummy_hash =
            format!("$2b${max_cost:02}${}", "abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZabcde");
        Ok(Self { hashes, dummy_hash, max_cost })
    }

    /// The credentials of a request, without verifying them.
    pub(super) fn credentials(&self, headers: &HeaderMap) -> Credentials {
        let Some(value) = headers.get(AUTHORIZATION) else { return Credentials::None };
        let parsed = value.to_str().ok().and_then(parse);
        parsed.map_or(Credentials::Malformed, |(name, password)| {
            Credentials::Given(self.login(&name, &password))
        })
    }

    fn login(&self, name: &str, password: &[u8]) -> Login {
        let mut hash = self.dummy_hash.as_str();
        let mut is_known = Choice::from(0);
        for (known, its_hash) in &self.hashes {
            let same = known.as_bytes().ct_eq(name.as_bytes());
            if same.into() {
                hash = its_hash;
            }
            is_known |= same;
        }
        let mut key = Sha256::new();
        for part in [name.as_bytes(), hash.as_bytes()] {
            key.update(part.len().to_be_bytes());
            key.update(part);
        }
        key.update(password);
        Login {
            key: key.finalize().into(),
            hash: hash.to_owned(),
            is_known: is_known.into(),
            max_cost: self.max_cost,
            password: password[..password.len().min(PASSWORD_LIMIT)].to_vec(),
        }
    }
}

impl Login {
    /// Verifies the password. Every wrong password takes as much CPU time as the most expensive configured hash,
    /// whether the user exists or not, so that the response time reveals no user names.
    pub(super) fn verify(&self) -> bool {
        #[cfg(test)]
        let _counted = tests::Counted::new();
        let cost = HashParts::from_str(&self.hash).map_or(self.max_cost, |parts| parts.get_cost());
        let matches = bcrypt::verify(&self.password, &self.hash).unwrap_or(false);
        let is_right = matches & self.is_known;
        if !is_right {
            // 2^cost rounds are done, and 2^max_cost are needed: 2^cost + 2^cost + 2^(cost + 1) + … +
            // 2^(max_cost - 1).
            for cost in cost..self.max_cost {
                #[cfg(test)]
                tests::ROUNDS.fetch_add(1 << cost, std::sync::atomic::Ordering::SeqCst);
                std::hint::black_box(bcrypt::hash_with_salt(&self.password, cost, [0; 16]).is_ok());
            }
        }
        #[cfg(test)]
        tests::ROUNDS.fetch_add(1 << cost, std::sync::atomic::Ordering::SeqCst);
        is_right
    }
}

fn parse(value: &str) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = value.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some((String::from_utf8(decoded[..colon].to_vec()).ok()?, decoded[colon + 1..].to_vec()))
}

/// Parses credentials, for fuzzing.
#[cfg(feature = "fuzzing")]
pub(super) fn read(headers: &HeaderMap) {
    let users = Users { hashes: BTreeMap::new(), dummy_hash: String::new(), max_cost: 4 };
    if let Credentials::Given(login) = users.credentials(headers) {
        assert!(!login.is_known && login.password.len() <= PASSWORD_LIMIT, "an unknown user was accepted");
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("names", &self.hashes.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static AT_ONCE: AtomicUsize = AtomicUsize::new(0);
    /// The highest number of concurrent hashes in this process, among tests that hold [`ONE_AT_A_TIME`].
    pub(in crate::web) static MOST_AT_ONCE: AtomicUsize = AtomicUsize::new(0);
    pub(in crate::web) static COMPUTED: AtomicUsize = AtomicUsize::new(0);
    /// The number of computed bcrypt rounds.
    pub(super) static ROUNDS: AtomicUsize = AtomicUsize::new(0);
    /// Held by each test that computes hashes, so that their counts do not mix.
    pub(in crate::web) static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    /// Counts concurrent hashes.
    pub(super) struct Counted(Cell<()>);

    impl Counted {
        pub(super) fn new() -> Self {
            COMPUTED.fetch_add(1, Ordering::SeqCst);
            MOST_AT_ONCE.fetch_max(AT_ONCE.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            Self(Cell::new(()))
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            AT_ONCE.fetch_sub(1, Ordering::SeqCst);
        }
    }

    pub(in crate::web) fn users(of: &[(&str, &str, u32)]) -> Users {
        let hash = |(name, password, cost): &(&str, &str, u32)| {
            ((*name).to_owned(), bcrypt::hash(password, *cost).unwrap())
        };
        Users::new(of.iter().map(hash).collect()).unwrap()
    }

    pub(in crate::web) fn basic(text: &str) -> HeaderMap {
        asks(&format!("Basic {}", STANDARD.encode(text)))
    }

    fn asks(value: &str) -> HeaderMap {
        [(AUTHORIZATION, value.parse().unwrap())].into_iter().collect()
    }

    pub(in crate::web) fn given(users: &Users, text: &str) -> Login {
        match users.credentials(&basic(text)) {
            Credentials::Given(login) => login,
            Credentials::None | Credentials::Malformed => panic!("{text:?} is no name and password"),
        }
    }

    #[tokio::test]
    async fn only_right_password_of_known_user_is_accepted() {
        let _alone = ONE_AT_A_TIME.lock().await;
        let users = users(&[("prometheus", "hunter2", 5)]);
        assert!(given(&users, "prometheus:hunter2").verify());
        for wrong in ["prometheus:hunter", "prometheus:", "unknown:hunter2", ":hunter2", ":"] {
            assert!(!given(&users, wrong).verify(), "{wrong}");
        }
        assert!(matches!(users.credentials(&HeaderMap::new()), Credentials::None));
        for invalid in ["", "Basic", "Basic !", "Bearer aHVudGVyMg==", "Basic /w==", "Basic cHJvbWV0aGV1cw=="]
        {
            assert!(matches!(users.credentials(&asks(invalid)), Credentials::Malformed), "{invalid}");
        }
    }

    #[tokio::test]
    async fn unknown_user_takes_same_time() {
        let _alone = ONE_AT_A_TIME.lock().await;
        let users = users(&[("prometheus", "hunter2", 5)]);
        let unknown = given(&users, "unknown:hunter2");
        assert!(!unknown.verify());
        let dummy_hash = HashParts::from_str(&users.dummy_hash).unwrap();
        assert_eq!(
            (unknown.hash.as_str(), dummy_hash.get_cost()),
            (users.dummy_hash.as_str(), 5),
            "the highest configured cost"
        );
        // The comparison with the dummy hash is a real one: a malformed hash would be rejected before it is
        // computed.
        assert!(bcrypt::verify("hunter2", &users.dummy_hash).is_ok());
    }

    #[tokio::test]
    async fn wrong_password_takes_same_work_for_every_user() {
        let _alone = ONE_AT_A_TIME.lock().await;
        let users = users(&[("cheap", "x", 4), ("expensive", "x", 9), ("between", "x", 7)]);
        let rounds = |text: &str| {
            let before = ROUNDS.load(Ordering::SeqCst);
            let is_right = given(&users, text).verify();
            (is_right, ROUNDS.load(Ordering::SeqCst) - before)
        };
        for wrong in ["cheap:y", "between:y", "expensive:y", "unknown:y", ":", "cheap:"] {
            assert_eq!(rounds(wrong), (false, 1 << 9), "{wrong}");
        }
        assert_eq!(rounds("cheap:x"), (true, 1 << 4), "that it is right is no secret");
        // The extra work is real: a malformed hash would be rejected before it is computed.
        assert!(bcrypt::hash_with_salt("y", 4, [0; 16]).is_ok());
    }

    #[test]
    fn login_key_depends_on_the_hash() {
        let of = |users: &Users, text: &str| given(users, text).key;
        let (one, other) = (users(&[("a", "x", 4)]), users(&[("a", "x", 4)]));
        assert_eq!(of(&one, "a:x"), of(&one, "a:x"));
        assert_ne!(of(&one, "a:x"), of(&one, "a:y"));
        assert_ne!(of(&one, "a:x"), of(&other, "a:x"), "the salt is another");
        assert_ne!(of(&one, "ab:c"), of(&one, "a:bc"));
    }

    #[test]
    fn invalid_password_hash_is_rejected_without_quoting_it() {
        let expensive = format!("$2b$40${}", "abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZabcde");
        for invalid in ["", "hunter2", "$2y$10$short", "$1$salt$hash", &expensive] {
            assert_eq!(
                Users::new([("prometheus".to_owned(), invalid.to_owned())].into()).unwrap_err(),
                "prometheus"
            );
        }
    }
}
