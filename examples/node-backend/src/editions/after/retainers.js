import mongoose from 'mongoose';
import { insufficient, notFound } from '../../http-error.js';
import { Retainer, RetainerMovement } from '../../models.js';

export function create(fields) {
  return mongoose.connection.transaction(async (session) => {
    const [retainer] = await Retainer.create([fields], { session });
    if (retainer.currentBalance > 0) {
      await RetainerMovement.create([{
        retainerId: retainer._id, kind: 'deposit', amount: retainer.currentBalance, description: 'Initial amount',
      }], { session });
    }
    return retainer;
  });
}

export function consume(id, { amount, description }) {
  return mongoose.connection.transaction(async (session) => {
    const retainer = await Retainer.findOneAndUpdate(
      { _id: id, currentBalance: { $gte: amount } },
      { $inc: { currentBalance: -amount } },
      { returnDocument: 'after', session },
    );
    if (!retainer) {
      const current = await Retainer.findById(id).session(session);
      throw current ? insufficient(current.currentBalance) : notFound('Retainer');
    }
    await RetainerMovement.create([{ retainerId: id, kind: 'consumption', amount, description }], { session });
    return retainer;
  });
}

export function replenish(id, { amount, description }) {
  return mongoose.connection.transaction(async (session) => {
    const retainer = await Retainer.findByIdAndUpdate(
      id,
      { $inc: { currentBalance: amount } },
      { returnDocument: 'after', session },
    );
    if (!retainer) {
      throw notFound('Retainer');
    }
    await RetainerMovement.create([{ retainerId: id, kind: 'deposit', amount, description }], { session });
    return retainer;
  });
}
