//! A replica set, an edition of the backend, and the proxy in front of it.

use std::collections::BTreeMap;

use reqwest::StatusCode;
use serde_json::Value;
use testkit::{NodeBackend, ReplicaSet, Scrape};

use crate::common::{run_with, stdout_and_stderr};
use crate::proxy::Proxying;

/// The app name in the URI of the backend.
pub(crate) const APP: &str = "node-backend";

pub(crate) struct Environment {
    pub(crate) set: ReplicaSet,
    pub(crate) backend: NodeBackend,
    proxying: Proxying,
    http: reqwest::Client,
}

/// A file of the example.
pub(crate) fn file(name: &str) -> String {
    testkit::workspace().join("examples/node-backend").join(name).display().to_string()
}

impl Environment {
    /// The edition `before` or `after`. It counts its own operations as well, as the reference for the proxy's counters.
    pub(crate) async fn start(edition: &str) -> Self {
        let set = ReplicaSet::start(1).await.unwrap();
        let uri = format!("{}&appName={APP}", set.uri().replace("/?", "/app?"));
        let backend = NodeBackend::start_with(edition, &uri, &[("METRICS", "true")]).await.unwrap();
        let arguments = [
            format!("--upstream={}", backend.url()),
            format!("--operations.file={}", file("operations.toml")),
        ];
        let proxying = Proxying::start(&arguments).await;
        Self { set, backend, proxying, http: testkit::http_client() }
    }

    /// The URL of the proxy's traffic.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.proxying.address)
    }

    /// The URL of the proxy's metrics.
    pub(crate) fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.proxying.web)
    }

    /// The proxy's metrics.
    pub(crate) async fn proxy_page(&self) -> Scrape {
        Scrape::get(&self.metrics_url()).await.unwrap()
    }

    /// The backend's own metrics.
    pub(crate) async fn backend_page(&self) -> Scrape {
        Scrape::get(&format!("{}/metrics", self.backend.url())).await.unwrap()
    }

    /// Sends a request through the proxy.
    pub(crate) async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.url()));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Runs `drill race` or `drill load` through the proxy, and returns its exit status and its output.
    pub(crate) async fn drill(&self, kind: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let fixed = [
            "drill".to_owned(),
            kind.to_owned(),
            format!("--url={}", self.url()),
            format!("--scenarios.file={}", file("scenarios.toml")),
        ];
        let arguments: Vec<&str> =
            fixed.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        let output = run_with(&arguments, &[("TXNSCOPE_DRILL_TOKEN", "unused")]).await;
        (output.status.code(), stdout_and_stderr(&output))
    }

    /// Runs the checks of the example, and returns the result of each.
    pub(crate) async fn audit(&self) -> BTreeMap<String, String> {
        let checks = format!("--checks.file={}", file("checks.toml"));
        let arguments = ["audit", &checks, "--output=json"];
        let output = run_with(&arguments, &[("MONGODB_URI", &self.set.uri())]).await;
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", stdout_and_stderr(&output)));
        let text = |check: &Value, key: &str| check[key].as_str().unwrap().to_owned();
        let checks = report["checks"].as_array().unwrap().iter();
        checks.map(|check| (text(check, "check"), text(check, "result"))).collect()
    }
}
