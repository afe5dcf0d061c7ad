import { MirageError } from '../../errors/mirage-error.js';
import type { OpenContext, OpenedBackend } from '../backend-type.js';
import { type OwnerMap, sameOwners, userOwners } from './attributes.js';
import { SftpBackend } from './backend.js';
import { Call } from './call.js';
import { Connections } from './connections.js';
import { destinationOf } from './destination.js';
import { isDirectory } from './explain.js';
import { SftpFileServer } from './file-server.js';
import type { SftpOptions } from './options.js';
import { Requests, shown } from './requests.js';
import type { Session } from './session.js';
import { transportOf } from './transport.js';

/** Connects, proves the credentials and finds the folder. EACCES: refused, or the host key is not the one to expect; ENOENT: no such folder. */
export async function open(options: SftpOptions, context: OpenContext): Promise<OpenedBackend> {
  const { log, clock, signal } = context;
  const transport = transportOf(options, log);
  const connections = new Connections({
    connect: (attempt) => transport.connect(attempt),
    onClose: () => transport.close(),
    limit: options.connections,
    timeout: options.timeout,
    log,
    clock,
  });
  try {
    const session = await connections.first(signal).catch((error) => {
      if (!transport.fallBack(error)) throw error;
      return connections.first(signal);
    });
    using call = new Call(signal);
    const ask = new Requests(session, call);
    const root = await folder(ask, options.path ?? '.');
    const owners = options.idmap === 'user' ? await ownersOf(ask) : sameOwners;
    // The encryption of ssh2 would run on the thread that borrows.
    const lender =
      transport.kind === 'ssh'
        ? async (borrowing: AbortSignal) => ({
            fd: await transport.lend(borrowing),
            timeout: options.timeout,
          })
        : undefined;
    const fileServer = new SftpFileServer(connections, root, owners, session.traits, lender);
    const { host, port, user } = destinationOf(options);
    return {
      backend: new SftpBackend(connections, fileServer),
      identity: `sftp:${user}@${host}:${port}${root}`,
      probed: {
        transport: transport.kind,
        folder: Buffer.from(root, 'latin1').toString(),
        ...found(session),
      },
    };
  } catch (error) {
    await connections.close();
    throw error;
  }
}

/** The absolute path of the folder, as the server names it. */
async function folder(ask: Requests, path: string): Promise<string> {
  const given = path === '~' ? '.' : path.replace(/^~\//, '');
  const root = await ask.realpath(Buffer.from(given, 'utf8').toString('latin1'));
  const attributes = await ask.stat(root).catch((error) => {
    if (!MirageError.is(error, 'ENOENT')) throw error;
    throw new MirageError(`the server has no folder ${shown(root)}`, {
      errno: 'ENOENT',
      cause: error,
      hint: 'create it there, or correct `path` of the mount',
    });
  });
  if (isDirectory(attributes)) return root.length > 1 ? root.replace(/\/$/, '') : root;
  throw new MirageError(`${shown(root)} is no folder`, {
    errno: 'ENOTDIR',
    hint: 'correct `path` of the mount',
  });
}

/** The user there is the owner of the home folder: the protocol has no request that tells. */
async function ownersOf(ask: Requests): Promise<OwnerMap> {
  const { uid, gid } = await ask.stat(await ask.realpath('.'));
  if (uid === undefined || gid === undefined) return sameOwners;
  return userOwners({ uid, gid }, { uid: process.getuid?.() ?? uid, gid: process.getgid?.() ?? gid });
}

const EXTENSIONS = {
  posixRename: 'posix-rename@openssh.com',
  hardLinks: 'hardlink@openssh.com',
  fsync: 'fsync@openssh.com',
  statfs: 'statvfs@openssh.com',
  copyData: 'copy-data',
  linkAttributes: 'lsetstat@openssh.com',
} as const;

function found(session: Session): Record<string, boolean | number> {
  const { readBytes, writeBytes } = session.traits;
  const offered = Object.entries(EXTENSIONS).map(([name, extension]) => [name, session.offers(extension)]);
  return { ...Object.fromEntries(offered), readBytes, writeBytes };
}
