/** Digest authentication, the client's part: RFC 7616, and RFC 2069 where a server knows no `qop`. */
import { createHash, randomBytes } from 'node:crypto';

/** What a server asked for in `WWW-Authenticate: Digest …`, as far as an answer can be made. */
export interface DigestChallenge {
  readonly realm: string;
  readonly nonce: string;
  readonly opaque: string | undefined;
  readonly algorithm: keyof typeof HASHES;
  readonly session: boolean;
  /** False: the server is of the time of RFC 2069, and counts no requests. */
  readonly counted: boolean;
  /** The user's name travels as a hash. */
  readonly userhash: boolean;
  /** The credentials were right, the nonce was too old. */
  readonly stale: boolean;
}

export interface DigestQuestion {
  readonly method: string;
  /** The request target as it stands in the request line. */
  readonly target: string;
  /** How many requests, this one included, have used the nonce. */
  readonly count: number;
}

const HASHES = { MD5: 'md5', 'SHA-256': 'sha256', 'SHA-512-256': 'sha512-256' } as const;

/** `scheme` and its parameters, names in lower case. */
interface Challenge {
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
}

const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const PARAMETER = new RegExp(`^(${TOKEN})\\s*=\\s*(?:"((?:[^"\\\\]|\\\\.)*)"|(${TOKEN}))`);
const SCHEME = new RegExp(`^(${TOKEN})(?:\\s+|$|(?=,))`);
const TOKEN68 = /^[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))/;

/** The challenges of one answer, in the server's order: several may stand in one header, parted by the commas that also part parameters. */
export function parseChallenges(headers: string | readonly string[] | undefined): Challenge[] {
  const found: { scheme: string; parameters: Map<string, string> }[] = [];
  for (const header of [headers ?? []].flat()) {
    let rest = header;
    for (;;) {
      rest = rest.replace(/^[\s,]+/, '');
      if (rest === '') break;
      const parameter = PARAMETER.exec(rest);
      const current = found.at(-1);
      if (parameter !== null && current !== undefined) {
        const [whole, name = '', quoted, plain = ''] = parameter;
        current.parameters.set(name.toLowerCase(), quoted?.replace(/\\(.)/g, '$1') ?? plain);
        rest = rest.slice(whole.length);
        continue;
      }
      const scheme = SCHEME.exec(rest);
      if (scheme === null) break;
      found.push({ scheme: scheme[1]!.toLowerCase(), parameters: new Map() });
      rest = rest.slice(scheme[0].length);
      if (!PARAMETER.test(rest)) rest = rest.replace(TOKEN68, '');
    }
  }
  return found;
}

/** The first Digest challenge that can be answered: a server names what it likes best first. */
export function digestChallenge(challenges: readonly Challenge[]): DigestChallenge | undefined {
  for (const { scheme, parameters } of challenges) {
    if (scheme !== 'digest') continue;
    const nonce = parameters.get('nonce');
    const realm = parameters.get('realm');
    const [, name = '', session] = /^(.*?)(-sess)?$/i.exec(parameters.get('algorithm') ?? 'MD5') ?? [];
    const algorithm = name.toUpperCase();
    const qop = parameters
      .get('qop')
      ?.toLowerCase()
      .split(/[\s,]+/);
    if (nonce === undefined || realm === undefined || !isKnown(algorithm)) continue;
    // `auth-int` alone would want a hash of every body before it is sent.
    if (qop !== undefined && !qop.includes('auth')) continue;
    const isTrue = (parameter: string): boolean => parameters.get(parameter)?.toLowerCase() === 'true';
    return {
      realm,
      nonce,
      opaque: parameters.get('opaque'),
      algorithm,
      session: session !== undefined,
      counted: qop !== undefined,
      userhash: isTrue('userhash'),
      stale: isTrue('stale'),
    };
  }
  return undefined;
}

const isKnown = (algorithm: string): algorithm is keyof typeof HASHES => algorithm in HASHES;

/** The value of `Authorization` for one request. `cnonce`: chosen anew for each; given by tests. */
export function digestAuthorization(
  { username, password }: { readonly username: string; readonly password: string },
  challenge: DigestChallenge,
  { method, target, count }: DigestQuestion,
  cnonce = randomBytes(16).toString('base64url'),
): string {
  const { realm, nonce, opaque, algorithm, session, counted, userhash } = challenge;
  const hash = (...parts: readonly string[]): string =>
    createHash(HASHES[algorithm]).update(parts.join(':')).digest('hex');
  const user = hash(username, realm, password);
  const first = session ? hash(user, nonce, cnonce) : user;
  const second = hash(method, target);
  const nc = count.toString(16).padStart(8, '0');
  const response = counted ? hash(first, nonce, nc, cnonce, 'auth', second) : hash(first, nonce, second);
  const name = userhash ? `username=${quoted(hash(username, realm))}` : nameOf(username);
  return `Digest ${[
    name,
    `realm=${quoted(realm)}`,
    `uri=${quoted(target)}`,
    `algorithm=${algorithm}${session ? '-sess' : ''}`,
    `nonce=${quoted(nonce)}`,
    ...(counted ? [`nc=${nc}`, 'qop=auth'] : []),
    ...(counted || session ? [`cnonce=${quoted(cnonce)}`] : []),
    `response=${quoted(response)}`,
    ...(opaque === undefined ? [] : [`opaque=${quoted(opaque)}`]),
    ...(userhash ? ['userhash=true'] : []),
  ].join(', ')}`;
}

/** A name beyond ASCII cannot stand between quotes (RFC 7616, 3.4: `username*`). */
function nameOf(username: string): string {
  return /^[\x20-\x7e]*$/.test(username)
    ? `username=${quoted(username)}`
    : `username*=UTF-8''${encodeURIComponent(username).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16)}`)}`;
}

const quoted = (text: string): string => `"${text.replace(/["\\]/g, '\\$&')}"`;
