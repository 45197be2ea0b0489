// Before the fix: each function reads, decides and saves, as if it were alone. Two requests at once read the same state, and the
// later save overwrites the earlier one.
import * as payments from './payments.js';
import * as retainers from './retainers.js';
import * as transfers from './transfers.js';

export default { retainers, payments, transfers };
