//! A round of a balance: a general ledger with a few hundred groups, and an audit of it.

use std::collections::BTreeSet;

use mongodb::bson::{Bson, Document, doc};
use mongodb::{Client, Database};
use txnscope_checks::{CheckResult, SampleOptions, run};

use super::Count;
use super::cases::Rng;
use super::oracle::Sum;
use super::rounds::check;

const GROUPS: i64 = 400;

const RULE: &str = r#"[check.balance]
    left = { sum = '"$debit"', by = '"$group"' }
    right = { sum = '"$credit"', by = '"$group"' }
"#;

fn lines(group: i64, rng: &mut Rng) -> Vec<Document> {
    let mut lines = Vec::new();
    for _ in 0..=rng.roll(3) {
        let mut line = doc! {"group": group};
        for side in ["debit", "credit"] {
            let amount = if rng.one_in(30) { rng.damage() } else { Some(rng.amount()) };
            line.extend(amount.map(|amount| (side.to_owned(), amount)));
        }
        lines.push(line);
    }
    // Two thirds are balanced: each debit has a credit, of the same value if it is a single amount.
    if !rng.one_in(3) {
        let swapped = |line: &Document| {
            let mut other = doc! {"group": group};
            other.extend(line.get("debit").map(|amount| ("credit".to_owned(), amount.clone())));
            other.extend(line.get("credit").map(|amount| ("debit".to_owned(), amount.clone())));
            other
        };
        let others: Vec<_> = lines.iter().map(swapped).collect();
        lines.extend(others);
    }
    lines
}

/// Whether a group is balanced, and whether this is certain: the remainders of doubles that are not decimals are not.
fn balanced(lines: &[Document]) -> (bool, bool) {
    let side = |name: &str| lines.iter().try_fold(Sum::EMPTY, |sum, line| sum.plus(line.get(name)));
    match (side("debit"), side("credit")) {
        (Some(left), Some(right)) => (left.units == right.units, !(left.about || right.about)),
        _ => (false, true),
    }
}

pub(crate) async fn play(client: &Client, database: &Database, rng: &mut Rng, count: &mut Count) {
    let mut groups: Vec<_> = (0..GROUPS).map(|group| (Bson::Int64(group), lines(group, rng))).collect();
    if rng.one_in(2) {
        let without_group = vec![doc! {"debit": 5, "credit": 5}];
        groups.push((Bson::Null, without_group));
    }
    count.cases += groups.len() as u64;
    let all = groups.iter().flat_map(|(_, lines)| lines);
    database.collection::<Document>("gl").insert_many(all).await.unwrap();
    let result =
        run(client, &check(RULE, "gl"), SampleOptions { limit: 10_000, full_documents: false }).await.result;
    let wrong: BTreeSet<String> = match result {
        CheckResult::Clean { .. } => BTreeSet::new(),
        CheckResult::Violated { sample, .. } => {
            sample.iter().map(|one| one.get("_id").unwrap().to_string()).collect()
        }
        CheckResult::Failed(failure) => panic!("{failure}"),
    };
    for (group, lines) in &groups {
        let found = !wrong.contains(&group.to_string());
        let (right, sure) = balanced(lines);
        let right = right && *group != Bson::Null;
        assert!(found == right || !sure, "clean is {found} where {right} is right: {lines:?}");
        if found { count.clean += 1 } else { count.violated += 1 }
    }
}
