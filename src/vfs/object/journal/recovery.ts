/** What an earlier life of the daemon left in the journal. */
import { MirageError } from '../../../errors/mirage-error.js';
import type { Journal } from '../../../metadata/journal.js';
import { type Intent, intentSchema, parentOf } from './intent.js';
import type { Queue } from './queue.js';

/** Takes the records of one mount into the queue, in order; resolves with what they say. EINVAL: one that this version does not know. */
export function recover(journal: Journal, identity: string, queue: Queue): readonly Intent[] {
  return journal.recordsOf(identity).map(({ sequence, intent }) => {
    const parsed = intentSchema.safeParse(intent);
    if (!parsed.success) {
      throw new MirageError('the journal holds a change that this version does not know', {
        errno: 'EINVAL',
        hint: 'start the version of Mirage that wrote it',
        cause: parsed.error,
      });
    }
    queue.recover(sequence, parsed.data);
    return parsed.data;
  });
}

/** Directories with changes that the volume may not know of: what is cached of them is to be asked again. */
export function directoriesOf(intents: Iterable<Intent>): ReadonlySet<string> {
  const directories = new Set<string>();
  for (const intent of intents) {
    for (const key of 'from' in intent ? [intent.key, intent.from] : [intent.key]) {
      directories.add(parentOf(key));
      if (intent.kind === 'moveTree') directories.add(key);
    }
  }
  return directories;
}
