//! Mixed open-loop load on the reference backend, with contention: requests arrive at a fixed rate, whether or not
//! earlier ones have been answered.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::client::Client;

const SHIFT: Duration = Duration::from_secs(30);

/// The documents that the load uses. They are few, so that transactions conflict.
#[derive(Debug, Clone)]
pub struct Targets {
    retainers: Vec<String>,
    accounts: Vec<String>,
}

impl Targets {
    /// Creates retainers and accounts.
    ///
    /// # Errors
    ///
    /// If the ledger rejects a request.
    pub async fn open(client: &Client) -> Result<Self> {
        let (mut retainers, mut accounts) = (Vec::new(), Vec::new());
        for _ in 0..6 {
            retainers.push(client.retainer(1_000).await?);
            accounts.push(client.account(5_000).await?);
        }
        Ok(Self { retainers, accounts })
    }
}

/// The number of responses as the callers saw them, by operation and status; `gone` for callers who disconnected.
pub type Responses = BTreeMap<(&'static str, String), u64>;

/// A running load.
#[derive(Debug, Default, Clone)]
pub struct Load {
    responses: Arc<Mutex<Responses>>,
}

impl Load {
    /// Sends `rate` requests per second until the future is ready, then waits for the last responses.
    ///
    /// # Panics
    ///
    /// If `rate` is zero.
    pub async fn run(
        &self,
        client: &Client,
        targets: &Targets,
        rate: u32,
        until: impl Future<Output = ()>,
        seed: u64,
    ) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut arrivals = interval(Duration::from_secs(1) / rate);
        arrivals.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut until = pin!(until);
        let mut callers = JoinSet::new();
        loop {
            tokio::select! {
                () = &mut until => break,
                _ = arrivals.tick() => {}
            }
            callers.spawn(call(client.clone(), targets.clone(), self.responses.clone(), rng.random()));
            while callers.try_join_next().is_some() {}
        }
        while callers.join_next().await.is_some() {}
    }

    /// As [`run`](Self::run), for long runs: it creates new retainers and accounts every half minute, because
    /// the load consumes more than it replenishes, and an empty retainer rejects every consumption.
    ///
    /// # Errors
    ///
    /// If the ledger cannot create the first retainers and accounts. If it fails later, the load continues with the
    /// old ones.
    ///
    /// # Panics
    ///
    /// If `rate` is zero.
    pub async fn run_in_shifts(
        &self,
        client: &Client,
        rate: u32,
        until: impl Future<Output = ()>,
        mut seed: u64,
    ) -> Result<()> {
        let mut targets = Targets::open(client).await?;
        let (mut until, mut over) = (pin!(until), false);
        loop {
            let shift = async {
                tokio::select! { () = &mut until => over = true, () = sleep(SHIFT) => {} }
            };
            self.run(client, &targets, rate, shift, seed).await;
            if over {
                return Ok(());
            }
            seed = seed.wrapping_add(1);
            if let Ok(new) = Targets::open(client).await {
                targets = new;
            }
        }
    }

    /// The responses so far.
    #[must_use]
    pub fn responses(&self) -> Responses {
        self.responses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One request. Half of the requests use the first retainer and the first two accounts.
async fn call(client: Client, targets: Targets, responses: Arc<Mutex<Responses>>, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let hot = rng.random_bool(0.5);
    let retainer = if hot {
        &targets.retainers[0]
    } else {
        &targets.retainers[rng.random_range(1..targets.retainers.len())]
    };
    let from = if hot { 0 } else { rng.random_range(0..targets.accounts.len()) };
    let to = (from + 1 + if hot { 0 } else { rng.random_range(0..targets.accounts.len() - 1) })
        % targets.accounts.len();
    let amount = json!(rng.random_range(1..=120));
    let movement = json!({"amount": amount, "description": "load"});
    let note = |operation: &'static str, answer: String| {
        *responses.lock().unwrap_or_else(PoisonError::into_inner).entry((operation, answer)).or_default() +=
            1;
    };
    let post = async |operation: &'static str, path: &str, body: &Value, patience: Duration| {
        let answer = match tokio::time::timeout(patience, client.post(path, body)).await {
            Ok(Ok((status, body))) => {
                note(operation, status.as_str().to_owned());
                return Some(body);
            }
            Ok(Err(_)) => "unanswered",
            Err(_) => "gone",
        };
        note(operation, answer.to_owned());
        None
    };
    let patient = Duration::from_secs(60);
    match rng.random_range(0..100) {
        0..35 => {
            post(
                "POST /api/retainers/{id}/consume",
                &format!("/api/retainers/{retainer}/consume"),
                &movement,
                patient,
            )
            .await;
        }
        35..60 => {
            let path = format!("/api/retainers/{retainer}/replenish");
            post("POST /api/retainers/{id}/replenish", &path, &movement, patient).await;
        }
        60..80 => {
            let (from, to) = (&targets.accounts[from], &targets.accounts[to]);
            let body =
                json!({"fromAccountId": from, "toAccountId": to, "amount": amount, "description": "load"});
            post("POST /api/bank-transfers", "/api/bank-transfers", &body, patient).await;
        }
        80..95 => {
            let body =
                json!({"customerId": "c", "amount": amount, "paymentMethod": "card", "status": "pending"});
            let Some(created) = post("POST /api/payments", "/api/payments", &body, patient).await else {
                return;
            };
            let Some(id) = created["payment"]["_id"].as_str() else { return };
            let path = format!("/api/payments/{id}/complete");
            let nothing = json!({});
            let complete = || post("POST /api/payments/{id}/complete", &path, &nothing, patient);
            // Occasionally a double submission: the second completion must be rejected.
            tokio::join!(complete(), async {
                if hot {
                    complete().await;
                }
            });
        }
        // A caller who disconnects before the response.
        95..97 => {
            let patience = Duration::from_millis(rng.random_range(1..4));
            post(
                "POST /api/retainers/{id}/consume",
                &format!("/api/retainers/{retainer}/consume"),
                &movement,
                patience,
            )
            .await;
        }
        // An invalid request.
        _ => {
            let body = json!({"amount": -1, "description": "load"});
            post(
                "POST /api/retainers/{id}/consume",
                &format!("/api/retainers/{retainer}/consume"),
                &body,
                patient,
            )
            .await;
        }
    }
}
