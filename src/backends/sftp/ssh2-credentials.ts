import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import ssh2, { type AnyAuthMethod } from 'ssh2';
import { MirageError } from '../../errors/mirage-error.js';
import { expandHome } from './destination.js';
import type { SftpOptions } from './options.js';

/** Looked for when no key is named, in the order of ssh. */
const DEFAULT_IDENTITIES = ['id_ed25519', 'id_ecdsa', 'id_rsa'];

/** The ways to prove who we are, in the order of their trial. EACCES where a key that was named cannot be used. */
export function credentials(options: SftpOptions, username: string): AnyAuthMethod[] {
  const { identity, privateKey, passphrase, password } = options;
  const methods: AnyAuthMethod[] = [];
  const named = privateKey ?? (identity === undefined ? undefined : readIdentity(expandHome(identity)));
  if (named !== undefined) {
    methods.push(keyMethod(username, named, passphrase));
  }
  const agent = options.agent ?? process.env.SSH_AUTH_SOCK;
  if (named === undefined && agent !== undefined && agent !== '' && agent !== 'none') {
    methods.push({ type: 'agent', username, agent: expandHome(agent) });
  }
  if (named === undefined && password === undefined) {
    for (const name of DEFAULT_IDENTITIES) {
      try {
        methods.push(keyMethod(username, readFileSync(join(homedir(), '.ssh', name)), passphrase));
      } catch {
        // Not there, or for another passphrase: nobody has asked for it by name.
      }
    }
  }
  if (password !== undefined) {
    methods.push({ type: 'password', username, password });
    // What servers with PAM ask in place of a password.
    methods.push({
      type: 'keyboard-interactive',
      username,
      prompt: (_name, _instructions, _language, prompts, finish) => finish(prompts.map(() => password)),
    });
  }
  if (methods.length === 0) {
    throw new MirageError('there is no key, no agent and no password to log in with', {
      errno: 'EACCES',
      hint: 'set identity (the file of the key), password, or start an agent (SSH_AUTH_SOCK)',
    });
  }
  return methods;
}

function keyMethod(username: string, key: Buffer | string, passphrase: string | undefined): AnyAuthMethod {
  const parsed = ssh2.utils.parseKey(key, passphrase);
  if (parsed instanceof Error) {
    const encrypted = /encrypted|passphrase|decrypt/i.test(parsed.message);
    throw new MirageError('the private key cannot be used', {
      errno: 'EACCES',
      cause: parsed,
      hint: encrypted
        ? 'set `passphrase` of the mount, or add the key to an agent'
        : 'check the file of the key',
    });
  }
  return { type: 'publickey', username, key, ...(passphrase !== undefined && { passphrase }) };
}

function readIdentity(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw new MirageError(`the private key ${file} cannot be read`, {
      errno: 'EACCES',
      cause,
      hint: 'check `identity` of the mount and the mode of the file',
    });
  }
}
