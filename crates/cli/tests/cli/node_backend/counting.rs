//! Each request is counted once, with the outcome and the reason that the operations file declares.

use std::collections::BTreeMap;

use anyhow::ensure;
use mongodb::bson::doc;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::{FailPoint, Scrape, wait};
use txnscope_catalog as catalog;

use super::environment::{APP, Environment};

/// Numbers of operations by name, outcome and reason; the reason of a success is empty.
pub(crate) type Counted = BTreeMap<(String, String, String), u64>;

/// What a page has counted, without what is zero.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are small and whole")]
pub(crate) fn counted(page: &Scrape) -> Counted {
    let count = format!("{}_count", catalog::TRANSACTION_DURATION.name);
    let succeeded = page.matching(&count, &[("outcome", "succeeded")]);
    let failures = page.matching(catalog::TRANSACTION_FAILURES.name, &[]);
    let label = |labels: &BTreeMap<String, String>, name: &str| labels.get(name).cloned().unwrap_or_default();
    let counted: Counted = succeeded
        .chain(failures)
        .filter(|series| series.value > 0.0)
        .map(|series| {
            let of = |name| label(&series.labels, name);
            ((of("operation"), of("outcome"), of("reason")), series.value as u64)
        })
        .collect();
    // Each ended operation is in the histogram once, and none is in flight.
    let all: u64 = counted.values().sum();
    for (name, expected) in [
        (count.as_str(), all),
        (catalog::TRANSACTION_ATTEMPTS.name, all),
        (catalog::CONCURRENT_OPERATIONS.name, 0),
    ] {
        assert_eq!(page.sum(name, &[]) as u64, expected, "{name}");
    }
    counted
}

/// Sends requests, and remembers how they must be counted.
struct Caller<'a> {
    environment: &'a Environment,
    expected: Counted,
}

impl Caller<'_> {
    /// `template` is the operation's path; `id` takes the place of `{id}`.
    async fn post(&mut self, template: &str, id: &str, body: Value, (status, reason): (u16, &str)) -> Value {
        let path = template.replace("{id}", id);
        let (found, answer) = self.environment.send(Method::POST, &path, Some(&body)).await;
        assert_eq!(found, StatusCode::from_u16(status).unwrap(), "{path} {body}: {answer}");
        assert!(found.is_success() || answer["message"].is_string(), "{answer}");
        let outcome = match status {
            ..400 => "succeeded",
            400..500 => "rejected",
            _ => "failed",
        };
        let key = (format!("POST {template}"), outcome.to_owned(), reason.to_owned());
        *self.expected.entry(key).or_default() += 1;
        answer
    }

    async fn create(&mut self, template: &str, what: &str, body: Value) -> String {
        let answer = self.post(template, "", body, (201, "")).await;
        answer[what]["_id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    async fn account(&mut self, currency: &str) -> String {
        let body = json!({
            "name": "a", "accountNumber": "1", "bankName": "b", "currency": currency, "balance": 100.25,
        });
        self.create("/api/bank-accounts", "account", body).await
    }

    async fn payment(&mut self, status: &str, invoice: &str) -> String {
        let body = json!({
            "customerId": "c", "amount": 12.5, "paymentMethod": "card", "status": status, "invoiceId": invoice,
        });
        self.create("/api/payments", "payment", body).await
    }
}

const OK: (u16, &str) = (200, "");
const INVALID: (u16, &str) = (400, "invalid_request");
const MISSING: (u16, &str) = (404, "not_found");
const INSUFFICIENT: (u16, &str) = (400, "insufficient_balance");
/// No document has this id.
const NONE: &str = "000000000000000000000000";

async fn retainers(caller: &mut Caller<'_>) {
    let (open, consume, replenish) =
        ("/api/retainers", "/api/retainers/{id}/consume", "/api/retainers/{id}/replenish");
    let new =
        |kind: &str, amount: Value| json!({"clientId": "c", "retainerType": kind, "initialAmount": amount});
    let id = caller.create(open, "retainer", new("hourly", json!(20))).await;
    caller.post(open, "", new("unknown", json!(20)), INVALID).await;
    caller.post(open, "", new("hourly", json!("20")), INVALID).await;
    caller.post(consume, &id, json!({"amount": 0.29}), OK).await;
    caller.post(consume, &id, json!({"amount": 0.001}), INVALID).await;
    caller.post(consume, &id, json!({"amount": 20}), INSUFFICIENT).await;
    caller.post(consume, NONE, json!({"amount": 1}), MISSING).await;
    caller.post(consume, "7", json!({"amount": 1}), INVALID).await;
    caller.post(replenish, &id, json!({"amount": 0.01}), OK).await;
    caller.post(replenish, NONE, json!({"amount": 1}), MISSING).await;
    // Reads pass uncounted.
    let (status, found) = caller.environment.send(Method::GET, &format!("/api/retainers/{id}"), None).await;
    assert!(status.is_success() && found["data"]["currentBalance"] == json!(19.72), "{found}");
}

