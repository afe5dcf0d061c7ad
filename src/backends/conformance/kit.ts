import type { Check } from './check.js';
import { nameChecks } from './names.js';
import { objectChecks } from './objects.js';
import { optionalChecks } from './optional.js';
import { preconditionChecks } from './preconditions.js';
import { readOnlyChecks } from './read-only.js';

export { type Check, type CheckResult, runCheck, runChecks } from './check.js';

/** Everything the contract promises, for any backend: ours and a stranger's. Needs no test runner. */
export const conformanceChecks: readonly Check[] = [
  ...objectChecks,
  ...nameChecks,
  ...preconditionChecks,
  ...optionalChecks,
  ...readOnlyChecks,
];
