/**
 * Serves a small tree over the raw binding until it is unmounted: `server.ts MOUNTPOINT OPTIONS` with OPTIONS in JSON. Speaks in lines of
 * JSON: says `{"ready":true}`, takes commands on its input and answers each with one line, says `{"ended":true}` last.
 */
import { fsyncSync, writeSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { mountRaw } from '../../src/fuse/raw-binding.js';
import type { Log, LogFields } from '../../src/log/log.js';
import { MemoryFileSystem, type MemoryOptions } from './memory-file-system.js';
import { unhurried } from './unhurried.js';

export interface ServerOptions extends MemoryOptions {
  /** Every operation returns a promise. */
  readonly asynchronous?: boolean;
  readonly allowOther?: boolean;
  readonly spinMicroseconds?: number;
}

const say = (message: object): void => {
  process.stdout.write(`${JSON.stringify(message)}\n`);
};

const lines: string[] = [];
const line = (level: string) => (message: string, fields?: LogFields) => {
  lines.push(`${level}: ${message} ${JSON.stringify(fields ?? {})}`);
};
const log: Log = {
  debug: line('debug'),
  info: line('info'),
  warn: line('warn'),
  error: line('error'),
  with: () => log,
};

const [mountpoint, json] = process.argv.slice(2) as [string, string];
const options = JSON.parse(json) as ServerOptions;
const memory = new MemoryFileSystem(options);
const { fileSystem, calls } = unhurried(memory, options.asynchronous === true);
const mount = mountRaw({
  mountpoint,
  source: 'memory',
  allowOther: options.allowOther ?? false,
  spinMicroseconds: options.spinMicroseconds ?? 30,
  log,
});
const binding = mount.serve(fileSystem);

const commands: Record<string, (argument: string, second: string) => unknown> = {
  pid: () => process.pid,
  counters: () => binding.counters(),
  log: () => lines,
  calls: () => calls,
  unmount: () => {
    void binding.unmount();
    return {};
  },
  /** Changes a file behind the kernel's back. */
  put: (path, text) => writeSync(memory.find(path).fd, text, 0),
  /** Lets two names of the root change their meaning behind the kernel's back. */
  swap: (one, other) => memory.swap(one, other),
  /** The descriptor that holds a file, with its bytes on the disk. */
  content: (path) => {
    const { fd } = memory.find(path);
    fsyncSync(fd);
    return fd;
  },
  nodes: () => memory.nodes,
  /** Uses the mount from the process that serves it. */
  visit: (path) =>
    stat(`${mountpoint}/${path}`).then(
      () => 0,
      (error: NodeJS.ErrnoException) => -(error.errno ?? 0),
    ),
  invalidateNode: (path) => mount.notifier.invalidateNode(memory.find(path).id, 0, 0),
  invalidateEntry: (path) => mount.notifier.invalidateEntry(memory.find('').id, path),
};

const input = createInterface({ input: process.stdin });
input.on('line', async (text) => {
  const [name, argument = '', second = ''] = JSON.parse(text) as [string, string?, string?];
  say({ answer: (await commands[name]?.(argument, second)) ?? null });
});
say({ ready: true });
await binding.ended;
memory.close();
say({ ended: true });
input.close();
process.stdin.destroy();
