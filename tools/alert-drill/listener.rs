//! The receiver of notifications: records everything that Alertmanager sends, with receiver and time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use axum::extract::{Path, State};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::scenarios::AlertResult;

#[derive(Debug, Deserialize)]
struct Message {
    alerts: Vec<Alert>,
}

#[derive(Debug, Clone, Deserialize)]
struct Alert {
    status: String,
    labels: BTreeMap<String, String>,
}

/// One alert in one notification.
#[derive(Debug, Clone)]
pub(crate) struct Notification {
    pub(crate) at: Instant,
    pub(crate) receiver: String,
    pub(crate) firing: bool,
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Listener(Arc<Mutex<Vec<Notification>>>);

impl Listener {
    /// Listens on a free port, and returns the address.
    pub(crate) async fn start(&self) -> Result<String> {
        let router = Router::new().route("/{receiver}", post(hear)).with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(address)
    }

    /// The first notification of that alert and status since a time.
    pub(crate) fn first(&self, alert: &str, firing: bool, since: Instant) -> Option<Notification> {
        let notifications = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let about = |notifications: &&Notification| {
            notifications.labels.get("alertname").is_some_and(|name| name == alert)
                && notifications.firing == firing
                && notifications.at >= since
        };
        notifications.iter().find(about).cloned()
    }

    /// The time at which the last series of that alert was resolved, if all of them are.
    pub(crate) fn all_ended(&self, alert: &str) -> Option<Instant> {
        let last = self.last(alert);
        last.iter()
            .all(|notifications| !notifications.firing)
            .then(|| last.iter().map(|notifications| notifications.at).max())
            .flatten()
    }

    /// Whether a series of that alert is firing, according to the notifications.
    pub(crate) fn is_firing(&self, alert: &str) -> bool {
        self.last(alert).iter().any(|notifications| notifications.firing)
    }

    /// The latest notification of each series of that alert.
    fn last(&self, alert: &str) -> Vec<Notification> {
        let notifications = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last: BTreeMap<_, &Notification> = BTreeMap::new();
        for notifications in notifications
            .iter()
            .filter(|notifications| notifications.labels.get("alertname").is_some_and(|name| name == alert))
        {
            last.insert(&notifications.labels, notifications);
        }
        last.into_values().cloned().collect()
    }

    /// Alerts that no scenario expected.
    pub(crate) fn others(&self, results: &[AlertResult]) -> Vec<String> {
        let notifications = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let names: BTreeSet<_> = notifications
            .iter()
            .filter_map(|notifications| notifications.labels.get("alertname").cloned())
            .collect();
        names.into_iter().filter(|name| !results.iter().any(|result| result.alert == name)).collect()
    }
}

async fn hear(State(listener): State<Listener>, Path(receiver): Path<String>, Json(message): Json<Message>) {
    let at = Instant::now();
    let mut notifications = listener.0.lock().unwrap_or_else(PoisonError::into_inner);
    notifications.extend(message.alerts.into_iter().map(|alert| Notification {
        at,
        receiver: receiver.clone(),
        firing: alert.status == "firing",
        labels: alert.labels,
    }));
}
