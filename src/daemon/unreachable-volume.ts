import { errno } from '../errors/errno.js';
import { Attributes, S_IFDIR } from '../vfs/attributes.js';
import type {
  AttributesReply,
  Call,
  ExtendedAttributeReply,
  FileSystem,
  Handle,
  NodeId,
} from '../vfs/operations.js';
import { rootOf, type Volume, type VolumeContext } from '../vfs/volume.js';

type OperationName = Exclude<keyof FileSystem, 'forget' | 'getattr' | 'getxattr' | 'listxattr'>;

/** All that are not answered here. */
const operations: readonly OperationName[] = [
  ...(['lookup', 'open', 'read', 'write', 'flush', 'release', 'opendir', 'readdir', 'releasedir'] as const),
  ...(['setattr', 'readlink', 'mknod', 'mkdir', 'symlink', 'link', 'create', 'temporary', 'unlink'] as const),
  ...(['rmdir', 'rename', 'fsync', 'fsyncdir', 'setxattr', 'removexattr', 'statfs', 'lseek'] as const),
  ...(['fallocate', 'copyFileRange'] as const),
];

type AnyOperation = (...parameters: unknown[]) => unknown;

/**
 * The place of a store that cannot be reached: a folder that can be seen. Whatever looks into it tries the store again, once for
 * all who wait, and then goes to the real volume, or fails with the reason (EHOSTDOWN, ETIMEDOUT). So does a drain where `isAwaited`
 * says that the journal holds something that is to be stored.
 */
export function unreachableVolume(
  context: VolumeContext,
  reach: () => Promise<Volume>,
  isAwaited: () => boolean,
): Volume {
  const reached: { volume?: Volume; attempt?: Promise<Volume> | undefined } = {};
  const attempt = async (): Promise<Volume> => {
    try {
      reached.volume = await reach();
      return reached.volume;
    } finally {
      reached.attempt = undefined;
    }
  };
  const pass =
    (name: OperationName): AnyOperation =>
    (...parameters) => {
      const call = (volume: Volume): unknown =>
        (volume[name] as unknown as AnyOperation).apply(volume, parameters);
      if (reached.volume) return call(reached.volume);
      reached.attempt ??= attempt();
      return reached.attempt.then(call);
    };
  const passing = Object.fromEntries(operations.map((name) => [name, pass(name)])) as unknown as Volume;

  const placeholder = new Attributes();
  placeholder.ino = rootOf(context.index);
  placeholder.mode = S_IFDIR | 0o555;
  placeholder.nlink = 2;
  placeholder.uid = context.uid;
  placeholder.gid = context.gid;
  placeholder.modifiedSeconds = Math.floor(context.clock.wall() / 1000);

  return {
    ...passing,
    getattr(call: Call, node: NodeId, handle: Handle | undefined, reply: AttributesReply) {
      if (reached.volume) return reached.volume.getattr(call, node, handle, reply);
      // Listing the folder above shows this one as it is; only looking inside waits for the store.
      reply.attributes = placeholder;
      reply.attributesValid = 0;
    },
    setxattr(call: Call, node: NodeId, name: string, value: Uint8Array, flags: number) {
      // The value is a view of the request, which is gone when the store is reached.
      return passing.setxattr(call, node, name, reached.volume ? value : value.slice(), flags);
    },
    getxattr(call: Call, node: NodeId, name: string, reply: ExtendedAttributeReply) {
      if (reached.volume) return reached.volume.getxattr(call, node, name, reply);
      reply.fail(errno.ENODATA);
    },
    listxattr: (call, node) => reached.volume?.listxattr(call, node) ?? [],
    forget: (node, count) => reached.volume?.forget(node, count),
    async drain() {
      if (reached.volume === undefined && isAwaited()) {
        reached.attempt ??= attempt();
        await reached.attempt;
      }
      await reached.volume?.drain();
    },
    pending: () => reached.volume?.pending() ?? [],
    close: async () => reached.volume?.close(),
  };
}
