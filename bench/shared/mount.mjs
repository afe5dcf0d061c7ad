// @ts-check
import { readFileSync, writeFileSync } from 'node:fs';
import { run, start, until } from './processes.mjs';

/** @param {string} mountpoint */
function mountOf(mountpoint) {
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const fields = line.split(' ');
    if (fields[4] === mountpoint) return { minor: Number(fields[2]?.split(':')[1]) };
  }
  return undefined;
}

/** One FUSE mount, served by a child process in the foreground. */
export class Mount {
  /** @type {ReturnType<typeof start> | undefined} */
  #server;
  #mountpoint;
  #ended = false;

  /** @param {string} mountpoint an empty directory, absolute and without symlinks */
  constructor(mountpoint) {
    this.#mountpoint = mountpoint;
  }

  /**
   * Returns when the kernel shows the mount and answers a stat through it.
   * @param {readonly string[]} command
   * @param {Record<string, string>} [environment]
   */
  async open(command, environment) {
    const server = start(command, environment ? { environment } : {});
    this.#server = server;
    const gone = () => {
      this.#ended = true;
    };
    server.ended.then(gone, gone);
    await until(() => this.#ended || mountOf(this.#mountpoint) !== undefined, 20);
    if (this.#ended || !mountOf(this.#mountpoint)) {
      throw new Error(`${command.join(' ')} did not mount: ${server.errors() || server.output()}`);
    }
    await run(['stat', this.#mountpoint], { seconds: 20, onTimeout: () => this.abort() });
  }

  /** Process id of the server. */
  get pid() {
    return this.#server?.child.pid;
  }

  /** Ends the connection: every program that waits in it gets an error. The way out when a server hangs. */
  abort() {
    const mount = mountOf(this.#mountpoint);
    if (!mount) return;
    try {
      writeFileSync(`/sys/fs/fuse/connections/${mount.minor}/abort`, '1');
    } catch {
      // Not root, or gone already: the kill below is what remains.
    }
  }

  /** Unmounts, and ends the server: kindly, then by force. */
  async close() {
    const unmount = process.getuid?.() === 0 ? ['umount'] : ['fusermount3', '-u'];
    for (let attempt = 0; mountOf(this.#mountpoint) && attempt < 20; attempt++) {
      await run([...unmount, this.#mountpoint], { seconds: 10 }).catch(() => {});
      if (await until(() => !mountOf(this.#mountpoint), 0.2)) break;
    }
    if (mountOf(this.#mountpoint)) {
      this.abort();
      await run([...unmount, ...(unmount.length === 1 ? ['-l'] : ['-z']), this.#mountpoint]).catch(() => {});
    }
    const server = this.#server;
    if (!server) return;
    if (await until(() => this.#ended, 5)) return;
    server.child.kill('SIGTERM');
    if (await until(() => this.#ended, 5)) return;
    server.child.kill('SIGKILL');
    await until(() => this.#ended, 5);
  }
}
