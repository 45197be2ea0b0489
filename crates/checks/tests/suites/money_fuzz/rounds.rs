//! A round of a derived field: a few hundred accounts, an audit, a repair, and its undo.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::{Client, Database};
use txnscope_checks::repair::{
    PlanOptions, Repair, RepairOutcome, Repairer, Step, UndoOptions, UndoSelector, plan_with, records,
    undo_with,
};
use txnscope_checks::{Check, CheckResult, Checks, SampleOptions, run};

use super::Count;
use super::cases::Rng;
use super::kinds::Kind;
use super::oracle::{self, May, Say, Sum};

const ACCOUNTS: i64 = 400;
const AT_ONCE: usize = 16;
const ONE_IN: u64 = 4;

pub(crate) fn check(rule: &str, collection: &str) -> Check {
    let text = format!(
        "[[check]]\nname = \"fuzz\"\nseverity = \"info\"\ndatabase = \"money\"\ncollection = \"{collection}\"\n{rule}"
    );
    Checks::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}")).iter().next().unwrap().clone()
}

async fn all(database: &Database) -> BTreeMap<i64, Document> {
    // Raw documents, because {"$numberLong": "5"} would be deserialized as a number otherwise.
    let found = database.collection::<RawDocumentBuf>("accounts").find(doc! {}).await.unwrap();
    let found: Vec<_> = found.try_collect().await.unwrap();
    let whole = |account: RawDocumentBuf| Document::try_from(&*account).unwrap();
    found.into_iter().map(whole).map(|account| (account.get_i64("_id").unwrap(), account)).collect()
}

fn bytes(account: &Document) -> Vec<u8> {
    account.to_vec().unwrap()
}

struct Round {
    kind: Kind,
    accounts: BTreeMap<i64, Document>,
    lines: Vec<Document>,
    typed: bool,
    empty_inputs: bool,
}

impl Round {
    fn make(kind: Kind, rng: &mut Rng) -> Self {
        let mut accounts = BTreeMap::new();
        let mut lines = Vec::new();
        for id in 0..ACCOUNTS {
            let mut account = rng.account(id);
            if !kind.is_embedded() {
                account.remove("in");
                account.remove("out");
                lines.extend((0..rng.roll(4)).map(|_| rng.line(id)));
            }
            accounts.insert(id, account);
        }
        let mut round = Self { kind, accounts, lines, typed: rng.one_in(2), empty_inputs: rng.one_in(3) };
        // A third of the accounts are right as far as possible, so that clean results occur as well.
        for id in 0..ACCOUNTS {
            let right = round.sum(id).filter(|_| rng.one_in(3)).and_then(|sum| {
                (sum.units % oracle::ONE == 0).then(|| i64::try_from(sum.units / oracle::ONE).ok()).flatten()
            });
            if let Some(right) = right {
                round.accounts.get_mut(&id).unwrap().insert("balance", right);
            }
        }
        round
    }

    fn sum(&self, id: i64) -> Option<Sum> {
        let account = &self.accounts[&id];
        if self.kind.is_embedded() {
            return Some(oracle::of_list(account.get("in"))?.minus(oracle::of_list(account.get("out"))?));
        }
        let of = self.lines.iter().filter(|line| line.get("account") == Some(&Bson::Int64(id)));
        let sum = oracle::of_lines(of)?;
        // $unwind returns one line without an amount for an account without lines.
        (self.kind != Kind::Unwind || !sum.empty).then_some(sum)
    }

    fn may(&self, id: i64) -> May {
        let account = &self.accounts[&id];
        let field = account.get("balance");
        let is_number =
            matches!(field, Some(Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_)));
        let long = Bson::Int64(0);
        let cannot_come_back = matches!(field, Some(Bson::MinKey));
        let like = if is_number { field } else { (self.typed && !cannot_come_back).then_some(&long) };
        let is_nothing = matches!(field, None | Some(Bson::Null | Bson::Undefined))
            || field.is_some_and(|field| oracle::Amount::of(field) == oracle::Amount::Exact(0));
        oracle::repair(self.sum(id), like, self.kind == Kind::Tolerant, self.empty_inputs, is_nothing)
    }

    fn check(&self) -> Check {
        let number = if self.typed { "\ntype = \"long\"" } else { "" };
        check(&format!("{}{number}", self.kind.rule()), "accounts")
    }
}

