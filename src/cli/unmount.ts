import { join } from 'node:path';
import { askUnmount } from '../daemon/control-client.js';
import { isDeadMount, removeDeadMount } from '../daemon/dead-mount.js';
import { exitCodes } from './exit-codes.js';
import { daemonAt, findDaemon } from './mounted.js';
import type { Output } from './output.js';

export async function unmount(folder: string, force: boolean, output: Output): Promise<number> {
  if ((await findDaemon(folder)) === undefined && (await isDeadMount(folder))) {
    await removeDeadMount(folder);
    output.line(`Unmounted ${folder} (its daemon was gone)`);
    return exitCodes.ok;
  }
  const daemon = await daemonAt(folder);
  const { mountpoint } = daemon.status;
  let announced = '';
  const lost = await askUnmount(daemon.socket, force, (pending) => {
    const text = pending.length > 0 ? `waiting for ${pending.length}: ${shorten(pending)}` : '';
    if (text !== '' && text !== announced) output.note(text);
    announced = text;
  });
  output.line(`Unmounted ${mountpoint}`);
  if (lost.length === 0) return exitCodes.ok;
  output.problem({
    what: `${lost.length} changes are not on their store`,
    why: `the store did not take them: ${shorten(lost)}`,
    remedy: `mount it again on the same state and cache: what programs were told is stored goes there then; the rest lies in recovered/ of the cache directory, and what lost a race in ${join(daemon.status.state, 'conflicts')}`,
  });
  return exitCodes.partial;
}

const shorten = (names: readonly string[]): string =>
  names.slice(0, 5).join(', ') + (names.length > 5 ? `, and ${names.length - 5} more` : '');
