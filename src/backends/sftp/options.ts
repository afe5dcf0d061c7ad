import { z } from 'zod';
import { duration } from '../../config/quantities.js';

const text = z.string().min(1);
const host = text.regex(/^[^-@/\s][^@/\s]*$/, 'not the name of a host');
const user = text.regex(/^[^-@\s][^@\s]*$/, 'not the name of a user');

/** Configuration keys of an SFTP mount. */
export const sftpOptions = z
  .strictObject({
    host: host.describe('Name or address of the server; with transport ssh, an alias of ~/.ssh/config, too'),
    port: z.number().int().min(1).max(65_535).optional().describe('22, or what ~/.ssh/config says'),
    user: user.optional().describe('User on the server; the one of this process when left out'),
    path: z.string().optional().describe('Folder on the server; the home of the user when left out'),
    identity: text.optional().describe('File of the private key, as ssh -i takes it'),
    privateKey: text.optional().describe('The private key itself, from a secret: ${file:/run/secrets/key}'),
    passphrase: text.optional().describe('Passphrase of the private key'),
    password: text.optional(),
    agent: text.optional().describe('Socket of the agent; $SSH_AUTH_SOCK when left out, none for no agent'),
    hostKey: text
      .regex(/^(strict|accept-new|SHA256:[A-Za-z0-9+/]{43}=?)$/, 'not a policy')
      .default('strict')
      .describe('strict, accept-new, or the fingerprint that the host key has: SHA256:…'),
    knownHosts: text.optional().describe('File of known host keys; ~/.ssh/known_hosts when left out'),
    jump: text
      .regex(/^([^-@/\s][^@/\s]*@)?[^-@/\s][^@/\s]*$/, 'not [user@]host[:port]')
      .optional()
      .describe('Server to go through: user@host:port'),
    sshConfig: text.optional().describe('Configuration of ssh in place of ~/.ssh/config; none for none'),
    transport: z
      .enum(['auto', 'ssh', 'ssh2'])
      .default('auto')
      .describe('ssh: the ssh program of this host (faster); ssh2: built in; auto: ssh where it will do'),
    connections: z
      .number()
      .int()
      .min(1)
      .max(16)
      .default(2)
      .describe(
        'Connections at most, and one for small reads; a further one is made when the others are busy',
      ),
    timeout: duration()
      .default(15_000)
      .describe('how long the server may be silent before it counts as gone'),
    idmap: z
      .enum(['none', 'user'])
      .default('none')
      .describe('user: what belongs to the user there belongs to the owner of the mount here'),
  })
  .refine((o) => o.identity === undefined || o.privateKey === undefined, {
    message: 'identity and privateKey are two forms of one key',
    path: ['privateKey'],
  })
  .refine((o) => o.transport !== 'ssh' || o.privateKey === undefined, {
    message: 'the ssh program takes the key as a file',
    path: ['identity'],
  });

export type SftpOptions = z.output<typeof sftpOptions>;
