//! Fuzz test of money: audits and repairs of random, corrupted documents are compared with an oracle that computes
//! the sums from the BSON bytes by itself.
//!
//! Each document is a case, and so is each group of a balance. A short form runs with the other tests; a long one is
//! started manually, as described in docs/reliability.md:
//!
//! ```console
//! $ TXNSCOPE_MONEY_CASES=100000 TXNSCOPE_MONEY_SEED=1 cargo test -p txnscope-checks --test check_suites money_fuzz -- --nocapture
//! ```

mod balances;
mod cases;
mod kinds;
mod oracle;
mod rounds;

use mongodb::Database;
use testkit::ReplicaSet;

use self::cases::Rng;
use self::kinds::Kind;

/// The counts of a round.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) cases: u64,
    pub(crate) repaired: u64,
    pub(crate) refused: u64,
    pub(crate) clean: u64,
    pub(crate) violated: u64,
    pub(crate) undone: u64,
    /// Cases of rounds that were rejected as a whole.
    pub(crate) not_begun: u64,
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_and_audit_agree_with_oracle() {
    let cases = number("TXNSCOPE_MONEY_CASES", 2_000);
    let seed = number("TXNSCOPE_MONEY_SEED", 4_711);
    let set = ReplicaSet::recycled().await.unwrap();
    let client = set.client().await.unwrap();
    let mut count = Count::default();
    let mut round = 0;
    while count.cases < cases {
        let mut rng = Rng::new(seed + round);
        let database: Database = client.database("money");
        database.drop().await.unwrap();
        let kind = Kind::ALL[usize::try_from(round).unwrap() % Kind::ALL.len()];
        println!("round {round}, seed {}, {kind:?}: {count:?}", seed + round);
        match kind {
            Kind::Balance => balances::play(&client, &database, &mut rng, &mut count).await,
            kind => rounds::play(&client, &database, kind, &mut rng, &mut count).await,
        }
        round += 1;
    }
    println!("{round} rounds: {count:?}");
    assert!(count.repaired > 0 && count.refused > 0 && count.clean > 0 && count.violated > 0, "{count:?}");
}
