import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import type { OpenContext } from '../backend-type.js';
import type { Addresses } from './addresses.js';
import type { Client } from './client.js';
import { Resources, UPLOADS } from './resources.js';

/** Milliseconds after which a file that is not whole is nobody's any more, whoever began it. */
const ABANDONED = 24 * 60 * 60 * 1000;

/** Names that are in use in this process: a store that is mounted twice has two. */
const inUse = new Set<string>();

/** Under which name locks are held and uploads begun. */
export interface Owner {
  readonly name: string;
  /** It is not used any more. */
  done(): void;
}

/** The same after a restart, so that the next mount knows what an earlier life of ours has left behind. */
export function ownerOf(store: string, { certificates }: OpenContext): Owner {
  const place = `${store} owner`;
  const remembered = z.string().safeParse(certificates?.read(place)).data;
  const name = remembered === undefined || inUse.has(remembered) ? `mirage-${randomUUID()}` : remembered;
  if (remembered === undefined || name === remembered) certificates?.write(place, name);
  inUse.add(name);
  return { name, done: () => void inUse.delete(name) };
}

/** Removes what was being uploaded when its maker ended: ours now, that of others after a day. Nothing here fails a mount. */
export async function removeAbandonedUploads(
  client: Client,
  addresses: Addresses,
  owner: string,
  { clock, log, signal }: OpenContext,
): Promise<void> {
  try {
    const { entries } = await new Resources(client, addresses, false, log).list(UPLOADS, signal);
    const oldest = clock.wall() - ABANDONED;
    const abandoned = entries.filter(
      ({ key, modified }) =>
        key.startsWith(`${UPLOADS}/${owner}-`) || (modified.seconds > 0 && modified.seconds * 1000 < oldest),
    );
    for (const { key, kind } of abandoned) {
      const attempt = { operation: 'clean up', subject: key, signal };
      await client.head({ method: 'DELETE', path: addresses.path(key, kind) }, attempt, [404, 410]);
    }
  } catch (error) {
    signal.throwIfAborted();
    // Where nothing was ever uploaded there is no folder.
    log.debug('no abandoned uploads could be removed', { reason: String(error) });
  }
}
