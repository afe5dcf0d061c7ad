/** Who we are to a web server: the `Authorization` of each request (RFC 9110, section 11). */
import { type DigestChallenge, digestAuthorization, digestChallenge, parseChallenges } from './digest.js';

export interface CredentialOptions {
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** Sent as a bearer token. */
  readonly token?: string | undefined;
  /** `digest`: the password is never sent. Undefined: as a server asks for it, and basic before it has asked. */
  readonly authentication?: 'basic' | 'digest' | undefined;
}

interface Known {
  readonly challenge: DigestChallenge;
  /** Requests that have used its nonce. */
  count: number;
}

/**
 * Credentials for one server. A token and basic authentication go with the first request. Digest needs a nonce of the server: the first request is
 * refused and made again, the next ones count the nonce on, until the server wants a new one.
 */
export class Credentials {
  readonly #options: CredentialOptions;
  #digest: Known | undefined;

  constructor(options: CredentialOptions) {
    this.#options = options;
  }

  /** The header of a request; `target` as in its request line. Undefined: it goes without, or with what the configuration says. */
  authorization(method: string, target: string): string | undefined {
    const { username, password = '', token, authentication } = this.#options;
    if (token !== undefined) return `Bearer ${token}`;
    if (username === undefined) return undefined;
    if (this.#digest !== undefined) {
      const { challenge } = this.#digest;
      const count = ++this.#digest.count;
      return digestAuthorization({ username, password }, challenge, { method, target, count });
    }
    return authentication === 'digest'
      ? undefined
      : `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  }

  /** Hears the `WWW-Authenticate` of a 401 to a request that went with `sent`. True: the request may be made again, once. */
  refused(wwwAuthenticate: string | readonly string[] | undefined, sent: string | undefined): boolean {
    const { username, token, authentication } = this.#options;
    if (username === undefined || token !== undefined || authentication === 'basic') return false;
    const challenge = digestChallenge(parseChallenges(wwwAuthenticate));
    if (challenge === undefined) return false;
    const wasDigest = sent?.startsWith('Digest ') === true;
    // Refused with a nonce that is good: name or password is wrong.
    const another = this.#digest !== undefined && !sent?.includes(`nonce="${this.#digest.challenge.nonce}"`);
    if (wasDigest && !challenge.stale && !another) return false;
    this.#digest = { challenge, count: 0 };
    return true;
  }
}
