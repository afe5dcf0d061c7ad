/** An SFTP mount of a test server. */
import { userInfo } from 'node:os';
import { join } from 'node:path';
import type { Sshd } from '../servers/sshd.js';

/** The mount's part of the configuration; `folder` lies in the data folder of the server. */
export const sftpMount = (
  server: Sshd,
  folder: string,
  keys: Record<string, unknown> = {},
): Record<string, unknown> => ({
  type: 'sftp',
  mode: 'write',
  host: '127.0.0.1',
  port: server.port,
  user: userInfo().username,
  path: join(server.data, folder),
  identity: server.identity,
  knownHosts: server.knownHosts,
  sshConfig: 'none',
  ...keys,
});
