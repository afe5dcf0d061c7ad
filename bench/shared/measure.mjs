// @ts-check
import { createServer } from 'node:net';

/**
 * A port of loopback that nobody uses, with `above` more ports behind it that are not looked at.
 * @returns {Promise<number>}
 */
export function freePort(above = 0) {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() =>
        resolve(typeof address === 'object' ? Math.min(address?.port ?? 0, 65_535 - above) : 0),
      );
    });
  });
}

/** Milliseconds that `work` takes. @param {() => Promise<unknown>} work */
export async function timed(work) {
  const started = performance.now();
  await work();
  return performance.now() - started;
}
