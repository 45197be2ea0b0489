//! What the load is put on: retainers, accounts and payments of its own, made before the clock runs.

use std::sync::Arc;

use anyhow::{Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::drill::backend::Backend;

/// What is drilled. The names are those of the routes.
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

    /// Which of them an arrival is: of five, two consume, one completes, two transfer.
    pub(crate) const fn of(arrival: u64) -> Self {
        match arrival % 5 {
            0 | 3 => Self::Consume,
            1 | 4 => Self::Transfer,
            _ => Self::Complete,
        }
    }
}

/// Each completion needs a payment of its own, which is made beforehand.
const MOST_PAYMENTS: u64 = 100_000;
/// A retainer keeps its movements, and a document is 16 MB at most: more of them, the more is consumed.
const MOVEMENTS_EACH: u64 = 1_000;
/// How many are made at once.
const MAKERS: usize = 16;
/// Enough for all that is taken of it, one at a time.
const PLENTY: i64 = 10_000_000;

#[derive(Debug)]
pub(crate) struct World {
    backend: Backend,
    retainers: Vec<String>,
    accounts: Vec<String>,
    payments: Vec<String>,
    seed: u64,
}

impl World {
    /// How many documents a load of so many arrivals needs, of each kind.
    ///
    /// # Errors
    ///
    /// If they are too many.
    pub(crate) fn size(arrivals: u64, entities: u32) -> Result<(u64, u64)> {
        let payments = arrivals.div_ceil(5);
        ensure!(
            payments <= MOST_PAYMENTS,
            "{arrivals} arrivals need {payments} payments to be made beforehand, and {MOST_PAYMENTS} is the most: \
             lower --rate or --duration"
        );
        Ok((u64::from(entities).max(arrivals.div_ceil(MOVEMENTS_EACH)), payments))
    }

    /// Makes it; `made` is told how many there are so far.
    ///
    /// # Errors
    ///
    /// If the backend refuses.
    pub(crate) async fn make(
        backend: &Backend,
        mark: &str,
        (entities, payments): (u64, u64),
        seed: u64,
        mut made: impl FnMut(usize),
    ) -> Result<Self> {
        let retainer = json!({"clientId": mark, "retainerType": "drill", "initialAmount": PLENTY});
        let account = json!({
            "name": "Drill", "accountNumber": mark, "bankName": "Drill", "currency": "EUR", "balance": PLENTY,
        });
        let payment =
            json!({"customerId": mark, "amount": 12.5, "paymentMethod": "card", "status": "pending"});
        let mut before = 0;
        let mut make = async |path: &str, what: &str, body: &Value, count: u64| -> Result<Vec<String>> {
            let make = stream::iter(0..count).map(|_| backend.create(path, what, body));
            let ids = make.buffer_unordered(MAKERS).try_fold(Vec::new(), async |mut ids, id| {
                ids.push(id);
                Ok(ids)
            });
            let ids = ids.await?;
            before += ids.len();
            made(before);
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

    /// Sends one arrival.
    pub(crate) async fn send(self: Arc<Self>, arrival: u64) -> crate::drill::backend::Answer {
        // Of its own, so that what is drawn depends on nothing else.
        let mut dice = StdRng::seed_from_u64(self.seed ^ arrival.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut pick = |of: &[String]| dice.random_range(0..of.len());
        match Operation::of(arrival) {
            Operation::Consume => {
                let path = format!("/api/retainers/{}/consume", self.retainers[pick(&self.retainers)]);
                self.backend.post(&path, &json!({"amount": 1, "description": "drill"})).await
            }
            Operation::Complete => {
                // One in five arrivals, each with a payment that nobody else completes.
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
    fn each_completion_has_a_payment_of_its_own() {
        for arrivals in [1, 2, 3, 4, 5, 999, 1_000] {
            let (_, payments) = World::size(arrivals, 10).unwrap();
            let completions = (0..arrivals).filter(|arrival| Operation::of(*arrival) == Operation::Complete);
            assert!(completions.map(|arrival| arrival / 5).max().is_none_or(|most| most < payments));
        }
        assert!(World::size(500_001, 10).is_err());
    }
}
