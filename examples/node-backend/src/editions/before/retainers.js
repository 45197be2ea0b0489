import { insufficient, notFound } from '../../http-error.js';
import { Retainer, RetainerMovement } from '../../models.js';

export async function create(fields) {
  const retainer = await Retainer.create(fields);
  if (retainer.currentBalance > 0) {
    await RetainerMovement.create({
      retainerId: retainer._id, kind: 'deposit', amount: retainer.currentBalance, description: 'Initial amount',
    });
  }
  return retainer;
}

export async function consume(id, { amount, description }) {
  const retainer = await find(id);
  if (retainer.currentBalance < amount) {
    throw insufficient(retainer.currentBalance);
  }
  retainer.currentBalance -= amount;
  await retainer.save();
  await RetainerMovement.create({ retainerId: id, kind: 'consumption', amount, description });
  return retainer;
}

export async function replenish(id, { amount, description }) {
  const retainer = await find(id);
  retainer.currentBalance += amount;
  await retainer.save();
  await RetainerMovement.create({ retainerId: id, kind: 'deposit', amount, description });
  return retainer;
}

async function find(id) {
  const retainer = await Retainer.findById(id);
  if (!retainer) {
    throw notFound('Retainer');
  }
  return retainer;
}
