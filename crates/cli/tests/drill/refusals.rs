//! What is no proof: a backend that is not there, that refuses, redirects or hangs, and a command line that is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use axum::Router;
use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::any;
use tempfile::TempDir;
use testkit::wait;
use tokio::sync::Notify;

use crate::stage::{command, drill, ended, serve};

#[tokio::test]
async fn a_wrong_command_line_is_told_apart() {
    let folder = TempDir::new().unwrap();
    let empty = folder.path().join("token");
    std::fs::write(&empty, "\n").unwrap();
    let empty = format!("--token-file={}", empty.display());
    let url = "--url=http://127.0.0.1:1";
    for (arguments, complaint) in [
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
        let (code, said) = drill(arguments).await;
        assert_eq!(code, 2, "{arguments:?}: {said}");
        assert!(said.contains(complaint), "{arguments:?}: {said}");
        assert!(!said.contains("user:hunter2"), "{said}");
    }
    let (code, said) = ended(command(&["race", url]).env_remove("TXNSCOPE_DRILL_TOKEN").output()).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("no token: name a file that holds it with --token-file"), "{said}");
}

#[tokio::test]
async fn who_refuses_or_redirects_is_named_and_a_redirect_is_not_followed() {
    let refusing = serve(Router::new().fallback(async || StatusCode::UNAUTHORIZED)).await;
    let (code, said) = drill(&["race", &format!("--url={refusing}")]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("refuses the token"), "{said}");

    let followed = Arc::new(AtomicBool::new(false));
    let (seen, target) = (Arc::clone(&followed), Router::new());
    let target = serve(target.fallback(async move || {
        seen.store(true, SeqCst);
        StatusCode::NOT_FOUND
    }))
    .await;
    let redirecting = serve(Router::new().fallback(async move || Redirect::temporary(&target))).await;
    for drilled in [&["race"][..], &["load", "--rate=1", "--duration=1s"]] {
        let (code, said) = drill(&[drilled, &[&format!("--url={redirecting}")]].concat()).await;
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("answers with a redirect"), "{said}");
    }
    assert!(!followed.load(SeqCst), "it spoke to somebody whom nobody had named");
}

/// Answers only who asks for what is not there.
fn hanging() -> Router {
    let never = any(async || std::future::pending::<StatusCode>().await);
    Router::new().route("/api/retainers", never).fallback(async || StatusCode::NOT_FOUND)
}

#[tokio::test]
async fn what_hangs_is_given_up_when_the_time_is_over_or_somebody_says_so() {
    let url = format!("--url={}", serve(hanging()).await);
    let (code, told) = drill(&["race", &url, "--deadline=1s"]).await;
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("consume ") && told.contains("unknown"), "{told}");
    assert!(told.contains("its time was over (--deadline)") && !told.contains("proven"), "{told}");

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
    let (code, told) = ended(child.wait_with_output()).await;
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("it was interrupted"), "{told}");
}

pub(crate) fn interrupt(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, testkit::Signal::INT).unwrap();
}

/// A backend that loses its answers proves nothing and breaks nothing.
#[tokio::test]
async fn requests_that_nobody_answers_leave_it_open() {
    let url = format!("--url={}", serve(hanging()).await);
    let (code, told) = drill(&["race", &url, "--rounds=1", "--scenario=consume", "--timeout=200ms"]).await;
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("POST /api/retainers answered nothing (timeout) in place of 201"), "{told}");
}
