use std::net::IpAddr;

use super::*;
use crate::web::users::Users;
use crate::web::users::tests::{COMPUTED, MOST_AT_ONCE, ONE_AT_A_TIME, given, users};

fn peer(text: &str) -> Peer {
    Peer::from(text.parse::<IpAddr>().unwrap())
}

async fn verify_login(logins: &Arc<Logins>, users: &Users, text: &str) -> LoginOutcome {
    let pending = logins.register(peer("10.0.0.1"), 0);
    logins.verify_login(given(users, text), &pending, false).await
}

async fn idle(logins: &Logins) {
    testkit::wait::until("the end of the last hash", async || {
        anyhow::ensure!(!logins.queue().is_running, "one is computed");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hash_is_computed_at_a_time_when_clients_disconnect() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (logins, users) = (Arc::new(Logins::default()), Arc::new(users(&[("a", "x", 8)])));
    MOST_AT_ONCE.store(0, Ordering::SeqCst);
    let callers = (0..200).map(|guess| {
        let (logins, users) = (Arc::clone(&logins), Arc::clone(&users));
        tokio::spawn(async move {
            let login = format!("a:{guess}");
            let verifying = verify_login(&logins, &users, &login);
            let _ = timeout(Duration::from_millis(5), verifying).await;
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let computed = COMPUTED.load(Ordering::SeqCst);
    assert!(logins.queue().waiting.is_empty(), "who has left waits still");
    assert_eq!(verify_login(&logins, &users, "a:x").await, LoginOutcome::Accepted);
    idle(&logins).await;
    let after = COMPUTED.load(Ordering::SeqCst) - computed;
    assert!(after <= 2, "{after} hashes for one caller, after the others have left");
    assert_eq!(MOST_AT_ONCE.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn cancelled_login_result_is_cached() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (logins, users) = (Arc::new(Logins::default()), users(&[("a", "x", 8)]));
    let verifying = verify_login(&logins, &users, "a:x");
    // Long enough to start: no other task runs on this thread meanwhile.
    assert!(timeout(Duration::ZERO, verifying).await.is_err());
    // Whether the hash had started or not, one is enough.
    idle(&logins).await;
    let computed = COMPUTED.load(Ordering::SeqCst);
    let known = logins.queue().cache.get(&given(&users, "a:x").key);
    assert_eq!(verify_login(&logins, &users, "a:x").await, LoginOutcome::Accepted);
    let after = COMPUTED.load(Ordering::SeqCst) - computed;
    assert_eq!(after, usize::from(known.is_none()));
}

#[tokio::test]
async fn accepted_login_survives_a_reload_without_hashing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
    let of = |users: &[(&str, &String)]| {
        Users::new(users.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).clone())).collect()).unwrap()
    };
    let (logins, a, b) = (Arc::new(Logins::default()), hash("x"), hash("y"));
    assert_eq!(verify_login(&logins, &of(&[("a", &a)]), "a:x").await, LoginOutcome::Accepted);
    idle(&logins).await;
    let computed = COMPUTED.load(Ordering::SeqCst);
    assert_eq!(verify_login(&logins, &of(&[("a", &a), ("b", &b)]), "a:x").await, LoginOutcome::Accepted);
    assert_eq!(COMPUTED.load(Ordering::SeqCst), computed, "the hash is the same");
    assert_eq!(
        verify_login(&logins, &of(&[("a", &b)]), "a:x").await,
        LoginOutcome::Rejected,
        "the password is another"
    );
    assert_eq!(
        verify_login(&logins, &of(&[("b", &b)]), "a:x").await,
        LoginOutcome::Rejected,
        "the user is gone"
    );
}

/// The order in which logins from these addresses, each a scrape or not, are verified.
fn order(of: &[(&str, bool)]) -> Vec<u64> {
    let (mut queue, users) = (Queue::default(), users(&[("a", "x", 4)]));
    let mut answers = Vec::new();
    for (number, (from, has_priority)) in of.iter().enumerate() {
        let (sender, answer) = oneshot::channel();
        answers.push(answer);
        let (number, login) = (number as u64, given(&users, "a:x"));
        queue.pending.entry(peer(from)).or_default().requests += 1;
        queue.waiting.push(QueuedLogin {
            number,
            connection: number,
            peer: peer(from),
            login,
            has_priority: *has_priority,
            answer: sender,
        });
    }
    std::iter::from_fn(|| queue.next()).map(|waiting| waiting.number).collect()
}

#[test]
fn client_addresses_take_turns() {
    let (many, one, other) = ("10.0.0.1", "10.0.0.2", "10.0.0.3");
    let of: Vec<_> = [many; 50].into_iter().chain([one, other]).map(|from| (from, false)).collect();
    let order = order(&of);
    assert_eq!(order.len(), 52);
    let turn = |number: u64| order.iter().position(|one| *one == number).unwrap();
    assert!(turn(50) <= 2 && turn(51) <= 2, "{order:?}");
}

#[test]
fn login_queue_alternates_newest_and_oldest_with_scrapes_first() {
    let from = "10.0.0.1";
    assert_eq!(order(&[(from, false); 7]), [6, 0, 5, 1, 4, 2, 3]);
    let of = [false, true, true, false, false].map(|is_scrape| (from, is_scrape));
    assert_eq!(order(&of), [2, 0, 1, 3, 4]);
}

#[tokio::test]
async fn abandoned_login_has_priority_on_retry() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (logins, users) = (Arc::new(Logins::default()), users(&[("a", "x", 4)]));
    // So that no hash is computed.
    logins.queue().is_running = true;
    assert!(timeout(Duration::from_millis(1), verify_login(&logins, &users, "a:x")).await.is_err());
    let pending = logins.register(peer("10.0.0.1"), 0);
    let verifying = logins.verify_login(given(&users, "a:x"), &pending, false);
    tokio::pin!(verifying);
    assert!(timeout(Duration::from_millis(1), verifying.as_mut()).await.is_err());
    assert!(logins.queue().waiting[0].has_priority);
}

#[tokio::test]
async fn penalty_grows_with_pending_requests_of_an_address() {
    let logins = Arc::new(Logins::default());
    logins.queue().last_hash_duration = Duration::from_millis(100);
    let first = logins.register(peer("10.0.0.1"), 0);
    assert_eq!(first.penalty(), Duration::ZERO, "alone");
    let other = logins.register(peer("10.0.0.2"), 0);
    let more: Vec<_> = (0..10).map(|_| logins.register(peer("10.0.0.1"), 0)).collect();
    assert_eq!(first.penalty(), Duration::from_secs(4));
    assert_eq!(other.penalty(), Duration::ZERO, "another address");
    let most: Vec<_> = (0..1000).map(|_| logins.register(peer("10.0.0.1"), 0)).collect();
    assert_eq!(first.penalty(), MAX_PENALTY);
    drop((first, other, more, most));
    assert!(logins.queue().pending.is_empty());
}

#[tokio::test]
async fn full_login_queue_rejects_at_once() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (logins, users) = (Arc::new(Logins::default()), users(&[("a", "x", 4)]));
    let others: Vec<_> = (0..MAX_PENDING_PER_CLIENT).map(|_| logins.register(peer("10.0.0.1"), 0)).collect();
    assert_eq!(verify_login(&logins, &users, "a:x").await, LoginOutcome::NotChecked);
    let pending = logins.register(peer("10.0.0.2"), 0);
    assert_eq!(
        logins.verify_login(given(&users, "a:x"), &pending, false).await,
        LoginOutcome::Accepted,
        "another address"
    );
    assert_eq!(verify_login(&logins, &users, "a:x").await, LoginOutcome::Accepted, "it is known now");
    drop(others);
}
