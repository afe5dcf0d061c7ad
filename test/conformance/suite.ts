import { test } from '@jest/globals';
import { conformanceChecks, runCheck } from '../../src/backends/conformance/kit.js';
import type { Backend } from '../../src/backends/contract.js';

/** Some checks make thousands of requests, and the machine may be busy with others. Milliseconds. */
const TIMEOUT = 180_000;

/** Registers every check of the kit as a test. `backend` is asked when the tests run. */
export function conformanceSuite(backend: () => Backend): void {
  for (const check of conformanceChecks) {
    test(
      check.name,
      async () => {
        const result = await runCheck(backend(), check, new AbortController().signal);
        if (result.outcome === 'failed') throw result.error;
      },
      TIMEOUT,
    );
  }
}
