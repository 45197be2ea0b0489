import { notFound, rejected } from '../../http-error.js';
import { LedgerEntry, Payment } from '../../models.js';

export async function create(fields) {
  const payment = new Payment(fields);
  if (payment.status === 'completed') {
    await checkInvoice(payment);
    payment.completedAt = new Date();
  }
  await payment.save();
  if (payment.status === 'completed') {
    await LedgerEntry.create({ paymentId: payment._id, amount: payment.amount });
  }
  return payment;
}

export async function complete(id) {
  const payment = await Payment.findById(id);
  if (!payment) {
    throw notFound('Payment');
  }
  if (payment.status === 'completed') {
    throw rejected('payment_already_completed', 'Payment already completed');
  }
  if (!['pending', 'processing'].includes(payment.status)) {
    throw rejected('payment_not_completable', `Payment cannot be completed: it is ${payment.status}`);
  }
  await checkInvoice(payment);
  payment.set({ status: 'completed', completedAt: new Date() });
  await payment.save();
  await LedgerEntry.create({ paymentId: id, amount: payment.amount });
  return payment;
}

/** An invoice is paid once. */
async function checkInvoice({ invoiceId }) {
  if (invoiceId && await Payment.exists({ invoiceId, status: 'completed' })) {
    throw rejected('invoice_already_paid', 'Invoice already paid');
  }
}
