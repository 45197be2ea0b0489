//! A client of the reference backend.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// How long a connection is kept without a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// A client of one ledger with one token. Cloning is cheap, and connections are reused.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Client {
    /// A client of the ledger at `base` (`http://127.0.0.1:3000`).
    #[must_use]
    pub fn new(base: impl Into<String>, token: impl Into<String>) -> Self {
        // By default it would keep idle connections for longer than the ledger, and lose requests over one that is being closed.
        let http = reqwest::Client::builder().pool_idle_timeout(IDLE_TIMEOUT).build().unwrap_or_default();
        Self { http, base: base.into(), token: token.into() }
    }

    /// A request without a body, ready to send.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    /// Sends a POST request, and returns status and body.
    ///
    /// # Errors
    ///
    /// If no response arrives, or one that is not JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Result<(StatusCode, Value)> {
        let response = self
            .request(Method::POST, path)
            .json(body)
            .send()
            .await
            .with_context(|| format!("POST {path}"))?;
        let status = response.status();
        let body =
            response.json().await.with_context(|| format!("POST {path} answered {status} without JSON"))?;
        Ok((status, body))
    }

    /// Sends a GET request, and returns status and body.
    ///
    /// # Errors
    ///
    /// If no response arrives, or one that is not JSON.
    pub async fn get(&self, path: &str) -> Result<(StatusCode, Value)> {
        let response = self.request(Method::GET, path).send().await.with_context(|| format!("GET {path}"))?;
        let status = response.status();
        let body =
            response.json().await.with_context(|| format!("GET {path} answered {status} without JSON"))?;
        Ok((status, body))
    }

    /// Creates an entity, and returns its id.
    ///
    /// # Errors
    ///
    /// If the response is not 201 with `what._id`.
    pub async fn create(&self, path: &str, what: &str, body: &Value) -> Result<String> {
        let (status, answer) = self.post(path, body).await?;
        match answer[what]["_id"].as_str() {
            Some(id) if status == StatusCode::CREATED => Ok(id.to_owned()),
            _ => bail!("POST {path} answered {status}: {answer}"),
        }
    }

    /// Creates a retainer with that balance.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create).
    pub async fn retainer(&self, balance: i64) -> Result<String> {
        let body = json!({"clientId": "client-1", "retainerType": "general", "initialAmount": balance});
        self.create("/api/retainers", "retainer", &body).await
    }

    /// Creates a bank account with that balance.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create).
    pub async fn account(&self, balance: i64) -> Result<String> {
        let body = json!({
            "name": "Operating", "accountNumber": "DE-1", "bankName": "First", "currency": "EUR", "balance": balance,
        });
        self.create("/api/bank-accounts", "account", &body).await
    }

    /// Creates a pending payment.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create).
    pub async fn payment(&self, amount: i64) -> Result<String> {
        let body = json!({"customerId": "customer-1", "amount": amount, "paymentMethod": "transfer", "status": "pending"});
        self.create("/api/payments", "payment", &body).await
    }
}
