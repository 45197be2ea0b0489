import { insufficient, notFound, rejected } from '../../http-error.js';
import { BankAccount, BankTransfer } from '../../models.js';

export async function create(fields) {
  const { fromAccountId, toAccountId, amount } = fields;
  if (fromAccountId.equals(toAccountId)) {
    throw rejected('same_account', 'fromAccountId and toAccountId must be different accounts');
  }
  const from = await find(fromAccountId);
  const to = await find(toAccountId);
  if (from.currency !== to.currency) {
    throw rejected('currency_mismatch', 'The accounts have different currencies');
  }
  await move(amount, from, to);
  return BankTransfer.create(fields);
}

export async function cancel(id) {
  const transfer = await BankTransfer.findById(id);
  if (!transfer) {
    throw notFound('Bank transfer');
  }
  if (transfer.status === 'cancelled') {
    throw rejected('transfer_already_cancelled', 'Transfer already cancelled');
  }
  await move(transfer.amount, await find(transfer.toAccountId), await find(transfer.fromAccountId));
  transfer.set({ status: 'cancelled', cancelledAt: new Date() });
  return transfer.save();
}

async function move(amount, from, to) {
  if (from.availableBalance < amount) {
    throw insufficient(from.availableBalance);
  }
  from.availableBalance -= amount;
  to.availableBalance += amount;
  await from.save();
  await to.save();
}

async function find(id) {
  const account = await BankAccount.findById(id);
  if (!account) {
    throw notFound('Bank account');
  }
  return account;
}
