//! Cross-site requests from browsers, and security headers.

use txnscope_sidecar::Sidecar;

use super::{ask, config};

#[tokio::test]
async fn cross_site_reload_is_rejected() {
    let sidecar = Sidecar::start(config()).await.unwrap();
    let host = format!("host: {}\r\n", sidecar.local_addr());
    for lines in [
        "origin: https://evil.example\r\n",
        "origin: null\r\n",
        "origin: http://localhost:1\r\n",
        "sec-fetch-site: cross-site\r\n",
        "sec-fetch-site: same-site\r\n",
    ] {
        for method in ["POST", "PUT"] {
            let answer =
                ask(&sidecar, &format!("{method} /-/reload"), &format!("{host}{lines}")).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 403"), "{lines}: {answer}");
        }
    }
    let ours = format!("{host}origin: http://{}\r\nsec-fetch-site: same-origin\r\n", sidecar.local_addr());
    let answer = ask(&sidecar, "POST /-/reload", &ours).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = ask(&sidecar, "GET /-/reload", &ours).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    sidecar.shutdown().await;
}

#[tokio::test]
async fn web_reloads_are_rate_limited() {
    let sidecar = Sidecar::start(config()).await.unwrap();
    let started = tokio::time::Instant::now();
    let (mut done, mut refused) = (0_u64, 0);
    for _ in 0..500 {
        let answer = ask(&sidecar, "POST /-/reload", "host: localhost\r\n").await.unwrap();
        match answer.split_whitespace().nth(1) {
            Some("200") => done += 1,
            Some("429") => {
                assert!(answer.contains("retry-after: 1"), "{answer}");
                refused += 1;
            }
            _ => panic!("{answer}"),
        }
    }
    let most = started.elapsed().as_secs() + 3;
    assert!(done >= 1 && done <= most && done + refused == 500, "{done} done, {refused} refused");
    // Reloads by the operator have no rate limit.
    for _ in 0..5 {
        sidecar.reload().await.unwrap();
    }
    sidecar.shutdown().await;
}

/// DNS rebinding: a foreign host name resolves to this machine, and the browser considers requests to it
/// same-origin.
#[tokio::test]
async fn dns_rebinding_request_is_rejected() {
    let sidecar = Sidecar::start(config()).await.unwrap();
    for path in ["/metrics", "/", "/probe?target=x", "/-/healthy", "/nowhere"] {
        for host in ["evil.example", "evil.example:9917", "127.0.0.1.evil.example"] {
            let answer = ask(&sidecar, &format!("GET {path}"), &format!("host: {host}\r\n")).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("--web.allowed-hosts"), "{answer}");
            assert!(!answer.contains("evil"), "{answer}");
        }
    }
    let answer =
        ask(&sidecar, "POST /-/reload", "host: evil.example\r\norigin: http://evil.example\r\n").await;
    assert!(answer.unwrap().starts_with("HTTP/1.1 403"));
    for host in ["localhost", "localhost:9917", "127.0.0.1:1", "[::1]"] {
        let answer = ask(&sidecar, "GET /-/healthy", &format!("host: {host}\r\n")).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
    }
    sidecar.shutdown().await;

    // On addresses that other machines reach, every name is allowed, unless some are configured.
    let listen = vec!["0.0.0.0:0".parse().unwrap()];
    for (allowed, host, status) in [
        (&[][..], "sidecar.monitoring.svc", "200"),
        (&["sidecar.monitoring.svc"], "SIDECAR.monitoring.svc:9917", "200"),
        (&["sidecar.monitoring.svc"], "127.0.0.1", "200"),
        (&["sidecar.monitoring.svc"], "evil.example", "403"),
    ] {
        let mut config = config();
        config.allowed_hosts = allowed.iter().map(|host| (*host).to_owned()).collect();
        config.listen_addresses.clone_from(&listen);
        let sidecar = Sidecar::start(config).await.unwrap();
        let answer = ask(&sidecar, "GET /-/healthy", &format!("host: {host}\r\n")).await.unwrap();
        assert_eq!(answer.split_whitespace().nth(1), Some(status), "{allowed:?} {host}: {answer}");
        sidecar.shutdown().await;
    }
    let mut config = config();
    config.allowed_hosts = vec!["http://a:1".to_owned()];
    assert!(Sidecar::start(config).await.unwrap_err().to_string().contains("allowed host"));
}

#[tokio::test]
async fn responses_have_security_headers_and_do_not_reflect_input() {
    let sidecar = Sidecar::start(config()).await.unwrap();
    for (path, status) in [
        ("/", "200"),
        ("/live", "200"),
        ("/live/page.js", "200"),
        ("/live/canary?canary=1", "404"),
        ("/metrics", "200"),
        ("/-/healthy", "200"),
        ("/canary?canary=1", "404"),
        ("/probe?target=canary", "404"),
        ("/probe?canary=1", "400"),
        ("/probe?target=%ffcanary", "404"),
        ("/probe?target=canary&auth_module=canary", "404"),
    ] {
        let answer = ask(&sidecar, &format!("GET {path}"), "host: localhost\r\n").await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let code = head.split_whitespace().nth(1).unwrap();
        assert!(code == status || (path.contains('%') && code == "400"), "{path}: {head}");
        for header in [
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "referrer-policy: no-referrer",
            "content-security-policy: default-src 'none'; script-src 'self'; ",
        ] {
            assert!(head.contains(header), "{path} lacks {header}: {head}");
        }
        assert!(!body.contains("canary") && !head.contains("canary"), "{path}: {answer}");
    }
    sidecar.shutdown().await;
}
