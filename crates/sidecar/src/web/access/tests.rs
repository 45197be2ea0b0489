use std::path::Path;

use tempfile::TempDir;
use testkit::wait;

use super::*;

fn users(file: &Path, name: &str) {
    std::fs::write(file, format!("basic_auth_users:\n  {name}: {}\n", bcrypt::hash("x", 4).unwrap()))
        .unwrap();
}

fn access(file: &Path) -> (Arc<AccessControl>, Config, Arc<ReloadStatus>) {
    let config = Config { web_config_file: Some(file.to_owned()), ..Config::default() };
    let status = Arc::new(ReloadStatus::new());
    let access = AccessControl::new(&config, Arc::default(), Arc::clone(&status)).unwrap();
    (Arc::new(access), config, status)
}

/// A check of the old file that ends after a reload has applied another.
#[tokio::test]
async fn slow_check_of_the_old_file_does_not_undo_a_reload() {
    let folder = TempDir::new().unwrap();
    let (old, new) = (folder.path().join("old.yml"), folder.path().join("new.yml"));
    std::fs::write(&old, "{}").unwrap();
    users(&new, "prometheus");
    let (access, mut config, _) = access(&old);
    let before = access.policy();
    std::fs::write(&old, "http_server_config:\n  headers:\n    X-Frame-Options: SAMEORIGIN\n").unwrap();
    let looked = WebPolicy::read(Some(&old)).1.unwrap();
    config.web_config_file = Some(new.clone());
    let read = access.read(Some(new)).await.unwrap();
    assert!(access.apply(read, &config));
    assert!(!access.replace(&before, looked), "the look began before the reload");
    assert!(access.policy().users.is_some());
}

#[tokio::test]
async fn reload_of_unchanged_files_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("web.yml");
    users(&file, "prometheus");
    let (access, config, _) = access(&file);
    let before = access.policy();
    let read = access.read(Some(file)).await.unwrap();
    assert!(!access.apply(read, &config));
    assert!(Arc::ptr_eq(&before, &access.policy()));
}

#[tokio::test(start_paused = true)]
async fn file_change_is_applied_when_stable_and_not_removing_protection() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("web.yml");
    users(&file, "prometheus");
    let (access, _, status) = access(&file);
    let following = tokio::spawn(Arc::clone(&access).watch_files());
    let before = access.policy();
    // The file is different at each check, as while it is being written.
    tokio::time::sleep(RECHECK_INTERVAL / 2).await;
    for round in 0..5 {
        users(&file, &format!("user{round}"));
        tokio::time::sleep(RECHECK_INTERVAL).await;
        assert!(Arc::ptr_eq(&before, &access.policy()), "round {round}");
    }
    for empty in ["", "# nothing yet\n", "{}", "basic_auth_users:\n", "http_server_config:\n  headers: {}\n"]
    {
        std::fs::write(&file, empty).unwrap();
        wait::until("the refusal", async || {
            anyhow::ensure!(!status.last().0, "none");
            Ok(())
        })
        .await
        .unwrap();
        assert!(access.policy().users.is_some(), "{empty:?}");
        status.set(true);
    }
    users(&file, "grafana");
    wait::until("other users", async || {
        anyhow::ensure!(!Arc::ptr_eq(&before, &access.policy()), "the same");
        Ok(())
    })
    .await
    .unwrap();
    assert!(access.policy().users.is_some() && status.last().0);
    following.abort();
}

#[tokio::test]
async fn reload_removes_protection_only_explicitly() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("web.yml");
    users(&file, "prometheus");
    let (access, config, _) = access(&file);
    for empty in ["", " \n\n", "# users:\n", "---\n# \n"] {
        std::fs::write(&file, empty).unwrap();
        let error = access.read(Some(file.clone())).await.unwrap_err().to_string();
        assert!(error.contains("empty") && error.contains("{}"), "{empty:?}: {error}");
    }
    std::fs::write(&file, "{}").unwrap();
    let read = access.read(Some(file.clone())).await.unwrap();
    assert!(access.apply(read, &config));
    assert!(access.policy().users.is_none());
    std::fs::write(&file, "").unwrap();
    assert!(access.read(Some(file)).await.is_ok(), "there is nothing to take away");
}

#[tokio::test]
async fn reload_without_web_file_does_not_remove_protection() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("web.yml");
    users(&file, "prometheus");
    let (access, config, _) = access(&file);
    let error = access.read(None).await.unwrap_err().to_string();
    assert!(error.contains("no longer named") && error.contains("basic_auth_users"), "{error}");
    std::fs::write(&file, "{}").unwrap();
    access.apply(access.read(Some(file)).await.unwrap(), &config);
    assert!(access.read(None).await.is_ok(), "there is nothing to take away");
}
