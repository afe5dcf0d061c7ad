import type { Call, FileSystem } from '../../src/vfs/operations.js';

/** What happened to calls that hang until they are interrupted. */
export interface Calls {
  hung: number;
  interrupted: number;
}

/**
 * A file system that can be slow: every operation answers in a later turn when `asynchronous`, and a LOOKUP of `hang` never does, until
 * it is interrupted.
 */
export function unhurried(
  fileSystem: FileSystem,
  asynchronous: boolean,
): { fileSystem: FileSystem; calls: Calls } {
  const calls: Calls = { hung: 0, interrupted: 0 };
  const later = new Proxy(fileSystem, {
    get(target, name) {
      const operation = Reflect.get(target, name) as (...values: unknown[]) => unknown;
      return (...values: unknown[]) => {
        if (name === 'lookup' && values[2] === 'hang') return hang(values[0] as Call);
        const run = () => operation.apply(target, values);
        if (!asynchronous || name === 'forget') return run();
        const source = name === 'write' ? 4 : -1;
        if (source >= 0) values[source] = (values[source] as { retain(): unknown }).retain();
        return new Promise((resolve) => setImmediate(resolve)).then(run);
      };
    },
  });
  function hang(call: Call): Promise<void> {
    calls.hung++;
    return new Promise((_resolve, reject) => {
      call.signal.addEventListener('abort', () => {
        calls.interrupted++;
        reject(call.signal.reason);
      });
    });
  }
  return { fileSystem: later, calls };
}
