import mongoose from 'mongoose';
import { insufficient, notFound, rejected } from '../../http-error.js';
import { BankAccount, BankTransfer } from '../../models.js';

export function create(fields) {
  const { fromAccountId, toAccountId, amount } = fields;
  if (fromAccountId.equals(toAccountId)) {
    throw rejected('same_account', 'fromAccountId and toAccountId must be different accounts');
  }
  return mongoose.connection.transaction(async (session) => {
    const from = await find(fromAccountId, session);
    const to = await find(toAccountId, session);
    if (from.currency !== to.currency) {
      throw rejected('currency_mismatch', 'The accounts have different currencies');
    }
    await move(amount, from, to, session);
    const [transfer] = await BankTransfer.create([fields], { session });
    return transfer;
  });
}

export function cancel(id) {
  return mongoose.connection.transaction(async (session) => {
    const transfer = await BankTransfer.findById(id).session(session);
    if (!transfer) {
      throw notFound('Bank transfer');
    }
    if (transfer.status === 'cancelled') {
      throw rejected('transfer_already_cancelled', 'Transfer already cancelled');
    }
    const from = await find(transfer.toAccountId, session);
    const to = await find(transfer.fromAccountId, session);
    await move(transfer.amount, from, to, session);
    transfer.set({ status: 'cancelled', cancelledAt: new Date() });
    return transfer.save({ session });
  });
}

/**
 * Opposite transfers write their two accounts in the same order, that of the ids, so that one of them gets both: otherwise each
 * could hold the account that the other needs, and both would abort.
 */
async function move(amount, from, to, session) {
  if (from.availableBalance < amount) {
    throw insufficient(from.availableBalance);
  }
  const changes = [
    { id: from._id, guard: { availableBalance: { $gte: amount } }, change: -amount },
    { id: to._id, guard: {}, change: amount },
  ].sort((a, b) => a.id.toString().localeCompare(b.id.toString()));
  for (const { id, guard, change } of changes) {
    const { matchedCount } = await BankAccount.updateOne(
      { _id: id, ...guard }, { $inc: { availableBalance: change } }, { session },
    );
    if (matchedCount !== 1) {
      throw new Error('an account differs from what the same transaction has read');
    }
  }
}

async function find(id, session) {
  const account = await BankAccount.findById(id).session(session);
  if (!account) {
    throw notFound('Bank account');
  }
  return account;
}
