//! Errors: an unreachable, rejecting, redirecting or hanging backend, and an invalid command line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use axum::Router;
use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::any;
use tempfile::TempDir;
use testkit::wait;
use tokio::sync::Notify;

use crate::drill::environment::{command, drill, ended, serve};

#[tokio::test]
async fn invalid_command_line_is_an_error() {
    let folder = TempDir::new().unwrap();
    let empty = folder.path().join("token");
    std::fs::write(&empty, "\n").unwrap();
    let empty = format!("--token-file={}", empty.display());
    let url = "--url=http://127.0.0.1:1";
    for (arguments, expected) in [
        (&["race"][..], "--url"),
        (&["race", "--url=127.0.0.1:3000"], "--url must begin with http:// or https://"),
        (&["race", "--url=http://user:hunter2@127.0.0.1:1/"], "--url holds a user or a password"),
        (&["race", url, "--token=hunter2"], "--token"),
        (&["race", url, "--token-file=/nowhere/token"], "--token-file: cannot use /nowhere/token"),
        (&["race", url, &empty], "it is empty"),
        (&["race", url, "--concurrency=1"], "--concurrency"),
        (&["race", url, "--scenario=consum"], "consume"),
        (&["race", url, "--ca-file=/nowhere/ca"], "--ca-file: cannot use /nowhere/ca"),
        (&["race", url], "http://127.0.0.1:1 cannot be reached (no connection)"),
        (&["load", url, "--duration=1s"], "--rate"),
        (&["load", url, "--rate=10000", "--duration=60s"], "lower --rate or --duration"),
        (
            &["load", url, "--rate=1", "--duration=1s", "--result-file=/nowhere/result"],
            "--result-file: cannot create",
        ),
        (&["load", url, "--rate=1", "--duration=1s"], "cannot be reached"),
    ] {
        let (code, output_text) = drill(arguments).await;
        assert_eq!(code, 2, "{arguments:?}: {output_text}");
        assert!(output_text.contains(expected), "{arguments:?}: {output_text}");
        assert!(!output_text.contains("user:hunter2"), "{output_text}");
    }
    let (code, output_text) =
        ended(command(&["race", url]).env_remove("TXNSCOPE_DRILL_TOKEN").output()).await;
    assert_eq!(code, 2, "{output_text}");
    assert!(
        output_text.contains("no token configured: name a file that holds it with --token-file"),
        "{output_text}"
    );
}

#[tokio::test]
async fn rejected_token_and_redirect_are_errors_and_redirects_are_not_followed() {
    let refusing = serve(Router::new().fallback(async || StatusCode::UNAUTHORIZED)).await;
    let (code, output_text) = drill(&["race", &format!("--url={refusing}")]).await;
    assert_eq!(code, 2, "{output_text}");
    assert!(output_text.contains("rejects the token"), "{output_text}");

    let followed = Arc::new(AtomicBool::new(false));
    let (seen, target) = (Arc::clone(&followed), Router::new());
    let target = serve(target.fallback(async move || {
        seen.store(true, SeqCst);
        StatusCode::NOT_FOUND
    }))
    .await;
    let redirecting = serve(Router::new().fallback(async move || Redirect::temporary(&target))).await;
    for drilled in [&["race"][..], &["load", "--rate=1", "--duration=1s"]] {
        let (code, output_text) = drill(&[drilled, &[&format!("--url={redirecting}")]].concat()).await;
        assert_eq!(code, 2, "{output_text}");
        assert!(output_text.contains("responds with a redirect"), "{output_text}");
    }
    assert!(!followed.load(SeqCst), "the drill followed the redirect");
}

/// A backend that responds only to requests for an unknown path.
fn hanging() -> Router {
    let never = any(async || std::future::pending::<StatusCode>().await);
    Router::new().route("/api/retainers", never).fallback(async || StatusCode::NOT_FOUND)
}

#[tokio::test]
async fn hanging_backend_is_stopped_by_deadline_or_signal() {
    let url = format!("--url={}", serve(hanging()).await);
    let (code, text) = drill(&["race", &url, "--deadline=1s"]).await;
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("consume ") && text.contains("inconclusive"), "{text}");
    assert!(text.contains("the time limit was reached (--deadline)") && !text.contains("passed"), "{text}");

    let asked = Arc::new(Notify::new());
    let notified = Arc::clone(&asked);
    let never = any(async move || {
        notified.notify_one();
        std::future::pending::<StatusCode>().await
    });
    let routes = Router::new().route("/api/retainers", never).fallback(async || StatusCode::NOT_FOUND);
    let child = command(&["race", &format!("--url={}", serve(routes).await)]).spawn().unwrap();
    tokio::time::timeout(wait::LIMIT, asked.notified()).await.unwrap();
    interrupt(child.id().unwrap());
    let (code, text) = ended(child.wait_with_output()).await;
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("it was interrupted"), "{text}");
}

pub(crate) fn interrupt(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, testkit::Signal::INT).unwrap();
}

/// Lost responses neither pass nor fail a scenario.
#[tokio::test]
async fn requests_without_response_are_inconclusive() {
    let url = format!("--url={}", serve(hanging()).await);
    let (code, text) = drill(&["race", &url, "--rounds=1", "--scenario=consume", "--timeout=200ms"]).await;
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains("POST /api/retainers responded with no response (timeout) instead of 201"),
        "{text}"
    );
}
