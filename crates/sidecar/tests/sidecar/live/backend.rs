//! A backend that serves its table: open transactions, queues and pools.

use axum::Router;
use axum::routing::get;
use mongodb::ClientSession;
use mongodb::bson::Bson;
use tokio::net::TcpListener;

/// Serves a table with one transaction, a queue behind it, and a pool, and returns its URL.
pub(super) async fn serve(session: &ClientSession, number: i64, operation: &str) -> String {
    let Some(Bson::Binary(id)) = session.id().get("id") else { panic!("the session has no id") };
    let row = serde_json::json!({"lsid": id.to_uuid().unwrap().to_string(), "txnNumber": number, "operation": operation});
    let queue = serde_json::json!({"key": "7", "operation": operation, "waiting": 3});
    let pool = serde_json::json!({"server": "db1:27017", "connections": 2, "inUse": 2, "maxSize": 2});
    let table = serde_json::json!({"transactions": [row], "queues": [queue], "pools": [pool]}).to_string();
    let router = Router::new().route("/-/transactions", get(async move || table));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/-/transactions")
}
