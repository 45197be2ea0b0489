//! A transaction that is open for too long is counted, and logged once with the data that identifies its client.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mongodb::bson::Bson;
use testkit::ReplicaSet;

use crate::common::{everything, open_transaction, page_where, prepare, sidecar_with, total};

#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self, with: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(with)).map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The only test of this process, since the log is global.
#[tokio::test(flavor = "multi_thread")]
async fn long_running_transaction_is_counted_and_logged_once() {
    const LONG: &str = "mongodb_transactions_long_running";
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    let set = ReplicaSet::start(1).await.unwrap();
    let shop = set.client_named("shop").await.unwrap();
    prepare(&shop).await;
    let mut settings = everything();
    settings.current_op.long_running = Duration::from_secs(1);
    let sidecar = sidecar_with(&set.uri(), settings).await;
    let page = page_where(&sidecar, "the threshold", |page| page.family(LONG).is_some()).await;
    assert_eq!(total(&page, "mongodb_transactions_long_running_threshold_seconds"), 1.0);

    let mut session = open_transaction(&shop).await;
    page_where(&sidecar, "a long-running transaction", |page| total(page, LONG) == 1.0).await;
    // After several more polls there is still one line.
    let age = "mongodb_transactions_oldest_open_seconds";
    page_where(&sidecar, "an age of three seconds", |page| total(page, age) > 3.0).await;
    let lines = log.lines("a transaction is long-running");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let Some(Bson::Binary(session_id)) = session.id().get("id") else { panic!("{}", session.id()) };
    let session_id = session_id.to_uuid().unwrap().to_string();
    for part in ["WARN", session_id.as_str(), "txn_number=", "application=\"shop\"", "active=false"] {
        assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
    }
    session.abort_transaction().await.unwrap();
    page_where(&sidecar, "none", |page| page.value(LONG, &[]) == Some(0.0)).await;
    sidecar.shutdown().await;
}
