//! The fixtures of a load test: retainers, accounts and payments, created before the load starts.

use std::sync::Arc;

use anyhow::{Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::commands::drill::backend::{Backend, Reply};

/// The operations of the load. Their names are the routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Consume,
    Complete,
    Transfer,
}

impl Operation {
    pub(crate) const ALL: [Self; 3] = [Self::Consume, Self::Complete, Self::Transfer];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Consume => "POST /api/retainers/{id}/consume",
            Self::Complete => "POST /api/payments/{id}/complete",
            Self::Transfer => "POST /api/bank-transfers",
        }
    }

    /// The operation of an arrival: of five arrivals, two consume, one completes, two transfer.
    pub(crate) const fn of(arrival: u64) -> Self {
        match arrival % 5 {
            0 | 3 => Self::Consume,
            1 | 4 => Self::Transfer,
            _ => Self::Complete,
        }
    }
}

/// The maximum number of payments. Each completion needs a separate one.
const MAX_PAYMENTS: u64 = 100_000;
/// The maximum number of movements of a retainer, whose document holds them and may have at most 16 MB.
const MAX_MOVEMENTS: u64 = 1_000;
/// The number of concurrent requests that create fixtures.
const SETUP_CONCURRENCY: usize = 16;
/// The initial balance of retainers and accounts, enough for the whole load.
const INITIAL_BALANCE: i64 = 10_000_000;

#[derive(Debug)]
pub(crate) struct Fixtures {
    backend: Backend,
    retainers: Vec<String>,
    accounts: Vec<String>,
    payments: Vec<String>,
    seed: u64,
}

impl Fixtures {
    /// The number of entities and of payments that a load needs.
    ///
    /// # Errors
    ///
    /// If it needs too many payments.
    pub(crate) fn size(arrivals: u64, entities: u32) -> Result<(u64, u64)> {
        let payments = arrivals.div_ceil(5);
        ensure!(
            payments <= MAX_PAYMENTS,
            "{arrivals} arrivals need {payments} payments, and the maximum is {MAX_PAYMENTS}: \
             lower --rate or --duration"
        );
        Ok((u64::from(entities).max(arrivals.div_ceil(MAX_MOVEMENTS)), payments))
    }

    /// Creates the fixtures. `on_progress` gets the number of documents so far.
    ///
    /// # Errors
    ///
    /// If the backend rejects a request.
    pub(crate) async fn create(
        backend: &Backend,
        mark: &str,
        (entities, payments): (u64, u64),
        seed: u64,
        mut on_progress: impl FnMut(usize),
    ) -> Result<Self> {
        let retainer = json!({"clientId": mark, "retainerType": "drill", "initialAmount": INITIAL_BALANCE});
        let account = json!({
            "name": "Drill", "accountNumber": mark, "bankName": "Drill", "currency": "EUR", "balance": INITIAL_BALANCE,
        });
        let payment =
            json!({"customerId": mark, "amount": 12.5, "paymentMethod": "card", "status": "pending"});
        let mut before = 0;
        let mut make = async |path: &str, what: &str, body: &Value, count: u64| -> Result<Vec<String>> {
            let make = stream::iter(0..count).map(|_| backend.create(path, what, body));
            let ids = make.buffer_unordered(SETUP_CONCURRENCY).try_fold(Vec::new(), async |mut ids, id| {
                ids.push(id);
                Ok(ids)
            });
            let ids = ids.await?;
            before += ids.len();
            on_progress(before);
            Ok(ids)
        };
        Ok(Self {
            retainers: make("/api/retainers", "retainer", &retainer, entities).await?,
            accounts: make("/api/bank-accounts", "account", &account, entities).await?,
            payments: make("/api/payments", "payment", &payment, payments).await?,
            backend: backend.clone(),
            seed,
        })
    }

    /// Sends the request of an arrival.
    pub(crate) async fn send(self: Arc<Self>, arrival: u64) -> Reply {
        // Each arrival has its own generator, so that its choices depend only on the seed.
        let mut rng = StdRng::seed_from_u64(self.seed ^ arrival.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut pick = |of: &[String]| rng.random_range(0..of.len());
        match Operation::of(arrival) {
            Operation::Consume => {
                let path = format!("/api/retainers/{}/consume", self.retainers[pick(&self.retainers)]);
                self.backend.post(&path, &json!({"amount": 1, "description": "drill"})).await
            }
            Operation::Complete => {
                // One in five arrivals; each has its own payment.
                let own = usize::try_from(arrival / 5).unwrap_or(usize::MAX) % self.payments.len();
                let path = format!("/api/payments/{}/complete", self.payments[own]);
                self.backend.post(&path, &json!({})).await
            }
            Operation::Transfer => {
                let from = pick(&self.accounts);
                let others = pick(&self.accounts[1..]);
                let to = (from + 1 + others) % self.accounts.len();
                let body = json!({
                    "fromAccountId": self.accounts[from], "toAccountId": self.accounts[to],
                    "amount": 1, "description": "drill",
                });
                self.backend.post("/api/bank-transfers", &body).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_completion_has_its_own_payment() {
        for arrivals in [1, 2, 3, 4, 5, 999, 1_000] {
            let (_, payments) = Fixtures::size(arrivals, 10).unwrap();
            let completions = (0..arrivals).filter(|arrival| Operation::of(*arrival) == Operation::Complete);
            assert!(completions.map(|arrival| arrival / 5).max().is_none_or(|most| most < payments));
        }
        assert!(Fixtures::size(500_001, 10).is_err());
    }
}
