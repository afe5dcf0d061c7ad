import { expect, test } from '@jest/globals';
import { unreachableVolume } from '../../src/daemon/unreachable-volume.js';
import { MirageError } from '../../src/errors/mirage-error.js';
import type { Volume, VolumeContext } from '../../src/vfs/volume.js';

const context = { index: 1, uid: 0, gid: 0, clock: { wall: () => 0, monotonic: () => 0 } };

/** A store that cannot be reached at first, and what it was asked. */
function store(isAwaited: boolean) {
  const asked: string[] = [];
  const answers = { reachable: false };
  const reach = async (): Promise<Volume> => {
    asked.push('reach');
    if (!answers.reachable) throw new MirageError('nobody answers', { errno: 'EHOSTDOWN' });
    return { drain: async () => void asked.push('drain') } as unknown as Volume;
  };
  const volume = unreachableVolume(context as unknown as VolumeContext, reach, () => isAwaited);
  return { asked, answers, volume };
}

test('a drain tries a store again that the journal has something for, and says when it cannot be reached', async () => {
  const { asked, answers, volume } = store(true);
  await expect(volume.drain()).rejects.toMatchObject({ errno: 'EHOSTDOWN' });
  answers.reachable = true;
  await volume.drain();
  await volume.drain();
  expect(asked).toEqual(['reach', 'reach', 'drain', 'drain']);
});

test('a drain leaves a store alone that nothing is waiting for', async () => {
  const { asked, volume } = store(false);
  await volume.drain();
  expect(asked).toEqual([]);
});
