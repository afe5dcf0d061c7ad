import { Worker } from 'node:worker_threads';

/**
 * Watches for the end of a mount that somebody else may end: inotify reports the unmount of a watched directory. The watch
 * lives in a thread of its own, because setting it up asks the file system that this thread serves.
 */
const source = `
const { watch, readFileSync } = require('node:fs');
const { basename } = require('node:path');
const { parentPort, workerData } = require('node:worker_threads');
const mounted = () =>
  readFileSync('/proc/self/mountinfo', 'utf8').split('\\n').some((line) => line.split(' ')[4] === workerData.escaped);
const watcher = watch(workerData.mountpoint, (event, name) => {
  if (event === 'rename' && name === basename(workerData.mountpoint) && !mounted()) end();
});
watcher.on('error', end);
function end() {
  watcher.close();
  parentPort.postMessage('ended');
}
if (!mounted()) end();
`;

/** As /proc/self/mountinfo writes a path. */
const escapePath = (path: string): string =>
  path.replace(/[ \t\n\\]/g, (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`);

export interface UnmountWatch {
  readonly ended: Promise<void>;
  close(): Promise<void>;
}

/** `mountpoint` is absolute and free of symlinks. */
export function watchUnmount(mountpoint: string): UnmountWatch {
  const worker = new Worker(source, {
    eval: true,
    workerData: { mountpoint, escaped: escapePath(mountpoint) },
  });
  worker.unref();
  const ended = new Promise<void>((resolve) => {
    worker.once('message', () => resolve());
    // Without inotify (watch limit, another platform) the mount's end is known from `unmount` alone.
    worker.once('error', () => undefined);
  });
  return {
    ended,
    close: async () => {
      await worker.terminate();
    },
  };
}
