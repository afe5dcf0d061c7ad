/** Tells the volume what became of a change, in terms of what the volume shows by now. */
import type { Told } from './carry-out.js';
import { isOf } from './intent.js';
import type { Outcomes } from './outcomes.js';
import type { Queue, Work } from './queue.js';
import type { StagedBytes } from './staged-bytes.js';

export function tellTo(outcomes: Outcomes, queue: Queue, bytes: StagedBytes): Told {
  /** Nothing that was asked for later speaks of the same key. */
  const isLatest = (key: string, work: Work): boolean =>
    queue.at(key).every(({ sequence }) => sequence <= work.sequence);

  /** Where the volume has a key by now: directories above it may have been moved since. */
  const presentKey = (key: string, work: Work): string => {
    let now = key;
    for (const { sequence, intent } of queue.trees) {
      if (sequence <= work.sequence || intent.kind !== 'moveTree') continue;
      if (now.startsWith(`${intent.from}/`)) now = intent.key + now.slice(intent.from.length);
    }
    return now;
  };

  return {
    settled: (key, before, info, work) => {
      const { intent } = work;
      const file = intent.kind === 'put' ? intent.file : undefined;
      outcomes.settled({
        key: presentKey(key, work),
        before,
        info,
        latest: isLatest(key, work),
        release: () => {
          if (file !== undefined) bytes.remove(file);
        },
      });
    },
    refused: (work, error, found) => {
      const { intent } = work;
      return outcomes.refused({
        intent,
        key: presentKey(intent.key, work),
        error,
        found,
        latest: isLatest(intent.key, work),
        keep: async (path) => {
          if (intent.kind === 'put') await bytes.keep(intent.file, path);
        },
      });
    },
    isOvertaken: (work, writer) =>
      queue
        .at(work.intent.key)
        .some(
          ({ sequence, intent }) =>
            sequence > work.sequence && 'nonce' in intent && isOf(writer, intent.nonce),
        ),
  };
}
