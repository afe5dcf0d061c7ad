import { expect, test } from '@jest/globals';
import { conformanceChecks, runCheck } from '../../src/backends/conformance/kit.js';
import type { Backend } from '../../src/backends/contract.js';

/** Some checks make thousands of requests, and the machine may be busy with others. Milliseconds. */
const TIMEOUT = 180_000;

/**
 * Registers every check of the kit as a test. `backend` is asked when the tests run. `limits`: what this server cannot do, and why; a check that
 * is listed must fail, so that the list says what is true, unless it fails `at times`.
 */
export function conformanceSuite(
  backend: () => Backend,
  limits: Readonly<Record<string, string>> = {},
): void {
  for (const check of conformanceChecks) {
    const limit = limits[check.name];
    (limit?.startsWith('at times') ? test.skip : test)(
      limit === undefined ? check.name : `cannot (${limit}): ${check.name}`,
      async () => {
        const result = await runCheck(backend(), check, new AbortController().signal);
        if (limit !== undefined) expect(result.outcome).toBe('failed');
        else if (result.outcome === 'failed') throw result.error;
      },
      TIMEOUT,
    );
  }
}
