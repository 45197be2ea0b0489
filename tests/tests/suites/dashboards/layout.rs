//! Layout of the dashboards: descriptions, units, order, and valid links.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::page::{UIDS, list, pages, text};

#[test]
fn panels_have_description_and_unit() {
    for page in pages() {
        assert!(text(&page.json["description"]).len() > 20, "{}", page.uid);
        for panel in page.panels() {
            let about = text(&panel.json["description"]);
            assert!(about.len() > 5 && about.ends_with(['.', '"']), "{}: {about:?}", panel.place);
            assert!(!text(&panel.json["title"]).is_empty(), "{}", panel.place);
            assert!(!text(&panel.json["fieldConfig"]["defaults"]["unit"]).is_empty(), "{}", panel.place);
            assert!(!panel.queries().is_empty(), "{}", panel.place);
            let chosen = json!({"type": "prometheus", "uid": "${datasource}"});
            assert_eq!(panel.json["datasource"], chosen, "{}", panel.place);
            for target in list(&panel.json["targets"]) {
                assert_eq!(target["datasource"], chosen, "{}", panel.place);
            }
        }
    }
}

#[test]
fn panel_ids_and_titles_are_unique() {
    let (mut uids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for page in pages() {
        assert_eq!(page.json["uid"], page.uid.as_str());
        assert!(uids.insert(text(&page.json["uid"]).to_owned()));
        assert!(titles.insert(text(&page.json["title"]).to_owned()));
        let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
        for item in page.boxes() {
            assert!(ids.insert(item["id"].as_u64().unwrap()), "{}: id {} twice", page.uid, item["id"]);
        }
        for panel in page.panels() {
            assert!(places.insert(panel.place.clone()), "{} twice", panel.place);
            let refs: Vec<_> = list(&panel.json["targets"]).map(|target| text(&target["refId"])).collect();
            assert_eq!(refs.iter().collect::<BTreeSet<_>>().len(), refs.len(), "{}: {refs:?}", panel.place);
        }
    }
}

#[test]
fn panels_do_not_overlap_and_fit_the_grid() {
    for page in pages() {
        // Panels of a collapsed row have positions as if the row were open, so they are compared with each other
        // only.
        let closed = page.boxes().filter(|item| item["type"] == "row" && item["collapsed"] == true);
        let groups = closed.map(|row| list(&row["panels"]).collect::<Vec<_>>());
        for group in std::iter::once(list(&page.json["panels"]).collect()).chain(groups) {
            let mut taken = BTreeMap::new();
            for item in group {
                let number = |key: &str| item["gridPos"][key].as_u64().unwrap();
                let (x, y, w, h) = (number("x"), number("y"), number("w"), number("h"));
                assert!(w > 0 && h > 0 && x + w <= 24, "{}: {}", page.uid, item["title"]);
                for cell in (x..x + w).flat_map(|column| (y..y + h).map(move |line| (column, line))) {
                    let other = taken.insert(cell, &item["title"]);
                    assert_eq!(other, None, "{}: {} lies on it", page.uid, item["title"]);
                }
            }
        }
    }
}

/// The path of a dashboard is `/d/UID`, with variables after it.
fn leads_to(url: &str) -> (&str, Vec<&str>) {
    let path = url.strip_prefix("/d/").unwrap_or_else(|| panic!("{url} is not a dashboard"));
    let (uid, query) = path.split_once('?').unwrap_or((path, ""));
    (uid, query.split('&').filter(|part| !part.is_empty()).collect())
}

#[test]
fn links_resolve_and_keep_time_and_variables() {
    for page in pages() {
        let mut linked = BTreeSet::from([page.uid.clone()]);
        for link in list(&page.json["links"]) {
            assert_eq!((&link["keepTime"], &link["includeVars"]), (&json!(true), &json!(true)), "{link}");
            linked.insert(leads_to(text(&link["url"])).0.to_owned());
        }
        assert_eq!(linked, UIDS.map(str::to_owned).into(), "{} leads to all others", page.uid);
        let mut links = Vec::new();
        find("url", &page.json["panels"], &mut links);
        for url in links {
            let (uid, query) = leads_to(text(url));
            let target = pages().into_iter().find(|page| page.uid == uid).unwrap_or_else(|| panic!("{url}"));
            assert!(query.contains(&"${__url_time_range}"), "{url} loses the time");
            for variable in target.variables() {
                let name = text(&variable["name"]);
                let kept = [format!("var-{name}="), format!("${{{name}:queryparam}}")];
                let keeps = query.iter().any(|part| kept.iter().any(|kept| part.starts_with(kept)));
                assert!(keeps, "{url} loses {name}");
            }
        }
    }
}

/// All values of that key, at any depth.
fn find<'a>(key: &str, value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            if name == key {
                found.push(member);
            }
            find(key, member, found);
        }),
        Value::Array(items) => items.iter().for_each(|item| find(key, item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn overview_operations_link_to_operation_dashboard() {
    let mut links = Vec::new();
    let pages = pages();
    find("url", &pages[0].json["panels"], &mut links);
    assert!(
        links.iter().any(|url| text(url).starts_with("/d/txnscope-operation?var-operation=${__value.raw}"))
    );
}

#[test]
fn deployments_elections_and_alerts_are_annotated() {
    for (uid, expected) in [
        ("txnscope-overview", &["Deploys", "Elections", "Alerts"][..]),
        ("txnscope-operation", &["Deploys", "Elections", "Alerts"]),
        ("txnscope-server", &["Elections", "Alerts"]),
        ("txnscope-consistency", &["Deploys", "Elections", "Alerts"]),
        ("txnscope-self", &["Deploys", "Alerts"]),
    ] {
        let page = pages().into_iter().find(|page| page.uid == uid).unwrap();
        let names: Vec<_> = page.annotations().map(|annotation| text(&annotation["name"])).collect();
        assert_eq!(names, expected, "{uid}");
    }
}
