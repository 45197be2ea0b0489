// After the fix: what belongs together is one transaction, and the condition of an update is part of the update. A request that
// conflicts with another is run again by the driver.
import * as payments from './payments.js';
import * as retainers from './retainers.js';
import * as transfers from './transfers.js';

export default { retainers, payments, transfers, createIndexes: payments.createIndexes };