pub(crate) async fn play(client: &Client, database: &Database, kind: Kind, rng: &mut Rng, count: &mut Count) {
    let round = Round::make(kind, rng);
    count.cases += round.accounts.len() as u64;
    database.collection::<Document>("accounts").insert_many(round.accounts.values()).await.unwrap();
    database
        .collection::<Document>("lines")
        .insert_many(round.lines.iter().chain([&doc! {"account": -1}]))
        .await
        .unwrap();
    let of = if kind == Kind::MissingView { "nowhere" } else { "lines" };
    database.create_collection("view").view_on(of).await.unwrap();
    let before = all(database).await;
    let check = round.check();
    let options = PlanOptions::new(10_000).empty_inputs(round.empty_inputs);
    let result = run(client, &check, SampleOptions { limit: 10_000, full_documents: false }).await.result;
    let planned = plan_with(client, &check, &options).await;
    if matches!(kind, Kind::UnwindTwice | Kind::Missing | Kind::MissingView) {
        assert!(matches!(result, CheckResult::Failed(_)), "{result:?}");
        assert!(planned.is_err(), "{planned:?}");
        count.not_begun += round.accounts.len() as u64;
        return;
    }
    let wrong: BTreeSet<i64> = match result {
        CheckResult::Clean { .. } => BTreeSet::new(),
        CheckResult::Violated { sample, .. } => {
            sample.iter().map(|one| one.get_i64("_id").unwrap()).collect()
        }
        CheckResult::Failed(failure) => panic!("{failure}"),
    };
    for (id, account) in &round.accounts {
        let say = oracle::audit(account.get("balance"), round.sum(*id), kind == Kind::Tolerant);
        let found = if wrong.contains(id) { Say::Wrong } else { Say::Clean };
        assert!(
            say == found || say == Say::Either,
            "{found:?} is said where {say:?} is right: {account} {:?}",
            round.sum(*id)
        );
        if found == Say::Wrong { count.violated += 1 } else { count.clean += 1 }
    }

    let planned = planned.unwrap_or_else(|failure| panic!("{failure}"));
    let repairer = Repairer::connect(client, "money", "repairs", "fuzz").await.unwrap();
    for step in &planned.steps {
        let Repair::Set(value) = &step.repair else { continue };
        let id = step.id.as_i64().unwrap();
        let account = &before[&id];
        if !kind.is_embedded() && account.get("balance") == Some(&Bson::MinKey) {
            // MongoDB's own stages lose the difference; the repair detects it when it reads the stored value.
            continue;
        }
        let May::Set { units, like, about, .. } = round.may(id) else { panic!("{account}: {value:?}") };
        assert!(oracle::is_proven(value, units, &like, about), "{account}: {value:?}");
    }
    // All plans are verified; one in four is applied, each in a transaction of its own.
    let first = rng.roll(ONE_IN);
    let is_made = |step: &&Step| step.id.as_i64().unwrap().unsigned_abs() % ONE_IN == first;
    let made = stream::iter(planned.steps.iter().filter(is_made))
        .map(async |step| (step, repairer.repair(&check, step).await.unwrap()));
    for (step, outcome) in made.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await {
        match (outcome, &step.repair) {
            (RepairOutcome::Done(_), Repair::Set(_)) => count.repaired += 1,
            (RepairOutcome::Refused(_), _) => count.refused += 1,
            (outcome, repair) => panic!("{outcome:?} {repair:?} {}", step.id),
        }
    }
    let after = all(database).await;
    assert_eq!(after.len(), before.len());
    for (id, account) in &before {
        let now = &after[id];
        let may = round.may(*id);
        let sum = round.sum(*id);
        if bytes(now) == bytes(account) {
            let right = oracle::audit(account.get("balance"), sum, kind == Kind::Tolerant) != Say::Wrong;
            // MongoDB's own stages may convert a symbol to a string: the repair detects that the stored value
            // differs.
            let is_other =
                matches!(account.get("balance"), Some(Bson::Symbol(_) | Bson::Undefined | Bson::MinKey));
            let must = matches!(may, May::Set { must: true, .. }) && (kind.is_embedded() || !is_other);
            let step = planned.steps.iter().find(|step| step.id == Bson::Int64(*id));
            let planned = step.is_some_and(|step| matches!(step.repair, Repair::Set(_)) && !is_made(&step));
            assert!(right || !must || planned, "not repaired: {account} {sum:?} {step:?}");
            continue;
        }
        let May::Set { units, like, about, .. } = may else { panic!("{account} became {now}: {sum:?}") };
        let written = now.get("balance").unwrap();
        assert!(oracle::is_proven(written, units, &like, about), "{account} became {now}: {sum:?}");
        let mut rest = account.clone();
        rest.insert("balance", written.clone());
        assert_eq!(bytes(&rest), bytes(now), "more than the field has changed");
    }
    take_back(&repairer, &check, &before, database, rng, count).await;
}

/// The undo restores every byte, even if the inputs are gone.
async fn take_back(
    repairer: &txnscope_checks::repair::Repairer,
    check: &Check,
    before: &BTreeMap<i64, Document>,
    database: &Database,
    rng: &mut Rng,
    count: &mut Count,
) {
    if !rng.one_in(4) {
        return;
    }
    database.collection::<Document>("lines").drop().await.unwrap();
    let made = records(repairer, UndoSelector::Run(repairer.run())).await.unwrap();
    // The replaced value may have had any type.
    let options = UndoOptions::new().any_value(true);
    let undone = stream::iter(&made)
        .map(async |stored| undo_with(repairer, check, stored.record().unwrap(), options).await.unwrap());
    for undone in undone.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await {
        assert!(matches!(undone, RepairOutcome::Done(_)), "{undone:?}");
        count.undone += 1;
    }
    for (id, account) in all(database).await {
        // A field that was missing is removed again; any other field keeps its position.
        assert_eq!(bytes(&account), bytes(&before[&id]));
    }
}
