import { MirageError } from '../../errors/mirage-error.js';
import type { Removal } from '../contract.js';

/** Objects removed at the same time where each takes a request. */
const AT_ONCE = 48;

/** Removes objects one by one, many at a time: what became of each, in their order. A failure of one does not keep the others. */
export async function removeEach(
  removals: readonly Removal[],
  remove: (removal: Removal) => Promise<void>,
): Promise<(MirageError | undefined)[]> {
  const outcomes: (MirageError | undefined)[] = removals.map(() => undefined);
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < removals.length) {
      const index = next++;
      try {
        await remove(removals[index] as Removal);
      } catch (error) {
        if (!MirageError.is(error)) throw error;
        // Gone already is gone.
        if (error.errno !== 'ENOENT') outcomes[index] = error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, removals.length) }, worker));
  return outcomes;
}
