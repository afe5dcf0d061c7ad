import type { Readable } from 'node:stream';

/**
 * Hands every chunk of a body to `take`, in order, one at a time: the next one comes when the promise of the last one, if it gave any, has settled.
 * `take` says true for enough; the body is broken off then. An async iterator would cost a promise for each chunk.
 */
export function eachChunk(
  body: Readable,
  take: (chunk: Buffer) => boolean | Promise<boolean>,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let over = false;
    const settle = (end: () => void): void => {
      if (over) return;
      over = true;
      end();
    };
    const fail = (error: unknown): void =>
      settle(() => {
        reject(error);
        body.destroy();
      });
    const went = (enough: boolean): void => {
      if (over) return;
      if (!enough) {
        body.resume();
        return;
      }
      settle(resolve);
      body.destroy();
    };
    body.on('data', (chunk: Buffer) => {
      if (over) return;
      try {
        const taken = take(chunk);
        if (taken === true) went(true);
        else if (taken !== false) {
          body.pause();
          taken.then(went, fail);
        }
      } catch (error) {
        fail(error);
      }
    });
    body.once('end', () => settle(resolve));
    body.once('error', fail);
    body.once('close', () => fail(body.errored ?? new Error('the answer was broken off')));
    if (body.destroyed) fail(body.errored ?? new Error('the answer was broken off'));
  });
}
