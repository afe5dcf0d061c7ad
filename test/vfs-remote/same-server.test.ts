/** Two volumes of one server in one process. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { AttributesReply, EntryReply, ROOT } from '../../src/vfs/operations.js';
import { RemoteMount } from './tree.js';

let mount: RemoteMount;
beforeEach(() => {
  mount = new RemoteMount();
});
afterEach(() => mount.close());

test('what one changes the other shows at once, also where it has answered before', async () => {
  writeFileSync(join(mount.there, 'file'), 'content', { mode: 0o644 });
  const other = mount.beside();
  try {
    const entry = new EntryReply();
    await other.lookup(mount.call, ROOT, 'file', entry);
    const mode = async (): Promise<number> => {
      const reply = new AttributesReply();
      await other.getattr(mount.call, entry.nodeId, undefined, reply);
      return (reply.attributes?.mode ?? 0) & 0o777;
    };
    expect([await mode(), await mode()]).toEqual([0o644, 0o644]);
    mount.unsettled.length = 0;
    await mount.change('file', { mode: 0o600 });
    expect(await mode()).toBe(0o600);
    // What the channel kept of the other is taken back, too.
    expect(mount.unsettled).toContain(0);
  } finally {
    await other.close();
  }
});
