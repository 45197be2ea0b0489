//! From decoded replies to the model.

use std::collections::HashMap;

use super::blockers::Blockers;
use super::locks::{LockTable, LockedResource, Mode, Owner};
use super::model::{
    HeldLock, LiveModel, RunningOperation, Transaction, TransactionState, WaitingOperation, WaitsFor,
};
use super::names::OperationNames;
use super::operation::Operation;
use super::tracker::Tracker;

/// Builds the model of one member. `tracker` has observed these operations.
pub(super) fn model(
    member: &str,
    operations: &[Operation],
    locks: &LockTable,
    names: &OperationNames,
    tracker: &Tracker,
) -> LiveModel {
    let mut model = LiveModel::default();
    let mut indices = Indices::default();
    for operation in in_order_of_age(operations) {
        let Some(transaction) = transaction(member, operation, names, tracker) else { continue };
        // A session has one transaction at a time: a second entry is one that has just ended.
        if indices.sessions.contains_key(&transaction.session) {
            continue;
        }
        let index = model.transactions.len();
        indices.sessions.insert(transaction.session.clone(), index);
        indices.transactions_by_opid.extend(operation.opid.map(|opid| (opid, index)));
        model.transactions.push(transaction);
    }
    add_locks(&mut model, &indices, locks);
    let mut waiting: Vec<&Operation> =
        operations.iter().filter(|operation| waits(operation, tracker).is_some()).collect();
    waiting.sort_by_key(|operation| operation.opid);
    for operation in waiting {
        let (Some(opid), Some(kind)) = (operation.opid, waits(operation, tracker)) else { continue };
        indices.waiting.insert(opid, model.waiting.len());
        let transaction = indices.transactions_by_opid.get(&opid).copied();
        model.waiting.push(waiting_operation(member, operation, opid, kind, transaction));
    }
    indices.running = operations
        .iter()
        .filter(|operation| operation.transaction.is_none() && operation.active)
        .filter_map(|operation| Some((operation.opid?, operation)))
        .collect();
    Blockers { model: &mut model, indices, member }.add(locks);
    model
}

/// Where the entries of the model are.
#[derive(Debug, Default)]
pub(super) struct Indices<'a> {
    pub(super) sessions: HashMap<String, usize>,
    pub(super) transactions_by_opid: HashMap<i64, usize>,
    pub(super) waiting: HashMap<i64, usize>,
    /// Operations outside of transactions. Only those that block another one become entries.
    pub(super) running: HashMap<i64, &'a Operation>,
}

impl Indices<'_> {
    /// The transaction of the owner of a lock.
    pub(super) fn transaction(&self, owner: &Owner) -> Option<usize> {
        match owner {
            Owner::Operation(opid) => self.transactions_by_opid.get(opid).copied(),
            Owner::Session(session) => self.sessions.get(session).copied(),
            Owner::Unknown => None,
        }
    }
}

fn in_order_of_age(operations: &[Operation]) -> Vec<&Operation> {
    let mut sorted: Vec<_> = operations.iter().collect();
    let age = |operation: &Operation| operation.transaction.as_ref().map(|fields| fields.age);
    sorted.sort_by(|one, other| age(other).cmp(&age(one)).then_with(|| one.session.cmp(&other.session)));
    sorted
}

/// What an operation waits for, if it waits. A transaction fails at its first write conflict on most servers.
fn waits(operation: &Operation, tracker: &Tracker) -> Option<WaitsFor> {
    if operation.waiting_for_lock {
        return Some(WaitsFor::Lock { resource: None, name: None, mode: None });
    }
    if !operation.active {
        return None;
    }
    if operation.prepare_conflicts > 0 {
        return Some(WaitsFor::PreparedTransaction);
    }
    tracker.is_retried(operation).then_some(WaitsFor::Document)
}

