use std::collections::HashSet;

use super::*;
use crate::{Metrics, Reason};

fn registry() -> (Metrics, Registry) {
    let metrics = Metrics::isolated().unwrap();
    let registry = metrics.registry();
    (metrics, registry)
}

#[test]
fn route_and_name_resolve_to_one_operation() {
    let (_metrics, registry) = registry();
    let by_name = registry.resolve(OperationName::named("POST /a/{id}"));
    let by_route = registry.resolve(OperationName::route("POST", "/a/{id}"));
    assert!(std::ptr::eq(by_name, by_route));
    assert_eq!(by_name.name, "POST /a/{id}");
    assert!(!std::ptr::eq(by_name, registry.resolve(OperationName::route("PUT", "/a/{id}"))));
}

#[test]
fn similar_names_stay_distinct() {
    let (_metrics, registry) = registry();
    let names = [
        "nightly reconcile",
        "nightlyreconcile",
        "nightly  reconcile",
        " nightly reconcile",
        "POST",
        "POST ",
    ];
    let distinct: HashSet<_> = names.map(|name| registry.resolve(OperationName::named(name)).name).into();
    assert_eq!(distinct.len(), names.len(), "{distinct:?}");
    let route = registry.resolve(OperationName::route("POST", "/x"));
    assert!(!std::ptr::eq(route, registry.resolve(OperationName::named("POST/x"))));
}

#[test]
fn reused_address_resolves_to_new_name() {
    let (_metrics, registry) = registry();
    let mut name = String::with_capacity(64);
    let address = name.as_ptr();
    for text in ["/a/{id}", "/b/{id}", "/a/{id}/b", "/a/{id}"] {
        name.clear();
        name.push_str(text);
        assert_eq!(name.as_ptr(), address);
        for method in ["PUT", "GET", "POST"] {
            for _ in 0..2 {
                let metrics = registry.resolve(OperationName::route(method, &name));
                assert_eq!(metrics.name, format!("{method} {text}"));
            }
        }
        assert_eq!(registry.resolve(OperationName::named(&name)).name, text);
    }
}

#[test]
fn operations_beyond_limit_count_as_overflow() {
    let (metrics, registry) = registry();
    let first = registry.resolve(OperationName::named("op_0"));
    for i in 0..MAX_OPERATIONS + 50 {
        let metrics = registry.resolve(OperationName::named(&format!("op_{i}")));
        let expected = if i < MAX_OPERATIONS { format!("op_{i}") } else { OVERFLOW.to_owned() };
        assert_eq!(metrics.name, expected);
    }
    assert!(std::ptr::eq(first, registry.resolve(OperationName::named("op_0"))));
    let page = metrics.render();
    let operations = page.lines().filter(|line| line.starts_with("transaction_attempts_total{")).count();
    assert_eq!(operations, MAX_OPERATIONS + 1);
}

#[test]
fn operation_beyond_limit_declares_nothing_for_overflow() {
    let (metrics, registry) = registry();
    for i in 0..MAX_OPERATIONS {
        registry.resolve(OperationName::named(&format!("op_{i}")));
    }
    registry.declare([Operation::new("late").rejection_reasons(&[Reason::APPLICATION])]);
    assert!(!metrics.render().contains("failures_total{operation=\"overflow\",outcome=\"rejected\""));
}

#[test]
fn concurrent_registration_returns_same_handles() {
    let (metrics, registry) = registry();
    let barrier = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                for i in 0..100 {
                    registry.resolve(OperationName::named(&format!("raced_{i}"))).attempts.increment(1);
                }
            });
        }
    });
    let page = metrics.render();
    for i in 0..100 {
        let line = format!("transaction_attempts_total{{operation=\"raced_{i}\"}} 8");
        assert!(page.lines().any(|l| l == line), "{line} is not on the page");
    }
}

#[test]
fn declared_series_start_at_zero() {
    const REASON: Reason = Reason::declare("insufficient_balance");
    let (metrics, registry) = registry();
    registry.declare([Operation::new("POST /consume")
        .rejection_reasons(&[REASON])
        .failure_reasons(&[Reason::WRITE_CONFLICT])]);
    let page = metrics.render();
    for line in [
        "transaction_attempts_total{operation=\"POST /consume\"} 0",
        "concurrent_operations{operation=\"POST /consume\"} 0",
        "transaction_failures_total{operation=\"POST /consume\",outcome=\"rejected\",reason=\"insufficient_balance\"} 0",
        "transaction_failures_total{operation=\"POST /consume\",outcome=\"failed\",reason=\"write_conflict\"} 0",
        "transaction_failures_total{operation=\"POST /consume\",outcome=\"failed\",reason=\"other\"} 0",
        "transaction_failures_total{operation=\"POST /consume\",outcome=\"cancelled\",reason=\"cancelled\"} 0",
        "transaction_failures_total{operation=\"POST /consume\",outcome=\"panicked\",reason=\"panic\"} 0",
        "transaction_duration_seconds_bucket{operation=\"POST /consume\",outcome=\"succeeded\",le=\"0.25\"} 0",
        "transaction_duration_seconds_count{operation=\"POST /consume\",outcome=\"panicked\"} 0",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not on the page:\n{page}");
    }
}
