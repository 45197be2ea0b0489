//! Routing of notifications.

use testkit::amtool;

use super::files::{alerts, folder};

#[tokio::test]
async fn alertmanager_accepts_its_configuration() {
    amtool::check_config(&folder().join("alertmanager.yml")).await.unwrap();
}

#[tokio::test]
async fn alerts_are_routed_by_severity() {
    let config = folder().join("alertmanager.yml");
    for alert in alerts() {
        let name = alert.alert.as_deref().unwrap();
        // Each check has its own severity.
        let severities = match alert.labels["severity"].as_str() {
            "{{ $labels.severity }}" => vec!["critical", "warning", "info"],
            severity => vec![severity],
        };
        for severity in severities {
            let labels =
                [("alertname", name), ("severity", severity), ("component", &alert.labels["component"])];
            let expected = match severity {
                "critical" => "page",
                "none" => "watchdog",
                _ => "ticket",
            };
            let receivers = amtool::receivers(&config, &labels).await.unwrap();
            assert_eq!(receivers, [expected], "{name} with severity {severity}");
        }
    }
}

#[tokio::test]
async fn unknown_severity_is_routed_as_ticket() {
    let labels = [("alertname", "SomethingElse")];
    let receivers = amtool::receivers(&folder().join("alertmanager.yml"), &labels).await.unwrap();
    assert_eq!(receivers, ["ticket"]);
}
