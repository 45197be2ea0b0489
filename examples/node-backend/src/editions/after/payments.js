import mongoose from 'mongoose';
import { notFound, rejected } from '../../http-error.js';
import { LedgerEntry, Payment } from '../../models.js';

/** An invoice is paid once, whatever code writes the payment. */
export async function createIndexes() {
  await Payment.collection.createIndex(
    { invoiceId: 1 },
    { unique: true, partialFilterExpression: { status: 'completed', invoiceId: { $type: 'string' } } },
  );
}

export function create(fields) {
  return mongoose.connection.transaction(async (session) => {
    const payment = new Payment(fields);
    if (payment.status === 'completed') {
      await checkInvoice(payment, session);
      payment.completedAt = new Date();
    }
    await payment.save({ session });
    if (payment.status === 'completed') {
      await LedgerEntry.create([{ paymentId: payment._id, amount: payment.amount }], { session });
    }
    return payment;
  });
}

export function complete(id) {
  return mongoose.connection.transaction(async (session) => {
    const payment = await Payment.findById(id).session(session);
    if (!payment) {
      throw notFound('Payment');
    }
    if (payment.status === 'completed') {
      throw rejected('payment_already_completed', 'Payment already completed');
    }
    if (!['pending', 'processing'].includes(payment.status)) {
      throw rejected('payment_not_completable', `Payment cannot be completed: it is ${payment.status}`);
    }
    await checkInvoice(payment, session);
    // If another transaction completes the payment meanwhile, this write conflicts, and the next attempt reads `completed`.
    payment.set({ status: 'completed', completedAt: new Date() });
    await payment.save({ session });
    await LedgerEntry.create([{ paymentId: id, amount: payment.amount }], { session });
    return payment;
  });
}

async function checkInvoice({ invoiceId }, session) {
  if (invoiceId && await Payment.exists({ invoiceId, status: 'completed' }).session(session)) {
    throw rejected('invoice_already_paid', 'Invoice already paid');
  }
}
