/** What becomes of bytes that lost a race: nothing is thrown away without a record. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { StoredAttributes, Validator } from '../../backends/contract.js';
import type { StagedFile } from '../../content/contract.js';
import type { VolumeContext } from '../volume.js';

export interface ConflictRecord {
  /** The object, and the path below the mount point. */
  readonly key: string;
  readonly path: string;
  /** The version that our bytes were based on; undefined: we thought there was none. */
  readonly base: Validator | undefined;
  /** Who else wrote, as far as the store tells. */
  readonly found: Validator | undefined;
  readonly attributes: StoredAttributes;
  readonly size: number;
  /** Why the bytes are not in the store. */
  readonly reason: string;
}

/**
 * Writes `<directory>/<name>.json` and, with `sidecar`, the bytes beside it in `<name>.bytes`. Ends the staged file.
 * Returns the path of the record.
 */
export async function keepConflict(
  record: ConflictRecord,
  staged: Pick<StagedFile, 'keep' | 'discard'>,
  name: string,
  directory: string,
  policy: 'sidecar' | 'reject',
  context: VolumeContext,
): Promise<string> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const stem = join(directory, name);
  if (policy === 'sidecar') await staged.keep(`${stem}.bytes`);
  else staged.discard();
  const at = new Date(context.clock.wall()).toISOString();
  const bytes = policy === 'sidecar' ? `${name}.bytes` : undefined;
  await writeFile(`${stem}.json`, `${JSON.stringify({ at, ...record, bytes }, undefined, 2)}\n`, {
    mode: 0o600,
  });
  return `${stem}.json`;
}
