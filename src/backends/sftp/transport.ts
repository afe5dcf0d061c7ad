import { MirageError } from '../../errors/mirage-error.js';
import type { Log } from '../../log/log.js';
import type { Channel } from './channel.js';
import type { SftpOptions } from './options.js';
import { connectWithSsh, type SshProgram, startSsh } from './ssh-transport.js';
import { connectWithSsh2 } from './ssh2-transport.js';

export interface Transport {
  readonly kind: 'ssh' | 'ssh2';
  connect(signal: AbortSignal): Promise<Channel>;
  /** The same with kind `ssh`, as a descriptor that the borrower closes. */
  lend(signal: AbortSignal): Promise<number>;
  /** Ends what was lent. */
  close(): void;
  /** After a first attempt that failed: whether there is another way, which the next attempt takes. */
  fallBack(failure: unknown): boolean;
}

/**
 * `auto`: the ssh program of this host, whose encryption costs this process nothing; ssh2 where ssh is not there or too old, or
 * where it would have to ask for a secret.
 */
export function transportOf(options: SftpOptions, log: Log): Transport {
  const { transport, password, passphrase, privateKey } = options;
  const asks = password !== undefined || passphrase !== undefined || privateKey !== undefined;
  const lent = new Set<SshProgram>();
  let kind: Transport['kind'] = transport === 'auto' ? (asks ? 'ssh2' : 'ssh') : transport;
  return {
    get kind() {
      return kind;
    },
    connect: (signal) =>
      kind === 'ssh' ? connectWithSsh(options, signal) : connectWithSsh2(options, signal),
    async lend(signal) {
      const program = await startSsh(options, signal);
      lent.add(program);
      void program.ended.then(() => lent.delete(program));
      return program.fd;
    },
    close() {
      for (const program of lent) program.end();
    },
    fallBack(failure) {
      if (transport !== 'auto' || kind !== 'ssh' || !MirageError.is(failure, 'ENOTSUP')) return false;
      log.info('connecting without the ssh program', { why: failure.message });
      kind = 'ssh2';
      return true;
    },
  };
}