async fn payments(caller: &mut Caller<'_>) {
    let complete = "/api/payments/{id}/complete";
    let [first, same, failed] = [
        caller.payment("pending", "i-1").await,
        caller.payment("pending", "i-1").await,
        caller.payment("failed", "i-2").await,
    ];
    caller.post(complete, &first, json!({}), OK).await;
    caller.post(complete, &first, json!({}), (400, "payment_already_completed")).await;
    caller.post(complete, &same, json!({}), (400, "invoice_already_paid")).await;
    caller.post(complete, &failed, json!({}), (400, "payment_not_completable")).await;
    caller.post(complete, NONE, json!({}), MISSING).await;
}

async fn transfers(caller: &mut Caller<'_>) {
    let (create, cancel) = ("/api/bank-transfers", "/api/bank-transfers/{id}/cancel");
    let [from, to, other] =
        [caller.account("EUR").await, caller.account("EUR").await, caller.account("USD").await];
    let transfer = |from: &str, to: &str, amount: f64| json!({"fromAccountId": from, "toAccountId": to, "amount": amount});
    let id = caller.create(create, "transfer", transfer(&from, &to, 60.0)).await;
    caller.post(create, "", transfer(&from, &to, 60.0), INSUFFICIENT).await;
    caller.post(create, "", transfer(&from, &from, 1.0), (400, "same_account")).await;
    caller.post(create, "", transfer(&from, &other, 1.0), (400, "currency_mismatch")).await;
    caller.post(create, "", transfer(&from, NONE, 1.0), MISSING).await;
    caller.post(create, "", transfer("7", &to, 1.0), INVALID).await;
    caller.post(cancel, &id, json!({}), OK).await;
    caller.post(cancel, &id, json!({}), (400, "transfer_already_cancelled")).await;
}

/// The server fails a write, and the client does not see its message.
async fn failure(caller: &mut Caller<'_>) {
    let client = caller.environment.set.client().await.unwrap();
    let data = doc! {"failCommands": ["insert"], "errorCode": 8};
    let failpoint = FailPoint::fail_command_times(&client, APP, 1, data).await.unwrap();
    let body = json!({"clientId": "c", "retainerType": "fixed", "initialAmount": 5});
    let answer = caller.post("/api/retainers", "", body, (500, "other")).await;
    assert_eq!(answer, json!({"message": "Internal error"}));
    assert_eq!(failpoint.count().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_counted_once_with_its_declared_outcome() {
    let mut environment = Environment::start("after").await;
    let mut caller = Caller { environment: &environment, expected: Counted::new() };
    retainers(&mut caller).await;
    payments(&mut caller).await;
    transfers(&mut caller).await;
    failure(&mut caller).await;
    let mut expected = caller.expected;
    wait::until("the proxy to have counted the last request", async || {
        let page = environment.proxy_page().await;
        ensure!(page.sum(catalog::CONCURRENT_OPERATIONS.name, &[]) == 0.0, "one is in flight");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(counted(&environment.proxy_page().await), expected, "by the proxy");
    assert_eq!(counted(&environment.backend_page().await), expected, "by the backend itself");

    // Shut down in good order, the backend is no longer reached.
    let process = environment.backend.process();
    process.signal(testkit::Signal::TERM).unwrap();
    let status = process.wait().await.unwrap();
    assert!(status.success(), "{status}: {}", process.log());
    let (status, _) = environment.send(Method::POST, "/api/payments", Some(&json!({}))).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    expected.insert(("POST /api/payments".into(), "failed".into(), "upstream_unreachable".into()), 1);
    assert_eq!(counted(&environment.proxy_page().await), expected);
}
