//! Who blocks whom.
//!
//! For locks this is exact: the server lists the holders of each lock, and the queue behind them in its order. A
//! request waits for each holder whose mode conflicts with its own, and for each conflicting request that queues
//! before it. For a document the server names no holder, so the open transactions that may have written to the
//! collection are candidates.

use super::locks::{LockRequest, LockTable, LockedResource, Mode, Owner};
use super::model::{LiveModel, Reference, TransactionState, WaitsFor};
use super::transactions::{Indices, may_have_written, running_operation};

/// The maximum number of blockers that are listed for one operation. Thousands of writers may hold one lock.
const MAX_BLOCKERS: usize = 100;

pub(super) struct Blockers<'a, 'o> {
    pub(super) model: &'a mut LiveModel,
    pub(super) indices: Indices<'o>,
    pub(super) member: &'a str,
}

impl Blockers<'_, '_> {
    /// Sets what each waiting operation waits for.
    pub(super) fn add(&mut self, locks: &LockTable) {
        for resource in &locks.resources {
            self.add_queue(resource);
        }
        for index in 0..self.model.waiting.len() {
            self.add_document_holders(index);
        }
    }

    fn add_queue(&mut self, resource: &LockedResource) {
        for (position, request) in resource.granted.iter().enumerate() {
            // A holder that waits for a stronger mode waits for the other holders.
            let Some(mode) = request.converts_to else { continue };
            let others = resource.granted.iter().enumerate().filter(|(other, _)| *other != position);
            self.add_request(resource, request, mode, others.map(|(_, other)| (other, other.mode)), []);
        }
        for (position, request) in resource.pending.iter().enumerate() {
            let granted = resource.granted.iter().map(|holder| (holder, holder.mode));
            let before = resource.pending[..position].iter();
            self.add_request(resource, request, request.mode, granted, before);
        }
    }

    fn add_request<'r>(
        &mut self,
        resource: &LockedResource,
        request: &LockRequest,
        mode: Mode,
        holders: impl Iterator<Item = (&'r LockRequest, Mode)>,
        queue: impl IntoIterator<Item = &'r LockRequest>,
    ) {
        let Owner::Operation(opid) = request.owner else { return };
        // The locks are read after the operations: one that is not listed as waiting has begun to wait since.
        let Some(&index) = self.indices.waiting.get(&opid) else { return };
        let holders = holders.filter(|(_, held)| held.conflicts_with(mode)).map(|(holder, _)| holder);
        let holders: Vec<_> = holders.map(|holder| self.holder(&holder.owner, index)).collect();
        let queue = queue.into_iter().filter(|before| before.mode.conflicts_with(mode));
        let queue: Vec<_> = queue.map(|before| self.in_queue(&before.owner)).collect();
        let waiting = &mut self.model.waiting[index];
        waiting.waits_for = WaitsFor::Lock {
            resource: Some(resource.kind.clone()),
            name: resource.name.clone(),
            mode: Some(mode.as_str().to_owned()),
        };
        for blocker in holders.into_iter().chain(queue) {
            match blocker {
                Some(blocker) if waiting.blocked_by.contains(&blocker) => {}
                Some(blocker) if waiting.blocked_by.len() < MAX_BLOCKERS => waiting.blocked_by.push(blocker),
                Some(_) | None => waiting.more_blockers += 1,
            }
        }
    }

    /// The holder of a lock. What it holds is the transaction's, even while a statement of it waits.
    fn holder(&mut self, owner: &Owner, waiting: usize) -> Option<Reference> {
        if let Some(transaction) = self.indices.transaction(owner) {
            return Some(Reference::Transaction(transaction))
                .filter(|_| self.model.waiting[waiting].transaction != Some(transaction));
        }
        let Owner::Operation(opid) = owner else { return None };
        if let Some(&index) = self.indices.waiting.get(opid) {
            return Some(Reference::Waiting(index));
        }
        let known = self.model.running.iter().position(|running| running.opid == *opid);
        if let Some(index) = known {
            return Some(Reference::Running(index));
        }
        let operation = self.indices.running.get(opid)?;
        self.model.running.push(running_operation(self.member, *opid, operation));
        Some(Reference::Running(self.model.running.len() - 1))
    }

    fn in_queue(&self, owner: &Owner) -> Option<Reference> {
        let Owner::Operation(opid) = owner else { return None };
        self.indices.waiting.get(opid).copied().map(Reference::Waiting)
    }

    fn add_document_holders(&mut self, index: usize) {
        let waiting = &self.model.waiting[index];
        let prepared_only = match waiting.waits_for {
            WaitsFor::Lock { .. } => return,
            WaitsFor::Document => false,
            WaitsFor::PreparedTransaction => true,
        };
        let Some(namespace) = &waiting.namespace else { return };
        let transactions = self.model.transactions.iter().enumerate();
        let candidates: Vec<_> = transactions
            .filter(|(position, transaction)| {
                waiting.transaction != Some(*position)
                    && (!prepared_only || transaction.state == TransactionState::Prepared)
                    && may_have_written(transaction, Some(namespace))
            })
            .map(|(position, _)| Reference::Transaction(position))
            .collect();
        let waiting = &mut self.model.waiting[index];
        waiting.more_blockers = candidates.len().saturating_sub(MAX_BLOCKERS);
        // The only prepared transaction on the collection is certainly the one.
        let list = match candidates.as_slice() {
            [_] if prepared_only => &mut waiting.blocked_by,
            _ => &mut waiting.candidates,
        };
        list.extend(candidates.into_iter().take(MAX_BLOCKERS));
    }
}