fn transaction(
    member: &str,
    operation: &Operation,
    names: &OperationNames,
    tracker: &Tracker,
) -> Option<Transaction> {
    let (session, fields) = (operation.session.as_ref()?, operation.transaction.as_ref()?);
    let state = match waits(operation, tracker) {
        _ if fields.prepared => TransactionState::Prepared,
        Some(WaitsFor::Lock { .. }) => TransactionState::WaitingForLock,
        Some(WaitsFor::PreparedTransaction) => TransactionState::WaitingForPrepared,
        Some(WaitsFor::Document) => TransactionState::RetryingWriteConflict,
        None if operation.active => TransactionState::Active,
        None => TransactionState::Idle,
    };
    Some(Transaction {
        member: member.to_owned(),
        operation: names.get(session, fields.number).map(str::to_owned),
        application: operation.application.clone(),
        client: operation.client.clone(),
        driver: operation.driver.clone(),
        session: session.clone(),
        txn_number: fields.number,
        started_at: fields.started_at.clone(),
        state,
        age: fields.age,
        idle: (!operation.active).then(|| tracker.idle(session, fields.number)),
        active: fields.active,
        expires_in: fields.expires_in,
        read_concern: fields.read_concern.clone(),
        command: operation.command.clone().filter(|_| operation.active),
        namespaces: collection(operation).into_iter().collect(),
        locks: Vec::new(),
    })
}

/// The collection that an operation uses; a command on a whole database uses none.
fn collection(operation: &Operation) -> Option<String> {
    operation.namespace.clone().filter(|name| !name.contains(".$cmd"))
}

/// Adds what each transaction holds. The collections of an idle transaction are known from its locks only.
fn add_locks(model: &mut LiveModel, indices: &Indices<'_>, locks: &LockTable) {
    for LockedResource { kind, name, granted, .. } in &locks.resources {
        let Some(name) = name else { continue };
        if !matches!(kind.as_str(), "database" | "collection") {
            continue;
        }
        for request in granted {
            let Some(index) = indices.transaction(&request.owner) else { continue };
            let transaction = &mut model.transactions[index];
            let mode = request.mode.as_str().to_owned();
            transaction.locks.push(HeldLock { resource: kind.clone(), name: name.clone(), mode });
            if kind == "collection" && !transaction.namespaces.contains(name) {
                transaction.namespaces.push(name.clone());
            }
        }
    }
    for transaction in &mut model.transactions {
        transaction.namespaces.sort();
        transaction
            .locks
            .sort_by(|one, other| (&one.resource, &one.name).cmp(&(&other.resource, &other.name)));
    }
}

fn waiting_operation(
    member: &str,
    operation: &Operation,
    opid: i64,
    waits_for: WaitsFor,
    transaction: Option<usize>,
) -> WaitingOperation {
    let waiting = match waits_for {
        WaitsFor::Lock { .. } => operation.lock_wait,
        // The server counts retries, and not their time: it has tried since the operation began.
        WaitsFor::Document | WaitsFor::PreparedTransaction => operation.running,
    };
    WaitingOperation {
        member: member.to_owned(),
        opid,
        command: command(operation),
        namespace: operation.namespace.clone(),
        application: operation.application.clone(),
        client: operation.client.clone(),
        driver: operation.driver.clone(),
        transaction,
        waits_for,
        waiting,
        running: operation.running,
        write_conflicts: operation.write_conflicts,
        blocked_by: Vec::new(),
        candidates: Vec::new(),
        more_blockers: 0,
    }
}

pub(super) fn running_operation(member: &str, opid: i64, operation: &Operation) -> RunningOperation {
    RunningOperation {
        member: member.to_owned(),
        opid,
        command: command(operation),
        namespace: operation.namespace.clone(),
        application: operation.application.clone(),
        client: operation.client.clone(),
        running: operation.running,
    }
}

/// The name of a command that the server does not report is `unknown`.
fn command(operation: &Operation) -> String {
    operation.command.clone().unwrap_or_else(|| "unknown".to_owned())
}

/// Whether a transaction may have changed documents of that collection, or of any: by its locks.
pub(super) fn may_have_written(transaction: &Transaction, namespace: Option<&str>) -> bool {
    let writes = [Mode::IntentExclusive, Mode::Exclusive].map(Mode::as_str);
    let held = transaction.locks.iter().filter(|lock| {
        lock.resource == "collection" && namespace.is_none_or(|namespace| lock.name == namespace)
    });
    held.into_iter().any(|lock| writes.contains(&lock.mode.as_str()))
}
