//! What a release has to agree on.

use std::fs;

fn read(name: &str) -> String {
    fs::read_to_string(testkit::workspace().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_file_names_the_same_version() {
    let version = env!("CARGO_PKG_VERSION");
    for (name, expected) in [
        ("packaging/helm/txnscope/Chart.yaml", format!("\nversion: {version}\nappVersion: {version}\n")),
        ("packaging/compose.yaml", format!("image: ghcr.io/txnscope/txnscope:{version}\n")),
        (
            "packaging/kubernetes/mongod-sidecar/container.yaml",
            format!("image: ghcr.io/txnscope/txnscope:{version}\n"),
        ),
        ("packaging/kubernetes/mongod-sidecar/kustomization.yaml", format!("?ref=v{version}]")),
        ("docs/install.md", format!("txnscope_{version}_amd64.deb")),
    ] {
        assert!(read(name).contains(&expected), "{name} has no `{}`", expected.trim());
    }
}

/// A tag can be moved to other code, a commit cannot.
#[test]
fn actions_are_pinned_by_commit_and_named_by_version() {
    let mut pinned = 0;
    for name in ["ci", "release", "site"].map(|name| format!(".github/workflows/{name}.yml")) {
        let text = read(&name);
        assert!(
            text.contains("\npermissions:\n  contents: read\n"),
            "{name}: jobs ask for more by themselves"
        );
        for line in
            text.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses: "))
        {
            let (action, version) =
                line.split_once(" # v").unwrap_or_else(|| panic!("{name}: {line} has no version"));
            let commit = action.split_once('@').unwrap().1;
            assert!(commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit()), "{name}: {line}");
            assert_eq!(version.split('.').count(), 3, "{name}: {line}");
            pinned += 1;
        }
    }
    assert!(pinned >= 5);
}
