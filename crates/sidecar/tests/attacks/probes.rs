//! Probes of targets that hang.

use futures_util::future::select_all;
use testkit::{FakeMember, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use txnscope_sidecar::{Sidecar, Target};

use super::{config, scrape};

/// Listens, and never answers.
async fn hung() -> (TcpListener, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("mongodb://{}/?directConnection=true", listener.local_addr().unwrap());
    (listener, Target::new(uri))
}

/// Probes these targets concurrently, and returns the first response, and the pending ones.
async fn fill(sidecar: &Sidecar, targets: impl Iterator<Item = String>) -> (String, Vec<TcpStream>) {
    let mut waiting = Vec::new();
    for target in targets {
        let mut stream = TcpStream::connect(sidecar.local_addr()).await.unwrap();
        let head = format!("GET /probe?target={target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        waiting.push(stream);
    }
    let answers = waiting.iter_mut().map(|stream| {
        Box::pin(async {
            let mut answer = [0; 4096];
            let read = stream.read(&mut answer).await.unwrap();
            String::from_utf8_lossy(&answer[..read]).into_owned()
        })
    });
    let (first, _, others) = timeout(wait::LIMIT, select_all(answers)).await.expect("all of them wait");
    drop(others);
    (first, waiting)
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_health_are_served_while_probe_limit_is_reached() {
    let mut config = config();
    config.poll_timeout = wait::LIMIT;
    let mut listeners = Vec::new();
    for number in 0..10 {
        let (listener, target) = hung().await;
        listeners.push(listener);
        config.probes.insert(format!("hung{number}"), target);
    }
    let sidecar = Sidecar::start(config).await.unwrap();
    let names = (0..60).map(|number| format!("hung{}", number % 10));
    let (full, waiting) = fill(&sidecar, names).await;
    assert!(full.starts_with("HTTP/1.1 503") && full.contains("retry-after: 1"), "{full}");
    for path in ["/metrics", "/-/healthy", "/"].repeat(13) {
        let scraped = scrape(&sidecar, path, "").await;
        assert!(scraped.is_ok(), "{path}: {scraped:?}");
    }
    drop(waiting);
    sidecar.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_target_does_not_exhaust_probe_limit() {
    let mut config = config();
    config.poll_timeout = wait::LIMIT;
    let (_listener, hung) = hung().await;
    config.probes.insert("hung".into(), hung);
    let other = FakeMember::start().await.unwrap();
    config
        .probes
        .insert("other".into(), Target::new(format!("mongodb://{}/?directConnection=true", other.address())));
    let sidecar = Sidecar::start(config).await.unwrap();
    let (busy, waiting) = fill(&sidecar, std::iter::repeat_n("hung".to_owned(), 30)).await;
    assert!(busy.starts_with("HTTP/1.1 503") && busy.contains("too many probes are waiting"), "{busy}");
    let page = scrape(&sidecar, "/probe?target=other", "").await.unwrap();
    assert!(page.contains("mongodb_up"), "{page}");
    drop(waiting);
    sidecar.shutdown().await;
}
